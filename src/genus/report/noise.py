"""What a diffusion model does to data and noise, step by step: film strips, where its bound comes from, and how
samples improve with network calls."""

import math
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor

from genus.contract import GenerativeModel, Split
from genus.drawing import GENERATED, INK, REAL, plain, png_of
from genus.evaluate._items import choose, gather
from genus.evaluate.likelihood import evaluating
from genus.evaluate.samplers import SamplerCurves
from genus.kinds import Domain
from genus.models.diffusion import _samplers
from genus.models.diffusion._diffusion import GaussianDiffusion
from genus.models.diffusion.diffusion2015 import Diffusion2015
from genus.prob import noise
from genus.report import page as html
from genus.report.pictures import sheet
from genus.report.plots import svg_of

TIMES = (0.0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0)  # of a strip
ITEMS, DOTS = 3, 400  # strips; rows of a table, which are dots in one strip
STEPS, BOUNDED = 40, 32  # steps of the walk back; data whose bound is looked at
GREY = "#5b6577"
Walker = GaussianDiffusion | Diffusion2015  # what walks noise back to real numbers


@dataclass(frozen=True)
class Film:
    """What the report shows of a diffusion model.

    forward, backward, guesses: ``(items, len(TIMES), *shape)`` in the domain's own terms: data drowned; noise walked
    back, and what the model takes it for at each of these times (None where it does not say). None for models of
    integers by hops.
    terms: the mean L_0, L_1 .. L_{T-1} and L_T in bits an entry; empty for models without a discrete bound.
    """

    forward: Tensor | None
    backward: Tensor | None
    guesses: Tensor | None
    terms: tuple[float, ...]


def film_of(model: GenerativeModel, split: Split, seed: int = 0) -> Film | None:
    """The section for diffusion models; None for others, and for split of no items."""
    walks = isinstance(model, GaussianDiffusion) or (isinstance(model, Diffusion2015) and model.process is not None)
    bounded = callable(getattr(type(model), "bound_terms", None))
    if not (walks or bounded) or not len(split):
        return None
    with evaluating(model):
        terms = bound_of(model, split, seed) if bounded else ()
        if not walks or not isinstance(model, Walker):
            return Film(None, None, None, terms)
        count = DOTS if model.domain.scattered else ITEMS
        batch = gather(split, choose(len(split), count, seed), seed).to(model.device)
        condition = batch.condition if model.condition is not None else None
        return Film(drowned(model, batch.x, seed), *walked_back(model, condition, len(batch.x), seed), terms)


def shown(model: Walker, x: Tensor, t: float) -> Tensor:
    """x_t in the domain's own terms, at the size that data have."""
    assert model.process is not None
    x = x / _samplers.scale(model.process, _samplers.all_at(t, x), x)
    return model.scaling.decode(x.clamp(-1, 1) if model.domain.discrete else x).cpu()


def drowned(model: Walker, x: Tensor, seed: int) -> Tensor:
    """Data at each of `TIMES`, with one noise for all."""
    assert model.process is not None
    x_0 = model.scaling.encode(x)
    eps = noise.normal(tuple(x_0.shape), noise.stream(seed, "film", "forward"), x.device)
    return torch.stack([shown(model, model.process.diffuse(x_0, _samplers.all_at(t, x), eps), t) for t in TIMES], 1)


def walked_back(model: Walker, condition: Tensor | None, count: int, seed: int) -> tuple[Tensor, Tensor | None]:
    """Noise walked back at each of `TIMES` from 1 to 0, and the estimates of x_0 there: by DDIM, or where a model
    has only its own steps by those."""
    assert model.process is not None
    generator = noise.stream(seed, "film", "back")
    x = _samplers.start(model.process, noise.normal((count, *model.domain.shape), generator, model.device))
    denoise = model.denoiser(condition) if isinstance(model, GaussianDiffusion) else None
    total = STEPS if denoise else model.steps
    times, grid = [round(t * total) / total for t in TIMES[::-1]], _samplers.even(total)
    states, guesses = [], []
    for t, s in zip(times, [*times[1:], None], strict=True):
        states.append(shown(model, x, t))
        if denoise:
            guesses.append(model.scaling.decode(denoise(x, _samplers.all_at(t, x)) if t else x).cpu())
        if s is not None and s < t:
            way = [t, *(time for time in grid if s + 1e-9 < time < t - 1e-9), s]
            if denoise:
                x = _samplers.ddim(model.process, denoise, x, way)
            else:
                x = _samplers.ancestral(model.gaussian(condition), x, way, generator)
    return torch.stack(states, 1), torch.stack(guesses, 1) if guesses else None


def bound_of(model: GenerativeModel, split: Split, seed: int) -> tuple[float, ...]:
    """The mean of every term of the bound over some items, in bits an entry."""
    batch = gather(split, choose(len(split), BOUNDED, seed), seed).to(model.device)
    condition = batch.condition if model.condition is not None else None
    terms = model.bound_terms(batch.x, condition=condition, generator=noise.stream(seed, "film", "bound"))
    each = torch.cat([terms["L_0"][:, None], terms["L_t"], terms["L_T"][:, None]], 1).double().mean(0)
    return tuple((each / (model.domain.num_dims * math.log(2))).tolist())


