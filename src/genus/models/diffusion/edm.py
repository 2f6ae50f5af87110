"""EDM: diffusion with its design choices taken apart and set one by one.

Noise is added to data that stay where they are, x_t = x_0 + sigma eps with sigma from 0 to 80. The network is
preconditioned: at every sigma its input and its target have variance one, and an error of its output costs the
same (equations 7 and 8 of the paper, table 1). Training looks at noise levels where there is something to learn,
ln sigma ~ N(-1.2, 1.2^2); sampling is Heun's method along noise levels that are evenly spaced in sigma^(1/7).

Karras, Aittala, Aila, Laine (2022), https://arxiv.org/abs/2206.00364.

What differs from the paper: the network is the U-Net of the other models, told the time t = (sigma / 80)^(1/7)
instead of ln(sigma) / 4; Heun's step is taken against alpha / sigma where sigma > 1; no augmentation; tables are
standardised and have a spread of one. Losses are means over the entries of a datum.

Promises: samples, an estimate of log p(x) along the probability flow, latents, completion, labels.
"""

from typing import ClassVar, Self

import torch

from genus.contract import Batch, Losses
from genus.kinds import Domain
from genus.models.diffusion import _denoiser
from genus.models.diffusion._diffusion import FlowDensity
from genus.models.diffusion._process import VarianceExploding
from genus.prob import noise
from genus.recipe import Recipe

LARGEST, SMALLEST = 80.0, 0.002  # sigma where sampling begins, and the last before the data


class EDM(FlowDensity):
    """Diffusion with a preconditioned network, trained where there is something to learn.

    Args:
        log_mean: of ln sigma in training.
        log_spread: standard deviation of ln sigma in training.
        width: channels of the U-Net's first level (hidden units of the MLP for vectors, of the
            transformer for clouds).
        multipliers: channels of each level of the U-Net in units of the width.
        blocks: residual blocks a level.
        attention: levels of the U-Net with self-attention; 0 is the full size, 1 half of it.
        dropout: rate of dropout while training.
        label_dropout: share of the labels that are put out in training, so that samples may be guided.
        flow_steps: steps of the integration along the probability flow, for latents and for the estimate of log p(x).
    """

    paper: ClassVar[str] = (
        "Karras, Aittala, Aila, Laine (2022). Elucidating the Design Space of Diffusion-Based Generative Models. "
        "https://arxiv.org/abs/2206.00364"
    )
    recipes: ClassVar[dict[str, Recipe]] = {
        "quick": Recipe(
            learning_rate=2e-3, batch_size=64, steps=1000, warmup_steps=50, schedule="cosine", clip_norm=1.0, ema=0.995,
            settings={"width": 32, "multipliers": (1, 2), "blocks": 1, "dropout": 0.0},
        ),
        "quick-points": Recipe(
            learning_rate=1e-3, batch_size=16, steps=2000, warmup_steps=50, schedule="cosine", clip_norm=1.0, ema=0.995,
            settings={"width": 64, "multipliers": (1, 1), "blocks": 2, "dropout": 0.0},
        ),
        "paper": Recipe(learning_rate=1e-3, batch_size=512, steps=390_625, warmup_steps=19_531, ema=0.99929),
    }  # fmt: skip
    process: VarianceExploding
    predicts = "edm"
    usual_sampler = "heun"

    def __init__(
        self,
        domain: Domain,
        condition: Domain | None = None,
        *,
        log_mean: float = -1.2,
        log_spread: float = 1.2,
        width: int = 128,
        multipliers: tuple[int, ...] = (2, 2, 2),
        blocks: int = 4,
        attention: tuple[int, ...] = (1,),
        dropout: float = 0.13,
        label_dropout: float = 0.1,
        flow_steps: int = 40,
    ):
        super().__init__(domain, condition)
        if log_spread <= 0:
            raise ValueError(f"log_spread: expected more than 0; got {log_spread}.")
        self.log_mean, self.log_spread = log_mean, log_spread
        self.process = VarianceExploding(LARGEST)
        self.spread = 0.5 if domain.discrete else 1.0
        self.build(
            width=width, multipliers=multipliers, blocks=blocks, attention=attention, dropout=dropout,
            label_dropout=label_dropout, flow_steps=flow_steps,
        )  # fmt: skip

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, width=8, multipliers=(1, 1), blocks=1, dropout=0.0, flow_steps=3)

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        x_0, label = self.prepared(batch, generator)
        log_sigma = self.log_mean + self.log_spread * noise.normal((len(x_0),), generator, x_0.device, torch.float64)
        t = self.process.time_at(torch.atan(log_sigma.exp())).clamp(max=1)
        eps = noise.normal(tuple(x_0.shape), generator, x_0.device, x_0.dtype)
        return {"loss": _denoiser.error(self.process, self.predict(label), self.predicts, x_0, t, eps, self.spread)}

    def times(self, steps: int | None) -> list[float]:
        """Noise levels of equation 5, evenly spaced times down to that of the smallest, then 0; 18 as in the paper."""
        steps = 18 if steps is None else steps
        if steps < 1:
            raise ValueError(f"expected 1 or more sampling steps; got {steps}.")
        last = (SMALLEST / LARGEST) ** (1 / self.process.rho)
        return [*(1 + k / max(1, steps - 1) * (last - 1) for k in range(steps)), 0.0]
