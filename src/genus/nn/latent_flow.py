"""A flow over latent vectors: affine couplings (Dinh et al. 2017, https://arxiv.org/abs/1605.08803).

A prior that is learned, because q(z | x) of all data together is far from a normal distribution: over shapes,
Luo & Hu (2021), https://arxiv.org/abs/2103.01458; of autoencoders, Chen et al. (2017),
https://arxiv.org/abs/1611.02731.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.prob import gaussian as normal


class Coupling(nn.Module):
    """One half of z is scaled and shifted by what a network reads from the other half."""

    def __init__(self, features: int, context: int, hidden: int, swap: bool):
        super().__init__()
        self.swap = swap
        self.moved = features // 2 if swap else features - features // 2
        self.network = nn.Sequential(
            nn.Linear(features - self.moved + context, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, 2 * self.moved),
        )  # fmt: skip

    def _split(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(kept, moved)."""
        if self.swap:
            return z[:, self.moved :], z[:, : self.moved]
        return z[:, : -self.moved], z[:, -self.moved :]

    def _join(self, kept: Tensor, moved: Tensor) -> Tensor:
        return torch.cat([moved, kept] if self.swap else [kept, moved], dim=1)

    def _scale_and_shift(self, kept: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        raw, shift = self.network(torch.cat([kept, context], dim=1)).to(kept.dtype).chunk(2, dim=1)
        return F.logsigmoid(raw + 2), shift

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """z -> w of the same shape, and log |dw/dz| ``(B,)``."""
        kept, moved = self._split(z)
        log_scale, shift = self._scale_and_shift(kept, context)
        return self._join(kept, moved * log_scale.exp() + shift), log_scale.sum(1)

    def inverse(self, w: Tensor, context: Tensor) -> Tensor:
        """w -> z."""
        kept, moved = self._split(w)
        log_scale, shift = self._scale_and_shift(kept, context)
        return self._join(kept, (moved - shift) * torch.exp(-log_scale))


class LatentFlow(nn.Module):
    """p(z) by affine couplings that turn z into standard normal w; context ``(B, C)`` may have C = 0.

    Raises a ValueError for fewer than two features: a coupling moves one half by the other.
    """

    def __init__(self, features: int, context: int, couplings: int, hidden: int):
        super().__init__()
        if features < 2:
            raise ValueError(f"a flow over latents needs at least 2 of them; got {features}.")
        self.couplings = nn.ModuleList(
            [Coupling(features, context, hidden, swap=bool(i % 2)) for i in range(couplings)]
        )

    def log_prob(self, z: Tensor, context: Tensor) -> Tensor:
        """log p(z) ``(B,)``, a density in nats."""
        log_det = z.new_zeros(len(z))
        for coupling in self.couplings:
            z, more = coupling(z, context)
            log_det = log_det + more
        return normal.log_prob(z, z.new_zeros(()), z.new_zeros(())).sum(1) + log_det

    def inverse(self, w: Tensor, context: Tensor) -> Tensor:
        """Standard normal w -> z."""
        for coupling in reversed(self.couplings):
            w = coupling.inverse(w, context)  # type: ignore[operator]
        return w
