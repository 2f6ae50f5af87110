"""One self-contained HTML file from a list of elements.

It opens offline and is inert: text is escaped, pictures are embedded, and its content security
policy allows no script and no style but the two that genus ships, named by their hashes.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, ClassVar

import numpy as np
from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup
from torch import Tensor

from genus.contract import Likelihood
from genus.report.table import Table

LEGEND = {
    Likelihood.EXACT.symbol: "exact",
    Likelihood.BOUND.symbol: "a bound: no worse than this",
    Likelihood.ESTIMATE.symbol: "an estimate, unranked",
    Likelihood.NONE.symbol: "the model has no likelihood",
    "±": "one standard error",
}


@dataclass(frozen=True)
class Title:
    """The head of the page; ``links`` are (anchor, text) of headings on it."""

    kind: ClassVar[str] = "title"
    text: str
    lead: str = ""
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Heading:
    """A heading of level 2 or 3."""

    kind: ClassVar[str] = "heading"
    text: str
    level: int = 2
    anchor: str = ""


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class Tiles:
    """The few numbers that matter most: (value, what it is)."""

    kind: ClassVar[str] = "tiles"
    tiles: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Picture:
    """A PNG, or an SVG of a plot. ``exact``: enlarge without smoothing."""

    kind: ClassVar[str] = "picture"
    data: bytes
    alt: str
    heading: str = ""
    caption: str = ""
    exact: bool = False

    @property
    def mime(self) -> str:
        """PNG by its first bytes, SVG otherwise."""
        return "image/png" if self.data.startswith(b"\x89PNG") else "image/svg+xml"

    @property
    def base64(self) -> str:
        """The data as base64."""
        return base64.b64encode(self.data).decode()


@dataclass(frozen=True)
class Scene:
    """Clouds of points ``(B, N, 3)``, second axis up, that turn when dragged; each at its own scale."""

    kind: ClassVar[str] = "scene"
    clouds: Tensor
    alt: str
    heading: str = ""
    caption: str = ""

    @property
    def count(self) -> int:
        """Points of a cloud."""
        return self.clouds.shape[1]

    @property
    def base64(self) -> str:
        """Coordinates as little-endian int16, the farthest point of each cloud at 32767."""
        x = self.clouds.detach().cpu().double().numpy()
        x = x - (x.min(1, keepdims=True) + x.max(1, keepdims=True)) / 2
        reach = np.linalg.norm(x, axis=2).max(1)[:, None, None]
        x = x / np.where(reach > 0, reach, 1) * 32767
        return base64.b64encode(x.round().astype("<i2").tobytes()).decode()


@dataclass(frozen=True)
class Figures:
    """Pictures and scenes side by side, as many as fit."""

    kind: ClassVar[str] = "figures"
    parts: tuple[Picture | Scene, ...]


@dataclass(frozen=True)
class Scores:
    """A table of scores with its legend, and what each number means (``open``: unfolded)."""

    kind: ClassVar[str] = "scores"
    table: Table
    open: bool = False

    @property
    def legend(self) -> list[tuple[str, str]]:
        """The symbols and marks that the table uses."""
        texts = [cell.text for line in self.table.lines for cell in line.cells]
        used = [(symbol, meaning) for symbol, meaning in LEGEND.items() if any(symbol in text for text in texts)]
        if any(cell.best for line in self.table.lines for cell in line.cells):
            used.append(("bold", "the best model, and those within two standard errors of it"))
        if self.table.ranked:
            used.append(("1, 2, …", "ranked by likelihood; a model with ≤ may be better than its rank"))
        return used


@dataclass(frozen=True)
class Warnings:
    """What went wrong in training: (step, name, what was seen, what to try)."""

    kind: ClassVar[str] = "warnings"
    raised: tuple[tuple[int, str, str, str], ...]


@dataclass(frozen=True)
class Settings:
    """A configuration as folded lines of key and value; nested keys are joined by dots."""

    kind: ClassVar[str] = "settings"
    heading: str
    config: dict[str, Any]
    open: bool = False

    @property
    def settings(self) -> list[tuple[str, str]]:
        """Flat (key, value) pairs."""
        return list(_flat(self.config))


Element = Title | Heading | Text | Tiles | Picture | Scene | Figures | Scores | Warnings | Settings


def page(title: str, elements: Sequence[Element], footer: str = "Made by genus. This file needs no network.") -> str:
    """The HTML of a page; the viewer's script is in it only where there is something to turn."""
    parts = [part for element in elements for part in (element.parts if isinstance(element, Figures) else (element,))]
    script = _asset("viewer.js") if any(isinstance(part, Scene) for part in parts) else ""
    css = _asset("page.css")
    return _template().render(
        title=title,
        elements=elements,
        footer=footer,
        css=Markup(css),
        script=Markup(script),
        policy=_policy(css, script),
    )


def _policy(css: str, script: str) -> str:
    """Nothing from anywhere but embedded pictures, this style and this script."""

    def source(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" if text else "'none'"

    return (
        f"default-src 'none'; img-src data:; style-src {source(css)}; script-src {source(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _asset(name: str) -> str:
    return files("genus.report").joinpath(name).read_text("utf-8")


@cache
def _template() -> Template:
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(_asset("page.html"))


def _flat(config: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for key, value in config.items():
        if isinstance(value, dict) and value:
            lines += _flat(value, f"{prefix}{key}.")
        else:
            lines.append((f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, default=str)))
    return lines
