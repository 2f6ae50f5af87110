import base64
import hashlib
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from genus.contract import Likelihood
from genus.evaluate.memorisation import Neighbours
from genus.evaluate.score import Row, Score, Scorecard
from genus.kinds import Domain, Grid, Points, Vectors
from genus.prob import noise
from genus.report import page as html
from genus.report.comparison import comparison_page
from genus.report.run import RunReport, duration, run_page

EVIL = (
    "<script>alert(1)</script>\"'><img src=x onerror=alert(2)></style></title>{{ 7*7 }} javascript:alert(3) ]]>$\\frac"
)
DIGITS, CLOUDS, PLANE = Grid(1, (6, 6), 5), Points(40, 3), Vectors(2, (EVIL, "y"))


def data(domain: Domain, count: int, key: str) -> Tensor:
    if domain.levels is None:
        return noise.normal((count, *domain.shape), noise.stream(key))
    return noise.integers(domain.levels, (count, *domain.shape), noise.stream(key)).to(domain.dtype)


def report(domain: Domain, name: str = "vae", source: str = "digits", nll: float = 2.0) -> RunReport:
    scores = (
        Score("negative log-likelihood", nll, 0.01, Likelihood.BOUND, "bits/dim", "lower", protocol={"items": 20}),
        Score("Fréchet distance", 3 * nll, better="lower", protocol={"features": EVIL}),
        Score("sampling speed", 1234.5, unit="samples/s", better="higher"),
    )
    floor = (
        Score("negative log-likelihood", 5.0, None, Likelihood.EXACT, "bits/dim", "lower", protocol={"items": 20}),
    )
    x = data(domain, 8, name)
    return RunReport(
        title=f"{name} on {source}",
        domain=domain,
        scorecard=Scorecard(source, "test", (Row(name, "model", scores), Row("uniform", "floor", floor))),
        samples=x,
        real=data(domain, 9, "real"),
        config={"model": name, "settings": {EVIL: EVIL, "n": 3}, "path": Path("x")},
        metrics=[{"step": s, "train/loss": 1 / (s + 1), f"train/{EVIL}": 2.0} for s in range(20)],
        neighbours={
            EVIL: Neighbours(
                x[:3], torch.zeros(3, 2), torch.ones(3, 2), data(domain, 6, "n").unflatten(0, (3, 2)), EVIL
            )
        },
        training_seconds=75.0,
        extras=[(EVIL, x[:4])],
        notes=[EVIL],
    )


