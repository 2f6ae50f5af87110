"""A scorecard in the terminal."""

from collections.abc import Iterator

from rich.console import Group
from rich.table import Table
from rich.text import Text

from genus.contract import Likelihood
from genus.evaluate.score import Scorecard
from genus.report.table import Column, Line, tabulate
from genus.report.table import Table as Laid

STYLES = {"model": "", "real": "italic", "floor": "dim"}
LEGEND = {
    Likelihood.EXACT: "exact",
    Likelihood.BOUND: "no worse than",
    Likelihood.ESTIMATE: "an estimate",
    Likelihood.NONE: "has none",
}


def heading(column: Column) -> str:
    """Name, unit and direction of a number."""
    return " ".join(part for part in (column.name, column.unit, column.arrow) if part)


def summary(card: Scorecard, width: int = 80) -> Group:
    """What `rich` prints for a scorecard on a terminal ``width`` characters wide: a line for each
    number (a card has many more numbers than a terminal has columns), a column for each row of
    the card, in as many blocks as the width asks for."""
    laid = tabulate(card.rows)
    used = [kind for kind in LEGEND if any(score.kind is kind for row in card.rows for score in row.scores)]
    legend = "   ".join(f"{kind.symbol} {LEGEND[kind]}" for kind in used)
    return Group(
        Text(f"{card.source}, {card.split} split", style="bold"),
        *(_block(laid, lines) for lines in _fitting(laid, width)),
        *([Text(legend, style="dim")] if used else []),
    )


def _fitting(laid: Laid, width: int) -> Iterator[list[Line]]:
    """The lines, as many at a time as stand side by side."""
    left = room = width - max(len(heading(column)) for column in laid.columns)
    block: list[Line] = []
    for line in laid.lines:
        needed = 2 + max(len(_title(line)), *(len(cell.text) for cell in line.cells))
        if block and needed > left:
            yield block
            block, left = [], room
        block.append(line)
        left -= needed
    yield block


def _title(line: Line) -> str:
    return f"{line.rank}. {line.name}" if line.rank else line.name


def _block(laid: Laid, lines: list[Line]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True, min_width=max(len(heading(column)) for column in laid.columns))
    for line in lines:
        table.add_column(Text(_title(line), style=STYLES[line.role]), justify="right", no_wrap=True)
    for n, column in enumerate(laid.columns):
        table.add_row(
            Text(heading(column), no_wrap=True),
            *(Text(line.cells[n].text, "bold" if line.cells[n].best else STYLES[line.role]) for line in lines),
            end_section=n + 1 < len(laid.columns) and laid.columns[n + 1].group != column.group,
        )
    table.add_row("")
    return table
