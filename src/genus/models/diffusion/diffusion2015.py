"""The first diffusion model: destroy a datum slowly, learn to undo each step, train on the whole bound.

A fixed or learned process turns data into noise in T steps, normal numbers by Gaussian noise, bits by flips; steps
back have the same form (a normal distribution, a coin), and a network gives their parameters. The loss is the
variational bound itself, which for known processes is a sum of divergences in closed form (equations 9 to 14).

Sohl-Dickstein, Weiss, Maheswaranathan, Ganguli (2015), https://arxiv.org/abs/1503.03585.

What differs from the paper: one random step a datum and a training step, as in the authors' code; a residual MLP or a
U-Net that is told the time, instead of radial bases and outputs that bumps blend along the time; data are standardised,
or scaled to [-1, 1], where they are integers of more than two levels; their last step is a normal distribution cut
into bins, which makes the bound one on probabilities (the paper's is a density of dequantized data, and leaves its
last step out); Adam instead of SFO or RMSprop.

Promises: samples, a variational bound on log p(x), labels.
"""

import math
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from genus.contract import (
    Batch,
    GenerativeModel,
    HasLogProb,
    IsConditional,
    Likelihood,
    Losses,
    Split,
    check_condition,
)
from genus.kinds import Domain, Grid, Tokens, Vectors, classes_of
from genus.models.diffusion import _bound, _categorical, _samplers
from genus.models.diffusion._process import LearnedSteps
from genus.models.diffusion._scaling import Scaling
from genus.nn.timed_mlp import TimedMLP
from genus.nn.unet import UNet
from genus.prob import noise
from genus.recipe import Recipe


