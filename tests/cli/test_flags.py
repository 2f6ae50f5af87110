"""Flags made from the types of the API: no command shows two of one name."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import pytest
import tyro

from genus import registry
from genus.cli import flags
from genus.cli.__main__ import COMMANDS, main
from genus.contract import HasPosterior
from genus.errors import SettingsError
from genus.models.latent.vae import VAE
from genus.recipe import Recipe
from genus.runs.config import configure, homes_of
from genus.testing.subjects import TINY_DOMAINS


@dataclasses.dataclass
class Basic:
    """What every run has."""

    count: int = 1
    """How many."""
    whole: bool = False
    """A switch, which --no-whole takes back."""


@dataclasses.dataclass
class More:
    """What some have."""

    count: int = 2
    """How many of the others."""
    no_whole: int = 3
    """Called as the switch is taken back."""
    prefixed: Annotated[int, tyro.conf.arg(name="basic.count")] = 4
    """Called by a name of its own."""
    free: int = 5
    """Nobody else's."""


def test_a_name_that_is_taken_gets_that_of_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    line = "--count 6 --more.count 7 --no-whole --more.no-whole 8 --basic.count 9 --free 10"
    chosen = flags.parse(flags.joined(basic=Basic, more=More), line.split(), "trial", "")
    assert chosen.basic == Basic(6, False) and dataclasses.astuple(chosen.more) == (7, 8, 9, 10)
    assert flags.shown_as(chosen.more, "count") == "--more.count" and flags.shown_as(chosen.more, "free") == "--free"
    assert flags.given(chosen.more) == {"count": 7, "no_whole": 8, "prefixed": 9, "free": 10}
    with pytest.raises(SystemExit):
        flags.parse(flags.joined(basic=Basic, more=More), ["--help"], "trial", "")
    text = capsys.readouterr().out
    assert "How many of the others." in text and "What some have." in text


def test_without_joining_they_would_clash() -> None:
    """What the tests below rely on: two flags of one name are noticed when the help is asked for."""
    both = dataclasses.make_dataclass("Both", [("basic", Basic), ("more", More)])
    with pytest.raises(AssertionError, match="Name conflict"):
        flags.parse(both, ["--help"], "trial", "")


def helps(capsys: pytest.CaptureFixture[str], *line: str) -> str:
    """The help of a command, all of whose flags are built for it."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([*line, "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("model", registry.names())
def test_every_command_builds_its_flags_for_every_model(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cls = registry.get(model)
    domain = next(domain for domain in TINY_DOMAINS if cls.refuses(domain) is None)
    config = configure(model, "digits", domain=domain).model_dump(mode="json")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "--learning-rate" in helps(capsys, "train", model)
    for command in COMMANDS.keys() - {"train", "models"}:
        assert f"genus {command}" in helps(capsys, command, str(tmp_path))
    first = "vae" if model != "vae" else "iwae"
    assert f"--{model}.learning-rate".replace("_", "-") in helps(capsys, "train", f"{first}+{model}")
    if issubclass(cls, HasPosterior):
        assert "--second.learning-rate" in helps(capsys, "train", f"{model}+{model}")


def test_a_setting_that_means_something_else_already_is_refused() -> None:
    class Clash(VAE):
        def __init__(self, domain: object, condition: object = None, *, batch_size: int = 3):
            """Never built."""

    assert homes_of(VAE)[0].isdisjoint(Recipe.model_fields)
    with pytest.raises(SettingsError, match="'batch_size' has the name of a flag of every training; rename it"):
        homes_of(Clash)
