"""Each warning is provoked by training that really goes wrong, beside its twin that goes well."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus import settings
from genus.contract import Batch, GenerativeModel, Losses, Symptom, batches
from genus.data import open_source
from genus.data.source import TensorSplit
from genus.kinds import Grid, Points, Vectors
from genus.models.adversarial._symptoms import discriminator_won, mode_collapse
from genus.models.adversarial.dcgan import DCGAN
from genus.models.diffusion import _symptoms as of_diffusion
from genus.models.diffusion.point_diffusion import PointDiffusion
from genus.models.flow._symptoms import TOLERANCE, lost_invertibility
from genus.models.flow.maf import MAF
from genus.models.latent._symptoms import ACTIVE, posterior_collapse
from genus.models.latent.vae import VAE
from genus.prob import noise
from genus.recipe import Recipe
from genus.testing.mutants import BINARY, Chain
from genus.testing.subjects import ToySplit
from genus.training import watch
from genus.training.watch import Watch, dead_units, silent, spread, worsening

Records = list[dict[str, Any]]
DIGITS, PLANE, CLOUDS = Grid(1, (8, 8), 17), Vectors(2), Points(64, 3)


# -- provoked by training -------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A training that goes wrong, by ``bad`` settings of the model, the recipe or the data."""

    name: str
    data: Callable[..., tuple[TensorSplit, TensorSplit]]
    model: Callable[..., GenerativeModel]
    every: int  # steps between two looks, in the quick form
    looks: int
    good: dict[str, Any] = field(default_factory=dict)
    bad: dict[str, Any] = field(default_factory=dict)


def digits(count: int = 1000) -> tuple[TensorSplit, TensorSplit]:
    """So many digits to train on."""
    source = open_source("digits")
    return TensorSplit(source.train.x[:count]), TensorSplit(source.validation.x)


def parabola() -> tuple[TensorSplit, TensorSplit]:
    """Points near a parabola."""
    x = noise.normal((1200, 2), noise.stream("parabola"))
    x = torch.stack([x[:, 0], x[:, 0].square() + 0.3 * x[:, 1]], 1)
    return TensorSplit(x[:1000]), TensorSplit(x[1000:])


def clouds() -> tuple[TensorSplit, TensorSplit]:
    """Spheres of three sizes."""
    x = ToySplit(CLOUDS).x
    return TensorSplit(x[:150]), TensorSplit(x[150:])


def vae(**options: Any) -> VAE:
    return VAE(DIGITS, **{"latent_features": 8, "hidden": (64,), **options})


def dcgan(**options: Any) -> DCGAN:
    return DCGAN(DIGITS, latent_features=16, width=16, **options)


def maf(**options: Any) -> MAF:
    return MAF(PLANE, layers=4, hidden=16, **options)


def point_diffusion(**options: Any) -> PointDiffusion:
    return PointDiffusion(
        CLOUDS,
        timesteps=20,
        latent_features=8,
        width=16,
        couplings=2,
        flow_hidden=16,
        **{"prior_weight": 1e-3, **options},
    )


CASES = (
    Case("validation getting worse", digits, vae, 40, 7, {"hidden": (200,)}, {"hidden": (200,), "count": 50}),
    Case("posterior collapse", digits, vae, 60, 3, {}, {"beta": 50.0}),
    Case("dead units", digits, vae, 60, 3, {}, {"learning_rate": 0.1}),
    Case("lost invertibility", parabola, maf, 50, 3, {}, {"learning_rate": 1.0}),
    Case("discriminator has won", digits, dcgan, 50, 3, {"learning_rate": 1e-3},
         {"learning_rate": 1e-3, "rates": {"generator": 0.01}}),
    Case("mode collapse", digits, dcgan, 50, 3, {"learning_rate": 1e-3},
         {"learning_rate": 1e-3, "rates": {"generator": 10.0, "discriminator": 0.01}}),
    Case("posterior collapse", clouds, point_diffusion, 30, 3, {"batch_size": 16},
         {"batch_size": 16, "prior_weight": 100.0}),
)  # fmt: skip


