"""VDM: variational diffusion, trained for nothing but the likelihood.

Data drown along a line in gamma = log(sigma^2 / alpha^2). In continuous time the bound on -log p(x) is an integral over
noise levels,

    L_0 + 1/2 integral of E ||eps - eps^(x_t)||^2 dgamma + L_T        (sections 3.5 and 5 of the paper),

of which training draws one level a datum. The integral is the same whatever time is spent where, so a schedule may be
learned for one thing alone, that its draws vary little (section 5.3); with the levels drawn in proportion to the root
of their mean squared term that is done in closed form. The network reads, beside its input, sines and cosines that
tell where a number lies between two levels: what the last bits of the likelihood hang on.

Kingma, Salimans, Poole, Ho (2021), https://arxiv.org/abs/2107.00630; section numbers are theirs.

What differs from the paper: the two ends of the line are set, not learned: the first noise is a twelfth of the way
between two levels (a hundredth of the spread of numbers without levels), the last leaves a thousandth of the signal's
power; the schedule is learned in closed form, not by a network; the network is the U-Net of the other models; levels
are read off x_0 by the bins of a normal distribution; estimates of x_0 stay in the range of the data, in the bound as
in samples. Losses are means over the entries of a datum.

Promises: samples, a variational bound on log p(x), latents, completion, labels.
"""

import math
from typing import ClassVar, Self

import torch
from torch import Tensor

from genus.contract import Batch, Losses, check_condition
from genus.kinds import Domain
from genus.models.diffusion import _bound, _denoiser, _samplers
from genus.models.diffusion._diffusion import BoundDensity
from genus.models.diffusion._process import LogLinear
from genus.models.diffusion._weighting import StepMoments
from genus.prob import noise
from genus.recipe import Recipe

FINEST = 1 / 12  # of the way between two levels: the noise that data begin with
SMALLEST = 0.01  # the same where there are no levels, in standard deviations
LAST = 7.0  # gamma where data end
STRETCHES = 100  # of noise levels, between which the time of training is divided


