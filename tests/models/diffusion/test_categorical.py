"""The categorical process, its posterior and its bound against enumeration; mutants of each must be caught."""

import math
from collections.abc import Callable
from itertools import combinations, permutations, product

import pytest
import torch
from torch import Tensor

from genus.kinds import Grid
from genus.models.autoregressive._orderless import Orderless
from genus.models.autoregressive.conv_nade import ConvNADE
from genus.models.autoregressive.deep_nade import DeepNADE
from genus.models.diffusion import _categorical as categorical
from genus.models.diffusion._categorical import Absorbing, CategoricalProcess, DiscretizedGaussian, Uniform
from genus.prob import noise
from genus.testing.statistics import LARGEST_Z, z_of_counts, z_of_mean

LEVELS, BETAS = 3, (0.2, 0.35, 0.6, 0.5)
LAST = (*BETAS[:-1], 1.0)  # masks all that is left


def kept(betas: tuple[float, ...]) -> Tensor:
    return torch.tensor([1.0, *(1 - beta for beta in betas)], dtype=torch.float64).cumprod(0)


def uniform(kind: type[Uniform] = Uniform) -> tuple[Uniform, list[Tensor]]:
    """A process, and its single steps written out from the definition."""
    steps = [[[(1 - b) * (i == j) + b / LEVELS for j in range(LEVELS)] for i in range(LEVELS)] for b in BETAS]
    return kind(LEVELS, kept(BETAS)), [torch.tensor(step, dtype=torch.float64) for step in steps]


def absorbing(kind: type[Absorbing] = Absorbing) -> tuple[Absorbing, list[Tensor]]:
    states = LEVELS + 1
    rule = [
        [[float(j == LEVELS) if i == LEVELS else (1 - b) * (i == j) + b * (j == LEVELS) for j in range(states)]
         for i in range(states)]
        for b in LAST
    ]  # fmt: skip
    return kind(LEVELS, kept(LAST)), [torch.tensor(step, dtype=torch.float64) for step in rule]


def gaussian(kind: type[DiscretizedGaussian] = DiscretizedGaussian) -> tuple[DiscretizedGaussian, list[Tensor]]:
    steps = []
    for beta in BETAS:
        total = sum(math.exp(-4 * n**2 / ((LEVELS - 1) ** 2 * beta)) for n in range(1 - LEVELS, LEVELS))
        step = torch.zeros(LEVELS, LEVELS, dtype=torch.float64)
        for i, j in permutations(range(LEVELS), 2):
            step[i, j] = math.exp(-4 * abs(i - j) ** 2 / ((LEVELS - 1) ** 2 * beta)) / total
        for i in range(LEVELS):
            step[i, i] = 1 - step[i].sum()
        steps.append(step)
    return kind(LEVELS, torch.tensor(BETAS, dtype=torch.float64)), steps


World = tuple[CategoricalProcess, list[Tensor]]
MAKERS = {"uniform": uniform, "absorbing": absorbing, "gaussian": gaussian}


def between(steps: list[Tensor], previous: int, step: int) -> Tensor:
    """Q_{previous + 1} ... Q_step, one matrix after the other."""
    total = torch.eye(len(steps[0]), dtype=torch.float64)
    for one in steps[previous:step]:
        total = total @ one
    return total


def at(k: int, like: Tensor) -> Tensor:
    return torch.full((len(like),), k)


def close(ours: Tensor, exact: Tensor) -> None:
    torch.testing.assert_close(ours, exact, rtol=1e-12, atol=1e-14)


# --- the process ------------------------------------------------------------------------------


def check_products(world: World) -> None:
    """Q_bar, and Q between any two steps, are the products of single steps; rows sum to 1."""
    process, steps = world
    level, state = torch.arange(process.levels), torch.arange(process.states)
    for t in range(process.steps + 1):
        distribution = process.distribution(level, at(t, level))
        close(distribution.sum(1), torch.ones(process.levels).double())
        close(distribution, between(steps, 0, t)[: process.levels])
        close(process.spread(torch.eye(process.levels).double(), at(t, level)), distribution)
        for s in range(t):
            close(process.likelihood(state, at(t, state), at(s, state)).T, between(steps, s, t))
    close(process.stationary @ steps[0], process.stationary)


