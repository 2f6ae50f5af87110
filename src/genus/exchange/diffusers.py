"""A `ddpm` of pictures as a folder of the library diffusers, and back.

Both have the same U-Net and the same chain, so the folder holds renamed weights and two descriptions:

    model_index.json                 what parts there are
    scheduler/scheduler_config.json  the betas, what the network predicts, the variance of the steps
    unet/config.json                 the U-Net
    unet/diffusion_pytorch_model.safetensors

From the same generator diffusers' `DDPMPipeline` draws the samples that genus draws. Nothing of diffusers is needed to
write or read the folder.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from genus.contract import GenerativeModel, name_of
from genus.errors import CapabilityError, DataFormatError, brief
from genus.kinds import Grid, Label
from genus.models.diffusion.ddpm import DDPM
from genus.nn.unet import UNet, groups_of

WEIGHTS = "diffusion_pytorch_model.safetensors"
PREDICTIONS = {"eps": "epsilon", "x_0": "sample", "v": "v_prediction"}
VARIANCES = {"beta": "fixed_large", "posterior": "fixed_small", "learned": "learned_range"}
LARGEST = 1 << 20  # bytes of a description


def write(model: GenerativeModel, folder: Path) -> None:
    """Write the folder. Raises `CapabilityError` for a model that diffusers' U-Net cannot be, OSError for a folder
    that cannot be written."""
    model, net = _exportable(model)
    (folder / "scheduler").mkdir(parents=True, exist_ok=True)
    (folder / "unet").mkdir(exist_ok=True)
    _write_json(folder / "model_index.json", {
        "_class_name": "DDPMPipeline", "scheduler": ["diffusers", "DDPMScheduler"],
        "unet": ["diffusers", "UNet2DModel"],
    })  # fmt: skip
    _write_json(folder / "scheduler" / "scheduler_config.json", _scheduler(model))
    _write_json(folder / "unet" / "config.json", _unet(model, net))
    weights = dict(_renamed({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}))
    save_file(weights, folder / "unet" / WEIGHTS)


def read(folder: Path, labels: Label | None = None) -> DDPM:
    """The model in a folder of diffusers: `DDPMPipeline` parts as `write` describes them.

    labels: names for the classes of a conditional U-Net; by default 0, 1, ... Raises `DataFormatError` with the
    file and the entry for anything that genus' ddpm is not.
    """
    domain, classes, settings = settings_of(folder)
    if classes is not None and labels is None:
        labels = Label(tuple(map(str, range(classes))))
    model = DDPM(domain, labels if classes else None, **settings).eval()
    copy_into(model, folder)
    return model


def settings_of(folder: Path) -> tuple[Grid, int | None, dict[str, Any]]:
    """What pictures a folder's model draws, of how many classes (None without labels), and the settings of the `ddpm`
    that it is. Raises `DataFormatError`, as `read` does."""
    unet = _read_json(folder / "unet" / "config.json")
    scheduler = _read_json(folder / "scheduler" / "scheduler_config.json")
    where = folder / "unet" / "config.json"
    channels, size = _expect(unet, "in_channels", int, where), unet.get("sample_size")
    sizes = (size, size) if isinstance(size, int) else size
    if not (isinstance(sizes, list | tuple) and len(sizes) == 2 and all(isinstance(n, int) for n in sizes)):
        raise DataFormatError(f"{where}: sample_size should be a number or two; got {brief(size)}.")
    widths = _expect(unet, "block_out_channels", list, where)
    if not widths or any(not isinstance(w, int) or w < 1 or w % widths[0] for w in widths):
        raise DataFormatError(f"{where}: block_out_channels should be multiples of the first; got {brief(widths)}.")
    classes = unet.get("num_class_embeds")
    if classes is not None and (not isinstance(classes, int) or classes < 2):
        raise DataFormatError(f"{where}: num_class_embeds should be 2 or more, or null; got {brief(classes)}.")
    downs = _expect(unet, "down_block_types", list, where)
    settings = {
        "timesteps": _expect(scheduler, "num_train_timesteps", int, folder / "scheduler"),
        "noise_schedule": _schedule(scheduler, folder / "scheduler"),
        "predicts": _inverse(PREDICTIONS, scheduler.get("prediction_type", "epsilon"), "prediction_type", folder),
        "variance": _inverse(VARIANCES, scheduler.get("variance_type", "fixed_small"), "variance_type", folder),
        "objective": "hybrid" if scheduler.get("variance_type") == "learned_range" else "simple",
        "width": widths[0],
        "multipliers": tuple(w // widths[0] for w in widths),
        "blocks": _expect(unet, "layers_per_block", int, where),
        "attention": tuple(k for k, kind in enumerate(downs) if kind == "AttnDownBlock2D"),
    }
    return Grid(channels, tuple(sizes), 256), None if classes is None else classes - 1, settings


def copy_into(model: GenerativeModel, folder: Path) -> None:
    """Give a `ddpm` the weights of the folder whose `settings_of` made it. Raises `DataFormatError`, as `read` does."""
    (model, net), where = _exportable(model), folder / "unet" / "config.json"
    unet = _read_json(where)
    for name, expected in _unet(model, net).items():
        if name not in ("sample_size", "dropout") and unet.get(name, expected) != expected:
            raise DataFormatError(f"{where}: {name} should be {brief(expected)}; got {brief(unet[name])}.")
    file = folder / "unet" / WEIGHTS
    try:
        found = load_file(file)
    except (SafetensorError, OSError) as error:
        raise DataFormatError(f"{file}: no safetensors file that can be read ({error}).") from None
    ours = dict(_renamed(model.state_dict(), back=found))
    model.load_state_dict(ours, strict=False)


# --- descriptions --------------------------------------------------------------------------


def _exportable(model: GenerativeModel) -> tuple[DDPM, UNet]:
    """A model that diffusers can have too, and its U-Net."""
    if not isinstance(model, DDPM) or not model.domain.is_picture or not isinstance(model.network, UNet):
        raise CapabilityError(
            f"diffusers' DDPMPipeline is a ddpm of pictures; got a {name_of(model)} of {model.domain}."
        )
    levels = len(model.network.down)
    if any(n % 2 ** (levels - 1) for n in model.domain.shape[1:]):
        raise CapabilityError(
            f"diffusers' U-Net halves pictures {levels - 1} times without a rest; got {model.domain}. Train with fewer "
            "--multipliers or another --size."
        )
    return model, model.network


def _scheduler(model: DDPM) -> dict[str, Any]:
    kept = model.process.alpha_bar
    return {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": model.process.steps,
        "trained_betas": (1 - kept[1:] / kept[:-1]).tolist(),
        "prediction_type": PREDICTIONS[model.predicts],
        "variance_type": VARIANCES[model.variance],
        "clip_sample": True,
        "clip_sample_range": 1.0,
    }


def _unet(model: DDPM, net: UNet) -> dict[str, Any]:
    seen = [level in net.attention for level in range(len(net.widths))]
    channels, *size = model.domain.shape
    return {
        "_class_name": "UNet2DModel",
        "sample_size": size[0] if size[0] == size[1] else size,
        "in_channels": channels,
        "out_channels": model.outputs * channels,
        "center_input_sample": False,
        "time_embedding_type": "positional",
        "freq_shift": 1,
        "flip_sin_to_cos": False,
        "down_block_types": ["AttnDownBlock2D" if there else "DownBlock2D" for there in seen],
        "up_block_types": ["AttnUpBlock2D" if there else "UpBlock2D" for there in seen[::-1]],
        "block_out_channels": net.widths,
        "layers_per_block": len(net.down[0]),  # type: ignore[arg-type]
        "mid_block_scale_factor": 1,
        "downsample_padding": 1,
        "downsample_type": "conv",
        "upsample_type": "conv",
        "dropout": 0.0,
        "act_fn": "silu",
        "attention_head_dim": None,
        "norm_num_groups": groups_of(net.widths[0]),
        "norm_eps": 1e-5,
        "resnet_time_scale_shift": "default",
        "add_attention": True,
        "num_class_embeds": None if model.label is None else model.label.num_embeddings,
    }


def _schedule(scheduler: dict[str, Any], where: Path) -> Any:
    """The noise schedule of ours that has these betas."""
    betas, steps = scheduler.get("trained_betas"), scheduler["num_train_timesteps"]
    if betas is None:
        kind = scheduler.get("beta_schedule", "linear")
        if kind == "squaredcos_cap_v2":
            return "cosine"
        ends = scheduler.get("beta_start", 1e-4), scheduler.get("beta_end", 0.02)
        if kind != "linear" or ends != (1e-4 * 1000 / steps, 0.02 * 1000 / steps):
            raise DataFormatError(
                f"{where}: genus has linear betas from {0.1 / steps:g} to {20 / steps:g}; got {kind} {ends}."
            )
        return "linear"
    for name in ("linear", "cosine", "sigmoid"):
        own = DDPM(Grid(1, (4, 4)), timesteps=steps, noise_schedule=name, width=4, multipliers=(1,), attention=())
        if len(betas) == steps and torch.allclose(torch.tensor(_scheduler(own)["trained_betas"]), torch.tensor(betas)):
            return name
    raise DataFormatError(f"{where}: trained_betas are of no schedule that genus has (linear, cosine, sigmoid).")


# --- weights ---------------------------------------------------------------------------------

RULES = [
    (r"network\.time\.layers\.0\.", "time_embedding.linear_1."),
    (r"network\.time\.layers\.2\.", "time_embedding.linear_2."),
    (r"network\.first\.", "conv_in."),
    (r"network\.last\.0\.", "conv_norm_out."),
    (r"network\.last\.2\.", "conv_out."),
    (r"network\.(down|up)\.(\d+)\.(\d+)\.0\.", r"\1_blocks.\2.resnets.\3."),
    (r"network\.(down|up)\.(\d+)\.(\d+)\.1\.", r"\1_blocks.\2.attentions.\3."),
    (r"network\.shrink\.(\d+)\.", r"down_blocks.\1.downsamplers.0.conv."),
    (r"network\.grow\.(\d+)\.", r"up_blocks.\1.upsamplers.0.conv."),
    (r"network\.before\.", "mid_block.resnets.0."),
    (r"network\.middle\.", "mid_block.attentions.0."),
    (r"network\.after\.", "mid_block.resnets.1."),
    (r"(resnets\.\d+)\.embed\.", r"\1.time_emb_proj."),
    (r"(resnets\.\d+)\.skip\.", r"\1.conv_shortcut."),
    (r"(attentions\.\d+)\.norm\.", r"\1.group_norm."),
    (r"(attentions\.\d+)\.out\.", r"\1.to_out.0."),
    (r"^label\.", "class_embedding."),
]


def _renamed(state: dict[str, Tensor], back: dict[str, Tensor] | None = None) -> Iterator[tuple[str, Tensor]]:
    """Our weights by their names there; with ``back``, theirs by our names, in the shapes of ours."""
    for ours, tensor in state.items():
        if not ours.startswith(("network.", "label.")):
            continue
        name = ours
        for pattern, replacement in RULES:
            name = re.sub(pattern, replacement, name)
        names = [name.replace("query_key_value", part) for part in ("to_q", "to_k", "to_v")]
        names = names if "query_key_value" in name else [name]
        if back is None:
            yield from zip(names, (part.contiguous() for part in tensor.chunk(len(names))), strict=True)
            continue
        missing = [n for n in names if n not in back]
        if missing:
            raise DataFormatError(f"unet/{WEIGHTS}: no weight {missing[0]}.")
        whole = torch.cat([back[n] for n in names])
        if whole.shape != tensor.shape:
            raise DataFormatError(
                f"unet/{WEIGHTS}: {name} should be of shape {tuple(tensor.shape)}; got {tuple(whole.shape)}."
            )
        yield ours, whole


# --- files -------------------------------------------------------------------------------------


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST:
            raise DataFormatError(f"{path}: over {LARGEST:,} bytes, which no description has.")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataFormatError(f"{path}: no description that can be read ({error}).") from None
    if not isinstance(content, dict):
        raise DataFormatError(f"{path}: expected an object; got {brief(content)}.")
    return content


def _expect(content: dict[str, Any], name: str, kind: type, where: Path) -> Any:
    value = content.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataFormatError(f"{where}: {name} should be of type {kind.__name__}; got {brief(value)}.")
    return value


def _inverse(table: dict[str, str], value: Any, name: str, where: Path) -> str:
    for ours, theirs in table.items():
        if theirs == value:
            return ours
    raise DataFormatError(f"{where}: {name} should be one of {', '.join(table.values())}; got {brief(value)}.")
