"""genus report RUN"""

import dataclasses

from genus.cli import flags
from genus.cli.evaluate import EvaluateFlags


def main(arguments: list[str]) -> int:
    """Score a run and write its report."""
    run, basic, options = flags.run_and_flags(EvaluateFlags, arguments, "report", "Write the HTML report of a run.")

    from genus.report.write import write_run_report

    settings = dataclasses.asdict(basic)
    settings.pop("run")
    print(write_run_report(run, options=options, **settings))
    return 0
