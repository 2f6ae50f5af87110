"""Run folders of strangers: refused by a typed error that names the file, or read; never obeyed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from trials import SPECIES, bombs, make_run, run_trial, use

from genus import kinds, registry
from genus.errors import CheckpointError, GenusError, SettingsError
from genus.hardware import OutOfMemory
from genus.prob import noise
from genus.runs import allowance
from genus.runs.allowance import Allowance, AllowanceError
from genus.runs.config import configure, read_config
from genus.runs.documents import read_document, read_jsonl
from genus.runs.run import Run, build


def edit(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def settings(run: Path, **values: Any) -> None:
    content = json.loads((run / "config.json").read_text())
    edit(run / "config.json", settings=content["settings"] | values)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


# --- fuzz -------------------------------------------------------------------------------


def check_fuzz(folder: Path, count: int) -> None:
    for figures in run_trial("fuzz", folder, count).values():
        assert figures["worse"] == []
        assert figures["files"] >= count
        assert figures["valid"] > 0  # else the mutations show nothing but that all is refused
        assert figures["typed"] > 0
        assert figures["megabytes"] <= 512, figures["largest"]


def test_fuzzed_files_are_refused_by_name_or_read(tmp_path: Path) -> None:
    check_fuzz(tmp_path, 60)


@pytest.mark.slow
def test_a_thousand_fuzzed_files_are_refused_by_name_or_read(tmp_path: Path) -> None:
    check_fuzz(tmp_path, 1000)


def test_the_fuzz_notices_a_reader_without_care(tmp_path: Path) -> None:
    """The negative control: a plain JSON reader is found out."""
    from trials import Tally

    tally, file = Tally(), tmp_path / "config.json"
    for name, bomb in bombs().items():
        file.write_bytes(bomb)
        tally.take(name, tmp_path, lambda: json.loads(file.read_text())["model"])
    assert len(tally.worse) >= 5


# --- payloads ---------------------------------------------------------------------------


def test_no_stranger_gets_anything_run_imported_read_elsewhere_or_sent(tmp_path: Path) -> None:
    """The audit hook hears pickle.find_class, os.system, import, exec, open, socket.connect and more;
    what it hears of a careless reader is the negative control."""
    command = [sys.executable, str(Path(__file__).with_name("strangers.py")), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-4000:]
    result = json.loads(done.stdout.splitlines()[-1])
    variants = result["variants"]
    assert len(variants) >= 60
    assert {name: v["deeds"] for name, v in variants.items() if v["deeds"]} == {}
    assert not result["ran"]
    opened = {name for name, v in variants.items() if v["outcome"] == "opened"}
    for name, variant in variants.items():
        assert name in opened or str(tmp_path) in variant["outcome"], f"{name}: {variant['outcome']}"
        # what is only lying there, or a name of data that nobody opens, does no harm; all else is refused
        harmless = "beside" in name or "in the run" in name or "the data" in name or "condition" in name
        assert (name in opened) <= (harmless or name == "metrics.jsonl is a pickle"), name
    heard = {deed.split()[0] for deed in result["control"]}
    assert heard >= {"pickle.find_class", "os.system", "import", "open", "socket.connect", "exec", "compile"}
    assert result["control_ran"]


# --- documents --------------------------------------------------------------------------


@pytest.mark.parametrize("name", bombs())
def test_a_bomb_is_refused_by_the_name_of_its_file(tmp_path: Path, name: str) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(bombs()[name])
    with pytest.raises(CheckpointError, match=r"config\.json") as caught:
        read_config(file)
    assert len(str(caught.value)) < 1000


def test_a_wrong_type_names_file_and_key(run: Path) -> None:
    edit(run / "config.json", recipe={"learning_rate": "fast"})
    with pytest.raises(CheckpointError, match=r"config\.json: recipe\.learning_rate: .*got 'fast'"):
        Run(run)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"fingerprint": 3}, "fingerprint"),
        ({"domain": {"kind": "grid", "channels": "1", "size": [8, 8]}}, "'channels'"),
        ({"domain": {"kind": "grid", "channels": 1, "size": [10**9, 10**9]}}, "entries"),
        ({"domain": {"kind": "grid", "channels": 1, "size": [1] * 9}}, "axes"),
        ({"domain": {"kind": "grid", "channels": 1, "size": [8, 8], "levels": 2**25}}, "levels"),
        ({"domain": {"kind": ["grid"]}}, "unknown domain kind"),
        ({"domain": {"kind": "grid", "shape": [1]}}, "channels, size, levels"),
        ({"domain": []}, "domain"),
    ],
)
def test_described_data_are_checked(run: Path, values: dict[str, Any], said: str) -> None:
    edit(run / "data.json", **values)
    with pytest.raises(CheckpointError, match=rf"data\.json.*{said}"):
        _ = Run(run).domain


def test_every_domain_comes_back_from_json() -> None:
    for domain in (
        kinds.Grid(3, (4, 5), 256),
        kinds.Vectors(2, ("a", "b")),
        kinds.Points(7),
        kinds.Label(("x",)),
    ):
        assert kinds.from_json(json.loads(json.dumps(domain.to_json()))) == domain


def test_lines_are_bounded_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1, "train/loss": NaN}\n{"step": 2}\n{"step": 3, "tra')
    assert [record["step"] for record in read_jsonl(file, numbers=("step",))] == [1, 2]
    for line in ("[1]", "{}", '{"step": "1"}', '{"step": true}', '{"step": NaN}', "\0\0"):
        file.write_text(f'{{"step": 1}}\n{line}\n')
        with pytest.raises(CheckpointError, match=r"metrics\.jsonl, line 2"):
            read_jsonl(file, numbers=("step",))
    file.write_text('{"step": 1}\n' * 100)
    monkeypatch.setattr("genus.runs.documents.MAX_VALUES", 150)
    with pytest.raises(CheckpointError, match=r"line 76: over"):
        read_jsonl(file)


def test_a_text_in_place_of_a_loss_is_refused(run: Path) -> None:
    (run / "metrics.jsonl").write_text('{"step": 1, "train/loss": "<script>"}\n')
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: 'train/loss' should be a number"):
        _ = Run(run).metrics
    (run / "timing.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(CheckpointError, match=r"timing\.jsonl, line 1: 'seconds'"):
        _ = Run(run).training_seconds


def test_a_device_that_never_ends_is_refused() -> None:
    if not Path("/dev/zero").exists():
        pytest.skip("no /dev/zero on this system")
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_document(Path("/dev/zero"))


# --- models too large -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("species", "values"),
    [
        ("vae", {"hidden": [10**6, 10**6]}),
        ("vae", {"hidden": [1] * 1000}),
        ("nade", {"hidden": 10**7}),
        ("realnvp", {"couplings": 10**7}),
        ("realnvp", {"blocks": 10**7}),
        ("ddpm", {"blocks": 10**7}),
        ("ddpm", {"timesteps": 10**7}),
        ("ddpm", {"multipliers": [1] * 900}),
        ("dcgan", {"width": 10**6}),
        ("point_diffusion", {"couplings": 10**7}),
    ],
)
def test_more_than_the_weights_file_holds_is_refused_before_it_is_allocated(
    tmp_path: Path, species: str, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run", species)
    settings(run, **values)
    asked: list[Allowance] = []
    monkeypatch.setattr("genus.runs.run.for_weights", lambda *a: asked.append(allowance.for_weights(*a)) or asked[0])
    with pytest.raises(CheckpointError, match="run"):
        _ = Run(run).model
    assert asked[0].called <= 5000


@pytest.mark.parametrize("values", [{"hidden": [10**12]}, {"hidden": [1] * 1001}, {"latent_features": -(10**9)}])
def test_absurd_settings_are_refused_by_name(run: Path, values: dict[str, Any]) -> None:
    settings(run, **values)
    with pytest.raises(SettingsError, match=rf"config\.json: {next(iter(values))}: expected at most"):
        Run(run)
    with pytest.raises(SettingsError, match=rf"{next(iter(values))}: expected at most"):
        configure("vae", "digits", **values)


def test_training_refuses_a_model_larger_than_the_memory_and_says_how_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genus.runs.run.physical_memory", lambda: 10**9)
    config = configure("vae", "digits", hidden=(10_000, 100_000))
    with pytest.raises(SettingsError, match=r"vae: .* takes 4\.0 GB or more, of 1\.0 GB allowed"):
        build(config, kinds.Grid(1, (8, 8), 17), None)


def test_a_sample_too_large_for_the_memory_is_said(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Run(run)
    monkeypatch.setattr(opened.model, "sample", lambda *_, **__: torch.empty(10**15))
    with pytest.raises(OutOfMemory, match="run: 7 samples of grid 1x8x8, 17 levels do not fit into memory"):
        opened.sample(7)
    monkeypatch.setattr(opened.model, "sample", lambda *_, **__: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="size"):  # any other error stays what it is
        opened.sample(7)


def test_counting_changes_no_weight() -> None:
    """The constructor runs as it would without the allowance: same values, same random state."""
    for name, (domain, given) in SPECIES.items():
        source = {"grid": "digits", "vectors": "moons", "points": "furniture"}[domain.kind]
        config = configure(name, source, **given)
        counted = build(config, domain, None)
        with torch.random.fork_rng():
            torch.manual_seed(noise.stream(config.seed, "initialise").initial_seed())
            plain = registry.get(name)(domain, None, **config.settings)
        assert all(torch.equal(value, counted.state_dict()[key]) for key, value in plain.state_dict().items())


def test_every_way_to_allocate_is_counted() -> None:
    n = 10**11
    for allocate in (
        lambda: torch.empty(n), lambda: torch.zeros(n // 10, 10), lambda: torch.nn.Linear(n // 100, 100),
        lambda: torch.arange(n), lambda: torch.full((n,), 3.0), lambda: torch.eye(10**6),
        lambda: torch.ones(5).expand(n, 5).contiguous(), lambda: torch.zeros(2).repeat(n),
        lambda: torch.zeros(10**5, 1) @ torch.zeros(1, 10**7), lambda: torch.cat([torch.zeros(1).expand(n)] * 2),
        lambda: torch.nn.functional.pad(torch.zeros(1), (0, n)), lambda: torch.linspace(0, 1, n),
        lambda: [torch.empty(10**7) for _ in range(10)],
    ):  # fmt: skip
        with pytest.raises(AllowanceError), Allowance(2**27):
            allocate()
    with pytest.raises(AllowanceError, match="over 10 operations"), Allowance(2**27, calls=10):
        for _ in range(10**9):
            torch.zeros(1)


# --- reading changes nothing ------------------------------------------------------------


def test_a_reader_changes_nothing_in_a_damaged_run(run: Path) -> None:
    (run / "checkpoints" / "step-000000005" / "model.safetensors").write_bytes(b"")
    before = sorted(str(path) for path in run.rglob("*"))
    with pytest.raises(GenusError, match=r"model\.safetensors"):
        use(run)
    assert sorted(str(path) for path in run.rglob("*")) == before