def trained(case: Case, options: dict[str, Any], longer: int) -> Records:
    """The records of a plain loop that looks now and then; ``longer``: times as many steps."""
    options = dict(options)
    learning_rate, batch_size = options.pop("learning_rate", 2e-3), options.pop("batch_size", 64)
    rates = options.pop("rates", {})
    count = {"count": options.pop("count")} if "count" in options else {}
    train, validation = case.data(**count)
    every, steps = longer * case.every, longer * case.every * case.looks
    with torch.random.fork_rng(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch, "EVERY", every)
        torch.manual_seed(0)
        model = case.model(**options)
        model.initialise(train)
        looking, records = Watch([]), []
        betas = type(model).recipes["quick"].betas
        optimizers = [
            (player, torch.optim.Adam(player.parameters, learning_rate * rates.get(player.name, 1), betas=betas))
            for player in model.players()
        ]
        for step in range(1, steps + 1):
            model.train().progress(step / steps)
            index = noise.integers(len(train), (batch_size,), noise.stream("batch", step))
            record: dict[str, Any] = {"step": step}
            for player, optimizer in optimizers:
                loss = player.losses(train.batch(index), noise.stream("noise", step))["loss"].mean()
                optimizer.zero_grad()
                loss.backward(inputs=player.parameters)
                optimizer.step()
                record["train/loss" if player.name == "model" else f"train/{player.name}/loss"] = loss.item()
            if step % every == 0:
                batch = next(batches(validation, 256))
                with torch.no_grad():
                    value = model.eval().criterion(batch, noise.stream("validate"))
                if value is not None:
                    record["validation/loss"] = float(value.double().mean())
                given = (model, batch, noise.stream("look"), record.get("validation/loss"), dict(record))
                records.append(record | looking.look(step, steps, *given))
    return records


def warnings(records: Records) -> dict[str, dict[str, str]]:
    """What was raised, by name."""
    return {warning["name"]: warning for record in records for warning in record.get("warnings", [])}