class VDM(BoundDensity):
    """Diffusion in continuous time, trained on the bound itself.

    Args:
        timesteps: T, the steps of the usual sampler; `log_prob` calls the network T times, once in each T-th of the
            noise levels.
        width: channels of the U-Net's first level (hidden units of the MLP for vectors, of the
            transformer for clouds).
        multipliers: channels of each level of the U-Net in units of the width.
        blocks: residual blocks a level.
        attention: levels of the U-Net with self-attention; 0 is the full size, 1 half of it.
        dropout: rate of dropout while training.
        label_dropout: share of the labels that are put out in training, so that samples may be guided.
        flow_steps: steps of the integration along the probability flow, for latents.
    """

    paper: ClassVar[str] = (
        "Kingma, Salimans, Poole, Ho (2021). Variational Diffusion Models. https://arxiv.org/abs/2107.00630"
    )
    recipes: ClassVar[dict[str, Recipe]] = {
        "quick": Recipe(
            learning_rate=2e-3, batch_size=64, steps=1000, warmup_steps=50, schedule="cosine", clip_norm=1.0, ema=0.995,
            settings={"timesteps": 200, "width": 32, "multipliers": (1, 2), "blocks": 1, "dropout": 0.0},
        ),
        "quick-points": Recipe(
            learning_rate=1e-3, batch_size=16, steps=2000, warmup_steps=50, schedule="cosine", clip_norm=1.0, ema=0.995,
            settings={"timesteps": 200, "width": 64, "multipliers": (1, 1), "blocks": 2, "dropout": 0.0},
        ),
        "paper": Recipe(
            optimizer="adamw", weight_decay=0.01, learning_rate=2e-4, batch_size=128, steps=10_000_000, ema=0.9999
        ),
    }  # fmt: skip
    process: LogLinear
    predicts = "eps"

    def __init__(
        self,
        domain: Domain,
        condition: Domain | None = None,
        *,
        timesteps: int = 1000,
        width: int = 128,
        multipliers: tuple[int, ...] = (1, 2, 2, 2),
        blocks: int = 2,
        attention: tuple[int, ...] = (1,),
        dropout: float = 0.1,
        label_dropout: float = 0.1,
        flow_steps: int = 40,
    ):
        super().__init__(domain, condition)
        if timesteps < 2:
            raise ValueError(f"expected timesteps >= 2; got {timesteps}.")
        self.timesteps = timesteps
        self.between = 2 / (domain.levels - 1) if domain.levels else None  # of two levels next to each other
        self.finest = SMALLEST if self.between is None else FINEST * self.between
        self.nearest = math.atan(1.01 * self.finest)
        self.process = LogLinear(2 * math.log(self.finest), LAST)
        self.moments = StepMoments(STRETCHES)
        self.inputs = 1 if self.between is None else 5
        self.build(
            width=width, multipliers=multipliers, blocks=blocks, attention=attention, dropout=dropout,
            label_dropout=label_dropout, flow_steps=flow_steps,
        )  # fmt: skip

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, timesteps=16, width=8, multipliers=(1, 1), blocks=1, dropout=0.0, flow_steps=3)

    # -- the network ---------------------------------------------------------------------------

    def features(self, maps: Tensor) -> Tensor:
        """The maps, and where each number lies between two levels, and between every second (section 3.4)."""
        if self.between is None:
            return maps
        turns = (math.pi / self.between) * maps
        return torch.cat([maps, turns.sin(), turns.cos(), (2 * turns).sin(), (2 * turns).cos()], 1)

    def outputs_at(self, x: Tensor, t: Tensor, label: Tensor | None) -> tuple[Tensor, ...]:
        (correction,) = super().outputs_at(x, t, label)
        return (x + correction,)  # where noise is all there is, the input is the noise

    # -- the bound -----------------------------------------------------------------------------

    def progress(self, fraction: float) -> None:
        self.moments.advance()

    def cost(self, x_0: Tensor, t: Tensor, eps: Tensor, denoise: _denoiser.Denoiser) -> Tensor:
        """The integrand over time, 1/2 dgamma/dt ||eps - eps^||^2 (section 5), in nats: ``(B,)``."""
        alpha, sigma = self.process.at(t, x_0)
        far = (x_0 - denoise(self.process.diffuse(x_0, t, eps), t)) * (alpha / sigma).to(x_0)
        return 0.5 * (self.process.last - self.process.first) * far.square().flatten(1).sum(1)

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        x_0, label = self.prepared(batch, generator)
        stretch, weight = self.moments.draw(len(x_0), generator)
        u = noise.uniform((len(x_0),), generator, x_0.device, torch.float64)
        eps = noise.normal(tuple(x_0.shape), generator, x_0.device, x_0.dtype)
        denoise = self.denoiser(label, clip=False)  # a clipped estimate has no gradient
        cost = self.cost(x_0, (stretch - u) / STRETCHES, eps, denoise) / self.domain.num_dims
        if self.training:
            self.moments.see(stretch, cost.detach())
        return {"loss": weight * cost}

    @torch.no_grad()
    def bound_terms(
        self, x: Tensor, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """The terms of -log p(x) <= L_0 + integral + L_T (section 3.5), in nats of the raw data, each from one draw of
        noise: "L_0" ``(B,)``, "L_t" ``(B, T)`` the parts of the integral from one T-th of the noise levels each,
        "L_T" ``(B,)``. The model's own: without guidance."""
        self.domain.check(x)
        check_condition(self, condition, len(x))
        x_0, denoise = self.scaling.encode(x), self.denoiser(condition)

        def normal() -> Tensor:
            return noise.normal(tuple(x_0.shape), generator, x_0.device, x_0.dtype)

        def part(k: int) -> Tensor:
            u = noise.uniform((len(x_0),), generator, x_0.device, torch.float64)
            return self.cost(x_0, (k - u) / self.timesteps, normal(), denoise).double() / self.timesteps

        scale = torch.full_like(x_0, self.finest)
        read = _bound.log_decoder(self.scaling, x)(x_0 + scale * normal(), scale)
        return {
            "L_0": -read.double().flatten(1).sum(1),
            "L_t": torch.stack([part(k) for k in range(1, self.timesteps + 1)], 1),
            "L_T": _bound.last_term(self.process, x_0),
        }

    # -- samples -------------------------------------------------------------------------------

    def times(self, steps: int | None) -> list[float]:
        """Evenly spaced noise levels, T of them or so many."""
        return _samplers.even(self.timesteps if steps is None else steps)
