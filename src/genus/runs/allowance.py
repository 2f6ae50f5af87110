"""A limit on what a model's constructor may take, enforced before each tensor is allocated.

A stranger's settings may ask for 10**12 units. Building on torch's meta device would tell
the size, but constructors look at values (is a mask empty? are the betas below one?), which
meta tensors do not have. So every call is first made on the meta device for the size of its
result, counted, and made again in earnest if the sum stays within the limit.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from genus.errors import GenusError

FREE_BYTES = 128 * 2**20  # masks and temporaries that no weights file holds
FREE_CALLS = 1_000


class AllowanceError(GenusError, MemoryError):
    """A constructor asked for more than it was allowed."""


class Allowance(TorchDispatchMode):
    """Within ``with Allowance(...)`` no tensor operation allocates beyond the limits.

    limit: bytes in all, temporaries included. calls: operations in all, so that 10**9 tiny
    layers end soon too; None for any number. Raises `AllowanceError`.
    """

    def __init__(self, limit: int, calls: int | None = None):
        super().__init__()
        self.limit, self.calls = limit, calls
        self.bytes, self.called = 0, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """One operation, counted before it runs."""
        self.called += 1
        self.bytes += size_of_result(func, args, kwargs or {})
        if self.bytes > self.limit:
            raise AllowanceError(f"{size(self.bytes)} or more, of {size(self.limit)} allowed")
        if self.calls is not None and self.called > self.calls:
            raise AllowanceError(f"over {self.calls:,} operations")
        return func(*args, **(kwargs or {}))


def for_weights(tensors: int, total: int) -> Allowance:
    """What building a model may take whose weights are so many ``tensors`` of ``total`` bytes.

    The models of genus take at most 2 bytes and 3 calls for each of their weights' bytes and tensors.
    """
    return Allowance(min(4 * total + FREE_BYTES, physical_memory()), 10 * tensors + FREE_CALLS)


def size_of_result(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Bytes that an operation will allocate for its result; 0 where it writes into or views its arguments."""
    if any(result.alias_info is not None for result in func._schema.returns):
        return 0
    plain = {key: value for key, value in kwargs.items() if key not in ("generator", "pin_memory")}
    if any(argument.name == "device" for argument in func._schema.arguments):
        plain["device"] = torch.device("meta")
    on_meta: Callable[[Tensor], Tensor] = lambda tensor: tensor.to("meta")  # noqa: E731
    try:
        args, plain = tree_map_only(Tensor, on_meta, (args, plain))
        result = func(*args, **plain)
    except (RuntimeError, NotImplementedError):  # a single number read from a tensor, or what torch will refuse anyway
        return 0
    return sum(leaf.nbytes for leaf in tree_leaves(result) if isinstance(leaf, Tensor))


def physical_memory() -> int:
    """Bytes of memory of this machine; without bound where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 2**63


def size(count: int) -> str:
    """``47.1 MB``."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
