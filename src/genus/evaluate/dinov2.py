"""DINOv2, the vision transformer whose features many use to compare pictures.

Oquab et al. (2023). DINOv2: Learning robust visual features without supervision.
https://arxiv.org/abs/2304.07193. Only what turns a picture into its class token; the sizes S, B
and L (heads of 64 entries), by the parameter names of the published files, such as
``model.safetensors`` of facebook/dinov2-small on the Hugging Face Hub. The giant size has
another kind of layer and is refused.
"""

import math
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load
from torch import Tensor
from torch.nn import functional

from genus.errors import DataFormatError

PATCH, HEAD = 14, 64  # side of a patch in pixels, entries of a head
HEADER = 1 << 20  # bytes; a published file has 30 KB
UNUSED = {"embeddings.mask_token"}  # only pre-training needs it


class DinoV2:
    """The network of a weights file: standardised pictures ``(B, 3, 224, 224)`` to ``(B, width)``."""

    batch: int | None = None
    channels: int | None = 3
    size: tuple[int, int] | None = (224, 224)

    def __init__(self, content: bytes, path: Path):
        self.weights = _read(content, path)
        layers = sum(name.endswith("norm1.weight") for name in self.weights)
        self.width = self.weights["layernorm.weight"].numel()
        self.layers = [
            {name: self.weights[f"encoder.layer.{n}.{name}"] for name in _layer_shapes(self.width)}
            for n in range(layers)
        ]
        self.kind = "dinov2"
        self.about = f"DINOv2, {layers} layers of width {self.width}, the class token after the last norm"

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        """The class token after the last normalisation, ``(B, width)`` float32."""
        w = self.weights
        x = functional.conv2d(pictures, w[f"{PATCHES}.weight"], w[f"{PATCHES}.bias"], stride=PATCH)
        rows, columns = x.shape[-2:]
        x = torch.cat([w["embeddings.cls_token"].expand(len(x), -1, -1), x.flatten(2).mT], 1)
        x = x + self._positions(rows, columns)
        for layer in self.layers:
            x = _block(x, layer)
        return _norm(x[:, 0], w, "layernorm")

    def _positions(self, rows: int, columns: int) -> Tensor:
        """The learned places of the class token and of a square of patches, brought to this size."""
        places = self.weights["embeddings.position_embeddings"]
        side = math.isqrt(places.shape[1] - 1)
        if (rows, columns) == (side, side):
            return places
        square = places[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
        square = functional.interpolate(square, (rows, columns), mode="bicubic", align_corners=False)
        return torch.cat([places[:, :1], square.flatten(2).mT], 1)


PATCHES = "embeddings.patch_embeddings.projection"


def _block(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    """One layer: attention, then two linear maps, each added with a learned scale."""
    inner = _norm(x, w, "norm1")
    query, key, value = (
        _linear(inner, w, f"attention.attention.{part}").unflatten(-1, (-1, HEAD)).transpose(1, 2)
        for part in ("query", "key", "value")
    )
    seen = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    x = x + _linear(seen, w, "attention.output.dense") * w["layer_scale1.lambda1"]
    inner = functional.gelu(_linear(_norm(x, w, "norm2"), w, "mlp.fc1"))
    return x + _linear(inner, w, "mlp.fc2") * w["layer_scale2.lambda1"]


def _linear(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    return functional.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def _norm(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-6)


def _layer_shapes(width: int) -> dict[str, tuple[int, ...]]:
    """The parameters of a layer by name."""
    square: dict[str, tuple[int, ...]] = {
        f"attention.{part}.weight": (width, width)
        for part in ("attention.query", "attention.key", "attention.value", "output.dense")
    }
    shapes = {**square, "mlp.fc1.weight": (4 * width, width), "mlp.fc2.weight": (width, 4 * width)}
    shapes |= {name.replace("weight", "bias"): shape[:1] for name, shape in shapes.items()}
    norms = ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "layer_scale1.lambda1", "layer_scale2.lambda1")
    return shapes | dict.fromkeys(norms, (width,))


def _read(content: bytes, path: Path) -> dict[str, Tensor]:
    """The weights in float32, names and shapes compared with what DINOv2 has."""
    if len(content) < 8 or int.from_bytes(content[:8], "little") > min(HEADER, len(content) - 8):
        raise DataFormatError(f"{path}: not the weights of a DINOv2: the header is cut off or larger than 1 MiB.")
    try:
        found = {name: tensor for name, tensor in load(content).items() if name not in UNUSED}
    except (safetensors.SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise DataFormatError(f"{path}: not a readable safetensors file ({error}).") from None
    width = found["layernorm.weight"].numel() if "layernorm.weight" in found else 0
    places = found["embeddings.position_embeddings"].shape if "embeddings.position_embeddings" in found else ()
    side = math.isqrt(places[1] - 1) if len(places) == 3 and places[1] > 1 else 0
    layers = sum(name.endswith("norm1.weight") for name in found)
    expected: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.position_embeddings": (1, side * side + 1, width),
        f"{PATCHES}.weight": (width, 3, PATCH, PATCH),
        f"{PATCHES}.bias": (width,),
        "layernorm.weight": (width,),
        "layernorm.bias": (width,),
    }
    for n in range(layers):
        expected |= {f"encoder.layer.{n}.{name}": shape for name, shape in _layer_shapes(width).items()}
    wrong = sorted(expected.keys() ^ found.keys()) or [n for n in expected if tuple(found[n].shape) != expected[n]]
    if wrong or not layers or not width or width % HEAD:
        raise DataFormatError(
            f"{path}: expected the weights of DINOv2 S, B or L by their names on the Hugging Face Hub "
            f"(facebook/dinov2-small: model.safetensors); first difference: {wrong[0] if wrong else 'its width'}."
        )
    bad = next((n for n, t in found.items() if not t.is_floating_point() or not torch.isfinite(t).all()), None)
    if bad is not None:
        raise DataFormatError(f"{path}: {bad} holds NaN, infinity or integers.")
    return {name: tensor.float() for name, tensor in found.items()}
