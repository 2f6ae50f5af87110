"""What log_prob promises: numbers that sum or integrate to one, and that samples follow."""

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from genus.contract import HasLatents, Likelihood
from genus.prob import gaussian, noise
from genus.prob.noise import stream
from genus.testing import oracles
from genus.testing.checks._common import close, head, log_prob, repeated_log_prob
from genus.testing.statistics import LARGEST_Z, constant_noise, require, z_of_counts, z_of_mean
from genus.testing.subjects import CLASSES, Subject


def check_log_prob(subject: Subject) -> None:
    """log p(x) is one finite number of nats a datum, and a function of the generator."""
    model, batch = subject.make(), subject.batch(16)
    state = torch.get_rng_state()
    first, again = (log_prob(model, batch.x, batch.condition, 2, stream("log_prob")) for _ in range(2))
    require(tuple(first.shape) == (16,), f"expected shape (B,) = (16,); got {tuple(first.shape)}.")
    require(bool(first.isfinite().all()), "log_prob is not finite on training data.")
    require(torch.equal(first, again), "the same generator gave another log_prob.")
    require(torch.equal(state, torch.get_rng_state()), "log_prob drew from torch's global generator.")
    if model.likelihood is Likelihood.EXACT:
        other = log_prob(model, batch.x, batch.condition, 1, stream("another"))
        require(torch.allclose(first, other), "an exact log_prob changes with the generator or num_samples.")
    if subject.domain.discrete and model.likelihood is Likelihood.EXACT:
        require(bool((first < 1e-4).all()), f"a probability above one: log_prob = {float(first.max()):.4f}.")


def check_items_are_independent(subject: Subject) -> None:
    """Neither the order nor the size of a batch moves a datum's log_prob."""
    model, batch = subject.make(), subject.batch(12)
    x, condition, order = batch.x, batch.condition, torch.arange(11, -1, -1)

    def of(items: Tensor) -> Tensor:
        return log_prob(model, x[items], None if condition is None else condition[items])

    with constant_noise():
        whole, turned = of(torch.arange(12)), of(order)
        single = [of(torch.tensor([i])) for i in range(4)]
    close(turned[order], whole, "log_prob depends on the order of the batch")
    close(torch.cat(single), whole[:4], "log_prob depends on the size of the batch")


def check_float64(subject: Subject) -> None:
    """In float64 an exact log_prob is the same number, only finer."""
    batch = subject.batch(8)
    single = log_prob(subject.make(), batch.x, batch.condition)
    double = subject.make().double()
    x = batch.x if subject.domain.discrete else batch.x.double()
    numbers = double.log_prob(x, condition=batch.condition)
    close(numbers.detach().double(), single, "float32 and float64 disagree about log_prob")


def check_more_samples_are_tighter(subject: Subject) -> None:
    """A bound does not fall, on average, when it is given more samples."""
    large = (
        subject.domain.num_dims * (subject.domain.levels or 1) > 1000
    )  # a distribution of many levels an entry takes long
    model, batch, repeats = subject.make(), subject.batch(3 if large else 6), 16 if large else 48
    one, many = (repeated_log_prob(model, batch.x, batch.condition, k, repeats).mean(1) for k in (1, 8))
    z = z_of_mean(many - one, 0.0)
    require(z > -LARGEST_Z, f"8 samples give a looser bound than one: {many.mean():.4f} < {one.mean():.4f} ({z=:.1f}).")


def check_total_mass(subject: Subject) -> None:
    """The probabilities of all states sum to one if exact, to no more if a bound."""
    model, states = subject.make(), oracles.all_states(subject.domain)
    for start in range(CLASSES if subject.condition else 1):
        condition = subject.same_condition(len(states), start)
        if model.likelihood is Likelihood.EXACT:
            for instance, largest in ((model, 1e-6), (copy.deepcopy(model).double(), 1e-12)):
                total = float(log_prob(instance, states, condition).double().exp().sum())
                off = f"the probabilities of all {len(states)} states sum to {total:.13f}, not 1"
                require(abs(total - 1) < largest, f"{off} (to {largest:g}).")
        else:
            nats = repeated_log_prob(model, states, condition, 4, repeats=64)
            if model.likelihood is Likelihood.ESTIMATE:  # in nats without bias, so the mean goes before the exponential
                p = nats.mean(0).exp()
                mean, error = float(p.sum()), float((p * nats.std(0) / 8).norm())
                z = (mean - 1) / max(error, 1e-6)
            else:
                totals = nats.exp().sum(1)
                z, mean = z_of_mean(totals, 1.0), float(totals.mean())
            kind = "bounds" if model.likelihood is Likelihood.BOUND else "estimates"
            require(z < LARGEST_Z, f"the {kind} of all states sum to {mean:.4f}, above 1 ({z=:.1f}).")


