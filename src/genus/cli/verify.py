"""genus verify MODEL"""

import dataclasses

import tyro
from rich.console import Console
from rich.markup import escape

from genus.cli import flags


@dataclasses.dataclass
class VerifyFlags:
    """Which models to check."""

    models: tyro.conf.Positional[tuple[str, ...]]
    """Registry names; none checks all."""


def main(arguments: list[str]) -> int:
    """Run the contract's checks on tiny instances; exit code 1 if one fails."""
    chosen = flags.parse(VerifyFlags, arguments, "genus verify", "Check the mathematics of models on this machine.")

    from genus import registry
    from genus.testing import verify

    console, failed = Console(), 0
    for name in chosen.models or registry.names():
        registry.check(name)
        for result in verify(name):
            failed += not result.passed
            mark = "[green]ok[/]    " if result.passed else "[red]FAILED[/]"
            reason = "" if result.passed else f": {result.reason}"
            console.print(f"{mark} {name}  {escape(result.check + reason)}")
    console.print(f"{failed} failed" if failed else "all checks passed")
    return 1 if failed else 0
