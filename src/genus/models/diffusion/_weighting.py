"""Which steps training looks at: drawn by how large their terms have been."""

import torch
from torch import Tensor, nn

from genus.prob import noise

MEMORY = 0.998  # of a step of training, in the running means
LEAST = 0.001  # share of the draws that is spread evenly, whatever the terms


class StepMoments(nn.Module):
    """Running means of the squared loss at each of T steps, by whose roots steps are drawn: p_t in proportion to
    sqrt(E[L_t^2]), weight 1 / (T p_t) (Nichol & Dhariwal 2021, equation 18, https://arxiv.org/abs/2102.09672; theirs
    are means over the last ten). Steps are drawn evenly until each has been seen.

    What a batch adds is linear in the batch, so several processes, or parts, see what one does.
    """

    totals: Tensor
    counts: Tensor
    new_totals: Tensor
    new_counts: Tensor

    def __init__(self, steps: int):
        super().__init__()
        for name in ("totals", "counts", "new_totals", "new_counts"):
            self.register_buffer(name, torch.zeros(steps, dtype=torch.float64))

    def probabilities(self) -> Tensor:
        """p_t of the steps 1 .. T, ``(T,)`` float64."""
        even = torch.full_like(self.totals, 1 / len(self.totals))
        if not bool((self.counts > 0).all()):
            return even
        p = torch.sqrt(self.totals / self.counts)
        return (1 - LEAST) * p / p.sum() + LEAST * even if bool(p.any()) else even

    def draw(self, count: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """``count`` steps in 1 .. T, and the weights that keep the mean over them without bias."""
        p = self.probabilities()
        index = noise.categorical(p.log().expand(count, -1), generator)
        return 1 + index, (1 / (len(p) * p[index])).float()

    @torch.no_grad()
    def see(self, step: Tensor, loss: Tensor) -> None:
        """Remember the losses ``(B,)`` of steps ``(B,)`` for `advance`."""
        self.new_totals.index_add_(0, step - 1, loss.double().square())
        self.new_counts.index_add_(0, step - 1, torch.ones_like(loss, dtype=torch.float64))

    def advance(self) -> None:
        """Take in what the last step of training has seen."""
        for mean, new in ((self.totals, self.new_totals), (self.counts, self.new_counts)):
            mean.mul_(MEMORY).add_(new)
            new.zero_()
