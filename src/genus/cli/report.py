"""genus report RUN"""

from genus.cli import flags
from genus.cli.evaluate import ScoreFlags, features_of, settings_of


def main(arguments: list[str]) -> int:
    """Score a run and write its report."""
    run, basic, options = flags.run_and_flags(ScoreFlags, arguments, "report", "Write the HTML report of a run.")

    from genus.report.write import write_run_report

    print(write_run_report(run, options=options, features=features_of(basic, run.domain), **settings_of(basic)))
    return 0
