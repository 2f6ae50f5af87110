"""genus models, genus models MODEL"""

import dataclasses
import inspect
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from genus.cli import flags

if TYPE_CHECKING:
    from genus.contract import GenerativeModel

ABOUT = """What models there are and what each can do; of one model its page.

examples:
  genus models            the table
  genus models vae        what it is, its paper, roles, settings, recipes, examples"""

KINDS = {"=": "exact", "≤": "a bound", "~": "an estimate", "–": "none"}


@dataclasses.dataclass
class ModelsFlags:
    """The table of models, or the page of one."""

    model: tyro.conf.Positional[str | None] = None
    """Whose page to show; without one, the table."""
    papers: bool = False
    """Show the paper of each model in the table, too."""


def main(arguments: list[str]) -> int:
    """Print the table family by capability, or the page of a model."""
    chosen = flags.parse(ModelsFlags, arguments, "genus models", ABOUT)
    if chosen.model is None:
        _table(chosen.papers)
    else:
        _page(chosen.model)
    return 0


def _table(papers: bool) -> None:
    from genus.report.capabilities import capabilities

    table = Table(box=None, pad_edge=False)
    for column in ("model", "family", "data", "likelihood", "can"):
        table.add_column(column, no_wrap=column == "model")
    if papers:
        table.add_column("paper")
    for c in capabilities():
        roles = {"sample": True, "encode": c.latents, "condition": c.conditional, "edit": c.editable,
                 "fit at once": c.closed_form}  # fmt: skip
        row = [
            c.name,
            c.family,
            ", ".join(c.likelihood),
            c.likelihood_text,
            ", ".join(r for r, on in roles.items() if on),
        ]
        table.add_row(*row, *([c.paper] if papers else []))
    console = Console()
    console.print(table)
    legend = "   ".join(f"{symbol} {kind}" for symbol, kind in KINDS.items())
    console.print(f"\n{legend}      genus models MODEL: its page")


def _page(name: str) -> None:
    """What a model is, what it promises, its settings and recipes, and what to type."""
    from genus import registry
    from genus.settings import schema

    cls = registry.get(name)
    quick = cls.recipes["quick"]
    about = inspect.getdoc(sys.modules[cls.__module__]) or ""
    console = Console(highlight=False)
    console.print(f"[bold]{name}[/], {registry.family(name)}: {escape((inspect.getdoc(cls) or '').splitlines()[0])}\n")
    _section(console, "", _facts(name, cls))
    console.print(f"\n{escape(about)}")
    settings = _explained(flags.fields_of(schema(cls)), quick.settings)
    _section(console, f"settings (genus train {name} --SETTING VALUE), with the defaults of the quick recipe", settings)
    _section(console, "options of samples (genus sample RUN)", _explained(flags.fields_of(schema(cls._sample)), {}))
    _section(console, f"recipes (genus train {name} --recipe NAME)", _recipes(cls))
    console.print("\n[bold]examples[/]")
    for line in examples(name):
        console.print(f"  {escape(line)}", soft_wrap=True)


def _section(console: Console, heading: str, rows: Iterator[tuple[str, ...]]) -> None:
    """Rows under a heading, the last column wrapped; nothing without rows."""
    table, found = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0)), list(rows)
    if not found:
        return
    if heading:
        console.print(f"\n[bold]{escape(heading)}[/]")
    for row in found:
        table.add_row(*map(escape, row))
    console.print(table)


def _facts(name: str, cls: "type[GenerativeModel]") -> Iterator[tuple[str, str]]:
    from genus.contract import ROLES, FitsInClosedForm, IsConditional, listed
    from genus.report.capabilities import capability

    can = capability(name)
    yield "paper", cls.paper
    yield "data", ", ".join(can.likelihood)
    kinds = "; ".join(f"{symbol} {kind}" for symbol, kind in KINDS.items() if symbol in can.likelihood_text)
    yield "likelihood", can.likelihood_text if len(can.likelihood_text) > 1 else kinds
    if len(can.likelihood_text) > 1:
        yield "", kinds
    given = listed([kind.plural for kind in cls.conditions])
    needed = "needed: " if cls.needs_condition else ""
    yield "conditions", f"{needed}{given} (--conditional)" if issubclass(cls, IsConditional) else "none"
    yield "training", "one pass over the data" if issubclass(cls, FitsInClosedForm) else "by gradients"
    for role in ROLES:
        if issubclass(cls, role):
            promise = (inspect.getdoc(role) or "").split("\n\n")[0].replace("\n", " ")
            yield role.__name__, promise.removeprefix("Promises ")


def _explained(fields: dict[str, Any], defaults: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Each setting with what it takes, its default and what it means."""
    for name, field in fields.items():
        default = defaults.get(name, field.get_default())
        flag = f"--{name.replace('_', '-')} {flags.metavar(field.annotation)}"
        yield flag, "" if default is None else flags.shown(default), " ".join((field.description or "").split())


def _recipes(cls: "type[GenerativeModel]") -> Iterator[tuple[str, str]]:
    """What each recipe sets: of the model, and of its training where there is any."""
    from genus.contract import FitsInClosedForm
    from genus.recipe import Recipe

    always, plain = ("optimizer", "learning_rate", "batch_size", "steps"), Recipe()
    for name, recipe in cls.recipes.items():
        told = dict(recipe.settings)
        if not issubclass(cls, FitsInClosedForm):
            training = recipe.model_dump(exclude={"settings"}).items()
            told = {key: value for key, value in training if key in always or value != getattr(plain, key)} | told
        if told:
            yield name, ", ".join(f"{key.replace('_', '-')} {flags.shown(value)}" for key, value in told.items())


def examples(name: str) -> list[str]:
    """Commands that fit a model, from training it to what its roles allow."""
    from genus import registry
    from genus.contract import FitsInClosedForm, HasConditionals, HasLatents, HasPosterior, IsConditional, IsEditable
    from genus.kinds import Grid, Points, Pyramid, Tokens, Vectors, Waveform, grid_of

    cls = registry.get(name)
    data = {
        "digits": Grid(1, (8, 8), 17),
        "digits --size 4 --binarize threshold": Grid(1, (4, 4), 2),
        "moons": Vectors(2),
        "furniture": Points(512),
        "tones": Waveform(1024, 4000),
        "heartbeat": Tokens(20, 2),
        "run:runs/vqvae2-...": Pyramid((2, 2), 2, 2),
    }
    source, domain = next((source, domain) for source, domain in data.items() if cls.refuses(domain) is None)
    length = "" if issubclass(cls, FitsInClosedForm) else " --minutes 1"
    run = f"runs/{name}-..."
    lines = [f"genus train {name} --data {source}{length}"]
    if issubclass(cls, IsConditional) and not isinstance(domain, Pyramid | Tokens):
        lines.append(f"genus train {name} --data {source}{length} --conditional")
    lines += [f"genus sample {run} --count 16", f"genus evaluate {run}"]
    if issubclass(cls, HasLatents):
        lines.append(f"genus reconstruct {run}")
    if issubclass(cls, IsEditable):
        lines.append(f"genus edit {run} --keep {'top' if grid_of(domain) else 'first'}")
    if issubclass(cls, HasPosterior):
        lines.append(f"genus diagnose {run}")
    if issubclass(cls, HasConditionals):
        lines.append(f"genus compress {run} --split test")
    return lines
