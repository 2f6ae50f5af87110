"""Tiny runs that all tests of commands share."""

from collections.abc import Callable
from functools import partial

import pytest
from tiny import ready


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], list[str]]:
    """The words of a command about a run of `tiny.RUNS`, which is trained when it is first asked for."""
    return partial(ready, tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Small sheets, and a judge of samples that is hardly trained; in a cache of its own."""
    monkeypatch.setattr("genus.evaluate.classifier.STEPS", (3, 3))
    monkeypatch.setattr("genus.report.write.SHOWN", 2)
    monkeypatch.setenv("GENUS_CACHE", str(tmp_path_factory.getbasetemp() / "quick"))
