"""A ddpm of ours in diffusers' hands, and back."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from genus.cli.__main__ import main
from genus.errors import CapabilityError, DataFormatError
from genus.exchange import diffusers as exchange
from genus.kinds import Grid, Label, Vectors
from genus.models.diffusion.ddpm import DDPM
from genus.models.diffusion.edm import EDM
from genus.prob import noise
from genus.runs import open_run
from genus.training import configure, train
from genus.training.loop import adopt

library = pytest.importorskip("diffusers", reason="the comparison needs diffusers")


def model(size: tuple[int, int] = (8, 8), condition: Label | None = None, **settings: Any) -> DDPM:
    made = DDPM(
        Grid(3, size), condition,
        **{"timesteps": 12, "width": 16, "multipliers": (1, 2), "blocks": 1, "dropout": 0.0, **settings},
    ).eval()  # fmt: skip
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.1, generator=noise.stream("shake"))
    return made


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"noise_schedule": "cosine", "predicts": "v", "variance": "posterior", "attention": (0, 1), "blocks": 2},
        {"variance": "learned", "objective": "hybrid", "multipliers": (1, 1, 3), "attention": ()},
        {"size": (8, 4)},
    ],
)
def test_the_pipeline_draws_the_same_samples_from_the_same_generator(settings: dict[str, Any], tmp_path: Path) -> None:
    ours = model(**settings)
    exchange.write(ours, tmp_path)
    pipeline = library.DDPMPipeline.from_pretrained(str(tmp_path))
    pipeline.set_progress_bar_config(disable=True)
    pictures = pipeline(batch_size=3, generator=noise.stream("same"), num_inference_steps=12, output_type="np").images
    theirs = torch.from_numpy(pictures).permute(0, 3, 1, 2) * 255
    drawn = ours.sample(3, generator=noise.stream("same"))
    assert float(drawn.float().std()) > 10
    # their alphas are float32, which moves a step by some 1e-5: a level at most, where it is rounded
    assert float((theirs - drawn.float()).abs().max()) < 0.6
    torch.manual_seed(0)
    x, t = torch.randn(2, 3, *ours.domain.size), torch.tensor([3, 7])  # type: ignore[attr-defined]
    said = torch.cat(ours.outputs_at(x, (t + 1).double() / 12, None), 1)
    torch.testing.assert_close(pipeline.unet(x, t).sample, said, rtol=1e-4, atol=1e-5)


def test_labels_are_class_embeddings(tmp_path: Path) -> None:
    ours = model(condition=Label(("a", "b")))
    exchange.write(ours, tmp_path)
    unet = library.UNet2DModel.from_pretrained(str(tmp_path / "unet"))
    x, t, label = torch.randn(3, 3, 8, 8, generator=noise.stream(0)), torch.tensor([5, 5, 5]), torch.tensor([0, 1, 2])
    said = ours.outputs_at(x, (t + 1).double() / 12, label)[0]
    torch.testing.assert_close(unet(x, t, class_labels=label).sample, said, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"noise_schedule": "cosine", "predicts": "v"}, {"variance": "posterior"}])
def test_a_folder_read_back_is_the_model(settings: dict[str, Any], tmp_path: Path) -> None:
    ours = model(condition=Label(("0", "1")), **settings)
    exchange.write(ours, tmp_path)
    again = exchange.read(tmp_path)
    assert again.condition == ours.condition
    label = torch.tensor([0, 1])
    drawn = [m.sample(2, condition=label, generator=noise.stream("same")) for m in (ours, again)]
    assert torch.equal(*drawn)


def test_what_diffusers_cannot_be_is_refused(tmp_path: Path) -> None:
    for made in (
        DDPM.tiny(Vectors(2)),
        EDM.tiny(Grid(1, (8, 8))),
        DDPM.tiny(Grid(1, (8,))),
        DDPM.tiny(Grid(1, (7, 8))),
    ):
        with pytest.raises(CapabilityError, match="diffusers"):
            exchange.write(made, tmp_path / "never")
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("unet/config.json", {"act_fn": "mish"}, "act_fn"),
        ("unet/config.json", {"block_out_channels": [16, 24]}, "block_out_channels"),
        ("unet/config.json", {"sample_size": "large"}, "sample_size"),
        ("scheduler/scheduler_config.json", {"prediction_type": "flow"}, "prediction_type"),
        ("scheduler/scheduler_config.json", {"trained_betas": [0.5] * 12}, "trained_betas"),
        ("scheduler/scheduler_config.json", {"trained_betas": None, "beta_schedule": "scaled_linear"}, "linear betas"),
        ("unet/config.json", {"layers_per_block": 2}, "no weight"),
    ],
)
def test_foreign_folders_are_read_or_refused_by_name(
    file: str, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    exchange.write(model(), tmp_path)
    content = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps({**content, **change}))
    with pytest.raises(DataFormatError, match=message):
        exchange.read(tmp_path)


def test_broken_files_are_refused(tmp_path: Path) -> None:
    exchange.write(model(), tmp_path)
    (tmp_path / "unet" / exchange.WEIGHTS).write_bytes(b"nothing")
    with pytest.raises(DataFormatError, match="safetensors"):
        exchange.read(tmp_path)
    (tmp_path / "unet" / "config.json").write_text("[1]")
    with pytest.raises(DataFormatError, match="object"):
        exchange.read(tmp_path)


def pictures(folder: Path, side: int) -> None:
    """Twenty grey pictures of two kinds."""
    for n, kind in enumerate(("a", "b")):
        (folder / kind).mkdir(parents=True)
        for k, x in enumerate(noise.integers(256, (10, side, side), noise.stream("picture", n)).numpy()):
            Image.fromarray(x.astype("uint8")).save(folder / kind / f"{k}.png")


def test_an_exported_run_comes_back_as_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures(tmp_path / "pictures", 8)
    data = ["--data", str(tmp_path / "pictures")]
    small = ["--width", "8", "--multipliers", "1", "2", "--timesteps", "4", "--steps", "2", "--quiet", "--conditional"]
    run, folder, back = tmp_path / "run", tmp_path / "folder", tmp_path / "back"
    assert main(["train", "ddpm", *data, *small, "--out", str(run)]) == 0
    assert main(["export", str(run), "--out", str(folder)]) == 0
    assert main(["import", str(folder), *data, "--out", str(back)]) == 0
    assert f"genus sample {back}" in capsys.readouterr().out.replace("\n", "")
    condition = torch.tensor([0, 1])
    drawn = [open_run(path).sample(2, seed=1, condition=condition) for path in (run, back)]
    assert torch.equal(*drawn)
    for wrong, says in (([*data, "--size", "12"], "--size"), (["--data", "digits"], "digits gives")):
        assert main(["import", str(folder), *wrong, "--out", str(tmp_path / "never")]) != 0
        assert says in capsys.readouterr().err
    assert not (tmp_path / "never").exists()


def test_training_goes_on_from_weights_of_elsewhere(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures", 8)
    config = configure("ddpm", str(tmp_path / "pictures"), width=16, multipliers=(1, 2), timesteps=12, steps=1)
    theirs = DDPM(Grid(1, (8, 8)), **config.settings)
    exchange.write(theirs, tmp_path / "folder")
    adopt(config, tmp_path / "run", lambda made: exchange.copy_into(made, tmp_path / "folder"))
    before, after = theirs.state_dict(), train(config, tmp_path / "run", quiet=True)
    assert after.state["step"] == 1 and after.state["finished"]
    moved = {name: float((tensor - before[name]).abs().max()) for name, tensor in after.model.state_dict().items()}
    assert 0 < max(moved.values()) < 0.01
