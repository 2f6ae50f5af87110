r"""NICE: an invertible map from data to noise that only adds, so its volume changes in one place.

    log p(x) = sum_d log p_H(h_d) + log |s_d|,    h = s * f(x)        (Dinh et al., section 3.3)

A coupling adds to one half of the entries what a network reads in the other half: its determinant
is one, its inverse subtracts. A last diagonal scale s lets the flow stretch. The prior p_H is the
logistic density, whose tails forgive more than a bell's (section 3.4).

The latents that the model shows are standard normal all the same, as those of every flow here:
z = Phi^-1(sigmoid(h)), entry by entry, is one more invertible layer, and standard normal z is the
same statement as logistic h. So temperature and interpolation mean what they mean elsewhere.

Vectors have an exact density in the table's own units. Grids are flattened, of any number of axes;
uniform noise fills the cells of their integers, and what remains is a bound, the tighter the more
noise draws it averages. There is no logit: as in the paper the density reaches beyond 0 and 1.

What differs from the paper: the data are standardised once (no whitening); networks are residual,
with a last layer that starts at zero; a condition is added to the first layer of each network.

Promises: log p(x), exact or a bound; latents, invertible; conditions of any kind.
"""

import math
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.contract import Likelihood
from genus.kinds import Domain, Grid, Vectors
from genus.models.flow._coupling import AdditiveCoupling, Couplings
from genus.models.flow._dequantization import UniformDequantization
from genus.models.flow._flow import Flow
from genus.nn.condition import Context, Encoded
from genus.nn.residual import ResidualMLP
from genus.nn.standardise import Standardise
from genus.prob import gaussian
from genus.recipe import Recipe

FARTHEST = 80.0  # beyond, a logistic tail is no float32 any more


class LogisticToNormal(nn.Module):
    """z = Phi^-1(sigmoid(h)): logistic noise -> standard normal noise, entry by entry."""

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """h -> z of the same shape, and log |det dz/dh|, ``(B,)``."""
        tail = torch.sigmoid(-h.abs().clamp(max=FARTHEST))  # the smaller side, where no digits are lost
        z = torch.where(h < 0, 1.0, -1.0) * torch.special.ndtri(tail)
        logistic = -F.softplus(h) - F.softplus(-h)
        return z, (logistic - gaussian.log_prob(z, z.new_zeros(()), z.new_zeros(()))).sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        """z -> h."""
        return torch.special.log_ndtr(z) - torch.special.log_ndtr(-z)


class AdditiveFlow(nn.Module):
    """Data ``(B, ...)`` <-> latents ``(B, D)``: additive couplings, a diagonal scale, logistic noise."""

    likelihood = Likelihood.EXACT

    def __init__(self, shape: tuple[int, ...], *, couplings: int, hidden: int, blocks: int, context: Context):
        super().__init__()
        self.shape, features = shape, math.prod(shape)
        self.standardise = Standardise(shape if len(shape) == 1 else (1,) * len(shape))
        odd = (torch.arange(features) % 2).float()
        masks = [odd if k % 2 else 1 - odd for k in range(couplings)]
        networks = [ResidualMLP(features, features, hidden, blocks, context) for _ in masks]
        self.couplings = Couplings(masks, networks, AdditiveCoupling)
        self.log_scale = nn.Parameter(torch.zeros(features))
        self.noise = LogisticToNormal()

    def forward(self, x: Tensor, given: Encoded | None) -> tuple[Tensor, Tensor]:
        """x -> z and log |det dz/dx|, ``(B,)``."""
        x, scaled = self.standardise(x)
        h, _ = self.couplings(x.flatten(1), given)
        z, log_det = self.noise(h * self.log_scale.exp())
        return z, scaled + self.log_scale.sum() + log_det

    def inverse(self, z: Tensor, given: Encoded | None) -> Tensor:
        """z -> x."""
        x = self.couplings.inverse(self.noise.inverse(z) * (-self.log_scale).exp(), given)
        return self.standardise.inverse(x.view(-1, *self.shape))


class NICE(Flow):
    """A flow of additive couplings with a diagonal scale and logistic noise, over grids or vectors.

    Args:
        couplings: additive couplings, which take turns in moving even and odd entries; at least 2.
        hidden: units of each coupling's network.
        blocks: residual blocks (two layers each) of each coupling's network.
    """

    paper = "Dinh, Krueger, Bengio (2014). NICE: Non-linear Independent Components Estimation. https://arxiv.org/abs/1410.8516"
    domains = (Grid, Vectors)
    cure = "Try a lower --learning-rate, a smaller --clip-norm or fewer --couplings."
    recipes: ClassVar[dict[str, Recipe]] = {
        "quick": Recipe(
            learning_rate=1e-3,
            batch_size=64,
            steps=1500,
            warmup_steps=50,
            schedule="cosine",
            clip_norm=50,
            ema=0.99,
            settings={"hidden": 256, "blocks": 1},
        ),
        "quick-vectors": Recipe(
            learning_rate=3e-3,
            batch_size=256,
            steps=2000,
            warmup_steps=50,
            schedule="cosine",
            clip_norm=5,
            ema=0.99,
            settings={"couplings": 8, "hidden": 64},
        ),
        "paper": Recipe(
            learning_rate=1e-3,
            betas=(0.9, 0.99),
            batch_size=200,
            steps=375_000,
            settings={"couplings": 4, "hidden": 1000, "blocks": 2},
        ),
    }

    def __init__(
        self,
        domain: Domain,
        condition: Domain | None = None,
        *,
        couplings: int = 4,
        hidden: int = 256,
        blocks: int = 2,
    ):
        super().__init__(domain, condition)
        if couplings < 2:
            raise ValueError(f"couplings: expected at least 2, so that every entry is moved; got {couplings}.")
        if hidden < 1 or blocks < 0:
            raise ValueError(f"expected hidden >= 1 and blocks >= 0; got {hidden} and {blocks}.")
        self.dequantization = UniformDequantization(domain.levels, alpha=None) if isinstance(domain, Grid) else None
        self.flow = AdditiveFlow(domain.shape, couplings=couplings, hidden=hidden, blocks=blocks, context=self.context)

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        if isinstance(domain, cls.domains) and domain.num_dims < 2:
            return f"nice moves one half of a datum by the other half, so it needs two entries; got {domain}."
        return super().refuses(domain)

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, couplings=4, hidden=8, blocks=1)
