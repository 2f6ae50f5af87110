"""Batches prepared ahead by other processes; which one prepares a batch changes nothing in it."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator

import torch
from torch.utils.data import DataLoader, Dataset

from genus.contract import Batch
from genus.errors import SettingsError


class Ahead(Dataset[Batch]):
    """The batches ``make(number)`` for the numbers of a range, in order, made by ``workers`` processes."""

    def __init__(self, make: Callable[[int], Batch], numbers: range, workers: int):
        if workers and "fork" not in multiprocessing.get_all_start_methods():
            raise SettingsError("--workers needs an operating system that can fork; leave it out here.")
        self.make, self.numbers, self.workers = make, numbers, workers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, place: int) -> Batch:
        return self.make(self.numbers[place])

    def __iter__(self) -> Iterator[Batch]:
        if not self.workers:
            return map(self.make, self.numbers)
        loader = DataLoader(
            self,
            batch_size=None,
            num_workers=self.workers,
            worker_init_fn=_quietly,
            generator=torch.Generator(),  # or it would draw from the global one
            multiprocessing_context="fork",
        )
        return iter(loader)


def _quietly(_worker: int) -> None:
    """Ctrl-C reaches the whole group of processes: workers leave it to the one that trains."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