class Reader(HTMLParser):
    """Collects what a browser would do something with."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.text: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.tags.append((tag, dict(attributes)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, text: str) -> None:
        {"script": self.scripts, "style": self.styles}.get(self.inside, self.text).append(text)


def pages() -> dict[str, str]:
    reports = [report(DIGITS, EVIL, EVIL), report(CLOUDS, "flow", "chairs"), report(PLANE, "made", "plane")]
    return {"run": run_page(reports[0]), "clouds": run_page(reports[1]), "plane": run_page(reports[2]),
            "comparison": comparison_page(EVIL, reports)}  # fmt: skip


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return pages()


@pytest.mark.parametrize("which", ["run", "clouds", "plane", "comparison"])
def test_a_page_is_inert(made: dict[str, str], which: str) -> None:
    text = made[which]
    reader = Reader(text)
    tags = [tag for tag, _ in reader.tags]
    scenes = tags.count("canvas")
    assert tags.count("script") == (1 if scenes else 0)
    assert not {"iframe", "object", "embed", "link", "form", "base", "svg"} & set(tags)
    for tag, attributes in reader.tags:
        assert not [key for key in attributes if key.startswith("on") or key == "style"], (tag, attributes)
        assert attributes.get("src", "data:image/").startswith("data:image/")
        assert attributes.get("href", "#").startswith("#")
    assert "url(" not in text and "@import" not in text
    assert EVIL in "".join(reader.text) or which in ("clouds", "plane")


@pytest.mark.parametrize("which", ["run", "clouds", "comparison"])
def test_the_policy_allows_exactly_what_is_there(made: dict[str, str], which: str) -> None:
    reader = Reader(made[which])
    (policy,) = [a["content"] for tag, a in reader.tags if tag == "meta" and "http-equiv" in a]
    assert policy is not None and "default-src 'none'" in policy and "unsafe" not in policy
    digest = {re.match(r"(\w+-\w+)", part.strip()).group(1): part.split()[1:] for part in policy.split(";")}  # type: ignore[union-attr]
    for kind, texts in (("style-src", reader.styles), ("script-src", reader.scripts)):
        joined = "".join(texts)
        sha = base64.b64encode(hashlib.sha256(joined.encode()).digest()).decode()
        assert digest[kind] == ([f"'sha256-{sha}'"] if joined else ["'none'"])


def test_embedded_vector_pictures_hold_no_script_and_no_link(made: dict[str, str]) -> None:
    drawings = re.findall(r"data:image/svg\+xml;base64,([^\"]+)", made["run"] + made["comparison"])
    assert drawings
    for drawing in drawings:
        svg = base64.b64decode(drawing).decode()
        assert "<script" not in svg and "onerror=" not in svg.replace("onerror=alert(2)&gt;", "")
        assert not re.findall(r'href="(?!#)', svg)


def test_a_page_is_a_function_of_its_report(made: dict[str, str]) -> None:
    assert pages() == made


def test_sources_never_share_a_table_and_models_are_ranked() -> None:
    reports = [report(DIGITS, "a", nll=2.0), report(CLOUDS, "b", "chairs"), report(DIGITS, "c", nll=1.5)]
    text = comparison_page("t", reports)
    tables = re.findall(r"<table>.*?</table>", text, re.S)
    assert len(tables) == 2
    names = [
        re.findall(r"<tr class=\"\w+\"><th>(?:<span class=\"rank\">(\d?)</span>)?([^<]+)</th>", table)
        for table in tables
    ]
    assert names == [[("1", "c"), ("2", "a"), ("", "uniform")], [("", "b"), ("", "uniform")]]
    assert "<b>≤ 1.500 ± 0.010</b>" in tables[0] and "<b>" not in tables[1]
    assert "training" in tables[0] and ">75<" in tables[0]
    with pytest.raises(ValueError, match="differ in domain"):
        comparison_page("t", [report(DIGITS), report(CLOUDS)])
    with pytest.raises(ValueError, match="at least one"):
        comparison_page("t", [])


def test_a_report_of_the_least_is_a_page() -> None:
    whole = report(DIGITS)
    least = RunReport(whole.title, DIGITS, whole.scorecard, whole.samples, whole.real)
    text = run_page(least)
    assert "Nearest" not in text and "Configuration" not in text and "2.000" in text


def test_a_scene_carries_its_points() -> None:
    x = data(CLOUDS, 2, "scene") * 7 + 3
    scene = html.Scene(x, "clouds")
    points = np.frombuffer(base64.b64decode(scene.base64), "<i2").reshape(2, 40, 3) / 32767
    assert np.linalg.norm(points, axis=2).max(1) == pytest.approx(1, abs=1e-4)
    reach = x.double() - (x.double().amin(1, keepdim=True) + x.double().amax(1, keepdim=True)) / 2
    assert np.allclose(points, reach / reach.norm(dim=2).amax(1)[:, None, None], atol=1e-4)
    assert html.Scene(torch.zeros(1, 3, 3), "one point").base64


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.234, "1.2 s"), (42.4, "42 s"), (59.7, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.slow
def test_a_browser_draws_the_scene_and_runs_nothing_else(made: dict[str, str], tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium on this machine")
    probe = "<script>document.title='broken'</script>"
    (tmp_path / "page.html").write_text(made["clouds"].replace("</footer>", f"</footer>{probe}"), "utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}"]  # fmt: skip
    result = subprocess.run(
        [browser, *flags, "--dump-dom", f"file://{tmp_path / 'page.html'}"],
        capture_output=True, text=True, timeout=120, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    canvas = re.search(r"<canvas[^>]*>", result.stdout)
    assert canvas is not None and re.search(r' height="\d+"', canvas.group())  # set by the viewer when it drew
    assert "<title>broken" not in result.stdout  # the policy stopped the foreign script
