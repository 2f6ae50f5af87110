"""A run that is killed and started again ends in the same bits, as does one with other workers."""

from pathlib import Path

import pytest
from runs import SETTINGS, command, files, finish, kill_again_and_again

from genus import registry

CLOSED_FORM = ("histogram", "markov", "joint_table", "full_context", "markov_mesh", "ppca")


def check_resume(model: str, folder: Path, kills: int) -> None:
    finish(command(model, folder / "whole"))
    if model in CLOSED_FORM:  # over before it can be stopped; the same again must change nothing
        finish(command(model, folder / "stopped"))
        finish(command(model, folder / "stopped"))
    else:
        hits = kill_again_and_again(command(model, folder / "stopped"), folder / "stopped", kills, seed=kills)
        assert hits >= max(1, kills - 1), "the run was not stopped in its middle"
    assert files(folder / "stopped") == files(folder / "whole")


def test_every_species_can_be_resumed() -> None:
    assert set(registry.names()) == SETTINGS.keys() | set(CLOSED_FORM)


def test_killed_run_resumes_exactly(tmp_path: Path) -> None:
    check_resume("vae", tmp_path, kills=1)


@pytest.mark.slow
@pytest.mark.parametrize("model", registry.names())
def test_every_species_resumes_exactly_however_often_it_is_killed(model: str, tmp_path: Path) -> None:
    check_resume(model, tmp_path, kills=6)


@pytest.mark.slow
def test_another_number_of_workers_may_finish_the_run(tmp_path: Path) -> None:
    finish(command("vae", tmp_path / "whole"))
    with_workers = command("vae", tmp_path / "stopped", "--workers", "2")
    assert kill_again_and_again(with_workers, tmp_path / "stopped", 1, seed=1) == 1
    finish(command("vae", tmp_path / "stopped"))
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")
