"""Flow matching: learn the straight way from data to noise.

Each datum is paired with noise and x_t = (1 - t) x_0 + t eps runs straight from one to the other at the velocity
eps - x_0. A network learns the mean velocity at every place and time; following it back from noise draws data.
Nothing else is chosen: no schedule, no weights.

Lipman, Chen, Ben-Hamu, Nickel, Le (2023), https://arxiv.org/abs/2210.02747 (conditional paths of optimal transport,
section 4.1, with sigma_min = 0); Liu, Gong, Liu (2023), rectified flow, https://arxiv.org/abs/2209.03003; Albergo &
Vanden-Eijnden (2023), https://arxiv.org/abs/2209.15571.

What differs from the papers: time runs from data (0) to noise (1); the network is the U-Net of the other models;
Heun's method instead of an adaptive solver. Losses are means over the entries of a datum.

Promises: samples, an estimate of log p(x) along the flow, latents, completion, labels.
"""

from typing import ClassVar, Literal, Self

import torch

from genus.contract import Batch, Losses
from genus.kinds import Domain
from genus.models.diffusion import _denoiser, _samplers
from genus.models.diffusion._diffusion import FlowDensity
from genus.models.diffusion._process import RectifiedFlow
from genus.prob import noise
from genus.recipe import Recipe


class FlowMatching(FlowDensity):
    """The mean velocity of straight lines between data and noise.

    Args:
        times_law: of the times of training: ``uniform``, or ``logit_normal``, which looks more at the middle of
            the way (Esser et al. 2024, section 3.1, https://arxiv.org/abs/2403.03206).
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
        "Lipman, Chen, Ben-Hamu, Nickel, Le (2023). Flow Matching for Generative Modeling. "
        "https://arxiv.org/abs/2210.02747"
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
        "paper": Recipe(learning_rate=5e-4, batch_size=256, steps=390_000, warmup_steps=45_000, schedule="linear"),
    }  # fmt: skip
    predicts = "velocity"
    usual_sampler = "heun"

    def __init__(
        self,
        domain: Domain,
        condition: Domain | None = None,
        *,
        times_law: Literal["uniform", "logit_normal"] = "uniform",
        width: int = 128,
        multipliers: tuple[int, ...] = (1, 2, 2, 2),
        blocks: int = 2,
        attention: tuple[int, ...] = (1,),
        dropout: float = 0.0,
        label_dropout: float = 0.1,
        flow_steps: int = 40,
    ):
        super().__init__(domain, condition)
        self.times_law = times_law
        self.process = RectifiedFlow()
        self.build(
            width=width, multipliers=multipliers, blocks=blocks, attention=attention, dropout=dropout,
            label_dropout=label_dropout, flow_steps=flow_steps,
        )  # fmt: skip

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, width=8, multipliers=(1, 1), blocks=1, flow_steps=3)

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        x_0, label = self.prepared(batch, generator)
        if self.times_law == "uniform":
            t = noise.uniform((len(x_0),), generator, x_0.device, torch.float64)
        else:
            t = noise.normal((len(x_0),), generator, x_0.device, torch.float64).sigmoid()
        eps = noise.normal(tuple(x_0.shape), generator, x_0.device, x_0.dtype)
        network = self.predict(label)
        return {"loss": _denoiser.error(self.process, network, self.predicts, x_0, t, eps)}  # equation 23

    def times(self, steps: int | None) -> list[float]:
        return _samplers.even(25 if steps is None else steps)
