import math
from collections.abc import Callable
from typing import ClassVar, Self

import pytest
import torch
from torch import Tensor

from genus.contract import Batch, Losses
from genus.kinds import Domain, Grid, Label, Tokens
from genus.models.diffusion import _categorical as categorical
from genus.models.diffusion.d3pm import D3PM
from genus.prob import noise
from genus.testing import Subject, checks, checks_for
from genus.testing.oracles import all_states, state_index
from genus.testing.statistics import LARGEST_Z, require, z_of_counts, z_of_mean
from genus.testing.subjects import LABELS

KERNELS = ("uniform", "absorbing", "gaussian")
SMALL: dict[str, object] = {"width": 8, "multipliers": (1, 1), "blocks": 1, "dropout": 0.0}


def shaken(model: D3PM, scale: float = 0.1) -> D3PM:
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.0, scale, generator=noise.stream("shake"))
    return model.eval()


def small(domain: Grid | Tokens, timesteps: int = 6, **settings: object) -> D3PM:
    return D3PM(domain, timesteps=timesteps, **{**SMALL, **settings})  # type: ignore[arg-type]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 2), (9,), (4, 5, 3)])
def test_grids_of_any_size(size: tuple[int, ...], kernel: categorical.Kernel) -> None:
    domain = Grid(2, size, 5)
    model = shaken(small(domain, kernel=kernel))
    x = model.sample(3, generator=noise.stream(0))
    domain.check(x)
    assert model.log_prob(x, generator=noise.stream(1)).shape == (3,)


@pytest.mark.parametrize("domain", [Tokens(7, 30), Grid(2, (3, 3), 40, ordered=False)], ids=str)
@pytest.mark.parametrize("kernel", ["uniform", "absorbing"])
def test_symbols_without_order(domain: Grid | Tokens, kernel: categorical.Kernel) -> None:
    model = shaken(small(domain, kernel=kernel))
    assert model.embed is not None and len(model.embed.weight) == domain.levels + (kernel == "absorbing")
    domain.check(model.sample(3, generator=noise.stream(0)))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("domain", [Grid(1, (2, 3), 4), Tokens(5, 3)], ids=str)
def test_a_fresh_model_is_uniform_on_every_path(domain: Grid | Tokens, kernel: categorical.Kernel) -> None:
    """A network that says nothing undoes noise as uniform data would have it: every path weighs the same."""
    if kernel == "gaussian" and isinstance(domain, Tokens):
        return
    model = small(domain, kernel=kernel, head="categorical").eval()
    x = all_states(Grid(1, (1, domain.num_dims), domain.levels), 2**12)[::50].view(-1, *domain.shape)
    nothing = torch.full((len(x),), -domain.num_dims * math.log(domain.levels))
    torch.testing.assert_close(model.log_prob(x, generator=noise.stream(0)), nothing, rtol=1e-6, atol=0)
    drawn = model.sample(1000, generator=noise.stream(1), steps=2)  # the last step is a draw: no argmax
    counts = torch.bincount(drawn.flatten().long(), minlength=domain.levels)
    assert z_of_counts(counts, torch.full((domain.levels,), 1 / domain.levels)) < LARGEST_Z


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_terms_are_costs_and_add_up_to_log_prob(kernel: categorical.Kernel) -> None:
    domain, repeats = Grid(1, (1, 2), 5), 200
    model = shaken(small(domain, kernel=kernel))
    x = model.sample(3, generator=noise.stream(0)).repeat(repeats, 1, 1, 1)
    terms = model.bound_terms(x, generator=noise.stream(1))
    assert terms["L_t"].shape == (3 * repeats, model.process.steps - 1)
    assert all((term >= -1e-12).all() for term in terms.values())
    bound = (terms["L_0"] + terms["L_t"].sum(1) + terms["L_T"]).view(repeats, 3)
    one, many = (model.log_prob(x, num_samples=n, generator=noise.stream(2)).double().view(repeats, 3) for n in (1, 8))
    for datum in range(3):
        assert abs(z_of_mean(one[:, datum] + bound[:, datum], 0.0)) < LARGEST_Z
        assert z_of_mean(many[:, datum] + bound[:, datum], 0.0) > -LARGEST_Z  # more paths are tighter


def check_losses(model: D3PM) -> None:
    """Over steps and noise, L_vb averages to all terms of the bound, in nats an entry; the loss is eq. 5 times T."""
    repeats = 10_000
    x = model.sample(1, generator=noise.stream(0)).repeat(repeats, *[1] * len(model.domain.shape))
    with torch.no_grad():
        losses = model.losses(Batch(x), noise.stream(1))
    terms = model.bound_terms(x[:4000], generator=noise.stream(2))
    bound = (terms["L_0"] + terms["L_t"].sum(1) + terms["L_T"]) / model.domain.num_dims
    ours = losses["L_vb"].double()
    error = math.hypot(float(ours.std()) / repeats**0.5, float(bound.std()) / len(bound) ** 0.5)
    z = float(ours.mean() - bound.mean()) / error
    require(abs(z) < LARGEST_Z, f"L_vb is not the bound: {ours.mean():.4f}, {bound.mean():.4f} ({z=:.1f}).")
    total = losses["L_vb"] + model.hybrid * model.process.steps * losses["cross_entropy"]
    torch.testing.assert_close(losses["loss"], total)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_loss_estimates_the_bound(kernel: categorical.Kernel) -> None:
    check_losses(shaken(small(Grid(1, (1, 2), 3), kernel=kernel, timesteps=4)))


