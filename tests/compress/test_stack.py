"""The stack against whole-number arithmetic of its own: inverse both ways, and no longer than the information."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genus.compress.stack import HIGH, LOW, Stack, initial_word
from genus.errors import DataFormatError
from genus.prob import noise

PRECISIONS = (1, 8, 16, 24, 32, 48)


@st.composite
def symbols(draw: st.DrawFn) -> tuple[int, int, int]:
    """start, weight, precision; narrow and wide symbols alike."""
    precision = draw(st.sampled_from(PRECISIONS))
    whole = 1 << precision
    weight = draw(st.sampled_from([1, whole // 2, whole - 1, whole]) | st.integers(1, whole))
    return draw(st.integers(0, whole - weight)), weight, precision


def state(stack: Stack) -> tuple[list[int], int]:
    return list(stack.words), stack.head


@given(st.lists(symbols(), max_size=40))
@settings(max_examples=60, deadline=None)
def test_what_is_pushed_is_popped(pushed: list[tuple[int, int, int]]) -> None:
    stack, states = Stack.initial(), []
    for symbol in pushed:
        states.append(state(stack))
        stack.push(*symbol)
        assert LOW <= stack.head < 1 << HIGH
    stack = Stack.from_bytes(stack.to_bytes())
    for symbol, before in zip(reversed(pushed), reversed(states), strict=True):
        start, weight, precision = symbol
        assert start <= stack.peek(precision) < start + weight
        stack.pop(*symbol)
        assert state(stack) == before
    assert stack.drawn is None


@given(st.lists(st.tuples(st.sampled_from(PRECISIONS), st.integers(0, 1 << 48), st.integers(1, 1 << 48)), max_size=40))
@settings(max_examples=60, deadline=None)
def test_what_nobody_pushed_can_be_popped_and_put_back(draws: list[tuple[int, int, int]]) -> None:
    stack, popped = Stack.initial(), []
    for precision, left, width in draws:
        part = stack.peek(precision)
        start = max(0, part - left)
        weight = min((1 << precision) - start, part - start + width)
        popped.append((start, weight, precision))
        stack.pop(*popped[-1])
        assert LOW <= stack.head < 1 << HIGH
    for symbol in reversed(popped):
        stack.push(*symbol)
    assert state(stack) == state(Stack.initial(stack.drawn or 0))


def test_it_is_as_long_as_the_information() -> None:
    stack, bits = Stack.initial(), 64.0
    for weight in (1 + noise.integers((1 << 24) - 1, (20_000,), noise.stream("weights"))).tolist():
        stack.push(weight // 3 if weight < 1 << 23 else 0, weight, 24)
        bits += 24 - math.log2(weight)
    assert bits - 1 < 8 * len(stack.to_bytes()) < bits + 33


def test_the_initial_words_are_part_of_the_format() -> None:
    assert [initial_word(number) for number in range(3)] == [0xB33B8265, 0xA2E0319C, 0x75A2B571]
    assert Stack.initial(4).words == [initial_word(3), initial_word(2)]
    ones = sum(initial_word(number).bit_count() for number in range(1000))
    assert abs(ones - 16_000) < 4 * math.sqrt(32_000 / 4)


@pytest.mark.parametrize("payload", [b"", bytes(8), bytes(12), b"abcdefghijklm", b"word" * 5 + bytes(4)])
def test_payloads_that_no_stack_has_written_are_refused(payload: bytes) -> None:
    with pytest.raises(DataFormatError, match=r"words of 4 bytes|last word is zero"):
        Stack.from_bytes(payload)


def test_a_decoder_has_nothing_below() -> None:
    stack = Stack.from_bytes(Stack.initial().to_bytes())
    with pytest.raises(DataFormatError, match="used up"):
        for _ in range(5):
            stack.pop(stack.peek(32), 1, 32)