class Diffusion2015(GenerativeModel, HasLogProb, IsConditional):
    """Diffusion by Gaussian noise or by flips, trained on the variational bound.

    Two levels are bits and flip; anything else is Gaussian.

    Args:
        timesteps: T, the steps from data to noise; `log_prob` calls the network T times.
        width: hidden units of the MLP (rows and sequences), or channels of the U-Net's first level (grids).
        multipliers: channels of each level of the U-Net in units of the width.
        blocks: residual blocks of the MLP, or of a level of the U-Net.
    """

    paper: ClassVar[str] = (
        "Sohl-Dickstein, Weiss, Maheswaranathan, Ganguli (2015). Deep Unsupervised Learning using Nonequilibrium "
        "Thermodynamics. https://arxiv.org/abs/1503.03585"
    )
    domains: ClassVar[tuple[type[Domain], ...]] = (Grid, Tokens, Vectors)
    needs_ordered_levels = True
    recipes: ClassVar[dict[str, Recipe]] = {
        "quick": Recipe(
            learning_rate=2e-3, batch_size=64, steps=1000, warmup_steps=50, schedule="cosine", clip_norm=1.0, ema=0.995,
            settings={"timesteps": 100, "width": 32, "multipliers": (1, 2), "blocks": 1},
        ),
        "quick-vectors": Recipe(
            learning_rate=2e-3, batch_size=512, steps=4000, warmup_steps=50, schedule="cosine", clip_norm=1.0,
            ema=0.995,
            settings={"timesteps": 40, "width": 64, "blocks": 3},
        ),
        "quick-tokens": Recipe(
            learning_rate=2e-3, batch_size=512, steps=4000, warmup_steps=50, schedule="cosine", clip_norm=1.0,
            ema=0.995,
            settings={"timesteps": 200, "width": 64, "blocks": 3},
        ),
        "paper": Recipe(
            optimizer="rmsprop", learning_rate=1e-3, batch_size=512, steps=500_000, settings={"timesteps": 1000}
        ),
    }  # fmt: skip

    def __init__(
        self,
        domain: Domain,
        condition: Domain | None = None,
        *,
        timesteps: int = 40,
        width: int = 64,
        multipliers: tuple[int, ...] = (1, 2),
        blocks: int = 2,
    ):
        super().__init__(domain, condition)
        if timesteps < 2:
            raise ValueError(f"expected timesteps >= 2; got {timesteps}.")
        self.binary = domain.levels == 2
        self.flips = _categorical.Uniform(
            2, 1 - torch.arange(timesteps + 1).double() / timesteps
        )  # beta_t = 1 / (T-t+1)
        self.process = LearnedSteps(timesteps) if not self.binary else None
        self.steps = timesteps
        self.scaling = Scaling(domain)
        outputs = 1 if self.binary else 2  # the odds of a bit, or the mean and variance of a normal distribution
        self.network: UNet | TimedMLP
        if isinstance(domain, Grid):
            self.network = UNet(
                domain.channels, outputs * domain.channels, width=width, multipliers=multipliers, blocks=blocks,
                attention=(), dropout=0.0, dims=len(domain.size),
            )  # fmt: skip
        else:
            self.network = TimedMLP(domain.num_dims, width=width, blocks=blocks, outputs=outputs * domain.num_dims)
        self.label = None if condition is None else nn.Embedding(classes_of(condition), self.network.embedding_features)

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        if isinstance(domain, Grid) and len(domain.size) > 3:
            return f"diffusion2015 models grids of up to three axes; got {domain}."
        if isinstance(domain, Tokens) and domain.levels > 2:
            return f"diffusion2015 models sequences of bits; got {domain}. d3pm takes any symbols."
        return super().refuses(domain)

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, timesteps=4, width=8, multipliers=(1, 1), blocks=1)

    def initialise(self, split: Split) -> None:
        self.scaling.initialise(split)

    def outputs_at(self, x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        """The network at x in [-1, 1] or standardised: ``(B, outputs, *domain.shape)``."""
        context = None if self.label is None else self.label(condition)
        return self.network(x, t.to(x.dtype), context).view(len(x), -1, *self.domain.shape)

    # -- steps back ----------------------------------------------------------------------------

    def gaussian(self, condition: Tensor | None) -> _samplers.Reverse:
        """p(x_s | x_t) = N(mean, variance) of a single step. A network that says nothing undoes the shrinking and has
        the variance beta_t, which is right for data N(0, 1)."""
        process = self.process
        assert process is not None

        def reverse(x_t: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
            shift, wider = self.outputs_at(x_t, t, condition).unbind(1)
            keeps, beta = process.transition(t, s, x_t)
            mean = keeps.to(x_t) * x_t + beta.sqrt().to(x_t) * shift
            return mean, torch.sigmoid(torch.logit(beta).to(x_t) + wider)

        return reverse

    def coins(self, condition: Tensor | None, dtype: torch.dtype = torch.float64) -> _categorical.Reverse:
        """log p(x_s | x_t) of both values of each bit, ``(B, ..., 2)``. A network that says nothing has the odds of a
        fair coin before the step."""

        def reverse(x_t: Tensor, step: Tensor, previous: Tensor) -> Tensor:
            seen = 2.0 * x_t - 1
            odds = self.outputs_at(seen, step / self.steps, condition).squeeze(1).to(dtype)
            own = self.flips.likelihood(x_t, step, previous, dtype).clamp(min=torch.finfo(dtype).tiny).log()
            return (own + torch.stack([torch.zeros_like(odds), odds], -1)).log_softmax(-1)

        return reverse

    # -- the bound -----------------------------------------------------------------------------

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """The bound of equation 14 from one random step, in nats an entry."""
        x, condition, _ = batch
        check_condition(self, condition, len(x))
        step = 1 + noise.integers(self.steps, (len(x),), generator, x.device)
        if self.process is None:
            x_t = self.flips.diffuse(x.long(), step, generator)
            log_r = self.coins(condition, torch.float32)(x_t, step, step - 1)
            term = _categorical.step_cost(self.flips, log_r, x.long(), x_t, step)
            end = self.flips.end_cost(x.long())
        else:
            x_0 = self.scaling.encode(x)
            eps = noise.normal(tuple(x_0.shape), generator, x_0.device, x_0.dtype)
            term = _bound.step_term(
                self.process, self.gaussian(condition), x_0, step, eps, _bound.log_decoder(self.scaling, x)
            )
            end = _bound.last_term(self.process, x_0)
        bound = ((self.steps * term + end) / self.domain.num_dims).float()
        return {"loss": bound}

    @property
    def likelihood(self) -> Likelihood:
        return Likelihood.BOUND

    def bound_terms(
        self, x: Tensor, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """The terms of -log p(x) <= L_0 + sum_t L_{t-1} + L_T in nats of the raw data, each from one draw of noise:
        "L_0" ``(B,)``, "L_t" ``(B, T-1)``, "L_T" ``(B,)``."""
        self.domain.check(x)
        check_condition(self, condition, len(x))
        if self.process is None:
            return _categorical.bound_terms(self.flips, self.coins(condition), x.long(), generator)
        return _bound.bound_terms(
            self.process,
            self.gaussian(condition),
            self.scaling.encode(x),
            _bound.log_decoder(self.scaling, x),
            generator,
        )

    @torch.no_grad()
    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        """The bound, ``(B,)``. Of bits the log of the mean weight of ``num_samples`` paths, which more paths tighten;
        else the mean of `bound_terms`, which they steady. Costs T network calls a draw."""
        if self.process is None:
            draws = [
                _categorical.log_weight(self.flips, self.coins(condition), x.long(), generator)
                for _ in range(num_samples)
            ]
            return (torch.stack(draws).logsumexp(0) - math.log(num_samples)).float()
        terms = [self.bound_terms(x, condition=condition, generator=generator) for _ in range(num_samples)]
        return -torch.stack([_bound.total(each) for each in terms]).mean(0).float()

    # -- samples ----------------------------------------------------------------------------------

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """``count`` data in the domain's own terms, by T steps back; the last Gaussian step takes the mean."""
        shape = (count, *self.domain.shape)
        if self.process is None:
            x = _categorical.ancestral(
                self.flips, self.coins(condition, torch.float32), shape, generator=generator, device=self.device
            )
            return x.to(self.domain.dtype)
        x_1 = noise.normal(shape, generator, self.device)
        times = _samplers.of_steps(self.steps)
        return self.scaling.decode(_samplers.ancestral(self.gaussian(condition), x_1, times, generator))
