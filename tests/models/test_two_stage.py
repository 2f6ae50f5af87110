"""Two stages: the bound by enumeration and quadrature, what noisy bounds may be averaged into, labels, options."""

import math
from typing import Any, ClassVar, Self

import pytest
import torch
from torch import Tensor, nn

from genus.contract import Batch, GenerativeModel, HasLogProb, HasPosterior, IsConditional, Likelihood, Losses
from genus.errors import CapabilityError
from genus.kinds import Domain, Grid, Label, Vectors
from genus.models.latent.vae import VAE
from genus.models.two_stage import TwoStage, with_options_of
from genus.prob import noise
from genus.prob.noise import stream
from genus.prob.posterior import Certain
from genus.prob.reduce import logmeanexp
from genus.recipe import Recipe
from genus.settings import schema
from genus.testing import check_model

PIXELS, CODES, LABEL = Grid(1, (1, 2), 3), Grid(1, (1, 1), 4, ordered=False), Label(("a", "b"))


class Coder(GenerativeModel, HasPosterior):
    """Nine pictures, four codes: a table of p(x|z), and an arbitrary code for each picture."""

    paper, domains = "none", (Grid,)

    def __init__(self) -> None:
        super().__init__(PIXELS)
        self.logits = nn.Parameter(noise.normal((4, 9), stream("coder")))

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls()

    latent_domain = CODES  # type: ignore[assignment]
    decoder_likelihood = Likelihood.EXACT  # type: ignore[assignment]

    def _number(self, x: Tensor) -> Tensor:
        return x.flatten(1).long() @ torch.tensor([3, 1])

    def posterior(self, x: Tensor, condition: Tensor | None = None) -> Certain:
        return Certain((self._number(x) * 5 % 4).view(-1, 1, 1, 1).to(torch.uint8))

    def log_prior(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return torch.full((len(z),), -math.log(4))

    def sample_prior(
        self, count: int, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return noise.integers(4, (count, 1, 1, 1), generator).to(torch.uint8)

    def log_likelihood(self, x: Tensor, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.logits.log_softmax(1)[z.flatten().long(), self._number(x)]

    def generate(self, z: Tensor, condition: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        return self._picture(noise.categorical(self.logits[z.flatten().long()], generator))

    def _picture(self, number: Tensor) -> Tensor:
        return torch.stack([number // 3, number % 3], 1).view(-1, 1, 1, 2).to(torch.uint8)

    def _encode(self, x: Tensor, condition: Tensor | None) -> Tensor:
        return self.posterior(x).mean

    def _decode(self, z: Tensor, condition: Tensor | None) -> Tensor:
        return self._picture(self.logits[z.flatten().long()].argmax(1))

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        return {"loss": -self.log_likelihood(batch.x, self.posterior(batch.x).mean)}

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        raise NotImplementedError


class Table(GenerativeModel, HasLogProb, IsConditional):
    """p(z) of each code, for each label; said with noise that hides it where ``blur`` is not zero."""

    paper, domains = "none", (Grid,)

    def __init__(self, condition: Label | None = None, blur: float = 0.0):
        super().__init__(CODES, condition)
        self.blur, self.logits = blur, nn.Parameter(noise.normal((2, 4), stream("table")))

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls()

    @property
    def likelihood(self) -> Likelihood:
        return Likelihood.BOUND if self.blur else Likelihood.EXACT

    def rows(self, condition: Tensor | None, count: int) -> Tensor:
        return self.logits.log_softmax(1)[torch.zeros(count).long() if condition is None else condition]

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        """A bound of mean log p(z) - 0.1, whose exponential is far above p(z) in the mean."""
        exact = self.rows(condition, len(x)).gather(1, x.flatten(1).long()).squeeze(1)
        if not self.blur:
            return exact
        return exact - 0.1 + self.blur * noise.normal((len(x), num_samples), generator).mean(1)

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        return {"loss": -self.log_prob(batch.x, condition=batch.condition)}

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        return noise.categorical(self.rows(condition, count), generator).view(count, 1, 1, 1).to(torch.uint8)


class Bell(GenerativeModel, HasLogProb):
    """N(centre, width) for each latent; a bound that is noisy where ``blur`` is not zero."""

    paper, domains = "none", (Vectors,)

    def __init__(self, features: int, centre: float = 0.0, width: float = 1.0, blur: float = 0.0):
        super().__init__(Vectors(features))
        self.centre, self.width, self.blur = nn.Parameter(torch.tensor(centre)), width, blur

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain.num_dims)

    @property
    def likelihood(self) -> Likelihood:
        return Likelihood.ESTIMATE if self.blur else Likelihood.EXACT

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        exact = torch.distributions.Normal(self.centre, self.width).log_prob(x).sum(1)
        return exact + self.blur * noise.normal((len(x),), generator) if self.blur else exact

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        return {"loss": -self.log_prob(batch.x)}

    def _sample(
        self, count: int, condition: Tensor | None, generator: torch.Generator | None, *, temperature: float = 1.0
    ) -> Tensor:
        """Draw.

        Args:
            temperature: factor on the width.
        """
        eps = noise.normal((count, self.domain.num_dims), generator)
        return self.centre.detach() + self.width * temperature * eps


def pictures() -> Tensor:
    return torch.cartesian_prod(torch.arange(3), torch.arange(3)).view(9, 1, 1, 2).to(torch.uint8)


def exact(coder: Coder, table: Table, label: int | None = None) -> Tensor:
    """log sum_z p(z|c) p(x|z) of the nine pictures, by adding up."""
    prior = table.logits.log_softmax(1)[label or 0]
    return torch.logsumexp(prior.view(4, 1) + coder.logits.log_softmax(1), 0).detach()


# --- codes: everything can be added up -----------------------------------------------------


def test_the_bound_lies_below_the_sum_over_all_codes() -> None:
    coder, table = Coder(), Table()
    bound = TwoStage(coder, table).log_prob(pictures())
    assert bool((bound <= exact(coder, table) + 1e-6).all())
    assert float(exact(coder, table).exp().sum()) == pytest.approx(1)
    assert float(bound.exp().sum()) < 1
    assert not bool(
        (coder.log_likelihood(pictures(), coder.encode(pictures())) <= exact(coder, table)).all()
    )  # no code cost


def test_more_draws_change_nothing_where_the_code_is_certain() -> None:
    pair = TwoStage(Coder(), Table())
    torch.testing.assert_close(pair.log_prob(pictures(), num_samples=50), pair.log_prob(pictures()))


def test_a_noisy_bound_stays_one_in_the_mean() -> None:
    coder, many = Coder(), 4000
    pair, x = TwoStage(coder, Table(blur=2.0)), pictures()[:1].repeat(many, 1, 1, 1)
    truth = TwoStage(coder, Table()).log_prob(pictures()[:1])
    draws = pair.log_prob(x, generator=stream("noisy"))
    assert float(draws.mean()) == pytest.approx(float(truth) - 0.1, abs=5 * 2 / math.sqrt(many))
    assert float(logmeanexp(draws)) > float(truth) + 1  # the log of the mean would be no bound
    inner = pair.log_prob(x, num_samples=25, generator=stream("noisy"))  # all draws go to the second stage
    assert float(inner.std()) == pytest.approx(2 / 5, rel=0.1)


def test_samples_follow_the_sum() -> None:
    coder, table, count = Coder(), Table(), 20_000
    drawn = coder._number(TwoStage(coder, table).sample(count, generator=stream("draw")))
    p = exact(coder, table).exp()
    chi = ((drawn.bincount(minlength=9) - count * p).square() / (count * p)).sum()
    assert float(chi) < 30  # 8 degrees of freedom
    uniform = torch.full((9,), count / 9)
    assert float(((drawn.bincount(minlength=9) - uniform).square() / uniform).sum()) > 300
    typical = TwoStage(coder, table).sample(50, generator=stream("draw"), pixels="mode")
    assert len(typical.flatten(1).unique(dim=0)) <= 4  # one picture a code


def test_the_label_goes_to_the_second_stage() -> None:
    coder, table = Coder(), Table(LABEL)
    pair = TwoStage(coder, table)
    for label in (0, 1):
        condition = torch.full((9,), label)
        bound = pair.log_prob(pictures(), condition=condition)
        assert bool((bound <= exact(coder, table, label) + 1e-6).all())
    said = [pair.log_prob(pictures(), condition=torch.full((9,), label)) for label in (0, 1)]
    assert float((said[0] - said[1]).abs().max()) > 0.1
    with pytest.raises(ValueError, match="a, b"):
        pair.sample(3)


# --- real latents: quadrature, and the first stage's own prior -------------------------------


def vae(features: int) -> VAE:
    torch.manual_seed(0)
    made = VAE(Grid(1, (2, 2), 2), latent_features=features, hidden=(8,))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(2)
    return made.eval()


def binary(count: int) -> Tensor:
    return noise.integers(2, (count, 1, 2, 2), stream("x")).to(torch.uint8)


@pytest.mark.parametrize("num_samples", [1, 7])
def test_with_its_own_prior_it_is_the_first_stage(num_samples: int) -> None:
    first = vae(3)
    own = first.log_prob(binary(9), num_samples=num_samples, generator=stream("z"))
    pair = TwoStage(first, Bell(3)).log_prob(binary(9), num_samples=num_samples, generator=stream("z"))
    torch.testing.assert_close(pair, own)
    other = TwoStage(first, Bell(3, centre=1.0)).log_prob(binary(9), num_samples=num_samples, generator=stream("z"))
    assert float((other - own).abs().max()) > 0.1


def test_many_draws_reach_the_integral() -> None:
    first, second = vae(1), Bell(1, centre=0.5, width=0.7)
    x, z = binary(6), torch.linspace(-6, 7, 4001).view(-1, 1)
    with torch.no_grad():
        joint = torch.stack([first.log_likelihood(d.expand(len(z), 1, 2, 2), z) for d in x]) + second.log_prob(z)
    integral = torch.logsumexp(joint.double(), 1) + math.log(13 / 4000)
    pair = TwoStage(first, second)
    torch.testing.assert_close(
        pair.log_prob(x, num_samples=20_000, generator=stream("k")).double(), integral, atol=0.02, rtol=0
    )
    one = torch.stack([pair.log_prob(x, generator=stream("k", n)) for n in range(200)]).mean(0)
    assert bool((one.double() < integral).all())
    plain = first.log_prob(x, num_samples=20_000, generator=stream("k")).double()
    assert float((plain - integral).abs().max()) > 0.02  # the first stage's prior is another


def test_draws_of_a_stage_that_is_itself_noisy_are_averaged() -> None:
    first, x = vae(2), binary(4)
    noisy = TwoStage(first, Bell(2, blur=3.0))
    assert noisy.likelihood is Likelihood.ESTIMATE
    averaged = noisy.log_prob(x, num_samples=3000, generator=stream("a")).double()
    elbo = TwoStage(first, Bell(2)).log_weights(x, 3000, generator=stream("b")).double().mean(0)
    torch.testing.assert_close(averaged, elbo, atol=0.5, rtol=0)
    combined = logmeanexp(noisy.log_weights(x, 3000, generator=stream("a")))
    assert bool((combined > elbo + 2).all())  # what the log of the mean would say


# --- what it promises and refuses ------------------------------------------------------------


class Pair(TwoStage):
    """As `TwoStage`, of the domains that its tiny instance takes; its stages have recipes, it has none of its own."""

    domains = (Grid, Vectors)
    recipes: ClassVar[dict[str, Recipe]] = {"quick": Recipe(), "paper": Recipe()}


@pytest.mark.slow
def test_the_contract_holds() -> None:
    failed = [result for result in check_model(Pair) if not result.passed]
    assert not failed, failed


def test_kinds() -> None:
    first, grey = vae(2), VAE(Grid(1, (2, 2), 4), latent_features=2, decoder="grey_bce")
    assert TwoStage(first, Bell(2)).likelihood is Likelihood.BOUND
    nothing = TwoStage(grey, Bell(2))
    assert nothing.likelihood is Likelihood.NONE
    with pytest.raises(CapabilityError, match="vae has none"):
        nothing.log_prob(binary(2))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"latents of vae are vectors of 2 features; .* models vectors of 3 features"):
        TwoStage(vae(2), Bell(3))
    with pytest.raises(CapabilityError, match="HasPosterior"):
        TwoStage(Bell(3), Bell(3))
    told: Any = VAE(Grid(1, (2, 2), 2), LABEL, latent_features=2)
    with pytest.raises(ValueError, match="was built for 2 labels"):
        TwoStage(told, Bell(2))


def test_options_of_the_second_stage_are_its_own() -> None:
    fields = schema(with_options_of(Bell)._sample).model_fields
    assert {"pixels", "temperature"} <= fields.keys()
    assert "factor on the width" in (fields["temperature"].description or "")
    pair = with_options_of(Bell)(vae(2), Bell(2))
    cold = pair.sample(20, generator=stream("s"), temperature=0.0, pixels="mode")
    assert len(cold.flatten(1).unique(dim=0)) == 1
    warm = pair.sample(200, generator=stream("s"), temperature=9.0, pixels="mode")
    assert len(warm.flatten(1).unique(dim=0)) > 1
