"""The loop: budgets, players, divergence, what it refuses."""

import json
from pathlib import Path

import pytest
import torch

import genus
from genus.contract import Batch, Player
from genus.errors import CheckpointError, SettingsError
from genus.recipe import Recipe
from genus.runs.config import read_config
from genus.runs.run import build
from genus.training import DivergenceError, configure
from genus.training.optimizer import learning_rate
from genus.training.session import Session, View

SMALL = {"hidden": (16,), "latent_features": 2, "limit": 100, "batch_size": 16, "quiet": True}


def test_a_run_learns_and_comes_back(tmp_path: Path) -> None:
    run = genus.train("vae", "digits", steps=60, out=tmp_path / "run", **SMALL)
    losses = [r["train/loss"] for r in run.metrics if "train/loss" in r]
    assert losses[-1] < losses[0] - 5
    again = genus.load(tmp_path / "run")
    assert torch.equal(run.sample(5, seed=3), again.sample(5, seed=3))
    assert again.state["finished"]
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    genus.train("vae", "digits", steps=60, out=tmp_path / "run", **SMALL)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_a_run_is_opened_on_the_device_that_is_named(tmp_path: Path) -> None:
    run = genus.train("vae", "digits", out=tmp_path / "run", steps=1, hidden=(8,), quiet=True)
    assert {parameter.device.type for parameter in run.model.parameters()} == {"cpu"}
    assert {parameter.device.type for parameter in genus.load(run.path, "meta").model.parameters()} == {"meta"}


def test_validation_grows_with_the_run_within_limits() -> None:
    source = genus.open_source("digits")

    def validated(steps: int) -> int:
        config = configure("vae", "digits", steps=steps, batch_size=64, hidden=(8,))
        model = build(config, source.domain, None)
        return Session(config, View(source.train, False), View(source.validation, False), model, steps).validated

    assert [validated(steps) for steps in (10, 1200, 10**6)] == [256, 512, 1024]


def test_the_best_weights_on_validation_count(tmp_path: Path) -> None:
    run = genus.train("vae", "digits", steps=40, out=tmp_path / "run", learning_rate=0.05, **SMALL)
    validations = {r["step"]: r["validation/loss"] for r in run.metrics if "validation/loss" in r}
    assert run.state["best_step"] == min(validations, key=lambda step: validations[step])


def test_minutes_become_a_plan_that_is_kept(tmp_path: Path) -> None:
    run = genus.train("vae", "digits", minutes=0.02, out=tmp_path / "run", **SMALL)
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert plan["steps"] == run.state["steps"] == run.state["step"] > 1


def test_epochs_are_passes_over_the_training_split(tmp_path: Path) -> None:
    run = genus.train("vae", "digits", epochs=2, out=tmp_path / "run", **SMALL)
    assert run.state["steps"] == 13  # 2 * 100 / 16, rounded up


def test_each_epoch_shows_every_item_once() -> None:
    from genus.data import open_source
    from genus.runs.run import build
    from genus.training.session import Session, View

    source = open_source("digits")
    config = configure("vae", "digits", steps=10, batch_size=300)
    view = View(source.train, False)
    session = Session(config, view, view, build(config, source.domain, None), 10)
    seen = torch.cat([session.batch(k).index for k in range(10)])  # three epochs of 1000
    for epoch in seen.split(1000):
        assert torch.equal(epoch.sort().values, torch.arange(1000))
    assert not torch.equal(seen[:1000], seen[1000:2000])


def test_another_configuration_is_refused_with_the_difference(tmp_path: Path) -> None:
    genus.train("vae", "digits", steps=5, out=tmp_path / "run", **SMALL)
    with pytest.raises(CheckpointError, match="latent_features"):
        genus.train("vae", "digits", steps=5, out=tmp_path / "run", **(SMALL | {"latent_features": 3}))


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match="not a run folder"):
        genus.train("vae", "digits", steps=5, out=tmp_path, **SMALL)


def test_divergence_stops_within_a_step(tmp_path: Path) -> None:
    with pytest.raises(DivergenceError, match=r"step \d+: the loss of model became (nan|inf)"):
        genus.train("vae", "digits", steps=200, out=tmp_path / "run", optimizer="sgd", learning_rate=1e6, **SMALL)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"latent_feature": 3}, "latent_feature"),
        ({"latent_features": "many"}, "latent_features"),
        ({"recipe": "fancy"}, "fancy"),
        ({"steps": 3, "minutes": 1}, "one of steps"),
        ({"learning_rate": -1.0}, "learning_rate"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        configure("vae", "digits", **wrong)  # type: ignore[arg-type]


def test_a_configuration_with_an_unknown_key_names_file_and_key(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    content = configure("vae", "digits", steps=5).model_dump(mode="json")
    file.write_text(json.dumps({**content, "optimiser": "adam"}))
    with pytest.raises(CheckpointError, match=r"config\.json.*'optimiser'"):
        read_config(file)
    file.write_text(json.dumps({**content, "settings": {"depth": 3}}))
    with pytest.raises((CheckpointError, SettingsError), match=r"config\.json.*'depth'"):
        read_config(file)
    file.write_text(json.dumps({**content, "model": "os.system"}))
    with pytest.raises(ValueError, match=r"unknown model 'os\.system'"):
        read_config(file)


def test_learning_rate_warms_up_and_decays() -> None:
    recipe = Recipe(learning_rate=1.0, warmup_steps=10, schedule="linear")
    assert learning_rate(recipe, 0, 100) == pytest.approx(0.1)
    assert learning_rate(recipe, 50, 100) == pytest.approx(0.5)
    assert learning_rate(recipe.model_copy(update={"schedule": "cosine"}), 99, 100) < 1e-3


def test_a_player_moves_only_its_own_parameters_and_takes_its_turns() -> None:
    """Two players with one shared loss: each must leave the other's parameters alone."""
    from genus.data import open_source
    from genus.runs.run import build
    from genus.training.session import Session, View

    source = open_source("digits")
    config = configure("vae", "digits", steps=3, batch_size=8)
    model = build(config, source.domain, None)
    calls: list[str] = []

    def losses(name: str):  # type: ignore[no-untyped-def]
        def compute(batch: Batch, generator: torch.Generator | None) -> dict[str, torch.Tensor]:
            calls.append(name)
            return type(model).losses(model, batch, generator)

        return compute

    encoder, decoder = tuple(model.encoder[:-1].parameters()), tuple(model.decoder.parameters())  # type: ignore
    model.players = lambda: [Player("a", encoder, losses("a"), turns=2), Player("b", decoder, losses("b"), rate=0.5)]  # type: ignore[method-assign]
    view = View(source.train, False)
    session = Session(config, view, view, model, 3)
    untouched = model.encoder[-1].weight.clone()  # type: ignore
    session.take_step()
    assert calls == ["a", "b", "a"]
    assert torch.equal(model.encoder[-1].weight, untouched)  # type: ignore
    assert session.optimizers[1].param_groups[0]["lr"] == 0.5 * session.optimizers[0].param_groups[0]["lr"]


@pytest.mark.parametrize(("model", "warned"), [("dcgan", True), ("vae", False)])
def test_a_model_with_statistics_of_its_batch_warns_of_parts(
    model: str, warned: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    genus.train(model, "digits", steps=1, batch_size=8, accumulate=2, out=tmp_path / "run")
    shown = " ".join("".join(capsys.readouterr()).split())
    assert ("each of the 2 parts its own" in shown) == warned