def check_posterior(world: World) -> None:
    """q(x_s | x_t, x_0) is Bayes' rule for every triple that can be, of neighbouring and of distant steps."""
    process, steps = world
    for s, t in combinations(range(process.steps + 1), 2):
        for x_0, x_t in product(range(process.levels), range(process.states)):
            joint = between(steps, 0, s)[x_0] * between(steps, s, t)[:, x_t]
            if joint.sum() > 0:
                pair = torch.tensor([x_t]), torch.tensor([x_0])
                log_q = process.log_posterior(*pair, torch.tensor([t]), torch.tensor([s]))
                close(log_q.exp()[0], joint / joint.sum())


def check_reverse(world: World) -> None:
    """p(x_s | x_t) is the sum over x_0 of q(x_s, x_t | x_0) p~(x_0 | x_t), normalised; a p~ that is sure of x_0
    gives the posterior."""
    process, steps = world
    p = noise.uniform((process.levels,), noise.stream("p"), dtype=torch.float64).softmax(0)
    for s, t in combinations(range(process.steps + 1), 2):
        for x_t in range(process.states):
            joint = (p @ between(steps, 0, s)[: process.levels]) * between(steps, s, t)[:, x_t]
            if joint.sum() > 0:
                ours = process.log_reverse(torch.tensor([x_t]), p.log()[None], torch.tensor([t]), torch.tensor([s]))
                close(ours.exp()[0], joint / joint.sum())


@pytest.mark.parametrize("kernel", MAKERS)
@pytest.mark.parametrize("check", [check_products, check_posterior, check_reverse])
def test_the_process_is_the_chain_of_its_single_steps(kernel: str, check: Callable[[World], None]) -> None:
    check(MAKERS[kernel]())


class LateLaw(Uniform):
    """Spreads a step too far."""

    def spread(self, p: Tensor, step: Tensor) -> Tensor:
        return super().spread(p, (step + 1).clamp(max=self.steps))


