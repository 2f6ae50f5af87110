"""DDPM: denoising diffusion probabilistic models.

A picture is drowned in Gaussian noise over T steps; a U-Net learns to name the noise in a
noisy picture, and so to take one step back. Samples start from pure noise and walk all the
way. The loss weighs all steps alike (L_simple), which draws better pictures than the bound
on the likelihood, of which it is a reweighting; the bound itself is what `log_prob` gives.

Ho, Jain, Abbeel (2020), https://arxiv.org/abs/2006.11239; equation numbers are theirs.

What differs from the paper: any size (odd ones too) and up to three axes; a label is
embedded and added to the embedding of the time; rows of numbers (vectors) are standardised
and have a residual MLP for a network and a normal density for a last step, so their bound is
one on the density. With fewer than 1,000 steps the betas grow in proportion, so that
alpha_bar(t) stays the same curve. Fewer sampling steps are those of Nichol & Dhariwal (2021)
for ``sampler="ancestral"`` and of Song et al. (2021) for ``sampler="ddim"``. PyTorch's
initial weights.

Promises: samples, a variational bound on log p(x), labels.
"""

from typing import ClassVar, Literal, Self

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
from genus.domain import Domain, Grid, Label, Vectors
from genus.models.diffusion import _gaussian as gaussian
from genus.models.diffusion._scaling import Scaling
from genus.nn.timed_mlp import TimedMLP
from genus.nn.unet import UNet
from genus.prob import discretized_gaussian, noise
from genus.prob import gaussian as normal
from genus.recipe import Recipe


