"""Schedules, a player's own betas, the running average by half-life, checkpoints ranked by samples."""

from pathlib import Path

import pytest
import torch
from torch import nn

import genus
from genus.contract import Player
from genus.data import open_source
from genus.errors import SettingsError
from genus.recipe import Recipe
from genus.runs.run import build
from genus.training import configure
from genus.training.optimizer import learning_rate
from genus.training.session import Session, View


def rates(steps: int, **recipe: object) -> list[float]:
    return [learning_rate(Recipe(learning_rate=1.0, **recipe), step, steps) for step in range(steps)]


def test_hold_linear_holds_and_then_falls_to_zero() -> None:
    found = rates(200, schedule="hold_linear", hold=0.5)  # pix2pix and CycleGAN: 100 epochs, and 100 down to zero
    assert found[:101] == [1.0] * 101
    assert found[100:] == pytest.approx([1 - k / 100 for k in range(100)])
    assert rates(100, schedule="hold_linear", hold=0.0) == pytest.approx(rates(100, schedule="linear"))


def test_steps_drops_after_each_part_of_training() -> None:
    found = rates(8, schedule="steps", drops=(0.25, 0.5), drop_factor=0.5)
    assert found == pytest.approx([1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25])
    with pytest.raises(SettingsError, match="drops"):
        configure("vae", "digits", schedule="steps", drops=(0.5, 1.5))


def session(**settings: object) -> Session:
    source = open_source("digits")
    config = configure("vae", "digits", steps=3, **settings)
    view = View(source.train, False)
    return Session(config, view, view, build(config, source.domain, None), 3)


def test_a_player_may_have_betas_of_its_own() -> None:
    source = open_source("digits")
    config = configure("vae", "digits", steps=3, batch_size=8, betas=(0.8, 0.99))
    model = build(config, source.domain, None)
    encoder, decoder = tuple(model.encoder.parameters()), tuple(model.decoder.parameters())  # type: ignore[union-attr]
    players = [Player("a", encoder, model.losses), Player("b", decoder, model.losses, betas=(0.0, 0.9))]
    model.players = lambda: players  # type: ignore[method-assign]
    view = View(source.train, False)
    trained = Session(config, view, view, model, 3)
    assert [o.param_groups[0]["betas"] for o in trained.optimizers] == [(0.8, 0.99), (0.0, 0.9)]


@pytest.mark.parametrize("batch_size", [8, 64])
def test_the_halflife_of_the_average_is_in_items(batch_size: int) -> None:
    average = session(batch_size=batch_size, ema_halflife=640).average
    assert average is not None
    steps = 640 // batch_size
    assert average.decay**steps == pytest.approx(0.5)
    for parameter in average._average:
        parameter.zero_()
    for parameter in average._live:
        nn.init.ones_(parameter)
    for _ in range(steps):
        average.update(step=10**6)  # past the warm-up
    assert all(torch.allclose(p, torch.full_like(p, 0.5)) for p in average._average)


def test_one_measure_of_the_average_replaces_the_other_but_both_are_refused() -> None:
    assert configure("ddpm", "digits").recipe.ema > 0
    asked = configure("ddpm", "digits", ema_halflife=1000.0).recipe
    assert (asked.ema, asked.ema_halflife) == (0.0, 1000.0)
    with pytest.raises(SettingsError, match="give one of ema and ema_halflife"):
        configure("ddpm", "digits", ema=0.9, ema_halflife=1000.0)


def test_the_best_checkpoint_of_a_gan_is_that_of_the_smallest_frechet_distance(tmp_path: Path) -> None:
    quick = {"steps": 24, "batch_size": 16, "limit": 60, "width": 8, "quiet": True}
    run = genus.train("dcgan", "digits", criterion="frechet", out=tmp_path / "a", **quick)
    found = {r["step"]: r["validation/frechet"] for r in run.metrics if "validation/frechet" in r}
    assert len(found) > 10 and len(set(found.values())) > 10
    best = min(found, key=lambda step: found[step])
    assert (run.state["best_step"], run.state["best"]) == (best, found[best])
    assert run.weights == "best"
    again = genus.train("dcgan", "digits", criterion="frechet", out=tmp_path / "b", **quick)
    assert again.metrics == run.metrics

    last = genus.train("dcgan", "digits", out=tmp_path / "c", **quick)
    assert last.weights != "best" and not any("validation/frechet" in record for record in last.metrics)


def test_a_loss_is_watched_beside_the_ranking_by_samples(tmp_path: Path) -> None:
    settings = {"steps": 5, "batch_size": 16, "limit": 60, "hidden": (8,), "quiet": True, "criterion": "frechet"}
    run = genus.train("vae", "digits", conditional=True, out=tmp_path / "run", **settings)
    last = run.metrics[-1]
    assert {"validation/loss", "validation/frechet"} <= last.keys()
    assert run.state["best"] == min(r["validation/frechet"] for r in run.metrics if "validation/frechet" in r)


def test_data_without_a_feature_space_cannot_rank(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no feature space"):
        genus.train("point_diffusion", "furniture", steps=2, criterion="frechet", quiet=True, out=tmp_path / "run")
