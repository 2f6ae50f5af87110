"""Several processes that compute what one would: started by torchrun, joined by averages.

Each process works off its slice of the global batch, with its slice of the global noise
(`genus.prob.noise.part_of`); gradients are averaged as one flat tensor of fixed layout. That
layout is why torch's DistributedDataParallel is not used: it rebuilds its buckets after the
first step, so with three processes and more a resumed run sums in another order than an
uninterrupted one and ends in other bits (benchmarks/resume.py shows it).
"""

import atexit
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from genus.errors import GenusError, SettingsError
from genus.hardware import best_device

T = TypeVar("T")


class Team:
    """This process among those that train together; alone, there is nothing to do."""

    def __init__(self) -> None:
        self.rank, self.size = 0, int(os.environ.get("WORLD_SIZE", "1"))
        self.device = best_device()
        self._versions: dict[str, tuple[int, int]] = {}
        if self.size > 1:
            if self.device.type == "cuda":
                self.device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
                torch.cuda.set_device(self.device)
            if not dist.is_initialized():
                # Its functions take the group of the moment of their import as a default argument; loaded
                # later (by any optimizer) they would keep its threads alive beyond the interpreter: an abort.
                from torch.distributed.nn import functional  # noqa: F401

                dist.init_process_group("cuda:nccl,cpu:gloo" if self.device.type == "cuda" else "gloo")
                atexit.register(dist.destroy_process_group)
            self.rank = dist.get_rank()

    @property
    def leads(self) -> bool:
        """Whether this process writes the run folder and speaks to the user."""
        return self.rank == 0

    def slice(self, count: int) -> slice:
        """This process' share of ``count`` items; raises a `SettingsError` if they do not divide."""
        if count % self.size:
            raise SettingsError(
                f"a batch of {count} cannot be divided among {self.size} processes; "
                f"try --batch-size {count + self.size - count % self.size}."
            )
        share = count // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all processes, the same in every bit in each."""
        if self.size > 1:
            with _together():
                dist.all_reduce(values)
            values /= self.size
        return values

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes."""
        if self.size == 1:
            return
        missing = [p for p in parameters if p.grad is None]
        for parameter in missing:  # another process may have one
            parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = self.mean(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def watch_buffers(self, model: nn.Module) -> None:
        """Remember the buffers as they are, so that `average_buffers` knows which ones a step has changed."""
        if self.size > 1:
            self._versions = {name: (id(buffer), buffer._version) for name, buffer in model.named_buffers()}

    def average_buffers(self, model: nn.Module) -> None:
        """Replace every floating buffer that a step has changed by its mean over the processes:
        running statistics are linear in the batch, so they come out as those of the whole."""
        if self.size == 1:
            return
        for name, buffer in model.named_buffers():
            version = (id(buffer), buffer._version)
            if self._versions.get(name) != version and buffer.is_floating_point():
                self.mean(buffer)
            self._versions[name] = (id(buffer), buffer._version)

    def broadcast(self, value: T) -> T:
        """What the leader says (plain JSON), in every process."""
        if self.size == 1:
            return value
        message = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)
        length = torch.tensor([len(message)])
        with _together():
            dist.broadcast(length, 0)
            message = message if self.leads else torch.empty(int(length), dtype=torch.uint8)
            dist.broadcast(message, 0)
        return json.loads(bytes(message.tolist()))

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process."""
        if self.size == 1:
            return flag
        return bool(self.mean(torch.tensor([float(flag)])))

    def lead(self, work: Callable[[], Any]) -> Any:
        """The leader works (its result must be plain JSON) while the others wait; its error is theirs."""
        outcome: dict[str, Any] = {}
        error: GenusError | None = None
        if self.leads:
            try:
                outcome = {"result": work()}
            except GenusError as raised:
                if self.size == 1:
                    raise
                error, outcome = raised, {"error": str(raised)}
        if self.size > 1:
            outcome = self.broadcast(outcome)
        if error is not None:
            raise error
        if "error" in outcome:
            raise GenusError(f"process {self.rank} stopped with process 0: {outcome['error']}")
        return outcome["result"]


@contextmanager
def _together() -> Iterator[None]:
    """A process that waits for one that died says so."""
    try:
        yield
    except RuntimeError as error:  # gloo's; NCCL's is a subclass
        raise GenusError(f"another process of this training stopped ({str(error).splitlines()[0][-80:]}); "
                         "the same command resumes from the last checkpoint.") from None  # fmt: skip
