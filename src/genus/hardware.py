"""What the machine gives: device, precision, memory."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from genus.errors import GenusError


class OutOfMemory(GenusError, MemoryError):
    """The batch does not fit into memory; no step was half applied, the last checkpoint is kept."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or Python means that memory is used up."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def best_device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_bfloat16(device: torch.device) -> bool:
    """Whether products of bfloat16 run natively (elsewhere they are slower than float32)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Run the block in a recipe's ``precision``; float32 where bfloat16 is not native."""
    if precision == "bfloat16" and has_bfloat16(device):
        with torch.autocast(device.type, torch.bfloat16):
            yield
    elif precision == "fast-float32" and not (device.type == "cpu" and torch.cpu._is_amx_tile_supported()):
        # On processors with AMX the same switch would round the factors to bfloat16.
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if device.type == "cuda" else "medium")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
    else:
        yield


def seed_globally(seed: int, device: torch.device) -> None:
    """Seed the generators that dropout draws from; torch.manual_seed costs 25 times more."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def keep_large_blocks() -> None:
    """Let glibc keep freed memory of large temporaries instead of returning it at every
    step: page faults cost up to a third of the time of big activations on a CPU."""
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # musl and others have no mallopt
        return
    mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
    mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
