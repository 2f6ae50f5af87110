"""The codes of a run as data: frozen, drawn where they are uncertain, checked where they are a stranger's."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from genus.data import DataOptions, open_source
from genus.errors import CapabilityError, CheckpointError, GenusError, SettingsError, UnknownSourceError
from genus.kinds import Vectors
from genus.prob.noise import stream
from genus.runs import Run, checkpoint
from genus.runs.codes import identity
from genus.training import configure, train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("codes") / "vae"
    settings = {"hidden": (8,), "latent_features": 3, "batch_size": 20, "limit": 60}
    train(configure("vae", "digits", steps=4, **settings), out, quiet=True)  # type: ignore[arg-type]
    return out


def codes_file(run: Path) -> Path:
    return next(run.glob("codes-*.safetensors"))


def test_codes_are_data_with_the_labels_of_the_data(trained: Path) -> None:
    codes, data = open_source(f"run:{trained}"), open_source("digits", DataOptions(limit=60))
    assert codes.domain == Vectors(3)
    assert codes.condition == data.condition
    assert "codes of vae-" in codes.name and "digits" in codes.name
    for name, split in codes.splits.items():
        assert len(split) == len(data.splits[name])
        assert torch.equal(split.batch(torch.arange(5)).condition, data.splits[name].condition[:5])  # type: ignore[arg-type, index]


def test_codes_are_computed_once_and_frozen(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_source(f"run:{trained}").fingerprint
    content = codes_file(trained).read_bytes()
    monkeypatch.setattr("genus.runs.codes._encoded", None)  # to encode again would fail
    assert open_source(f"run:{trained}").fingerprint == before
    assert codes_file(trained).read_bytes() == content


def test_training_sees_draws_and_evaluation_one_of_them(trained: Path) -> None:
    split, index = open_source(f"run:{trained}").train, torch.arange(60)
    fixed = split.batch(index).x
    assert torch.equal(fixed, split.batch(index).x)
    draws = torch.stack([split.batch(index, stream("draw", n)).x for n in range(400)])
    q = Run(trained).model.posterior(open_source("digits", DataOptions(limit=60)).train.x)
    assert isinstance(fixed, Tensor) and fixed.dtype == torch.float32
    torch.testing.assert_close(draws.mean(0), q.mean, atol=0.3, rtol=0)
    torch.testing.assert_close(draws.std(0), torch.exp(0.5 * q.log_var), atol=0.2, rtol=0)


def test_other_weights_are_other_codes(trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    settings = {"hidden": (8,), "latent_features": 3, "batch_size": 20, "limit": 60}
    train(configure("vae", "digits", steps=5, **settings), other, quiet=True)  # type: ignore[arg-type]
    assert identity(Run(other)) != identity(Run(trained))
    assert open_source(f"run:{other}").name != open_source(f"run:{trained}").name


def test_only_the_limit_fits(trained: Path) -> None:
    few = open_source(f"run:{trained}", DataOptions(limit=5))
    assert len(few.train) == 5 and "first 5" in few.name
    with pytest.raises(SettingsError, match="'size' does not fit codes"):
        open_source(f"run:{trained}", DataOptions(size=8))


def test_what_has_no_codes_is_refused(tmp_path: Path) -> None:
    train(configure("histogram", "digits", limit=20), tmp_path / "h", quiet=True)
    with pytest.raises(CapabilityError, match=r"histogram cannot turn the data of .*h into codes"):
        open_source(f"run:{tmp_path / 'h'}")
    with pytest.raises(CheckpointError, match="no such file"):
        open_source(f"run:{tmp_path / 'nowhere'}")
    with pytest.raises(UnknownSourceError, match="stage:first"):
        open_source("stage:first")


def test_a_run_on_its_own_codes_is_refused(trained: Path, tmp_path: Path) -> None:
    run = copy(trained, tmp_path)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"data": f"run:{run}", "data_options": {}}))
    with pytest.raises(CheckpointError, match="its own codes"):
        open_source(f"run:{run}")


def test_a_dead_writer_leaves_nothing_behind(trained: Path, tmp_path: Path) -> None:
    run = copy(trained, tmp_path)
    codes_file(run).unlink()
    leftover = run / f".tmp-codes-999999999@{checkpoint.HERE}"
    leftover.mkdir()
    (leftover / "half.safetensors").write_bytes(b"half")
    open_source(f"run:{run}")
    assert not list(run.glob(".tmp-*"))
    assert codes_file(run).read_bytes() == codes_file(trained).read_bytes()


def copy(run: Path, folder: Path) -> Path:
    open_source(f"run:{run}")
    made = folder / "copy"
    shutil.copytree(run, made)
    return made


def tensors(change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Callable[[Path], None]:
    return lambda file: save_file({k: v.contiguous() for k, v in change(load_file(file)).items()}, file)


def linked(file: Path) -> None:
    elsewhere = file.with_name("elsewhere")
    file.rename(elsewhere)
    file.symlink_to(elsewhere)


HOSTILE: dict[str, Callable[[Path], None]] = {
    "a link": linked,
    "a pickle": lambda file: file.write_bytes(b"\x80\x04\x95" + b"x" * 50) and None,
    "a bomb of a header": lambda file: file.write_bytes((2**40).to_bytes(8, "little") + b"{}") and None,
    "a missing split": tensors(lambda t: {k: v for k, v in t.items() if k != "test"}),
    "another tensor": tensors(lambda t: {**t, "extra": torch.zeros(1)}),
    "fewer items": tensors(lambda t: {**t, "train": t["train"][:-1]}),
    "another width": tensors(lambda t: {**t, "train": t["train"][..., :2]}),
    "another type": tensors(lambda t: {**t, "train": t["train"].double()}),
    "integers": tensors(lambda t: {**t, "train": t["train"].long()}),
    "NaN": tensors(lambda t: {**t, "train": t["train"] * float("nan")}),
    "a variance beyond floats": tensors(lambda t: {**t, "train": t["train"] + torch.tensor([[0.0], [1e3]])}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_files_of_strangers_are_refused_by_name(name: str, trained: Path, tmp_path: Path) -> None:
    run = copy(trained, tmp_path)
    HOSTILE[name](codes_file(run))
    with pytest.raises(GenusError, match="codes-"):
        open_source(f"run:{run}")


def test_codes_beyond_the_codebook_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "vq"
    train(configure("vqvae", "digits", steps=2, limit=40, batch_size=20, codes=8), out, quiet=True)
    codes = open_source(f"run:{out}")
    assert codes.domain.levels == 8 and not codes.train.x.is_floating_point()
    codes.domain.check(codes.train.batch(torch.arange(40)).x)
    tensors(lambda t: {**t, "train": t["train"] + 8})(codes_file(out))
    with pytest.raises(CheckpointError, match=r"expected values 0\.\.7"):
        open_source(f"run:{out}")