def strip_picture(strip: Tensor, domain: Domain) -> bytes:
    """A strip ``(items, times, *shape)`` as a PNG: a row for each item; rows of a table as dots."""
    if domain.scattered:
        return png_of(dots_of(strip))
    return sheet(strip.flatten(0, 1), domain, columns=strip.shape[1])


def dots_of(strip: Tensor) -> Figure:
    """Rows of a table ``(items, times, features)`` as dots of their first two features, a panel for each time."""
    figure = Figure((8.8, 1.3), layout="constrained")
    across = strip[..., : min(2, strip.shape[-1])].flatten(0, 1)
    low, high = across.min(0).values, across.max(0).values
    for axis, rows in zip(figure.subplots(1, strip.shape[1]), strip.unbind(1), strict=True):
        first, second = rows[:, 0], rows[:, -1 if rows.shape[1] < 2 else 1]
        axis.scatter(first, second, s=1.5, color=GENERATED, linewidths=0)
        axis.set_xlim(float(low[0]), float(high[0]))
        axis.set_ylim(float(low[-1]), float(high[-1]))
        axis.set_axis_off()
    return figure


def bound_plot(terms: tuple[float, ...]) -> Figure:
    """Each step's term, and their sum from the data on."""
    figure = Figure((8.8, 2.7), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = range(1, len(terms))
    left.plot(steps, terms[:-1], color=GENERATED, linewidth=1.2)
    left.set_yscale("log")
    total = torch.tensor(terms[:-1]).cumsum(0).tolist()
    right.plot(steps, total, color=REAL, linewidth=1.6)
    for axis, title in ((left, "what each step costs"), (right, "their sum, from the data on")):
        plain(axis)
        axis.set_title(title, fontsize=9, loc="left", color=INK)
        axis.set_xlabel("step t (1: the last step to the data)", fontsize=7, color=GREY)
        axis.set_ylabel("bits an entry", fontsize=7, color=GREY)
    return figure


def curves_plot(found: SamplerCurves) -> Figure:
    """A line for each sampler, and the distance of real items."""
    figure = Figure((8.8, 3.2), layout="constrained")
    axis = figure.subplots()
    for sampler in dict.fromkeys(point.sampler for point in found.points):
        points = [point for point in found.points if point.sampler == sampler]
        calls, distances = [point.calls for point in points], [point.distance for point in points]
        axis.plot(calls, distances, marker="o", markersize=3, linewidth=1.4, label=sampler)
    axis.axhline(found.floor, color=INK, linewidth=0.8, linestyle=(0, (2, 2)), label="training items")
    axis.set_xscale("log")
    axis.set_yscale("log")
    ticks = sorted({point.calls for point in found.points if point.sampler in ("ancestral", "ddim")})
    axis.set_xticks(ticks, [str(calls) for calls in ticks])
    axis.set_xticks([], minor=True)
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("{x:g}")
    axis.tick_params(axis="y", which="both", labelsize=7)
    axis.set_xlabel("network calls for a sample", fontsize=7, color=GREY)
    axis.set_ylabel("Fréchet distance", fontsize=7, color=GREY)
    axis.legend(fontsize=7, frameon=False)
    plain(axis)
    return figure


def curves_elements(found: SamplerCurves | None) -> list[html.Element]:
    """The section of a run whose samplers were compared (`genus diagnose RUN`)."""
    if found is None:
        return []
    told = (
        f"Fréchet distance of {found.items:,} samples to as many held-out items ({found.features}), from the same noise"
        " with each sampler. The dashed line is that of training items: samples cannot be expected below it."
    )
    drawn = html.Picture(svg_of(curves_plot(found)), "Fréchet distance against network calls, by sampler")
    return [html.Heading("Samplers"), drawn, html.Text(told)]


def film_elements(film: Film | None, domain: Domain) -> list[html.Element]:
    """The section of a run's report."""
    if film is None:
        return []
    elements: list[html.Element] = [html.Heading("Noise, there and back")]
    strips = (
        ("Forward", film.forward, "held-out data drown, from left to right"),
        ("Back", film.backward, "noise walked back, from left to right"),
        ("What the model takes it for", film.guesses, "the estimate of the datum at each of these times"),
    )
    for name, strip, caption in strips:
        if strip is not None:
            exact = not domain.scattered
            elements.append(html.Picture(strip_picture(strip, domain), name, name, caption, exact))
    if film.terms:
        first, *between, last = film.terms
        tiles = (
            (f"{first:.3f}", "L_0, the step to the data"),
            (f"{sum(between):.3f}", f"the {len(between)} steps between"),
            (f"{last:.4f}", "L_T, what is left at the end"),
            (f"{sum(film.terms):.3f}", "the bound, bits an entry"),
        )
        drawn = html.Picture(svg_of(bound_plot(film.terms)), "the terms of the bound by step")
        elements += [html.Tiles(tiles), drawn]
    return elements
