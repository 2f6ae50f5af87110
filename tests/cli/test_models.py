"""genus models: the table, and the page of each model."""

import pytest

from genus import registry
from genus.cli.__main__ import main
from genus.cli.models import examples
from genus.cli.train import flags_of
from genus.contract import ROLES
from genus.data import data_options, open_source
from genus.settings import schema


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(["models", *words]) == code
    shown = capsys.readouterr()
    return " ".join((shown.err if code else shown.out).split())


@pytest.mark.parametrize("name", registry.names())
def test_a_page_says_what_a_model_is(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "5000")  # nothing is wrapped
    cls, page = registry.get(name), said(capsys, name)
    assert page.startswith(f"{name}, {registry.family(name)}: ")
    assert " ".join(cls.paper.split()) in page
    assert {role.__name__ for role in ROLES if role.__name__ in page} == {
        role.__name__ for role in ROLES if issubclass(cls, role)
    }
    for fields in (schema(cls).model_fields, schema(cls._sample).model_fields):
        for setting, field in fields.items():
            assert f"--{setting.replace('_', '-')} " in page and " ".join(field.description.split()) in page
    assert all(line in page for line in examples(name))


@pytest.mark.parametrize("name", registry.names())
def test_the_examples_of_a_page_are_commands_for_the_model(name: str) -> None:
    lines = [line.split() for line in examples(name) if line.startswith("genus train")]
    assert lines
    for _, _, model, *words in lines:
        chosen = flags_of(model, words)
        if not chosen.run.data.startswith("run:"):
            options = data_options(size=chosen.data.size, binarize=chosen.data.binarize, limit=8)
            source = open_source(chosen.run.data, options)
            assert registry.get(model).refuses(source.domain) is None
            assert source.condition is not None or not chosen.run.conditional
