r"""RealNVP: an invertible map f from data to noise, made of affine couplings.

    log p(x) = log N(f(x); 0, I) + log |det df/dx|        (Dinh et al., equation 2)

A coupling shifts and scales one half of the entries by amounts that a network reads in the
other half, so its inverse and its determinant cost one pass, whatever the network. Pictures
are coupled in checkerboards, then, squeezed (a 2x2 square becomes four channels), in halves of
the channels; after each scale half of what is left becomes latent and the rest goes on at half
the resolution. Sides that are odd stay as they are, so any size works. Vectors are coupled in
random halves.

The density of vectors is exact, in the table's own units. Pictures are integers: noise, uniform
or learned (`--dequantization variational`), fills their cells, a logit removes the ends, and
what remains is a bound, the tighter the more noise draws it averages. `likelihood` is worked out from these two parts.

What differs from the paper: each scale squeezes *first*. A checkerboard of the picture is a set
of two of the four channels, so the couplings are the same, but their networks see the picture
at half the resolution: a quarter of the cost. Layer norm in place of batch and weight
normalisation, so nothing depends on the batch; each pixel has a learned bias; the data are
standardised once. The logit's alpha is 1e-5, not 0.05: on pictures that are mostly black or
white it learns several times faster. A condition is added to the first layer of each network, of
pictures with maps of a picture.

Promises: log p(x), exact or a bound; latents, invertible; conditions of any kind.
"""

import math
from typing import Self

import torch
from torch import Tensor, nn

from genus.contract import Likelihood
from genus.kinds import Domain, Grid, Vectors
from genus.models.flow._coupling import Couplings, checkerboard, squeeze, unsqueeze
from genus.models.flow._dequantization import Kind, make_dequantization
from genus.models.flow._flow import Flow
from genus.models.flow._tabular import Affine, FlowSteps, HalfCoupling
from genus.nn.condition import Context, Encoded
from genus.nn.residual import ResidualConvNet
from genus.nn.standardise import Standardise
from genus.recipe import Recipe


