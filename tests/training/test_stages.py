"""Two stages in one run folder: both trained by one command, stopped and resumed in either, moved, shared, refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import command, files, finish, kill_again_and_again

import genus
from genus.contract import Likelihood
from genus.data import open_source
from genus.errors import CapabilityError, CheckpointError, GenusError, SettingsError
from genus.models.two_stage import TwoStage
from genus.runs import Run, StagedConfig, open_run
from genus.runs.stages import StagedRun
from genus.training import configure, train
from genus.training.session import Session

SMALL: dict[str, Any] = {"limit": 60, "vae.hidden": (8,), "vae.latent_features": 3, "vae.batch_size": 20,
                         "realnvp.batch_size": 20, "realnvp.hidden": 8, "checkpoint_seconds": 0}  # fmt: skip


def configured(**more: Any) -> StagedConfig:
    config = configure("vae+realnvp", "digits", **{"steps": 12, **SMALL, **more})
    assert isinstance(config, StagedConfig)
    return config


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(configured(conditional=True), tmp_path_factory.mktemp("stages") / "run", quiet=True).path


def parts(run: Path) -> dict[str, dict[str, bytes]]:
    return {stage: files(run / stage) for stage in ("first", "second")}


def test_one_call_trains_both_and_gives_one_model(trained: Path) -> None:
    run = open_run(trained)
    assert isinstance(run, StagedRun) and isinstance(run.model, TwoStage)
    assert run.config.model == "vae+realnvp" and run.config.conditional and run.condition is not None
    assert run.model.likelihood is Likelihood.BOUND
    assert run.domain == run.first.domain == run.model.domain
    assert run.second.domain == run.model.latent_domain
    x = run.sample(10, condition=torch.arange(10), pixels="mode", temperature=0.5)
    run.domain.check(x)
    assert run.source.fingerprint == run.described.fingerprint
    assert run.second.source.fingerprint == open_source(f"run:{trained}").fingerprint  # the codes of the first stage
    assert run.training_seconds == run.first.training_seconds + run.second.training_seconds
    assert run.state["finished"]


def test_curves_tell_the_stages_apart(trained: Path) -> None:
    metrics = open_run(trained).metrics
    steps = [record["step"] for record in metrics]
    assert steps == sorted(steps) and steps[-1] == 12
    first = [record for record in metrics if record["step"] <= 6]
    assert all("train/loss" not in record for record in first) and "train/vae/loss" in first[0]
    assert "train/loss" in metrics[-1]


def test_the_same_call_again_changes_nothing(trained: Path) -> None:
    before = parts(trained)
    train(configured(conditional=True), trained, quiet=True)
    assert parts(trained) == before
    with pytest.raises(CheckpointError, match=r"holds another run .*second settings.hidden"):
        train(configured(conditional=True, **{"realnvp.hidden": 9}), trained, quiet=True)
    with pytest.raises(CheckpointError, match="holds another run"):
        train(configured(**{"vae.hidden": (9,)}), trained, quiet=True)


def test_the_folder_can_be_moved(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "moved")
    moved = genus.load(tmp_path / "moved")
    kwargs: dict[str, Any] = {"condition": torch.arange(10)}
    assert torch.equal(moved.sample(10, **kwargs), genus.load(trained).sample(10, **kwargs))
    assert moved.second.source.fingerprint == moved.second.described.fingerprint  # type: ignore[attr-defined]


class Killed(BaseException):
    """Ends a process at once, as far as the run folder can tell."""


@pytest.mark.parametrize(("stage", "at"), [("vae", 4), ("realnvp", 2)])
def test_a_run_stopped_in_either_stage_ends_in_the_same_bits(
    stage: str, at: int, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Session.take_step

    def die(self: Session) -> None:
        if self.config.model == stage and self.step == at:
            raise Killed
        step(self)

    monkeypatch.setattr(Session, "take_step", die)
    out = tmp_path / "run"
    with pytest.raises(Killed):
        train(configured(conditional=True), out, quiet=True)
    assert not Run(out / ("first" if stage == "vae" else "second")).state["finished"]
    if stage == "vae":
        with pytest.raises(CheckpointError, match="second stage is not there yet"):
            _ = open_run(out).model
    monkeypatch.setattr(Session, "take_step", step)
    train(configured(conditional=True), out, quiet=True)
    assert parts(out) == parts(trained)


def test_a_finished_run_can_be_the_first_stage_of_several(trained: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"first": trained / "first", "steps": 4}
    config = configure("vae+maf", None, **given, **{"maf.batch_size": 20})
    run = train(config, tmp_path / "maf", first=trained / "first", quiet=True)
    assert files(tmp_path / "maf" / "first") == files(trained / "first")
    assert run.second.state["step"] == 4  # type: ignore[attr-defined]  # the budget is the second stage's
    assert run.second.source.fingerprint == open_source(f"run:{trained}").fingerprint  # type: ignore[attr-defined]
    with pytest.raises(SettingsError, match="brings its settings"):
        configure("vae+maf", None, **given, **{"vae.hidden": (3,)})
    with pytest.raises(SettingsError, match="a run of vae on digits"):
        configure("vae+maf", "moons", **given)
    other = train(configured(seed=1), tmp_path / "other", quiet=True).path
    with pytest.raises(CheckpointError, match="holds another run"):
        train(config, tmp_path / "maf", first=other / "first", quiet=True)


# --- configurations -------------------------------------------------------------------------


def test_a_budget_is_shared() -> None:
    halves, third = configured(minutes=3.0, steps=None), configured(minutes=3.0, steps=None, share=1 / 3)
    assert (halves.first.minutes, halves.second.minutes) == (1.5, 1.5)
    assert (third.first.minutes, third.second.minutes) == pytest.approx((1, 2))
    own = configured(steps=None, **{"vae.steps": 7, "realnvp.epochs": 2.0})
    assert (own.first.steps, own.second.epochs) == (7, 2.0)
    alone = configure("vqvae+histogram", "digits", steps=9)
    assert isinstance(alone, StagedConfig) and alone.first.steps == 9  # the second needs no time
    with pytest.raises(SettingsError, match="not both"):
        configured(**{"vae.steps": 7})
    with pytest.raises(SettingsError, match="not several"):
        configured(minutes=3.0)
    with pytest.raises(SettingsError, match="between 0 and 1"):
        configured(share=1.0)


def test_settings_go_by_the_names_of_the_stages() -> None:
    config = configured(recipe="paper", **{"realnvp.recipe": "quick", "realnvp.learning_rate": 0.5})
    assert config.first.recipe_name == "paper" and config.second.recipe.learning_rate == 0.5
    twice = configure("vae+vae", "digits", **{"first.latent_features": 5, "second.latent_features": 2})
    assert isinstance(twice, StagedConfig) and twice.second.settings["latent_features"] == 2
    assert twice.second.recipe_name == "quick-vectors"  # the recipe for the kind of the latents
    coded = configure("vqvae+gated_pixelcnn", "digits")
    assert isinstance(coded, StagedConfig) and coded.second.recipe_name == "quick-codes"
    for wrong, said in (
        ({"hidden": (3,)}, r"vae\.hidden or realnvp\.hidden"),
        ({"vae.size": 8}, "common to both stages"),
        ({"maf.hidden": 3}, "unknown setting 'maf.hidden'"),
        ({"vae.colour_of_the_sky": 8}, "unknown setting 'colour_of_the_sky'"),
    ):
        with pytest.raises(SettingsError, match=said):
            configured(**wrong)


def test_pairs_that_do_not_fit_are_refused_before_training() -> None:
    for model, said in (
        ("realnvp+vae", r"realnvp cannot be the first stage of realnvp\+vae.*HasPosterior"),
        ("vae+wavenet", r"vae has vectors of 20 features for latents; wavenet models"),
        ("vae+maf+maf", r"FIRST\+SECOND; got 3 .*run:PATH"),
        ("vae+mfa", "Did you mean 'maf'"),
    ):
        with pytest.raises(GenusError, match=said):
            configure(model, "digits")
    with pytest.raises(SettingsError, match="no labels"):
        configure("vae+maf", "swissroll", conditional=True)
    with pytest.raises(SettingsError, match="what to train on"):
        configure("vae+maf", None)
    assert issubclass(CapabilityError, GenusError)


# --- folders of strangers ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("config.json", {"model": "vae+vae"}),
        ("config.json", {"model": 3}),
        ("config.json", {"extra": 1}),
        ("config.json", {"first": None}),
        ("config.json", {"first": {"model": "os.system"}}),
        ("config.json", {"second.data": "run:/etc"}),
        ("config.json", {"second.settings": {"hidden": "x"}}),
        ("first/config.json", {"seed": 5}),
        ("second/config.json", {"data": "/etc/passwd"}),
        ("second/data.json", {"domain": {"kind": "vectors", "features": 4, "names": []}}),
        ("first/data.json", {"domain": {"kind": "alien"}}),
    ],
)
def test_a_strangers_folder_is_refused_in_a_sentence(
    where: str, change: dict[str, Any], trained: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    content = json.loads((run / where).read_text())
    for key, value in change.items():
        place, _, last = key.rpartition(".")
        (content[place] if place else content)[last] = value
    (run / where).write_text(json.dumps(content))
    with pytest.raises(GenusError, match=str(run)):
        _ = open_run(run).model


@pytest.mark.parametrize("stage", ["first", "second"])
def test_no_link_is_followed(stage: str, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    shutil.rmtree(run / stage)
    (run / stage).symlink_to(trained / stage)
    with pytest.raises(CheckpointError, match="symbolic link"):
        _ = open_run(run).model


def test_what_is_no_run_of_two_stages_says_so(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        open_run(tmp_path)
    with pytest.raises(CheckpointError, match="not empty"):
        (tmp_path / "something").write_text("")
        train(configured(), tmp_path, quiet=True)
    with pytest.raises(CheckpointError, match=r"holds another run \(of vae\)"):
        train(configured(), trained / "first", quiet=True)


# --- as processes of their own ------------------------------------------------------------------

FLAGS = ["--vae.hidden", "8", "--vae.latent-features", "3", "--vae.batch-size", "12", "--realnvp.batch-size", "12"]


def line(out: Path, **more: Any) -> list[str]:
    flags = command("vae+realnvp", out, *FLAGS, steps=120, **more)
    place = flags.index("--batch-size")  # of both stages it goes by their names
    return flags[:place] + flags[place + 2 :]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["first", "second"])
def test_kill_9_in_either_stage_ends_in_the_same_bits(stage: str, tmp_path: Path) -> None:
    finish(line(tmp_path / "whole"))
    stopped = tmp_path / "stopped"
    assert kill_again_and_again(line(stopped), stopped / stage, kills=3, seed=1) >= 2
    assert parts(stopped) == parts(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    finish(line(tmp_path / "one"))
    finish(line(tmp_path / "two", processes=2))
    one, two = (
        [r["train/vae/loss"] for r in open_run(tmp_path / n).metrics if "train/vae/loss" in r] for n in ("one", "two")
    )
    assert len(one) == len(two) == 60
    assert max(abs(a - b) / abs(a) for a, b in zip(one, two, strict=True)) < 1e-4
    assert open_run(tmp_path / "two").state["finished"]
