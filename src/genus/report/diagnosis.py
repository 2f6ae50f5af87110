"""What the bound of a run hides, for people: sentences, plots, reconstructions, a section of the report."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor

from genus.contract import GenerativeModel, HasPosterior, Split
from genus.drawing import GENERATED, INK, REAL, escape, plain
from genus.evaluate._items import choose, gather
from genus.evaluate.bounds import Mean, Prior
from genus.evaluate.curse import Curse
from genus.evaluate.diagnose import ACTIVE, Diagnosis, diagnose, others
from genus.evaluate.fidelity import Estimate
from genus.evaluate.likelihood import evaluating
from genus.kinds import Domain
from genus.prob import noise
from genus.report import page as html
from genus.report.pictures import sheet
from genus.report.plots import svg_of

ITEMS, DRAWS = 256, 16  # of the section in a report, which must be cheap
ROWS = ("data", "reconstructions", "from the latents of another item", "from the prior alone")
GREY = "#5b6577"
LEAST = 1e-3  # nats; a logarithmic axis shows no less


@dataclass(frozen=True)
class Reconstructions:
    """The same items four times, ``(B, *shape)`` each: `ROWS` says what they are."""

    data: Tensor
    own: Tensor
    other: Tensor
    prior: Tensor


@dataclass(frozen=True)
class Section:
    """What the report of a run shows."""

    told: Diagnosis
    shown: Reconstructions


def section_of(model: GenerativeModel, split: Split, seed: int = 0) -> Section | None:
    """The section for models of real-valued latents with enough held-out items; None for others."""
    if not isinstance(model, HasPosterior) or model.latent_domain.discrete or len(split) < 2:
        return None
    told = diagnose(model, split, items=ITEMS, samples=DRAWS, seed=seed, budget=0)
    return Section(told, reconstructions(model, split, seed=seed))


def reconstructions(model: GenerativeModel, split: Split, *, count: int = 8, seed: int = 0) -> Reconstructions:
    """Some items of a split, decoded from their own latents, from those of another item, from the prior."""
    assert isinstance(model, HasPosterior)
    batch = gather(split, choose(len(split), count, seed), seed).to(model.device)
    condition = batch.condition if model.condition is not None else None
    with evaluating(model):
        z = model.posterior(batch.x, condition).mean
        drawn = Prior(model, z, condition).sample(1, noise.stream(seed, "diagnose", "prior alone"))[0]
        latents = (z, z[others(len(z), seed).to(z.device)], drawn)
        decoded = [model.decode(latent, condition=condition).cpu() for latent in latents]
    return Reconstructions(batch.x.cpu(), *decoded)


def picture(shown: Reconstructions, domain: Domain, width: int = 880) -> bytes:
    """A row for each of `ROWS`; of tables, reconstructions scattered over the data."""
    if domain.scattered:
        return sheet(shown.own, domain, real=shown.data, width=width)
    rows = torch.cat([shown.data, shown.own, shown.other, shown.prior])
    return sheet(rows, domain, columns=len(shown.data), width=width)


def with_error(mean: Mean | Estimate, places: int = 2) -> str:
    """``-86.31 ± 0.42``."""
    error = "" if mean.stderr is None else f" ± {mean.stderr:.{places}f}"
    return f"{round(mean.value, places) + 0.0:.{places}f}{error}"  # no -0.00


def facts(told: Diagnosis) -> list[tuple[str, str, str]]:
    """(what, number, what it means) of each number but the curves."""
    rows = []
    if told.variances is not None:
        found = f"{told.active} of {len(told.variances)}"
        rows.append(("active units", found, f"latents whose mean moves with the datum: variance > {ACTIVE:g}"))
    if told.kl is not None:
        rows.append(("KL(q(z|x) || p(z))", f"{with_error(told.kl)} nats", "the bound's KL term: the two lines below"))
    rows.append(("information I(x; z)", f"{with_error(told.information)} nats", "what the latents tell of these items"))
    if told.aggregate is not None:
        meaning = "latents of data against those that are sampled"
        rows.append(("KL(q(z) || p(z))", f"{told.aggregate:.2f} nats", meaning))
    rows.append(("shuffled latents", f"{with_error(told.shuffled)} nats", "lost with the latents of another item"))
    for usage in told.codes:
        name = "codes in use" if usage.name == "all" else f"codes in use, {usage.name}"
        found = f"{usage.used} of {usage.codes}"
        rows.append((name, found, f"perplexity {usage.perplexity:.1f}, entropy {usage.entropy:.2f} nats a code"))
    if told.bound:
        point = told.bound[-1]
        meaning = f"of {point.draws} draws: how many count"
        rows.append(("effective sample size", f"{point.effective:.1f}", meaning))
    if told.exact is not None and told.elbo_gap is not None and told.bound_gap is not None:
        rows.append(("exact log p(x)", f"{with_error(told.exact)} nats", f"{told.exact_how}, {told.exact.items} items"))
        rows.append(("the ELBO misses", f"{with_error(told.elbo_gap)} nats", "KL(q(z|x) || p(z|x)), the same items"))
        most = told.bound[-1].draws
        rows.append((f"the bound of {most} misses", f"{with_error(told.bound_gap, 3)} nats", "the same items"))
    return rows


def _tile(what: str, number: str) -> tuple[str, str]:
    """A tile is narrow: the unit stands under the number."""
    value, unit, _ = number.partition(" nats")
    return value, f"{what}, nats" if unit else what


def plots(told: Diagnosis) -> Figure | None:
    """KL of each latent, and both estimates of log p(x) against K; None where there is neither."""
    panels = [draw for draw, has in ((_kl, told.kl_each), (_curves, told.bound)) if has]
    if not panels:
        return None
    figure = Figure((4.4 * len(panels), 2.9), layout="constrained")
    for axis, draw in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        draw(axis, told)
        plain(axis)
    return figure


def _kl(axis: Any, told: Diagnosis) -> None:
    """Latents in the order of their KL; those that are not used are grey."""
    assert told.kl_each is not None and told.variances is not None
    order = sorted(range(len(told.kl_each)), key=lambda n: -told.kl_each[n])  # type: ignore[index]
    colours = [GENERATED if told.variances[n] > ACTIVE else REAL for n in order]
    axis.bar(range(len(order)), [told.kl_each[n] for n in order], color=colours, width=0.8)
    if len(order) <= 20:
        axis.set_xticks(range(len(order)), [str(n) for n in order])
    _titled(axis, f"KL of each latent: {told.active} of {len(order)} active", "latent, the largest first", "nats")


def _curves(axis: Any, told: Diagnosis) -> None:
    """What both estimates miss of the best that is known of log p(x), on a logarithmic axis."""
    last = told.bound[-1].nats.value
    level = last if told.bound_gap is None else last + max(told.bound_gap.value, 0)  # exact, carried to all items
    for points, colour, name in ((told.bound, GENERATED, "draws from q(z|x)"), (told.prior, REAL, "draws from p(z)")):
        missing = [level - point.nats.value for point in points]
        missing = [value if value >= LEAST else math.nan for value in missing]
        axis.plot([p.draws for p in points], missing, color=colour, marker=".", linewidth=1.4, label=name)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_ylim(bottom=LEAST)
    axis.legend(fontsize=7, frameon=False)
    best = "the bound of most draws" if told.exact is None else "log p(x)"
    _titled(axis, "Two estimates of log p(x) by K weighted draws", "draws K", f"nats missing to {best}")


def curse_plot(found: Curse) -> Figure:
    """What is missing to log p(x) against K, by latents: draws from the prior beside draws from an encoder."""
    figure = Figure((8.8, 3.2), layout="constrained")
    axes: Any = figure.subplots(1, 2, sharey=True)
    shades = colormaps["viridis"]
    titles = ("draws from the prior p(z)", "draws from an encoder, its deviations 1.2 times too large")
    for axis, errors, title in zip(axes, (found.prior, found.posterior), titles, strict=True):
        for n, (latents, means) in enumerate(zip(found.latents, errors, strict=True)):
            colour, label = shades(0.9 * n / max(1, len(errors) - 1)), f"{latents} latent{'s' * (latents > 1)}"
            values = [mean.value if mean.value >= LEAST else math.nan for mean in means]
            axis.plot(found.draws, values, color=colour, marker=".", markersize=3, linewidth=1.4, label=label)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        plain(axis)
        _titled(axis, title, "draws K", "nats missing to log p(x)" if axis is axes[0] else "")
    axes[0].set_ylim(LEAST, 1e3)
    axes[1].legend(fontsize=7, frameon=False)
    return figure


def _titled(axis: Any, title: str, x: str, y: str) -> None:
    axis.set_title(escape(title), fontsize=9, loc="left", color=INK)
    axis.set_xlabel(x, fontsize=7, color=GREY)
    axis.set_ylabel(y, fontsize=7, color=GREY)


def section_elements(section: Section | None, domain: Domain) -> list[html.Element]:
    """The section of a run's report."""
    if section is None:
        return []
    told, drawn = section.told, plots(section.told)
    elements: list[html.Element] = [
        html.Heading("What the bound hides"),
        *(html.Text(f"Warning: {symptom}") for symptom in told.symptoms),
        html.Tiles(tuple(_tile(what, number) for what, number, _ in facts(told))),
        *(html.Text(note) for note in told.notes),
    ]
    if drawn is not None:
        elements.append(html.Picture(svg_of(drawn), "KL of each latent, and log p(x) by weighted draws"))
    caption = "reconstructions over data" if domain.scattered else "rows: " + "; ".join(ROWS)
    shown = html.Picture(picture(section.shown, domain), "reconstructions", "Reconstructions", caption,
                         domain.on_grid)  # fmt: skip
    more = f"{told.items} held-out items, {told.draws} draws each; genus diagnose takes more, and explains."
    return [*elements, shown, html.Text(more)]
