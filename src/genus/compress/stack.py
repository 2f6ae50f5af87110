"""A stack of bits: asymmetric numeral systems, in whole numbers (Duda 2013, https://arxiv.org/abs/1311.2540).

A symbol that owns ``weight`` of 2^precision parts is pushed in ``precision - log2(weight)`` bits and popped
in the reverse order. Pushing and popping undo each other exactly, whichever comes first: so a coder may
also *pop what nobody pushed*, which draws a symbol by its weights out of whatever bits are there, and the
decoder pushes the symbol and has those bits back. `genus.compress.bits_back` lives on this.

A coder starts with nothing to draw from. It then takes the words of a fixed stream, as many as it
needs: the initial bits. They are in the file (nothing can be had back without them), and the decoder
must find them at the bottom in the end, in their order.

Whole numbers of Python throughout: the distributions of the latents have 65,536 symbols, of which three or so
numbers are ever needed, so their intervals are computed and not handed over as tables.
"""

import hashlib

import numpy as np

from genus.errors import DataFormatError

WORD = 32  # bits that move between the head and the words
LOW = 1 << 64  # the head lies in [2^64, 2^96): a precision of up to 48 bits costs nothing
HIGH = 96


def initial_word(number: int) -> int:
    """One word of the fixed stream; part of the format."""
    return int.from_bytes(hashlib.blake2b(number.to_bytes(8, "little"), digest_size=4, person=b"genus").digest(), "big")


class Stack:
    """``head`` is the top as one number, ``words`` is what lies under it, the lowest first.

    drawn: how many words of the fixed stream are in use; None for a stack that must not draw any.
    """

    def __init__(self, words: list[int], head: int, drawn: int | None):
        self.words, self.head, self.drawn = words, head, drawn

    @classmethod
    def initial(cls, drawn: int = 2) -> "Stack":
        """Nothing but so many initial words."""
        first, second, *rest = (initial_word(number) for number in range(max(2, drawn)))
        return cls(rest[::-1], LOW | first << WORD | second, max(2, drawn))

    @classmethod
    def from_bytes(cls, payload: bytes) -> "Stack":
        """The reverse of `to_bytes`, with nothing below. Raises a `DataFormatError` for what it cannot have written."""
        if len(payload) % 4 or len(payload) < 12:
            raise DataFormatError(f"expected three or more words of 4 bytes; got {len(payload):,} bytes")
        *words, low, middle, high = np.frombuffer(payload, "<u4").tolist()
        if not high:
            raise DataFormatError("its last word is zero")
        return cls(words, high << 2 * WORD | middle << WORD | low, None)

    def to_bytes(self) -> bytes:
        """All words, those of the head last."""
        head = [self.head >> shift & 0xFFFFFFFF for shift in (0, WORD, 2 * WORD)]
        return np.array(self.words + head, "<u4").tobytes()

    def push(self, start: int, weight: int, precision: int) -> None:
        """A symbol that owns the parts ``start .. start + weight - 1`` of 2^precision."""
        head = self.head
        while head >= weight << HIGH - precision:
            self.words.append(head & 0xFFFFFFFF)
            head >>= WORD
        self.head = (head // weight << precision) + head % weight + start

    def peek(self, precision: int) -> int:
        """Which of 2^precision parts lies on top: the symbol that owns it is the one to pop."""
        return self.head & (1 << precision) - 1

    def pop(self, start: int, weight: int, precision: int) -> None:
        """Undo `push` with the same numbers."""
        head = weight * (self.head >> precision) + self.peek(precision) - start
        while head < LOW:
            head = head << WORD | self._word()
        self.head = head

    def _word(self) -> int:
        if self.words:
            return self.words.pop()
        if self.drawn is None:
            raise DataFormatError("the payload is used up before all data are read")
        self.drawn += 1
        return initial_word(self.drawn - 1)