class Transposed(Absorbing):
    """Takes rows of Q for columns."""

    def likelihood(self, x_t: Tensor, step: Tensor, previous: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        state = torch.arange(self.states)
        columns = super().likelihood(state, step[:1].expand(self.states), previous[:1].expand(self.states), dtype)
        return columns[:, x_t].T


class SingleStep(DiscretizedGaussian):
    """Skips steps with the matrix of the last one alone."""

    def between(self, previous: int, step: int) -> Tensor:
        return super().between(step - 1, step)


class WholeLaw(Uniform):
    """Bayes' rule with q(x_t | x_0) in place of q(x_s | x_0)."""

    def log_posterior(
        self, x_t: Tensor, x_0: Tensor, step: Tensor, previous: Tensor, dtype: torch.dtype = torch.float64
    ) -> Tensor:
        return (self.likelihood(x_t, step, previous).log() + self.distribution(x_0, step).log()).log_softmax(-1)


class TwiceNormalised(Uniform):
    """Weighs p~ by 1 / q(x_t | x_0): sum of q(x_s | x_t, x_0) p~ instead of equation 4."""

    def log_reverse(self, x_t: Tensor, log_p: Tensor, step: Tensor, previous: Tensor) -> Tensor:
        every = torch.eye(self.levels).double()
        column = (self.spread(every, step[:1].expand(self.levels)))[:, x_t].T
        return super().log_reverse(x_t, (log_p - column.log()).log_softmax(-1), step, previous)


@pytest.mark.parametrize(
    ("make", "mutant", "check"),
    [
        (uniform, LateLaw, check_products), (absorbing, Transposed, check_products),
        (gaussian, SingleStep, check_products), (uniform, WholeLaw, check_posterior),
        (absorbing, Transposed, check_posterior), (uniform, TwiceNormalised, check_reverse),
    ],
)  # fmt: skip
def test_a_mutant_of_the_process_is_caught(
    make: Callable[..., World], mutant: type, check: Callable[[World], None]
) -> None:
    with pytest.raises(AssertionError):
        check(make(mutant))


@pytest.mark.parametrize("levels", [2, 3, 17, 40])
@pytest.mark.parametrize("steps", [10, 200])
@pytest.mark.parametrize("kernel", MAKERS)
def test_the_schedules_end_in_noise(kernel: categorical.Kernel, levels: int, steps: int) -> None:
    """After T steps less than a hundredth of a nat of an entry is left, after half of them some is."""
    process = categorical.process_of(kernel, levels, steps)
    level = torch.arange(levels)
    left = categorical.categorical_kl(process.distribution(level, at(steps, level)).log(), process.stationary.log())
    assert float(left.max()) < (1e-2 if kernel == "gaussian" else 1e-12)
    torch.testing.assert_close(process.end_cost(level.view(-1, 1)), left)
    half = categorical.categorical_kl(
        process.distribution(level, at(steps // 2, level)).log(), process.stationary.log()
    )
    if kernel != "absorbing" and levels > 3:  # the gaussian hops of two or three levels are an early end
        assert float(half.max()) > 1e-2
    close(process.distribution(level, at(0, level))[:, :levels], torch.eye(levels).double())


def test_the_absorbing_schedule_is_the_papers() -> None:
    process = categorical.process_of("absorbing", 5, 8)
    assert isinstance(process, Absorbing)
    betas = 1 - process.kept[1:] / process.kept[:-1]
    close(betas, torch.tensor([1 / (8 - t + 1) for t in range(1, 9)], dtype=torch.float64))


def test_the_gaussian_step_is_doubly_stochastic() -> None:
    for levels, beta in ((2, 4.0), (17, 0.01), (256, 0.02)):
        step = categorical.gaussian_matrix(levels, beta)
        assert (step >= 0).all()
        close(step.sum(0), torch.ones(levels).double())
        assert torch.equal(step, step.T)


@pytest.mark.parametrize("kernel", MAKERS)
def test_draws_follow_the_law(kernel: str) -> None:
    process, _ = MAKERS[kernel]()
    count = 20_000
    for x_0, t in product(range(process.levels), (1, 3)):
        x = torch.full((count, 1), x_0, dtype=torch.uint8)
        counts = torch.bincount(
            process.diffuse(x, at(t, x), noise.stream("draws", x_0, t)).flatten(), minlength=process.states
        )
        distribution = process.distribution(torch.tensor([x_0]), torch.tensor([t]))[0]
        assert z_of_counts(counts, distribution) < LARGEST_Z
        other = process.distribution(torch.tensor([x_0]), torch.tensor([t + 1]))[0]
        assert z_of_counts(counts, other) > LARGEST_Z  # a step too late is seen


def test_closed_forms_keep_no_tables_and_the_gaussian_one_says_when_it_would_be_too_large() -> None:
    for kernel in ("uniform", "absorbing"):
        process = categorical.process_of(kernel, 512, 1000)
        assert sum(buffer.numel() for buffer in process.buffers()) == 1001
    assert categorical.LARGEST >= 1000 * 256**2  # the paper's pictures
    with pytest.raises(ValueError, match="at most 256 timesteps"):
        categorical.process_of("gaussian", 512, 1000)
    assert "table" not in categorical.process_of("gaussian", 4, 10).state_dict()


def test_wrong_processes_are_refused() -> None:
    with pytest.raises(ValueError, match="'cauchy'"):
        categorical.process_of("cauchy", 4, 10)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="masked at last"):
        Absorbing(3, kept(BETAS))
    with pytest.raises(ValueError, match="fall from 1"):
        Uniform(3, torch.tensor([1.0, 0.5, 0.6]))
    with pytest.raises(ValueError, match="positive betas"):
        DiscretizedGaussian(3, torch.tensor([0.1, 0.0]))
    with pytest.raises(ValueError, match="two levels"):
        Uniform(1, kept(BETAS))
    with pytest.raises(ValueError, match=r"1\.\.4"):
        categorical.spacing(4, 5)


# --- the bound --------------------------------------------------------------------------------


def places(states: int, entries: int) -> Tensor:
    """Every configuration of the entries: ``(states^entries, entries)``."""
    return torch.tensor(list(product(range(states), repeat=entries)))


def some_law(entries: int) -> Tensor:
    """Probabilities of all data, with entries that depend on each other."""
    return (2 * noise.normal((LEVELS**entries,), noise.stream("distribution"), dtype=torch.float64)).softmax(0)


def perfect(world: World, distribution: Tensor, entries: int) -> categorical.Denoiser:
    """p(x_0^i | x_t without entry i): the joint distribution of x_0 and x_t, divided by the channel of entry i."""
    data = places(LEVELS, entries)

    def denoise(x_t: Tensor, step: Tensor) -> Tensor:
        one = between(world[1], 0, int(step[0]))[:LEVELS]
        each = one[data[None], x_t[:, None]]  # (B, data, entries)
        answer = torch.zeros(*x_t.shape, LEVELS, dtype=torch.float64)
        for i in range(entries):
            others = each[:, :, [j for j in range(entries) if j != i]].prod(-1) * distribution
            for k in range(LEVELS):
                answer[:, i, k] = others[:, data[:, i] == k].sum(1)
        return answer.log().log_softmax(-1)

    return denoise


def exact(world: World, distribution: Tensor, entries: int) -> tuple[Tensor, Tensor]:
    """The bound of each datum by the sum over all paths x_1 .. x_T, and the model's own -log p(x_0).

    The reverse step is the product over entries of q(x_{t-1}^i | x_t), from the joint distribution of everything; what
    no datum can reach is left out.
    """
    process, steps = world
    states, count = places(process.states, entries), process.states**entries
    of_data = [int((states == datum).all(1).nonzero()) for datum in places(LEVELS, entries)]
    forward = []
    for single in steps:
        whole = single
        for _ in range(entries - 1):
            whole = torch.kron(whole, single)
        forward.append(whole)
    marginal = torch.zeros(count, dtype=torch.float64)
    marginal[of_data] = distribution
    reverse = []
    for step in forward:
        joint = marginal[:, None] * step  # (x_{t-1}, x_t)
        marginal = joint.sum(0)
        posterior = torch.where(marginal > 0, joint / marginal, 0.0)
        whole = torch.ones(count, count, dtype=torch.float64)
        for i in range(entries):
            one = torch.stack([posterior[states[:, i] == k].sum(0) for k in range(process.states)])
            whole = whole * one[states[:, i]]
        reverse.append(whole)
    end = torch.ones(count, dtype=torch.float64)
    for i in range(entries):
        end = end * process.stationary[states[:, i]]

    paths = torch.tensor(list(product(range(count), repeat=len(steps))))
    bound = []
    for start in of_data:
        q, log_p, before = torch.ones(len(paths)).double(), end[paths[:, -1]].log(), torch.full((len(paths),), start)
        for t, after in enumerate(paths.T):
            q, log_p = q * forward[t][before, after], log_p + reverse[t][before, after].log()
            before = after
        live = q > 0
        bound.append((q[live] * (q[live].log() - log_p[live])).sum())
    total = end
    for step in reversed(reverse):
        total = step @ total
    return torch.stack(bound), -total[of_data].log()


def enumerated(process: CategoricalProcess, denoise: categorical.Denoiser, entries: int) -> Tensor:
    """What `bound_terms` estimates, with its mean over the noise taken exactly: ``(data,)``."""
    data, states = places(LEVELS, entries), places(process.states, entries)
    total = process.end_cost(data)
    x_0, x_t = data.repeat_interleave(len(states), 0), states.repeat(len(data), 1)
    for t in range(1, process.steps + 1):
        q = process.distribution(x_0, at(t, x_0)).gather(-1, x_t[..., None]).prod(1).squeeze(-1)
        live = q > 0
        step = at(t, x_0[live])
        log_r = process.log_reverse(x_t[live], denoise(x_t[live], step), step, step - 1)
        cost = categorical.step_cost(process, log_r, x_0[live], x_t[live], step)
        total = total + torch.zeros_like(q).masked_scatter(live, q[live] * cost).view(len(data), -1).sum(1)
    return total


def short(world: World, steps: int = 2) -> World:
    """The first steps of a process alone: few paths, and much left of a datum at the end."""
    process, single = world
    if isinstance(process, DiscretizedGaussian):
        return type(process)(LEVELS, process.betas[:steps]), single[:steps]
    if isinstance(process, Absorbing):
        cut = process.kept[: steps + 1].clone()
        cut[-1] = 0
        last = single[-1]  # masks everything
        return type(process)(LEVELS, cut), [*single[: steps - 1], last]
    return type(process)(LEVELS, process.kept[: steps + 1]), single[:steps]


def check_bound(world: World, entries: int = 2) -> None:
    """With the perfect denoiser: the bound of each datum is the sum over all paths; it lies above the model's own
    -log p, so probabilities under it sum to at most 1; its mean lies above the entropy."""
    distribution = some_law(entries)
    bound = enumerated(world[0], perfect(world, distribution, entries), entries)
    of_paths, own = exact(world, distribution, entries)
    torch.testing.assert_close(bound, of_paths, rtol=1e-10, atol=1e-12)
    assert (bound > own - 1e-12).all()
    assert float((-bound).exp().sum()) <= 1
    assert float((distribution * bound).sum()) >= float(-(distribution * distribution.log()).sum())


@pytest.mark.parametrize("kernel", MAKERS)
def test_the_bound_is_the_sum_over_all_paths(kernel: str) -> None:
    check_bound(short(MAKERS[kernel]()))


@pytest.mark.parametrize("kernel", MAKERS)
def test_of_one_entry_nothing_is_lost_but_what_is_left_at_the_end(kernel: str) -> None:
    """The perfect reverse of one entry is the true one: the mean bound is the entropy and KL( q(x_T) || p(x_T) )."""
    world = MAKERS[kernel]()
    process, distribution = world[0], some_law(1)
    bound = enumerated(process, perfect(world, distribution, 1), 1)
    level = torch.arange(LEVELS)
    end = distribution @ process.distribution(level, at(process.steps, level))
    lost = categorical.categorical_kl(end.log(), process.stationary.log())
    torch.testing.assert_close(
        (distribution * bound).sum(), lost - (distribution * distribution.log()).sum(), rtol=1e-12, atol=1e-13
    )


class ForgetsTheEnd(Uniform):
    """No L_T."""

    def end_cost(self, x_0: Tensor) -> Tensor:
        return torch.zeros(len(x_0), dtype=torch.float64)


class EarlyReverse(Uniform):
    """Steps back one step too far: q of t-1 against p of t-2."""

    def log_reverse(self, x_t: Tensor, log_p: Tensor, step: Tensor, previous: Tensor) -> Tensor:
        return super().log_reverse(x_t, log_p, step, (previous - 1).clamp(min=0))


class EarlyPosterior(DiscretizedGaussian):
    """The posterior of the step before."""

    def distribution(self, x_0: Tensor, step: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        return super().distribution(x_0, (step - 1).clamp(min=0), dtype)


class ForgetsTheMask(Absorbing):
    """Takes a masked entry's step back to be an unmasking for sure."""

    def spread(self, p: Tensor, step: Tensor) -> Tensor:
        distribution = super().spread(p, step)
        return distribution * (torch.arange(self.states) < self.levels) + 1e-9


@pytest.mark.parametrize(
    ("make", "mutant"),
    [(uniform, ForgetsTheEnd), (uniform, EarlyReverse), (gaussian, EarlyPosterior), (absorbing, ForgetsTheMask)],
)
def test_a_mutant_of_the_bound_is_caught(make: Callable[..., World], mutant: type) -> None:
    with pytest.raises(AssertionError):
        check_bound(short(make(mutant)))


def test_without_what_is_left_at_the_end_probabilities_sum_to_more_than_one() -> None:
    world = short(uniform(ForgetsTheEnd))
    bound = enumerated(world[0], perfect(world, some_law(2), 2), 2)
    assert float((-bound).exp().sum()) > 1


@pytest.mark.parametrize("kernel", MAKERS)
def test_paths_of_noise_weigh_as_much_as_the_model_says(kernel: str) -> None:
    """The mean weight of a path is p(x_0) itself, the mean of its logarithm minus the bound; the terms of
    `bound_terms` have the bound as their mean too."""
    world, entries, draws = short(MAKERS[kernel]()), 2, 4000
    distribution = some_law(entries)
    denoise = perfect(world, distribution, entries)
    bound, own = exact(world, distribution, entries)
    for datum in (0, 4):
        x_0 = places(LEVELS, entries)[datum].repeat(draws, 1)
        weight = categorical.log_weight(
            world[0], categorical.reversing(world[0], denoise), x_0, noise.stream("paths", datum)
        )
        assert abs(z_of_mean(weight.exp(), float((-own[datum]).exp()))) < LARGEST_Z
        assert abs(z_of_mean(weight, -float(bound[datum]))) < LARGEST_Z
        reverse = categorical.reversing(world[0], denoise)
        terms = categorical.bound_terms(world[0], reverse, x_0, noise.stream("terms", datum))
        assert terms["L_t"].shape == (draws, world[0].steps - 1)
        assert abs(z_of_mean(terms["L_0"] + terms["L_t"].sum(1) + terms["L_T"], float(bound[datum]))) < LARGEST_Z


@pytest.mark.parametrize("steps", [None, 2])
@pytest.mark.parametrize("kernel", MAKERS)
def test_samples_of_one_entry_follow_its_law(kernel: str, steps: int | None) -> None:
    """With the perfect denoiser an entry is drawn from its distribution, in all steps or in fewer; the last one is
    drawn too."""
    world, distribution, count = MAKERS[kernel](), some_law(1), 20_000
    process = world[0]
    x = categorical.ancestral(
        process,
        categorical.reversing(process, perfect(world, distribution, 1)),
        (count, 1),
        steps=steps,
        generator=noise.stream("samples"),
    )
    # p(x_T) is not q(x_T): what the true reverse makes of it
    every = torch.arange(process.states).view(-1, 1)
    chain = torch.eye(process.states).double()
    for t, s in categorical.spacing(process.steps, steps):
        log_p = perfect(world, distribution, 1)(every, at(t, every))
        step_back = process.log_reverse(every, log_p, at(t, every), at(s, every)).exp().squeeze(1)
        chain = chain @ step_back.nan_to_num()  # rows of states that cannot be
    expected = (process.stationary @ chain)[:LEVELS]
    assert z_of_counts(torch.bincount(x.flatten(), minlength=LEVELS), expected / expected.sum()) < LARGEST_Z
    if kernel == "absorbing":
        torch.testing.assert_close(expected, distribution)


def test_kl_is_that_of_torch() -> None:
    log_q, log_p = noise.normal((2, 50, 4), noise.stream(0), dtype=torch.float64).log_softmax(-1)
    distributions = [torch.distributions.Categorical(logits=logits) for logits in (log_q, log_p)]
    torch.testing.assert_close(
        categorical.categorical_kl(log_q, log_p), torch.distributions.kl_divergence(*distributions)
    )
    sure = torch.tensor([0.0, -math.inf, -math.inf, -math.inf]).double()
    torch.testing.assert_close(categorical.categorical_kl(sure.expand(50, 4), log_p), -log_p[:, 0])


# --- absorbing diffusion is orderless autoregression --------------------------------------------


def hidden_costs(model: Orderless, x: Tensor) -> list[Tensor]:
    """C_m for m = 0 .. D: the sum over all sets of m hidden entries of -log p(hidden entry | visible ones)."""
    costs = []
    for m in range(x.shape[1] + 1):
        total = torch.zeros(len(x), dtype=torch.float64)
        for hidden in combinations(range(x.shape[1]), m):
            visible = torch.ones_like(x, dtype=torch.bool)
            visible[:, list(hidden)] = False
            log_p = model.logits(x, visible).log_softmax(-1).gather(-1, x[..., None]).squeeze(-1)
            total -= (log_p * ~visible).sum(1)
        costs.append(total)
    return costs


def mean_over_orders(model: Orderless, x: Tensor) -> Tensor:
    """-log p_o(x) by the chain rule, walked, averaged over all D! orders."""
    orders = list(permutations(range(x.shape[1])))
    total = torch.zeros(len(x), dtype=torch.float64)
    for order in orders:
        walk = model.walk(torch.tensor(order), torch.zeros_like(x), torch.zeros_like(x, dtype=torch.bool), None)
        place, logits = next(walk)
        for step in range(len(order)):
            total -= logits.log_softmax(-1).gather(-1, x[:, place, None]).squeeze(-1)
            if step < len(order) - 1:
                place, logits = walk.send(x[:, place])
    return total / len(orders)


def masked_bound(model: Orderless, process: Absorbing, x: Tensor) -> Tensor:
    """The bound of an absorbing process whose denoiser is the orderless model, exactly: all sets of masks."""

    def denoise(x_t: Tensor, step: Tensor) -> Tensor:
        visible = x_t < process.levels
        return model.logits(torch.where(visible, x_t, 0), visible).log_softmax(-1)

    total = process.end_cost(x)
    for t in range(1, process.steps + 1):
        kept_share = float(process.kept[t])
        for mask in product((False, True), repeat=x.shape[1]):
            x_t = torch.where(torch.tensor(mask), process.levels, x)
            q = math.prod(1 - kept_share if hidden else kept_share for hidden in mask)
            if q > 0:
                log_r = process.log_reverse(x_t, denoise(x_t, at(t, x)), at(t, x), at(t - 1, x))
                total = total + q * categorical.step_cost(process, log_r, x, x_t, at(t, x))
    return total


def orderless(kind: type[Orderless]) -> Orderless:
    model = kind.tiny(Grid(1, (1, 3), LEVELS)).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.7, generator=noise.stream("orderless", parameter.numel()))
    return model


def check_orderless(model: Orderless, process: Absorbing) -> None:
    """Austin et al., section 4 and appendix A.3, made exact.

    With beta_t = 1 / (T - t + 1) an entry is masked at step t with probability t / T, and a masked one is unmasked
    by the step back with probability 1 / t. So L_{t-1} is 1 / t times the cross-entropy of the masked entries, and
    a set M of m masks weighs, over all steps,

        w_T(m) = 1/T sum_t (t/T)^(m-1) (1 - t/T)^(D-m),

    a Riemann sum of the integral of f(u) = u^(m-1) (1-u)^(D-m), which is 1 / (m C(D, m)): the share of the D! orders
    in which a given entry of M comes next when M is what is hidden. So the bound tends to the mean over all orders
    of -log p_o(x), what orderless models are trained on. At finite T the Euler-Maclaurin formula says what is
    missing, and for D = 3 it ends after two terms, as f is of degree 2:

        L(T) = L_orders + (C_3 - C_1) / (2 T) + (C_3 - C_2 + C_1) / (6 T^2),

    where C_m sums the cross-entropies over all sets of m hidden entries. The first of them is the price of
    unmasking several entries at once.
    """
    x = places(LEVELS, 3)
    with torch.no_grad():
        _, c_1, c_2, c_3 = hidden_costs(model, x)
        orders = mean_over_orders(model, x)
        torch.testing.assert_close(c_3 / 3 + c_2 / 6 + c_1 / 3, orders, rtol=1e-12, atol=0)
        t = process.steps
        expected = orders + (c_3 - c_1) / (2 * t) + (c_3 - c_2 + c_1) / (6 * t**2)
        torch.testing.assert_close(masked_bound(model, process, x), expected, rtol=1e-11, atol=0)


@pytest.mark.parametrize("kind", [DeepNADE, ConvNADE])
@pytest.mark.parametrize("steps", [1, 3, 40])
def test_the_absorbing_bound_is_the_mean_over_orders(kind: type[Orderless], steps: int) -> None:
    process = categorical.process_of("absorbing", LEVELS, steps)
    assert isinstance(process, Absorbing)
    check_orderless(orderless(kind), process)


def test_the_loss_of_orderless_models_is_the_limit() -> None:
    """Their training loss, averaged over how many entries are visible and which, is the bound as T grows: the gap
    shrinks like 1 / T."""
    model, x = orderless(DeepNADE), places(LEVELS, 3)
    with torch.no_grad():
        loss = torch.zeros(len(x), dtype=torch.float64)
        for count in range(3):
            sets = list(combinations(range(3), count))
            for shown in sets:
                visible = torch.zeros_like(x, dtype=torch.bool)
                visible[:, list(shown)] = True
                loss += model.masked_loss(x, visible) / (3 * len(sets))
        torch.testing.assert_close(loss, mean_over_orders(model, x), rtol=1e-12, atol=0)
        gaps = []
        for steps in (50, 100):
            process = categorical.process_of("absorbing", LEVELS, steps)
            assert isinstance(process, Absorbing)
            gaps.append(float((masked_bound(model, process, x) - loss).abs().mean()))
    assert 1.9 < gaps[0] / gaps[1] < 2.1


class SquaredPace(Absorbing):
    """Masks entries at another pace."""

    def __init__(self, levels: int, kept: Tensor):
        super().__init__(levels, kept.square())


class CountsOnce(Absorbing):
    """Unmasks with probability 1 / T at every step instead of 1 / t."""

    def likelihood(self, x_t: Tensor, step: Tensor, previous: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        columns = super().likelihood(x_t, step, previous, dtype).clone()
        columns[..., :-1] = columns[..., :-1] * (step / self.steps).view(-1, *[1] * x_t.ndim)
        return columns


@pytest.mark.parametrize("mutant", [SquaredPace, CountsOnce])
def test_another_pace_is_not_the_mean_over_orders(mutant: type[Absorbing]) -> None:
    with pytest.raises(AssertionError):
        check_orderless(orderless(DeepNADE), mutant(LEVELS, torch.linspace(1, 0, 4, dtype=torch.float64)))
