"""genus chain FILE"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from genus.cli import flags
from genus.errors import SettingsError

if TYPE_CHECKING:
    from torch import Tensor

    from genus.chains import MarkovChain

ABOUT = """A Markov chain as itself: estimated from sequences, looked at far ahead, drawn as a graph.

  genus chain weather.csv --column weather --start sunny=0.8,rainy=0.2 --after 2
  genus chain measurements.csv --column state --by patient
  genus chain book.txt --smoothing 0.1

FILE is a table (CSV, TSV) whose rows are in order of time, a .txt file (its characters), or an .npy file
of integers (one sequence, or one a row)."""

MOST_SHOWN = 12  # states in a table


@dataclasses.dataclass
class ChainFlags:
    """What to look at."""

    file: tyro.conf.Positional[Path]
    """A table, a text or an array of integers."""
    column: str | None = None
    """The column of the table that holds the states, in order of time."""
    by: str | None = None
    """The column that tells sequences apart (a city, a patient); by default the table is one sequence."""
    smoothing: float = 0.0
    """Pseudo-counts added to every transition, so that what was never seen is not impossible."""
    start: str | None = None
    """Where the forecast starts: a state, or probabilities such as sunny=0.8,rainy=0.2."""
    after: int | None = None
    """Steps to look ahead: a forecast from --start, or all transition probabilities of so many steps."""
    out: Path | None = None
    """Where to write the picture (default NAME-chain.png in runs/)."""


def main(arguments: list[str]) -> int:
    """Print what the chain is and where it leads, and write its picture."""
    chosen = flags.parse(ChainFlags, arguments or ["--help"], "genus chain", ABOUT)

    from genus.chains import MarkovChain
    from genus.data.sequences import read_states
    from genus.report.chain import transition_picture

    path = flags.file_named(chosen.out or Path("runs") / f"{chosen.file.stem}-chain.png", (".png",))
    if chosen.after is not None and chosen.after < 0:
        raise SettingsError(f"--after: expected 0 steps or more; got {chosen.after}.")
    sequences = read_states(chosen.file, chosen.column, chosen.by)
    chain = MarkovChain.estimate(sequences, chosen.smoothing)
    start = None if chosen.start is None else start_of(chosen.start, chain)
    console = Console(highlight=False)
    moves, many = sum(len(s) - 1 for s in sequences), len(sequences)
    console.print(
        f"{escape(chosen.file.name)}: {len(chain)} states, {moves:,} transitions in "
        f"{many:,} sequence{'s' if many > 1 else ''}\n"
    )
    if len(chain) <= MOST_SHOWN:
        console.print(matrix_table(chain, chain.matrix, "from \\ to"))
    console.print(facts(chain))
    if start is None and chosen.after is not None and len(chain) <= MOST_SHOWN:
        console.print(f"\nafter {chosen.after} steps:")
        console.print(matrix_table(chain, chain.steps(chosen.after), "from \\ to"))
    if start is not None:
        ahead = 1 if chosen.after is None else chosen.after
        console.print(f"\nfrom {distribution_text(chain, start)}")
        console.print(f"after {ahead} step{'s' * (ahead != 1)}: {distribution_text(chain, chain.after(start, ahead))}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(transition_picture(chain))
    console.print(f"\npicture: {escape(str(path))}", soft_wrap=True)
    return 0


def start_of(text: str, chain: "MarkovChain") -> list[float]:
    """``sunny`` or ``sunny=0.8,rainy=0.2`` as a distribution over the states."""
    start = dict.fromkeys(chain.names, 0.0)
    parts = [text] if text in start else text.split(",")
    for part in parts:
        name, _, value = (part, "", "1") if part in start else part.rpartition("=")
        if name not in start:
            known = ", ".join(chain.names[:20])
            raise SettingsError(
                f"--start: expected NAME or NAME=PROBABILITY,...; got {part!r}; the states are {known}."
            )
        try:
            start[name] += float(value)
        except ValueError:
            raise SettingsError(f"--start: expected a probability for {name!r}; got {value!r}.") from None
    return chain.distribution(list(start.values())).tolist()


def facts(chain: "MarkovChain") -> Table:
    """The flags, the stationary distribution and the mixing time, or why there is none."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))

    def tell(name: str, ask: Callable[[], str]) -> None:
        try:
            table.add_row(name, escape(ask()))
        except ValueError as error:  # what does not exist, said in one sentence
            table.add_row(name, escape(str(error)))

    tell("irreducible", lambda: "yes" if chain.irreducible else f"no: {classes_text(chain)}")
    tell("aperiodic", lambda: "yes" if chain.aperiodic else f"no: period {chain.period}")
    tell("reversible", lambda: "yes" if chain.reversible else "no")
    tell("stationary", lambda: distribution_text(chain, chain.stationary))
    tell("mixing time", lambda: f"{chain.mixing_time:,} steps until the worst start is within 1/4 of it")
    return table


def classes_text(chain: "MarkovChain") -> str:
    """``{home}, {pub} are never left; walk is transient``."""
    from genus.report.chain import shown

    def listed(states: list[int]) -> str:
        more = ", ..." if len(states) > MOST_SHOWN else ""
        return ", ".join(shown(chain.names[state]) for state in states[:MOST_SHOWN]) + more

    inside = [state for group in chain.closed for state in group]
    outside = sorted(set(range(len(chain))) - set(inside))
    groups = ", ".join("{" + listed(list(group)) + "}" for group in chain.closed[:MOST_SHOWN])
    more = ", ..." if len(chain.closed) > MOST_SHOWN else ""
    return f"{groups}{more} never left once entered" + (f"; {listed(outside)} left for good one day" if outside else "")


def distribution_text(chain: "MarkovChain", distribution: "Tensor | list[float]") -> str:
    """``sunny 45.45 %, rainy 54.55 %``; of many states the most probable."""
    from genus.report.chain import shown

    values = [float(p) for p in distribution]
    order: list[int] = list(range(len(values)))
    if len(values) > MOST_SHOWN:
        order = sorted(order, key=lambda state: -values[state])[:MOST_SHOWN]
    parts = [f"{shown(chain.names[state])} {100 * values[state]:.2f} %" for state in order]
    return ", ".join(parts) + (", ..." if len(values) > MOST_SHOWN else "")


def matrix_table(chain: "MarkovChain", matrix: "Tensor", corner: str) -> Table:
    """Transition probabilities, a row for each state."""
    from genus.report.chain import shown

    table = Table(box=None, pad_edge=False)
    table.add_column(corner)
    for name in chain.names:
        table.add_column(escape(shown(name)), justify="right")
    for name, row in zip(chain.names, matrix.tolist(), strict=True):
        table.add_row(escape(shown(name)), *(f"{p:.4f}" if p else "." for p in row))
    table.add_row()
    return table