def check_samples_follow_log_prob(subject: Subject) -> None:
    """How often each state is drawn agrees with its exact probability; a bound never exceeds it."""
    model, states, draws = subject.make(), oracles.all_states(subject.domain), 4096
    of_class = subject.same_condition(draws, 1)
    x = model.sample(draws, condition=of_class, generator=stream("frequencies"))
    counts = torch.bincount(oracles.state_index(x, subject.domain), minlength=len(states))
    given = head(of_class, len(states))
    if model.likelihood is Likelihood.EXACT:
        z = z_of_counts(counts, log_prob(model, states, given).exp())
        require(z < LARGEST_Z, f"samples do not follow log_prob (chi-square {z=:.1f}).")
        return
    repeats = 48
    nats = repeated_log_prob(model, states, given, 1, repeats)
    p = nats.mean(0).exp()
    blur = p * nats.std(0) / math.sqrt(repeats)  # the standard error of p
    error = torch.sqrt(p.clamp(max=1) * (1 - p.clamp(max=1)) / draws + blur**2).clamp(min=1 / draws)
    above = float(((p - counts / draws) / error).max())
    require(above < LARGEST_Z, f"a bound lies above the frequency of its state (z={above:.1f}).")


def check_total_density(subject: Subject) -> None:
    """The density integrates to one (a bound to no more), by importance sampling under wide tails."""
    model, draws = subject.make(), 8192
    condition = subject.same_condition(draws, 1)
    exact = model.likelihood is Likelihood.EXACT
    typical = model.sample(1024, condition=head(condition, 1024), generator=stream("mode"))
    proposal = Proposal.around(typical if exact else subject.split.x, degrees=3, widen=1.5)
    x = proposal.sample(draws, stream("density"))
    nats = log_prob(model, x.float(), condition, 4, stream("density", 1))
    weights = (nats - proposal.log_prob(x)).exp()
    z, mean = z_of_mean(weights, 1.0), float(weights.mean())
    require(z < LARGEST_Z, f"the density integrates to {mean:.4f}, above 1 ({z=:.1f}).")
    require(not exact or z > -LARGEST_Z, f"the density integrates to {mean:.4f}, below 1 ({z=:.1f}).")


def check_samples_follow_density(subject: Subject) -> None:
    """Samples come from the density that log_prob states: the mean of q(x) / p(x) over them is one.

    q is a narrow normal density among the samples.
    """
    model, draws = subject.make(), 8192
    condition = subject.same_condition(draws, 1)
    x = model.sample(draws, condition=condition, generator=stream("inside"))
    narrow = Proposal.around(x, degrees=None, widen=0.5)
    ratios = (narrow.log_prob(x.double()) - log_prob(model, x, condition)).exp()
    z, mean = z_of_mean(ratios, 1.0), float(ratios.mean())
    require(abs(z) < LARGEST_Z, f"samples are not where the density is: E[q/p] = {mean:.4f}, not 1 ({z=:.1f}).")


def check_change_of_variables(subject: Subject) -> None:
    """log p(x) = log N(z; 0, 1) + log |det dz/dx| for z = encode(x), the Jacobian by central differences."""
    model, batch, h = subject.make().double(), subject.batch(8), 1e-5
    assert isinstance(model, HasLatents)
    x = batch.x.double()

    def encode(x: Tensor) -> Tensor:
        return model.encode(x, condition=batch.condition).detach().flatten(1)

    z = encode(x)
    require(z.shape == x.shape, f"expected a code of the datum's own size; got {tuple(z.shape)}.")
    steps = h * torch.eye(x.shape[1], dtype=torch.float64)
    jacobian = torch.stack([(encode(x + step) - encode(x - step)) / (2 * h) for step in steps], -1)
    expected = gaussian.log_prob(z, torch.zeros(()), torch.zeros(())).sum(1) + jacobian.slogdet()[1]
    close(log_prob(model, x, batch.condition), expected, "log_prob is not the change of variables by encode", 1e-6)


@dataclass(frozen=True)
class Proposal:
    """A bell around some data: multivariate t with ``degrees`` of freedom, or normal for None."""

    mean: Tensor
    factor: Tensor
    degrees: int | None

    @classmethod
    def around(cls, x: Tensor, degrees: int | None, widen: float) -> "Proposal":
        """The bell with the mean of ``x`` and ``widen`` times its spread."""
        x = x.double()
        covariance = torch.cov(x.T).reshape(x.shape[1], x.shape[1])
        return cls(x.mean(0), widen * torch.linalg.cholesky(covariance), degrees)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` draws in float64."""
        eps = noise.normal((count, len(self.mean)), generator, dtype=torch.float64)
        if self.degrees is not None:
            normals = noise.normal((count, self.degrees), generator, dtype=torch.float64)
            eps = eps / normals.square().mean(1, keepdim=True).sqrt()  # a chi-square over its degrees
        return self.mean + eps @ self.factor.T

    def log_prob(self, x: Tensor) -> Tensor:
        """The density, in nats."""
        u = torch.linalg.solve_triangular(self.factor, (x - self.mean).T, upper=False)
        dims, squared = len(self.mean), u.square().sum(0)
        volume = self.factor.diagonal().log().sum()
        if self.degrees is None:
            return -0.5 * squared - volume - 0.5 * dims * math.log(2 * math.pi)
        v = self.degrees
        constant = math.lgamma((v + dims) / 2) - math.lgamma(v / 2) - 0.5 * dims * math.log(v * math.pi)
        return constant - volume - 0.5 * (v + dims) * torch.log1p(squared / v)