class ForgetsTheEnd(D3PM):
    """No L_T in the loss."""

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        losses = super().losses(batch, generator)
        end = self.process.end_cost(batch.x.long()) / self.domain.num_dims
        return {**losses, "L_vb": losses["L_vb"] - end}


class SkipsTheFirstStep(D3PM):
    """Draws the steps 2 .. T."""

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        kept = noise.integers
        try:
            noise.integers = lambda high, *rest: 1 + kept(high - 1, *rest)  # type: ignore[assignment]
            return super().losses(batch, generator)
        finally:
            noise.integers = kept


@pytest.mark.parametrize("mutant", [ForgetsTheEnd, SkipsTheFirstStep])
def test_a_mutant_of_the_loss_is_caught(mutant: type[D3PM]) -> None:
    for kind in (D3PM, mutant):
        model = shaken(kind(Grid(1, (1, 2), 3), timesteps=4, kernel="gaussian", **SMALL))  # type: ignore[arg-type]
        model.process = categorical.DiscretizedGaussian(3, torch.full((4,), 0.5))  # much is left at the end
        if kind is D3PM:
            check_losses(model)
            continue
        with pytest.raises(checks.CheckError, match="L_vb"):
            check_losses(model)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_trained_bound_is_near_the_entropy(kernel: categorical.Kernel) -> None:
    """Two entries of a known distribution, after a few seconds: the bound comes near the entropy, from above: what a
    fresh model does not know, it knows but for a fifth."""
    domain, steps = Grid(1, (2,), 3), 80
    states = all_states(domain)
    distribution = (2 * noise.normal((9,), noise.stream("distribution"), dtype=torch.float64)).softmax(0)
    entropy = float(-(distribution * distribution.log()).sum())
    unknown = math.log(9) - entropy
    torch.manual_seed(0)
    model = small(domain, kernel=kernel, timesteps=10, width=16, multipliers=(1,), attention=(), head="categorical")
    optimizer = torch.optim.Adam(model.parameters())
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / steps)
        index = noise.categorical(distribution.log().expand(192, -1), noise.stream("data", step))
        loss = model.losses(Batch(states[index]), noise.stream("noise", step))["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    terms = model.eval().bound_terms(states.repeat(200, 1, 1), generator=noise.stream("bound"))
    above = (terms["L_0"] + terms["L_t"].sum(1) + terms["L_T"]).view(200, 9) @ distribution - entropy
    assert z_of_mean(above, 0.0) > -LARGEST_Z
    assert float(above.mean()) < unknown / 5


class Known(D3PM):
    """Knows the distribution of its data: entries all alike, or drawn from a table of all states."""

    distribution: Tensor

    def log_p(self, x_t: Tensor, step: Tensor, condition: Tensor | None) -> Tensor:
        """p(x_0^i | x_t without entry i), of masks."""
        states, flat = all_states(self.domain).flatten(1), x_t.flatten(1)
        fits = (flat[:, None] == states) | (flat[:, None] == self.domain.levels)  # (B, states, D)
        answer = torch.zeros(*flat.shape, self.domain.levels, dtype=torch.float64)
        for i in range(flat.shape[1]):
            others = fits[:, :, [j for j in range(flat.shape[1]) if j != i]].all(-1) * self.distribution
            answer[:, i] = torch.stack([others[:, states[:, i] == k].sum(1) for k in range(self.domain.levels)], 1)
        return answer.log().log_softmax(-1).view(*x_t.shape, -1)


def check_edit_law(model: Known) -> None:
    """One hidden entry is drawn from its distribution given the others, exactly, at any number of steps."""
    states = all_states(model.domain)
    x, count = states[7:8], 20_000
    keep = torch.tensor([[[True, True, False]]]).expand(count, 1, 1, 3)
    edited = model.edit(x.repeat(count, 1, 1, 1), keep, generator=noise.stream("edit"))
    alike = [int(state_index(state[None], model.domain)) for state in states if (state[..., :2] == x[0, ..., :2]).all()]
    p = model.distribution[alike] / model.distribution[alike].sum()
    z = z_of_counts(torch.bincount(edited[:, 0, 0, 2].long(), minlength=2), p)
    require(z < LARGEST_Z, f"another distribution than that given the kept entries ({z=:.1f}).")


class MasksTheKept(categorical.Absorbing):
    """Shows kept entries with noise."""

    def seen(self, x_0: Tensor, step: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.diffuse(x_0, step, generator)


def test_completions_follow_the_decoder_distribution_the_kept_entries() -> None:
    model = Known.tiny(Grid(1, (1, 3), 2))
    model.distribution = (3 * noise.normal((8,), noise.stream("known"), dtype=torch.float64)).softmax(0)
    check_edit_law(model)
    model.process = MasksTheKept(2, torch.linspace(1, 0, 5))
    with pytest.raises(checks.CheckError, match="another distribution"):
        check_edit_law(model)


def test_an_absorbing_path_is_an_ordering() -> None:
    """Where the network knows the distribution of masks, every path of T much larger than D weighs nearly p(x): as
    every ordering's chain rule does, but for steps that unmask two entries at once, whose share falls like 1 / T."""
    domain = Grid(1, (1, 3), 2)
    model = Known(domain, timesteps=500, **SMALL)  # type: ignore[arg-type]
    model.distribution = (3 * noise.normal((8,), noise.stream("known"), dtype=torch.float64)).softmax(0)
    x = all_states(domain)
    near = (model.log_prob(x, generator=noise.stream(0)) - model.distribution.log()).abs() < 1e-4
    assert int(near.sum()) >= 7  # a tie has odds of 3 / 500 a datum


class Other(D3PM):
    """A tiny model with another kernel."""

    settings: ClassVar[dict[str, object]] = {}

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, timesteps=4, **SMALL, **cls.settings)  # type: ignore[arg-type]


class UniformD3PM(Other):
    """Hops to any level."""

    settings: ClassVar[dict[str, object]] = {"kernel": "uniform"}


class GaussianD3PM(Other):
    """Hops to levels nearby, with a logistic head."""

    settings: ClassVar[dict[str, object]] = {"kernel": "gaussian"}


OTHERS = [
    Subject(UniformD3PM, Tokens(3, 3), LABELS),
    Subject(GaussianD3PM, Grid(1, (1, 2), 5), LABELS),
    Subject(GaussianD3PM, Grid(1, (3, 3), 12)),
    Subject(D3PM, Grid(1, (1, 3), 3, ordered=False)),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("subject", "check"),
    [
        pytest.param(subject, check, id=f"{subject.model_class.__name__}-{check.__name__}-{subject}")
        for subject in OTHERS
        for check in checks_for(subject)
        if check is not checks.check_card  # of the class itself
    ],
)
def test_the_contract_holds_for_every_kernel(subject: Subject, check: Callable[[Subject], None]) -> None:
    check(subject)


def test_the_parts_that_cannot_be_told_apart_by_order_are_refused() -> None:
    codes = Grid(1, (2, 2), 5, ordered=False)
    for domain in (codes, Tokens(4, 5)):
        assert D3PM.refuses(domain) is None
        with pytest.raises(ValueError, match="gaussian kernel takes neighbouring levels for alike"):
            D3PM(domain, kernel="gaussian")
        with pytest.raises(ValueError, match="logistic head takes neighbouring levels for alike"):
            D3PM(domain, head="logistic")


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="three axes"):
        D3PM(Grid(1, (2, 2, 2, 2), 2))
    with pytest.raises(ValueError, match="labels"):
        D3PM(Grid(1, (2, 2), 2), Tokens(3, 3))
    with pytest.raises(ValueError, match="timesteps"):
        D3PM(Grid(1, (2, 2), 2), timesteps=1)
    with pytest.raises(ValueError, match="hybrid"):
        D3PM(Grid(1, (2, 2), 2), hybrid=-1.0)
    model = D3PM.tiny(Grid(1, (2, 2), 2), Label(("a", "b")))
    with pytest.raises(ValueError, match="condition"):
        model.losses(Batch(torch.zeros(3, 1, 2, 2, dtype=torch.uint8)))
    with pytest.raises(ValueError, match="sampling steps"):
        D3PM.tiny(Grid(1, (2, 2), 2)).sample(1, steps=9)


def test_fewer_steps_draw_other_samples() -> None:
    model = shaken(small(Grid(1, (4, 4), 16), kernel="gaussian"))
    drawn = [model.sample(4, generator=noise.stream(0), steps=steps) for steps in (None, 3, 1)]
    assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[1], drawn[2])


def test_a_table_that_sampling_asked_for_serves_training_too() -> None:
    model = small(Grid(1, (2, 2), 4), kernel="gaussian")
    with torch.inference_mode():
        model.sample(2, generator=noise.stream(0))
    model.losses(Batch(torch.zeros(2, 1, 2, 2, dtype=torch.uint8)), noise.stream(0))["loss"].mean().backward()


def test_the_heads_are_laws() -> None:
    for head in ("categorical", "logistic"):
        model = shaken(small(Grid(2, (3, 3), 200), head=head), 1.0)
        x_t = torch.randint(201, (4, 2, 3, 3), generator=noise.stream(0))
        log_p = model.log_p(x_t, torch.tensor([1, 2, 3, 6]), None)
        assert log_p.shape == (4, 2, 3, 3, 200)
        torch.testing.assert_close(log_p.logsumexp(-1), torch.zeros(4, 2, 3, 3), rtol=0, atol=1e-4)
