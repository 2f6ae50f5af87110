import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from genus.models.latent import _codebook
from genus.models.latent._codebook import Codebook, nearest
from genus.prob import noise
from genus.prob.noise import stream


def vectors(*shape: int, seed: int = 0) -> Tensor:
    return noise.normal(shape, stream("vectors", seed))


def plant(codebook: Codebook, first: int, value: float) -> Codebook:
    """Put the codes from the ``first`` on where nobody chooses them."""
    with torch.no_grad():
        codebook.codes[first:] = value
        if codebook.learning == "ema":
            codebook.total.copy_(codebook.codes / len(codebook.codes))
    return codebook


def book(count: int = 5, features: int = 3, **settings: object) -> Codebook:
    """A codebook in training, its codes drawn."""
    made = Codebook(count, features, **settings).train()  # type: ignore[arg-type]
    with torch.no_grad():
        made.codes.copy_(vectors(count, features, seed=9))
        if made.learning == "ema":
            made.total.copy_(made.codes / count)
    return made


def test_nearest_agrees_with_brute_force_whatever_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, codes = vectors(100, 3), vectors(7, 3, seed=1)
    expected = (rows[:, None] - codes).square().sum(2).argmin(1)
    assert torch.equal(nearest(rows, codes), expected)
    monkeypatch.setattr(_codebook, "AT_ONCE", 9)
    assert torch.equal(nearest(rows, codes), expected)
    assert nearest(codes[:1], torch.cat([codes, codes])).item() == 0  # of equals the first


def test_gradients_pass_straight_through() -> None:
    z = vectors(4, 3, 2, 2).requires_grad_()
    found = book().eval()(z)
    torch.testing.assert_close(found.vectors, book().look_up(found.codes))
    upstream = vectors(4, 3, 2, 2, seed=5)
    (found.vectors * upstream).sum().backward()
    torch.testing.assert_close(z.grad, upstream)


@pytest.mark.parametrize("learning", ["ema", "gradient"])
def test_the_commitment_moves_the_vectors_only_and_the_pull_the_codes_only(learning: str) -> None:
    codebook, z = book(learning=learning), vectors(4, 3, 2, seed=3).requires_grad_()
    found = codebook(z)
    e = codebook.look_up(found.codes).detach()
    found.commitment.sum().backward()
    torch.testing.assert_close(z.grad, 2 * (z.detach() - e) / 6)  # means over 3 x 2 entries
    assert codebook.codes.grad is None or not codebook.codes.grad.any()
    if learning == "ema":
        assert not found.pull.any()
        return
    z.grad = None
    found.pull.sum().backward()
    assert z.grad is None or not z.grad.any()
    flat, codes = z.detach().movedim(1, -1).reshape(-1, 3), found.codes.flatten()
    expected = torch.zeros(5, 3).index_add_(0, codes, 2 * (codebook.codes.detach()[codes] - flat) / 6)
    torch.testing.assert_close(codebook.codes.grad, expected)


def paper_ema(codebook: Codebook, batches: list[Tensor], decay: float) -> Tensor:
    """Appendix A.1 with counts, code by code: N <- decay N + (1 - decay) n, m likewise, e = m / N.

    ``epsilon`` counts as in the authors' code: (N_i + e) / (N + K e) N.
    """
    codes, size = codebook.codes.double(), batches[0].numel() / codebook.codes.shape[1]
    count, epsilon = len(codes), 1e-5 * size / len(codes)
    n, m = torch.full((count,), size / count).double(), codes * size / count
    for z in batches:
        rows = z.movedim(1, -1).reshape(-1, codes.shape[1]).double()
        chosen = (rows[:, None] - codes).square().sum(2).argmin(1)
        for k in range(count):
            mine = rows[chosen == k]
            n[k], m[k] = decay * n[k] + (1 - decay) * len(mine), decay * m[k] + (1 - decay) * mine.sum(0)
        whole = n.sum()
        codes = m / ((n + epsilon) / (whole + count * epsilon) * whole)[:, None]
    return codes


def test_running_means_agree_with_the_papers_counts() -> None:
    codebook = book(decay=0.9)
    batches = [vectors(6, 3, 2, seed=20 + k) for k in range(12)]
    expected = paper_ema(codebook, batches, 0.9)
    for z in batches:
        codebook(z, stream("offers"))
        before = codebook.codes.clone()
        codebook.advance()
        assert not torch.equal(before, codebook.codes)
    torch.testing.assert_close(codebook.codes.double(), expected, rtol=1e-5, atol=1e-5)
    moved = codebook.codes.clone()
    codebook.advance()  # nothing was seen since
    codebook.eval()(batches[0])
    codebook.advance()
    assert torch.equal(codebook.codes, moved)


