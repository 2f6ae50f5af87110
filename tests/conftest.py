"""Shared by all tests: few threads, an order that keeps all processes busy, and a cache of their own."""

import os
from pathlib import Path

import pytest
import torch

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes; those that tests start are told too
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
torch.set_num_threads(min(2, torch.get_num_threads()))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests that start processes take longest, and come first: many short ones share out well at the end."""
    items.sort(key=lambda item: item.path.parent.name not in ("training", "cli"))


@pytest.fixture(autouse=True, scope="session")
def cache_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Feature networks and rendered sets are cached; tests must not read a user's cache."""
    os.environ["GENUS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def data_home() -> Path:
    """The folder of real data sets; skips where GENUS_DATA is not set."""
    if not os.environ.get("GENUS_DATA"):
        pytest.skip("GENUS_DATA is not set: no real data sets on this machine")
    return Path(os.environ["GENUS_DATA"])