@pytest.mark.parametrize("longer", [1, pytest.param(4, marks=pytest.mark.slow)], ids=["quick", "long"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.model.__name__}")
def test_a_warning_is_provoked_and_its_twin_is_silent(case: Case, longer: int) -> None:
    assert warnings(trained(case, case.good, longer)) == {}
    records = trained(case, case.bad, longer)
    assert json.loads(json.dumps(records)) == records
    warning = warnings(records)[case.name]
    assert sum(case.name in (w["name"] for w in record.get("warnings", [])) for record in records) == 1
    assert re.search(r"\d", warning["seen"])
    flags = {flag.replace("-", "_") for flag in re.findall(r"--([a-z][a-z-]*[a-z])", warning["cure"])}
    known = settings.schema(type(case.model())).model_fields.keys() | Recipe.model_fields.keys()
    assert flags and flags <= known


# -- what is remembered ---------------------------------------------------------------------


class Ailing(Chain):
    """Says that it has the symptoms it is told to have."""

    ill: tuple[str, ...] = ()

    def symptoms(self, batch: Batch, generator: torch.Generator | None = None) -> list[Symptom]:
        return [Symptom(name, f"{name} seen.", "Try a lower --learning-rate.") for name in self.ill]


BATCH = Batch(torch.zeros(4, 1, 2, 2, dtype=torch.uint8))


def story(ills: list[tuple[str, ...]], losses: list[float] | None = None, cut: int | None = None) -> Records:
    """The records of a run that looks every 200 of 2,000 steps and is started again after record ``cut``."""
    model, looking = Ailing(BINARY), Watch([])
    records: Records = []
    for k, ill in enumerate(ills):
        if k == cut:
            looking = Watch(json.loads(json.dumps(records)))
        model.ill, step = ill, 200 * (k + 1)
        loss = losses[k] if losses else None
        record = {"step": step} | ({} if loss is None else {"validation/loss": loss})
        seen = looking.look(step, 2000, model, BATCH, noise.stream("look"), loss, {"train/loss": 1.0})
        records += [record | seen, {"step": step + 50, "train/loss": 1.0}]
    return records


def raised(records: Records) -> list[tuple[int, str]]:
    """When each warning was raised."""
    return [(record["step"], w["name"]) for record in records for w in record.get("warnings", [])]


def test_a_symptom_is_raised_once_and_only_if_it_stays() -> None:
    assert raised(story([("a",), (), ("a",), (), ("a",)])) == []
    assert raised(story([("a",), ("a", "b"), ("b",), ("a", "b"), ("a",)])) == [(400, "a"), (600, "b")]


@pytest.mark.parametrize("cut", range(8))
def test_a_resumed_run_warns_as_an_uninterrupted_one(cut: int) -> None:
    ills: list[tuple[str, ...]] = [("a",), (), ("a",), ("a", "b"), (), ("b",), ("b",), ("a",)]
    losses = [9.0, 5.0, 4.0, 4.5, 6.0, 9.0, 12.0, 16.0]
    whole = story(ills, losses)
    assert raised(whole) == [(800, "a"), (1400, "b"), (1600, "validation getting worse")]
    assert story(ills, losses, cut) == whole


def test_early_steps_and_quick_successions_are_not_looked_at() -> None:
    model, looking = Ailing(BINARY), Watch([])
    model.ill = ("a",)

    def look(step: int, steps: int = 2000) -> dict[str, Any]:
        return looking.look(step, steps, model, BATCH, noise.stream("look"), None, {})

    assert look(199) == {}  # less than a tenth
    assert look(200) == {"symptoms": {"a": "a seen."}}
    assert look(200 + watch.EVERY - 1) == {}
    assert look(200 + watch.EVERY)["warnings"][0]["name"] == "a"
    assert Watch([]).look(100, 500, model, BATCH, noise.stream("look"), None, {}) == {}


def test_without_validation_data_only_the_curve_is_looked_at() -> None:
    model = Ailing(BINARY)
    model.ill = ("a",)
    assert Watch([]).look(500, 500, model, None, noise.stream("look"), None, {}) == {"symptoms": {}}


# -- validation getting worse ---------------------------------------------------------------

# Validation losses of demo runs: NADE overfits a little and loses little, the VAE loses everything.
NADE = [110.4, 109.5, 108.3, 106.0, 103.3, 98.3, 95.2, 93.6, 92.8, 92.46, 92.49, 92.8, 93.2, 93.7, 94.2, 94.8,
        95.3, 95.7, 96.1, 96.4, 96.6, 96.8, 96.9, 96.95]  # fmt: skip
OVERFITTED = [106.7, 101.0, 95.8, 91.6, 89.8, 90.8, 93.7, 97.7, 100.6, 106.7, 110.4, 118.2]


def curve(values: list[float]) -> dict[int, float]:
    return {100 * (k + 1): value for k, value in enumerate(values)}


@pytest.mark.parametrize("end", range(1, len(NADE) + 1))
def test_a_little_overfitting_is_no_warning(end: int) -> None:
    assert worsening(curve(NADE[:end]), 48.0) == []


def test_losing_what_was_gained_is_a_warning() -> None:
    first = next(end for end in range(1, len(OVERFITTED)) if worsening(curve(OVERFITTED[:end]), 60.0))
    assert OVERFITTED[first - 1] == 100.6  # the first above the median before the best, 98.4
    (symptom,) = worsening(curve(OVERFITTED), 60.0)
    assert "89.8 at step 500" in symptom.seen and "overfits" in symptom.seen
    assert "--steps 500" in symptom.cure


def test_the_cure_depends_on_the_training_loss() -> None:
    (rising,) = worsening(curve(OVERFITTED), 150.0)
    assert "unstable" in rising.seen and "--learning-rate" in rising.cure
    (unknown,) = worsening(curve(OVERFITTED), None)
    assert "training data" not in unknown.seen


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_no_warning(seed: int) -> None:
    noisy = noise.normal((24,), noise.stream("noise", seed)).tolist()
    assert not any(worsening(curve(noisy[:end]), 0.0) for end in range(1, 25))
    assert worsening(curve([n + 10 for n in noisy[:12]] + [20.0 + n + 2 * k for k, n in enumerate(noisy[12:])]), 0.0)


def test_curves_that_say_nothing() -> None:
    assert worsening({}, None) == []
    assert worsening({1: 5.0}, None) == []
    assert worsening(curve([3.0, 2.0, 1.0, float("nan")]), None) == []
    assert spread([1.0, 2.0]) == 0
    assert spread([float(k) for k in range(9)]) == 0  # a trend is no noise
    assert spread(noise.normal((20_000,), noise.stream("spread")).tolist()) == pytest.approx(1, abs=0.05)


# -- units ----------------------------------------------------------------------------------


class Rectified(Chain):
    """ReLUs in every way: a module, a function, in place, of a convolution, used twice."""

    def __init__(self) -> None:
        super().__init__(BINARY)
        self.module = nn.ReLU()
        self.inside = nn.ReLU(inplace=True)
        self.twice = nn.ReLU()

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        h = torch.tensor([[1.0, -1.0, -1.0], [-1.0, -1.0, 2.0]])
        self.module(h)
        self.inside(-h)
        F.relu(h * torch.tensor([1.0, 1.0, -1.0]))
        pictures = -torch.ones(2, 4, 3, 3)
        pictures[1, 2, 0, 0] = 1.0
        torch.relu(pictures)
        self.twice(h)
        self.twice(h + torch.tensor([-9.0, 9.0, -9.0]))
        return {"loss": torch.zeros(2)}


def test_silent_units_are_counted_layer_by_layer() -> None:
    model = Rectified()
    expected = {"module": (1, 3), "inside": (0, 3), "the model": (1, 3), "the model, ReLU 2": (3, 4), "twice": (0, 3)}
    assert silent(model, BATCH) == expected
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert silent(Ailing(BINARY), BATCH) == {}


@pytest.mark.parametrize(("dead", "found"), [(0, False), (91, False), (98, False), (99, True), (100, True)])
def test_a_layer_is_dead_when_nearly_all_its_units_are(dead: int, found: bool) -> None:
    assert bool(dead_units({"a": (0, 10), "b": (dead, 100)})) == found


def test_a_dead_encoder_does_not_hide_behind_a_living_decoder() -> None:
    torch.manual_seed(0)
    model, batch = vae(), next(batches(digits()[1], 64))
    assert dead_units(silent(model, batch)) == []
    with torch.no_grad():
        model.encoder[0].bias.fill_(-1e4)  # type: ignore[index]
        (symptom,) = dead_units(silent(model, batch))
    assert "64 of 64 units of encoder.1" in symptom.seen


# -- thresholds of the families -------------------------------------------------------------


def spreading(variances: list[float]) -> Tensor:
    """Two hundred rows whose columns have exactly these variances."""
    x = noise.normal((200, len(variances)), noise.stream("columns"), dtype=torch.float64)
    return (x - x.mean(0)) / x.std(0) * torch.tensor(variances).double().sqrt()


@pytest.mark.parametrize(
    ("active", "latents", "entries", "collapsed"),
    [(0, 20, 64, True), (1, 20, 64, True), (2, 20, 64, False), (20, 20, 64, False), (1, 20, 2, False), (0, 20, 2, True),
     (1, 2, 64, False)],
)  # fmt: skip
def test_a_collapse_is_of_nearly_all_latents(active: int, latents: int, entries: int, collapsed: bool) -> None:
    means = spreading([1.01 * ACTIVE] * active + [0.99 * ACTIVE] * (latents - active))
    assert bool(posterior_collapse(means, entries, "")) == collapsed
    unit = torch.zeros_like(means)
    share = spreading([0.0102] * active + [0.0099] * (latents - active))  # of 1.0102 and 1.0099
    assert bool(of_diffusion.posterior_collapse(share, unit, "")) == (active < max(1, latents / 10))
    assert posterior_collapse(means[:1], entries, "") == of_diffusion.posterior_collapse(share[:1], unit[:1], "") == []


@pytest.mark.parametrize(
    ("error", "lost"), [(0.5 * TOLERANCE, False), (2 * TOLERANCE, True), (float("nan"), True), (float("inf"), True)]
)
def test_a_datum_must_come_back(error: float, lost: bool) -> None:
    x = 10 * noise.normal((8, 3), noise.stream("back"), dtype=torch.float64)
    back = x.clone()
    back[3, 1] += 10 * error
    found = lost_invertibility(x, back, torch.tensor(10.0), "")
    assert bool(found) == lost
    assert not lost or "1 of 8 data" in found[0].seen


@pytest.mark.parametrize(
    ("real", "fake", "won"), [(100, 100, True), (99, 99, True), (98, 100, False), (100, 98, False)]
)
def test_a_discriminator_wins_on_both_sides(real: int, fake: int, won: bool) -> None:
    right = torch.ones(100)
    assert (
        bool(
            discriminator_won(right.where(torch.arange(100) < real, -1), -right.where(torch.arange(100) < fake, -1), "")
        )
        == won
    )


@pytest.mark.parametrize(("modes", "collapsed"), [(1, True), (10, True), (128, False)])
def test_few_modes_are_a_collapse(modes: int, collapsed: bool) -> None:
    real, fake = (noise.normal((128, 64), noise.stream("modes", k)) for k in range(2))
    wobble = 0.1 * noise.normal((128, 64), noise.stream("wobble"))
    assert bool(mode_collapse(fake[torch.arange(128) % modes] + wobble, real, "")) == collapsed


def test_data_that_repeat_themselves_measure_no_collapse() -> None:
    same = torch.zeros(16, 3)
    assert mode_collapse(same, same, "") == []
    assert mode_collapse(same[:1], same[:1] + 1, "") == []
