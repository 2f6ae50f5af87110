"""What a model keeps for each training item, and how other data get the like: an auto-decoder's codes."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class PerItem(nn.Module):
    """A row of free numbers for each training item: numbers of items ``(B,)`` -> ``(B, *shape)``.

    It is built without rows, as a constructor knows a domain and settings only. Training gives it as many as there
    are training items (`allocate`); a run folder that is opened, as many as its data.json says. ``std``: of the normal
    noise that a row starts from.
    """

    def __init__(self, *shape: int, std: float = 0.01):
        super().__init__()
        self.std = std
        self.rows = nn.Parameter(torch.empty(0, *shape))

    def allocate(self, items: int) -> None:
        """Fresh rows for so many items, from torch's own generator, which training seeds."""
        rows = torch.empty(items, *self.rows.shape[1:], dtype=self.rows.dtype, device=self.rows.device)
        self.rows = nn.Parameter(rows.normal_(std=self.std))

    def forward(self, index: Tensor | None) -> Tensor:
        """Rows of training items, differentiable. Raises a ValueError for data that are no training items."""
        if index is None:
            raise ValueError("these data are no training items, so there are no rows for them; infer their codes.")
        return self.rows[index]


def allocate(model: nn.Module, items: int) -> None:
    """Rows for so many training items in every `PerItem` of a model."""
    for module in model.modules():
        if isinstance(module, PerItem):
            module.allocate(items)


def descend(loss: Callable[[Tensor], Tensor], start: Tensor, steps: int, rate: float) -> Tensor:
    """Codes ``(B, ...)`` that minimise ``loss``, one number a datum ``(B,)``, by Adam from ``start``.

    Adam goes by entries and the sum of losses has each datum's own gradient: so a code depends on its datum and start
    alone, not on the batch (Park et al. 2019, DeepSDF, https://arxiv.org/abs/1901.05103, equation 10). Weights get no
    gradient. Works under `torch.no_grad` and `torch.inference_mode`.
    """
    with torch.inference_mode(False), torch.enable_grad():
        codes = start.detach().clone().requires_grad_()
        optimizer = torch.optim.Adam([codes], rate)
        for _ in range(steps):
            (codes.grad,) = torch.autograd.grad(loss(codes).sum(), [codes])
            optimizer.step()
    return codes.detach()
