"""genus models"""

import dataclasses

from rich.console import Console
from rich.table import Table

from genus.cli import flags


@dataclasses.dataclass
class ModelsFlags:
    """The table of models."""

    papers: bool = False
    """Show the paper of each model too."""


def main(arguments: list[str]) -> int:
    """Print the table family by capability."""
    chosen = flags.parse(ModelsFlags, arguments, "genus models", "What models there are and what each can do.")

    from genus.report.capabilities import capabilities

    table = Table(box=None, pad_edge=False)
    for column in ("model", "family", "data", "likelihood", "can"):
        table.add_column(column, no_wrap=column == "model")
    if chosen.papers:
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
        table.add_row(*row, *([c.paper] if chosen.papers else []))
    console = Console()
    console.print(table)
    console.print("\n= exact   ≤ a bound   ~ an estimate   – none      genus train MODEL --help shows every setting")
    return 0