def unused_after(steps: int, smoothing: float, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """A code that nobody chooses, until its weight has come to nothing: ``(steps, features)``."""
    monkeypatch.setattr(_codebook, "SMOOTHING", smoothing)
    codebook, told = book(decay=0.5), []
    codebook.codes += 10.0
    plant(codebook, 4, -100.0)
    for k in range(steps):
        codebook(10 + vectors(6, 3, 2, seed=k), stream("offers"))
        codebook.advance()
        told.append(codebook.codes[4].clone())
    return torch.stack(told)


def test_an_unused_code_fades_but_for_the_smoothing_it_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    assert float(unused_after(160, 1e-5, monkeypatch)[-1].norm()) < 1e-3
    assert not unused_after(160, 0.0, monkeypatch).isfinite().all()  # 0 / 0


@pytest.mark.parametrize("learning", ["ema", "gradient"])
def test_dead_codes_become_vectors_of_the_batch_with_a_fresh_weight(learning: str) -> None:
    codebook = plant(book(decay=0.5, revive=0.05, learning=learning), 3, 1e3)
    z = vectors(6, 3, 2)
    for k in range(5):
        codebook(z, stream("offers", k))
        codebook.advance()
    rows = z.movedim(1, -1).reshape(-1, 3)
    assert codebook.weight[3:].tolist() == pytest.approx([1 / 5, 1 / 5])
    for k in (3, 4):
        assert (rows == codebook.codes[k]).all(1).any()
        if learning == "ema":
            torch.testing.assert_close(codebook.total[k], codebook.codes[k] / 5)
    for k in range(9):  # a vector that is not chosen would be replaced again
        codebook(z, stream("offers", k))
        codebook.advance()
    assert codebook.in_use == 5
    assert codebook.codes.abs().max() < 10

    asleep = plant(book(decay=0.5, revive=0.0, learning=learning), 3, 1e3)
    for k in range(14):
        asleep(z, stream("offers", k))
        asleep.advance()
    assert asleep.in_use == 3


def test_vectors_far_from_their_code_are_offered_in_proportion_to_the_squared_distance() -> None:
    codebook, z = book(count=2000, features=1), torch.zeros(1, 1, 3)
    with torch.no_grad():
        codebook.codes.fill_(50.0)
        codebook.codes[0] = 0.0
    z[0, 0] = torch.tensor([0.0, 1.0, 2.0])
    codebook(z, stream("offers"))
    share = [float((codebook.offer == value).double().mean()) for value in (0.0, 1.0, 2.0)]
    assert share[0] == 0
    assert share[1] == pytest.approx(0.2, abs=5 * math.sqrt(0.2 * 0.8 / 2000))


def moved(codebook: Codebook, z: Tensor, processes: int, parts: int) -> dict[str, Tensor]:
    """The codebook after two steps of ``processes`` that work off their shares in ``parts`` and average buffers."""
    team = [Codebook(*codebook.codes.shape, "ema", codebook.decay, codebook.revive) for _ in range(processes)]
    for member in team:
        member.load_state_dict(codebook.state_dict())
    whole = processes * parts
    for step in range(2):
        for rank, member in enumerate(team):
            member.advance()
            for part in range(parts):
                number = rank * parts + part
                with noise.part_of(number, whole):
                    member(z.chunk(whole)[number], stream("offers", step))
        for buffers in zip(*(member.buffers() for member in team), strict=True):
            mean = torch.stack(buffers).mean(0)
            for buffer in buffers:
                buffer.copy_(mean)
    team[0].advance()
    return team[0].state_dict()


@pytest.mark.parametrize(("processes", "parts"), [(1, 4), (2, 1), (4, 1), (2, 2)])
def test_parts_and_processes_end_where_the_whole_batch_does(processes: int, parts: int) -> None:
    codebook = book(count=11, decay=0.5, revive=0.6)  # most codes die at once
    z = vectors(8, 3, 2, 2)
    whole, shared = moved(codebook, z, 1, 1), moved(codebook, z, processes, parts)
    assert not torch.equal(whole["codes"], codebook.codes)
    for name, value in whole.items():
        torch.testing.assert_close(shared[name], value, msg=lambda text, name=name: f"{name}: {text}")


def test_usage_and_perplexity_agree_with_enumeration() -> None:
    codebook = book(decay=0.0)  # the running shares are those of the last batch
    z = codebook.codes[torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])].view(8, 3, 1)
    codebook(z, stream("offers"))
    codebook.advance()
    assert codebook.usage.tolist() == pytest.approx([0.5, 0.25, 0.25, 0, 0])
    assert codebook.in_use == 3
    assert float(codebook.perplexity) == pytest.approx(math.exp(0.5 * math.log(2) + 0.5 * math.log(4)))


def test_codes_begin_as_distinct_vectors_and_as_near_copies_where_there_are_too_few() -> None:
    rows = vectors(20, 3)
    codebook = book()
    codebook.fill(rows.repeat(3, 1), stream("fill"))
    assert all((rows == code).all(1).any() for code in codebook.codes)
    assert len(codebook.codes.unique(dim=0)) == 5
    torch.testing.assert_close(codebook.total, codebook.codes / 5)
    codebook.fill(rows[:2], stream("fill"))
    assert len(codebook.codes.unique(dim=0)) == 5
    assert codebook.codes.isfinite().all()


def test_the_same_generator_makes_the_same_step() -> None:
    def after(seed: int) -> Tensor:
        codebook = book(count=11, decay=0.5, revive=0.6)
        for step in range(3):
            codebook(vectors(4, 3, 2), stream("offers", seed, step))
            codebook.advance()
        return codebook.codes.clone()

    assert torch.equal(after(0), after(0))
    assert not torch.equal(after(0), after(1))


def test_mixed_precision_does_not_reach_the_codes() -> None:
    codebook, z = book(count=64, features=8).eval(), vectors(32, 8, 4)
    with torch.autocast("cpu", torch.bfloat16):
        found = codebook(z)
    assert torch.equal(found.codes, codebook(z).codes)
    assert found.vectors.dtype == torch.float32


def without_stop(codebook: Codebook) -> Callable[[Tensor], Tensor]:
    """A mutant: the codes' own vectors, without the straight-through path."""
    return lambda z: codebook.look_up(codebook.eval()(z).codes)


def test_without_the_straight_through_path_the_encoder_learns_nothing() -> None:
    z = vectors(2, 3, 2).requires_grad_()
    assert not without_stop(book())(z).requires_grad
    assert book()(z).vectors.requires_grad