class Scale(nn.Module):
    """One resolution of a picture: squeeze if both sides are even, couple, and let half of the channels go."""

    def __init__(
        self, shape: tuple[int, int, int], last: bool, *, couplings: int, hidden: int, blocks: int, context: Context
    ):
        super().__init__()
        channels, height, width = shape
        self.squeezes = height % 2 == 0 and width % 2 == 0
        board = checkerboard(shape)
        if self.squeezes:
            board = squeeze(board)
        channels, height, width = board.shape[1:]
        halves = (torch.arange(channels) < channels // 2).float()[:, None, None].expand(channels, height, width)
        # the first half of the couplings take checkerboards, the second half channels, where there are such
        kinds = [kind for kind in (board[0], halves) if 0 < kind.sum() < kind.numel()]
        masks = [kinds[k * len(kinds) // couplings] for k in range(couplings)]
        # alternate; the last one moves the channels that go, by what stays: a learned prior for them
        masks = [mask if (couplings - k) % 2 else 1 - mask for k, mask in enumerate(masks)]
        networks = [
            ResidualConvNet(channels, 2 * channels, hidden, blocks, (height, width), context) for _ in range(couplings)
        ]
        self.couplings = Couplings(masks, networks)
        self.stays = 0 if last else channels // 2
        self.stay_shape = (self.stays, height, width)
        self.go_shape = (channels - self.stays, height, width)

    def forward(self, x: Tensor, given: Encoded | None) -> tuple[Tensor, Tensor, Tensor]:
        """x -> the channels that stay, those that go, and the log-determinant."""
        x, log_det = self.couplings(squeeze(x) if self.squeezes else x, given)
        return x[:, : self.stays], x[:, self.stays :], log_det

    def inverse(self, stay: Tensor, go: Tensor, given: Encoded | None) -> Tensor:
        """Undo `forward`."""
        x = self.couplings.inverse(torch.cat([stay, go], dim=1), given)
        return unsqueeze(x) if self.squeezes else x


class PictureFlow(nn.Module):
    """Unbounded pictures ``(B, C, H, W)`` <-> latents ``(B, C * H * W)``, finest scale first."""

    likelihood = Likelihood.EXACT

    def __init__(
        self, shape: tuple[int, int, int], *, scales: int, couplings: int, hidden: int, blocks: int, context: Context
    ):
        super().__init__()
        self.standardise = Standardise((shape[0], 1, 1))
        self.scales = nn.ModuleList()
        self.shapes: list[tuple[int, int, int]] = []  # what each scale lets go
        for number in range(scales):
            # an odd side cannot be squeezed, so nothing smaller would follow
            last = number == scales - 1 or shape[1] % 2 == 1 or shape[2] % 2 == 1
            scale = Scale(shape, last, couplings=couplings, hidden=hidden, blocks=blocks, context=context)
            self.scales.append(scale)
            self.shapes.append(scale.go_shape)
            if last:
                break
            shape = scale.stay_shape

    def forward(self, x: Tensor, given: Encoded | None) -> tuple[Tensor, Tensor]:
        """x -> z and log |det dz/dx|, ``(B,)``."""
        x, log_det = self.standardise(x)
        latents = []
        for scale in self.scales:
            x, go, more = scale(x, given)
            latents.append(go.flatten(1))
            log_det = log_det + more
        return torch.cat(latents, dim=1), log_det

    def inverse(self, z: Tensor, given: Encoded | None) -> Tensor:
        """z -> x."""
        parts = z.split([math.prod(shape) for shape in self.shapes], dim=1)
        x = z.new_zeros(len(z), 0, *self.shapes[-1][1:])
        for scale, go, shape in list(zip(self.scales, parts, self.shapes, strict=True))[::-1]:
            x = scale.inverse(x, go.view(-1, *shape), given)  # type: ignore[operator]
        return self.standardise.inverse(x)


class RealNVP(Flow):
    """A flow of affine couplings over pictures or vectors.

    Args:
        couplings: couplings a scale (half checkerboard, half channel-wise), or in all for vectors; at least 2.
        hidden: channels (pictures) or units (vectors) of each coupling's network.
        blocks: residual blocks (pictures) or hidden layers after the first (vectors) of each coupling's network.
        scales: resolutions of a picture; an odd side ends them early. Vectors have no scales.
        alpha: how far the logit of a picture stays away from 0 and 1, in (0, 0.5); the paper's is 0.05.
        dequantization: what fills the cells of integers: uniform noise, or variational, learned with the rest.
    """

    paper = "Dinh, Sohl-Dickstein, Bengio (2017). Density estimation using Real NVP. https://arxiv.org/abs/1605.08803"
    domains = (Grid, Vectors)
    keeps_places = True
    cure = "Try a lower --learning-rate, a smaller --clip-norm or fewer --couplings."
    recipes = {  # noqa: RUF012
        "quick": Recipe(
            learning_rate=2e-3,
            batch_size=64,
            steps=600,
            warmup_steps=50,
            schedule="cosine",
            clip_norm=50,
            ema=0.99,
            precision="bfloat16",
            settings={"hidden": 32},
        ),
        "quick-vectors": Recipe(  # steps are cheap, and many are needed
            learning_rate=5e-3,
            batch_size=256,
            steps=2000,
            warmup_steps=50,
            schedule="cosine",
            clip_norm=5,
            ema=0.99,
            settings={"couplings": 8},
        ),
        "paper": Recipe(
            learning_rate=1e-3,
            weight_decay=5e-5,
            batch_size=64,
            steps=200_000,
            settings={"couplings": 6, "hidden": 64, "blocks": 8, "alpha": 0.05},
        ),
        "mnist": Recipe(
            learning_rate=2e-3,
            batch_size=32,
            steps=20_000,
            warmup_steps=100,
            schedule="cosine",
            clip_norm=300,
            ema=0.999,
            precision="bfloat16",
        ),
    }

    def __init__(
        self,
        domain: Domain,
        condition: Domain | None = None,
        *,
        couplings: int = 6,
        hidden: int = 64,
        blocks: int = 1,
        scales: int = 3,
        alpha: float = 1e-5,
        dequantization: Kind = "uniform",
    ):
        super().__init__(domain, condition)
        if couplings < 2:
            raise ValueError(f"couplings: expected at least 2, so that every entry is moved; got {couplings}.")
        if min(hidden, scales) < 1 or blocks < 0:
            raise ValueError(f"expected hidden >= 1, scales >= 1, blocks >= 0; got {hidden}, {scales}, {blocks}.")
        self.dequantization, context = None, self.context
        if isinstance(domain, Grid):
            channels, height, width = domain.shape
            shape = (channels, height, width)
            self.dequantization = make_dequantization(dequantization, domain.levels, alpha, shape, hidden)
            self.flow = PictureFlow(
                shape, scales=scales, couplings=couplings, hidden=hidden, blocks=blocks, context=context
            )
        else:
            steps = [
                HalfCoupling(domain.num_dims, Affine(), hidden=hidden, depth=blocks + 1, context=context)
                for _ in range(couplings)
            ]
            self.flow = FlowSteps(domain.num_dims, steps)

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        if isinstance(domain, Grid) and len(domain.size) != 2:
            return f"realnvp models pictures and vectors, not grids of {len(domain.size)} dimensions; got {domain}."
        if isinstance(domain, cls.domains) and domain.num_dims < 2:
            return f"realnvp moves one half of a datum by the other half, so it needs two entries; got {domain}."
        return super().refuses(domain)

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, couplings=4, hidden=8, scales=2)