class DDPM(GenerativeModel, HasLogProb, IsConditional):
    """Denoising diffusion with a fixed noise process and a network that predicts the noise.

    Args:
        timesteps: T, the steps from data to noise; `log_prob` calls the network T times.
        noise_schedule: how the noise grows: ``linear`` in beta (the paper's) or ``cosine`` in
            alpha_bar (better for small pictures).
        variance: of the reverse steps: ``beta``_t or that of the ``posterior`` q(x_{t-1} | x_t, x_0).
        width: channels of the U-Net's first level (hidden units of the MLP for vectors).
        multipliers: channels of each level of the U-Net in units of the width.
        blocks: residual blocks a level.
        attention: levels of the U-Net with self-attention; 0 is the full size, 1 half of it.
        dropout: rate of dropout while training.
    """

    paper: ClassVar[str] = (
        "Ho, Jain, Abbeel (2020). Denoising Diffusion Probabilistic Models. https://arxiv.org/abs/2006.11239"
    )
    domains: ClassVar[tuple[type[Domain], ...]] = (Grid, Vectors)
    reads_order = True
    recipes: ClassVar[dict[str, Recipe]] = {
        "quick": Recipe(
            learning_rate=2e-3,
            batch_size=64,
            steps=700,
            warmup_steps=50,
            schedule="cosine",
            clip_norm=1.0,
            ema=0.995,
            settings={"timesteps": 200, "width": 32, "multipliers": (1, 2), "blocks": 1, "dropout": 0.0},
        ),
        "paper": Recipe(
            learning_rate=2e-4, batch_size=128, steps=800_000, warmup_steps=5000, clip_norm=1.0, ema=0.9999
        ),
    }

    def __init__(
        self,
        domain: Domain,
        condition: Domain | None = None,
        *,
        timesteps: int = 1000,
        noise_schedule: Literal["linear", "cosine"] = "linear",
        variance: gaussian.Variance = "beta",
        width: int = 128,
        multipliers: tuple[int, ...] = (1, 2, 2, 2),
        blocks: int = 2,
        attention: tuple[int, ...] = (1,),
        dropout: float = 0.1,
    ):
        super().__init__(domain, condition)
        if timesteps < 2:
            raise ValueError(f"expected timesteps >= 2; got {timesteps}.")
        self.variance: gaussian.Variance = variance
        if noise_schedule == "cosine":
            betas = gaussian.cosine_betas(timesteps)
        else:
            betas = gaussian.linear_betas(timesteps, 1e-4 * 1000 / timesteps, 0.02 * 1000 / timesteps)
        self.process = gaussian.GaussianProcess(betas)
        self.scaling = Scaling(domain)
        self.network: UNet | TimedMLP
        if isinstance(domain, Grid):
            self.network = UNet(
                domain.channels, domain.channels, width=width, multipliers=multipliers, blocks=blocks,
                attention=attention, dropout=dropout, dims=len(domain.size),
            )  # fmt: skip
        else:
            self.network = TimedMLP(domain.num_dims, width=width, blocks=blocks * len(multipliers), dropout=dropout)
        self.label: nn.Embedding | None = None
        if condition is not None:
            if not isinstance(condition, Label):
                raise ValueError(f"ddpm is conditioned on labels; got {condition}.")
            self.label = nn.Embedding(condition.count, self.network.embedding_features)

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        if isinstance(domain, Grid) and len(domain.size) > 3:
            return f"ddpm models grids of up to three axes; got {domain}."
        return super().refuses(domain)

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, timesteps=8, width=8, multipliers=(1, 1), blocks=1, dropout=0.0)

    def initialise(self, split: Split) -> None:
        self.scaling.initialise(split)

    def predict_eps(self, condition: Tensor | None) -> gaussian.Network:
        """The network for a fixed condition: ``(x_t, t)`` -> eps, both in scaled units."""
        context = None if self.label is None else self.label(condition)
        return lambda x_t, t: self.network(x_t, t, context)

    def denoiser(self, condition: Tensor | None) -> gaussian.Denoiser:
        """``(x_t, step)`` -> the estimate of x_0 in scaled units; grids stay in [-1, 1]."""
        return gaussian.predicting_eps(self.process, self.predict_eps(condition), clip=isinstance(self.domain, Grid))

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        check_condition(self, batch.condition, len(batch.x))
        x_0 = self.scaling.encode(batch.x)
        return {"loss": gaussian.simple_loss(self.process, self.predict_eps(batch.condition), x_0, generator)}

    def sample(
        self,
        count: int,
        *,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
        sampler: Literal["ancestral", "ddim"] = "ancestral",
        steps: int | None = None,
        eta: float = 0.0,
    ) -> Tensor:
        """``count`` data in the domain's own terms.

        Args:
            sampler: ``ancestral`` draws p(x_{t-1} | x_t); ``ddim`` is good with few steps.
            steps: network calls, evenly spaced from T down to 0; all T by default.
            eta: share of fresh noise in ddim, from 0 (a deterministic map of x_T) to 1.
        """
        check_condition(self, condition, count)
        x = noise.normal((count, *self.domain.shape), generator, self.device)
        denoise = self.denoiser(condition)
        if sampler == "ddim":
            x = gaussian.ddim(self.process, denoise, x, steps=steps, eta=eta, generator=generator)
        elif sampler == "ancestral":
            x = gaussian.ancestral(self.process, denoise, x, steps=steps, variance=self.variance, generator=generator)
        else:
            raise ValueError(f"expected the sampler 'ancestral' or 'ddim'; got {sampler!r}.")
        return self.scaling.decode(x)

    @property
    def likelihood(self) -> Likelihood:
        return Likelihood.BOUND

    def bound_terms(
        self, x: Tensor, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """The terms of -log p(x) <= L_0 + sum_t L_{t-1} + L_T (equation 5), in nats of the raw data.

        "L_0" ``(B,)`` what the last step costs, "L_t" ``(B, T-1)`` the steps in between
        (column t-2 is L_{t-1}), "L_T" ``(B,)`` what is left of x at the end of the process.
        Every step is counted; each is averaged over one draw of noise.
        """
        self.domain.check(x)
        check_condition(self, condition, len(x))
        x_0 = self.scaling.encode(x)

        def log_decoder(mean: Tensor, scale: Tensor) -> Tensor:
            if isinstance(self.domain, Grid):
                return discretized_gaussian.log_prob(x, mean, scale, self.domain.levels)  # equation 13
            return normal.log_prob(x_0, mean, scale.log()) + self.scaling.log_det(x) / x[0].numel()

        return gaussian.bound_terms(
            self.process, self.denoiser(condition), x_0, log_decoder, variance=self.variance, generator=generator
        )

    def log_prob(
        self,
        x: Tensor,
        *,
        condition: Tensor | None = None,
        num_samples: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The bound of `bound_terms`, averaged over ``num_samples`` draws of the noise: ``(B,)``.

        More draws steady the number; they do not tighten it. Costs T network calls a draw
        and keeps no gradients.
        """
        draws = [self.bound_terms(x, condition=condition, generator=generator) for _ in range(num_samples)]
        return -torch.stack([terms["L_0"] + terms["L_t"].sum(1) + terms["L_T"] for terms in draws]).mean(0).float()
