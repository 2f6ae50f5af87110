"""Several models side by side: one table for each data source, then what one can see."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from genus.evaluate.score import Scorecard, format, merge
from genus.report import page as html
from genus.report.pictures import sheet
from genus.report.plots import losses_of, svg_of
from genus.report.run import RunReport, duration, figure, scene
from genus.report.table import tabulate


@dataclass(frozen=True)
class Group:
    """The reports on one split of one data source, with their merged scorecard."""

    card: Scorecard
    reports: tuple[RunReport, ...]

    @property
    def anchor(self) -> str:
        """A name for links within the page."""
        return "data-" + re.sub(r"[^a-z0-9]+", "-", f"{self.card.source}-{self.card.split}".lower()).strip("-")


def group(reports: Sequence[RunReport]) -> list[Group]:
    """Reports by data source and split, in order of appearance: numbers on different data never
    share a table. Raises a ValueError where one source comes with two domains."""
    cards = merge(replace(report.scorecard, rows=report.rows) for report in reports)
    groups = []
    for card in cards:
        key = (card.source, card.split)
        members = tuple(report for report in reports if (report.scorecard.source, report.scorecard.split) == key)
        if any(member.domain != members[0].domain for member in members):
            raise ValueError(
                f"the reports on {card.source} differ in domain: {', '.join(str(m.domain) for m in members)}."
            )
        groups.append(Group(card, members))
    return groups


def comparison_page(title: str, reports: Sequence[RunReport], *, lead: str = "") -> str:
    """The comparison as one self-contained HTML page."""
    if not reports:
        raise ValueError("a comparison needs at least one report.")
    groups = group(reports)
    links = tuple((g.anchor, g.card.source) for g in groups) if len(groups) > 1 else ()
    models = sum(len(g.reports) for g in groups)
    data = ", ".join(g.card.source for g in groups)
    lead = lead or f"{models} models on {data}, scored on data that none of them saw in training."
    elements: list[html.Element] = [html.Title(title, lead, links)]
    for g in groups:
        elements += group_elements(g)
    return html.page(title, elements)


def group_elements(g: Group) -> list[html.Element]:
    """Table, samples and curves of one data source."""
    domain, first = g.reports[0].domain, g.reports[0]
    elements: list[html.Element] = [
        html.Heading(g.card.source, anchor=g.anchor),
        html.Text(f"Data: {domain}. Scored on the {g.card.split} split."),
        html.Scores(tabulate(g.card.rows)),
        html.Heading("Samples", 3),
    ]
    if domain.turns:
        elements.append(
            html.Figures((scene(first.real, "held-out data", 6), *(scene(r.samples, name_of(r), 6) for r in g.reports)))
        )
    elif domain.scattered:
        elements.append(
            html.Figures(
                tuple(
                    html.Picture(
                        sheet(r.samples, domain, real=r.real), f"samples of {name_of(r)}", name_of(r), caption(r)
                    )
                    for r in g.reports
                )
            )
        )
    else:
        shape = (24, 6) if domain.is_picture else (6, 3)
        real = figure(first.real[: shape[0]], domain, "Held-out data", "what samples should look like", shape[1], 480)
        own = (figure(r.samples[: shape[0]], domain, name_of(r), caption(r), shape[1], 480) for r in g.reports)
        elements.append(html.Figures((real, *own)))
    drawn = losses_of([(name_of(report), report.metrics) for report in g.reports])
    if drawn is not None:
        elements += [
            html.Heading("Training", 3),
            html.Text("What each model minimised. These are different losses: read the shapes, not the heights."),
            html.Picture(svg_of(drawn), "loss against training step, a panel for each model"),
        ]
    elements += [html.Settings(f"Settings of {name_of(r)}", r.config) for r in g.reports if r.config]
    return elements


def name_of(report: RunReport) -> str:
    """What the model is called in the table."""
    return report.scorecard.model.name


def caption(report: RunReport) -> str:
    """The first number of the model, and how long it trained."""
    parts = []
    scores = report.scorecard.model.scores
    if scores and scores[0].kind is not None:
        parts.append(f"{format(scores[0])} {scores[0].unit}")
    if report.training_seconds is not None:
        parts.append(f"trained {duration(report.training_seconds)}")
    return " · ".join(parts)
