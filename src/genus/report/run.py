"""The report of one run: samples beside real data, scores beside their floors, neighbours, curves."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from genus.evaluate.memorisation import Neighbours, verdict
from genus.evaluate.samplers import SamplerCurves
from genus.evaluate.score import Row, Score, Scorecard, format, number
from genus.kinds import Domain
from genus.report import page as html
from genus.report.diagnosis import Section, section_elements
from genus.report.noise import Film, curves_elements, film_elements
from genus.report.pictures import pairs, sheet
from genus.report.plots import Metrics, curves, svg_of, warnings_of
from genus.report.table import tabulate

HEADLINES = (
    "negative log-likelihood",
    "Fréchet distance",
    "1-NNA-CD",
    "nearest-train ratio",
    "sampling speed",
    "parameters",
)


@dataclass(frozen=True)
class RunReport:
    """What the report of a run is made of; only the first five are needed.

    title: of the page; in a comparison, the model's caption.
    samples, real: ``(N, *domain.shape)`` and held-out data; a sheet of each is shown.
    metrics: records ``{"step": 100, "train/loss": ..., "validation/loss": ...}``.
    neighbours: by what was looked up, as `genus.evaluate.memorisation.neighbours` gives.
    training_seconds: what training took. extras: (caption, data) of more sheets, such as
    interpolations. notes: sentences printed under the title. diagnosis: of models with a posterior.
    film: of diffusion models. samplers: where they were compared.
    """

    title: str
    domain: Domain
    scorecard: Scorecard
    samples: Tensor
    real: Tensor
    config: dict[str, Any] = field(default_factory=dict)
    metrics: Metrics = ()
    neighbours: dict[str, Neighbours] = field(default_factory=dict)
    training_seconds: float | None = None
    extras: Sequence[tuple[str, Tensor]] = ()
    notes: Sequence[str] = ()
    diagnosis: Section | None = None
    film: Film | None = None
    samplers: SamplerCurves | None = None

    @property
    def rows(self) -> tuple[Row, ...]:
        """The scorecard's rows; the model's with the training time as a last number."""
        model = self.scorecard.model
        return tuple(
            Row(row.name, row.role, (*row.scores, *self.training_time)) if row is model else row
            for row in self.scorecard.rows
        )

    @property
    def training_time(self) -> tuple[Score, ...]:
        """The training time as a score, if known."""
        seconds = self.training_seconds
        return () if seconds is None else (Score("training time", seconds, unit="s", better="lower"),)


def run_page(report: RunReport) -> str:
    """The run's report as one self-contained HTML page."""
    card = report.scorecard
    elements: list[html.Element] = [
        html.Title(report.title, f"{card.source}: {report.domain} · scored on the {card.split} split"),
        *(html.Text(note) for note in report.notes),
        html.Tiles(headlines(report)),
        *warning_elements(report),
        html.Heading("Samples"),
        *look(report),
        html.Heading("Scores"),
        html.Scores(tabulate(report.rows), open=True),
    ]
    elements += section_elements(report.diagnosis, report.domain)
    elements += film_elements(report.film, report.domain)
    elements += curves_elements(report.samplers)
    elements += neighbour_elements(report)
    for caption, data in report.extras:
        elements += [html.Heading(caption, 3), figure(data, report.domain, caption)]
    drawn = curves(report.metrics)
    if drawn is not None:
        elements += [html.Heading("Training"), html.Picture(svg_of(drawn), "loss against training step")]
    if report.config:
        elements += [html.Heading("Configuration"), html.Settings("All settings", report.config)]
    return html.page(report.title, elements)


def warning_elements(report: RunReport) -> list[html.Element]:
    """What training warned of, before anything else is looked at."""
    raised = warnings_of(report.metrics)
    return [html.Heading("Warnings"), html.Warnings(raised)] if raised else []


def headlines(report: RunReport) -> tuple[tuple[str, str], ...]:
    """The few numbers at the top of the page."""
    tiles = []
    for name in HEADLINES:
        scores = [score for score in report.scorecard.model.scores if score.name == name]
        if scores:
            label = {"sampling speed": "samples a second", "parameters": "parameters"}.get(name, name)
            unit = f", {scores[0].unit}" if label == name and scores[0].unit else ""
            tiles.append((format(scores[0]), label + unit))
    if report.training_seconds is not None:
        tiles.append((duration(report.training_seconds), "training"))
    return tuple(tiles)


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def look(report: RunReport) -> list[html.Element]:
    """Samples and real data: a sheet of each; clouds as a scene that turns."""
    domain = report.domain
    if domain.scattered:
        picture = html.Picture(sheet(report.samples, domain, real=report.real), "samples scattered over real data")
        return [picture]
    if domain.turns:
        return [scene(report.samples, "samples"), figure(report.real[:16], domain, "Held-out data", "for comparison")]
    most = 40 if domain.is_picture else 16
    return [
        html.Figures(
            tuple(
                figure(x[:most], domain, name, caption, columns=8 if most == 40 else 4)
                for x, name, caption in (
                    (report.samples, "Samples", "not chosen by hand"),
                    (report.real, "Held-out data", "for comparison"),
                )
            )
        )
    ]


def figure(
    x: Tensor, domain: Domain, heading: str, caption: str = "", columns: int | None = None, width: int = 880
) -> html.Picture:
    """A sheet of data as a figure."""
    columns = min(columns, len(x)) if columns else None
    exact = domain.on_grid
    return html.Picture(
        sheet(x, domain, columns=columns, width=width), f"{heading}: {len(x)} items", heading, caption, exact
    )


def scene(x: Tensor, name: str, most: int = 12) -> html.Scene:
    """Clouds that turn: up to ``most`` of them, of up to 2048 points each."""
    shown = x[:most, : min(x.shape[1], 2048)]
    heading = name[:1].upper() + name[1:]
    return html.Scene(
        shown, f"{len(shown)} point clouds: {name}", heading, "drag to turn; colour is height, paler is farther"
    )


def neighbour_elements(report: RunReport, most: int = 6) -> list[html.Element]:
    """For each kind of query, rows of a datum and its nearest training items."""
    if not report.neighbours or report.domain.scattered:
        return []
    parts = []
    for name, found in report.neighbours.items():
        picture = pairs(found.queries[:most], found.items[:most], report.domain)
        caption = f"median distance to the nearest: {number(float(found.distance[:, 0].median()))}"
        parts.append(html.Picture(picture, f"{name} with nearest training items", name, caption, report.domain.on_grid))
    measure = next(iter(report.neighbours.values())).measure
    return [
        html.Heading("Nearest training items"),
        html.Text(
            "Each row: a datum, then the training items nearest to it. Samples should look no closer to theirs"
            f" than held-out items do; copies look like the planted ones. Distance: {measure}."
        ),
        *(html.Text(f"Verdict on {row.name}: {said}.") for row in report.scorecard.rows if (said := verdict(row))),
        html.Figures(tuple(parts)),
    ]
