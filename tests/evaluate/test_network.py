"""Feature networks from a file: the same numbers as the network itself, and nothing but its numbers."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from genus.errors import DataFormatError, GenusError, SettingsError
from genus.evaluate._onnx import DEEPEST, FIELDS, check_closed
from genus.evaluate.dinov2 import DinoV2, _layer_shapes
from genus.evaluate.network import PREPARATIONS, NetworkFile, network_features
from genus.evaluate.scorecard import feature_scores
from genus.kinds import Grid, Points
from genus.prob import noise

GREY = Grid(1, (8, 8), 17)
PICTURES = noise.integers(17, (11, 1, 8, 8), noise.stream("pictures")).to(torch.uint8)

# A writer of ONNX files, from https://github.com/onnx/onnx/blob/main/onnx/onnx.proto: enough for a network.


def varint(value: int) -> bytes:
    low, high = value & 127, value >> 7
    return bytes([low | 128]) + varint(high) if high else bytes([low])


def field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(name: str, value: Tensor, more: bytes = b"") -> bytes:
    sizes = b"".join(field(1, size) for size in value.shape)
    return sizes + field(2, 1) + field(8, name) + field(9, value.detach().numpy().tobytes()) + more


def end(name: str, sizes: Iterable[int | str]) -> bytes:
    """A named input or output of float32."""
    shape = b"".join(field(1, field(1, size) if isinstance(size, int) else field(2, size)) for size in sizes)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))


def integers(name: str, values: Iterable[int]) -> bytes:
    return field(1, name) + b"".join(field(8, value) for value in values) + field(20, 7)


def node(kind: str, takes: Iterable[str], gives: str, *attributes: bytes) -> bytes:
    ends = b"".join(field(1, name) for name in takes) + field(2, gives)
    return ends + field(4, kind) + b"".join(field(5, attribute) for attribute in attributes)


def model(
    nodes: Iterable[bytes], tensors: Iterable[bytes], takes: bytes, gives: Iterable[bytes], more: bytes = b""
) -> bytes:
    graph = b"".join(field(1, n) for n in nodes) + field(2, "network") + b"".join(field(5, t) for t in tensors)
    graph += field(11, takes) + b"".join(field(12, g) for g in gives)
    return field(1, 8) + field(7, graph + more) + field(8, field(2, 17))


def small(seed: int = 0) -> nn.Sequential:
    net = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
    for parameter in net.parameters():
        parameter.data = noise.normal(tuple(parameter.shape), noise.stream("small", seed, parameter.ndim))
    return net.requires_grad_(False)


def onnx(net: nn.Sequential, sizes: tuple[int | str, ...] = ("N", 3, "H", "W"), more: bytes = b"") -> bytes:
    conv, linear = net[0], net[4]
    nodes = [
        node("Conv", ["x", "w", "b"], "c", integers("strides", [2, 2]), integers("kernel_shape", [3, 3])),
        node("Relu", ["c"], "r"),
        node("GlobalAveragePool", ["r"], "p"),
        node("Flatten", ["p"], "f"),
        node("Gemm", ["f", "v", "d"], "y", field(1, "transB") + field(3, 1) + field(20, 2)),
    ]
    named = [("w", conv.weight), ("b", conv.bias), ("v", linear.weight), ("d", linear.bias)]
    tensors = [tensor(name, value, more) for name, value in named]
    return model(nodes, tensors, end("x", sizes), [end("y", (sizes[0], 5))])


def written(folder: Path, content: bytes, name: str = "net.onnx") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def prepared(x: Tensor, side: int | None = None) -> Tensor:
    """Digits as values 0..1 in three equal channels, perhaps resized."""
    pictures = (x.float() / 16).repeat(1, 3, 1, 1)
    return pictures if side is None else nn.functional.interpolate(pictures, (side, side), mode="bilinear")


def test_an_onnx_network_gives_the_features_of_the_network(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    net = small()
    space = network_features(NetworkFile(written(tmp_path, onnx(net))), GREY)
    found = space.extract(PICTURES)
    assert found.dtype == np.float64 and found.shape == (11, 5) and space.size == 5
    assert np.abs(found - net(prepared(PICTURES)).double().numpy()).max() < 1e-5
    assert np.abs(found - small(1)(prepared(PICTURES)).double().numpy()).max() > 0.1  # another network is another
    fixed = network_features(NetworkFile(written(tmp_path, onnx(net, (4, 3, 299, 299)), "fixed.onnx")), GREY)
    expected = net(prepared(PICTURES, 299) * 2 - 1).double().numpy()  # four at a time, as for Inception
    assert np.abs(fixed.extract(PICTURES) - expected).max() < 1e-5


def test_the_hash_names_the_space_and_keeps_columns_apart(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    spaces = [network_features(NetworkFile(written(tmp_path, onnx(small(n)), f"{n}.onnx")), GREY) for n in (0, 1)]
    sha = hashlib.sha256(onnx(small(0))).hexdigest()
    assert sha[:16] in spaces[0].name and sha in spaces[0].about and "fid" not in spaces[0].name.lower()
    y = spaces[0].extract(PICTURES)
    meanings = [{score.meaning for score in feature_scores(y, y, space, 0)} for space in spaces]
    assert meanings[0].isdisjoint(meanings[1])
    copy = network_features(NetworkFile(written(tmp_path, onnx(small(0)), "copy.onnx")), GREY)
    assert copy.name == spaces[0].name  # the file counts, not what it is called


def test_another_sha256_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = written(tmp_path, onnx(small()))
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    assert network_features(NetworkFile(path, sha256=sha.upper()), GREY).size == 5
    with pytest.raises(SettingsError, match=rf"net.onnx: expected the SHA-256 {'0' * 64}; got {sha}"):
        network_features(NetworkFile(path, sha256="0" * 64), GREY)


@pytest.mark.parametrize("preset", PREPARATIONS)
def test_pictures_are_prepared_as_the_preset_says(tmp_path: Path, preset: str) -> None:
    pytest.importorskip("onnxruntime")
    nodes = [node("GlobalMaxPool", ["x"], "p"), node("Flatten", ["p"], "y")]
    path = written(tmp_path, model(nodes, [], end("x", ("N", 3, "H", "W")), [end("y", ("N", 3))]))
    space = network_features(NetworkFile(path, preset), Grid(3, (6, 6)))  # type: ignore[arg-type]
    colour = torch.tensor([0, 51, 255])
    x = colour.view(1, 3, 1, 1).expand(2, -1, 6, 6).to(torch.uint8)
    value = colour.numpy() / 255
    imagenet = (value - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    expected = {"inception": value * 2 - 1, "raw": value, "imagenet": imagenet, "dinov2": imagenet}[preset]
    assert np.allclose(space.extract(x), expected, atol=1e-5)
    grey = network_features(NetworkFile(path, "raw"), Grid(1, (6, 6), 2))
    assert np.allclose(grey.extract(torch.ones(1, 1, 6, 6, dtype=torch.uint8)), 1)  # repeated, two levels


def test_weights_in_other_files_are_refused(tmp_path: Path) -> None:
    outside = field(13, field(1, "location") + field(2, "../../etc/passwd"))
    inner = tensor("inner", torch.zeros(1), outside)
    hidden = field(5, inner)
    branch = node("If", ["x"], "y", field(1, "then_branch") + field(6, hidden) + field(20, 5))
    deep = hidden
    for _ in range(DEEPEST):
        deep = field(1, field(5, field(6, deep)))
    takes, gives = end("x", ("N", 3, 8, 8)), [end("y", ("N", 3))]
    function = field(25, field(7, branch))
    cases = {
        "external data": onnx(small(), more=outside),
        "its mark alone": onnx(small(), more=field(14, 1)),
        "in a branch": model([branch], [], takes, gives),
        "a sparse tensor": model([], [], takes, gives, more=field(15, field(1, inner))),
        "a sparse constant": model(
            [node("Constant", [], "y", field(1, "sparse_value") + field(22, field(1, inner)))], [], takes, gives
        ),
        "a second graph": onnx(small()) + field(7, hidden),
        "a function": onnx(small()) + function,
    }
    for name, content in cases.items():
        with pytest.raises(DataFormatError, match=r"net.onnx: keeps weights in another file"):
            check_closed(content, written(tmp_path, content))
            pytest.fail(name)
    check_closed(onnx(small(), more=field(14, 0)), tmp_path / "net.onnx")  # "in this file", said aloud
    with pytest.raises(DataFormatError, match="levels deep"):
        check_closed(field(7, deep), tmp_path / "net.onnx")


def test_every_way_to_a_tensor_is_looked_through() -> None:
    described = pytest.importorskip("onnx").ModelProto.DESCRIPTOR.file.message_types_by_name
    below = {
        name: {f.number: f.message_type.name for f in message.fields if f.message_type is not None}
        for name, message in described.items()
    }
    holders = {"TensorProto"}
    while (more := holders | {name for name, parts in below.items() if holders & set(parts.values())}) != holders:
        holders = more
    ways = {name: {k: v for k, v in below[name].items() if v in holders} for name in holders}
    assert ways == FIELDS


@pytest.mark.parametrize("ending", [".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pt2"])
def test_pickles_are_refused_unread(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"network{ending}"  # it does not even exist: nothing was opened
    with pytest.raises(SettingsError, match=r"may run code, refused; convert it .*torch.onnx.export.*or take a DINOv2"):
        network_features(NetworkFile(path), GREY)


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = written(tmp_path, onnx(small(), ("N", 3, 299, 299)))
    two = written(
        tmp_path,
        model([node("Relu", ["x"], "a"), node("Relu", ["a"], "b")], [], end("x", ("N", 3, "H", "W")),
              [end("a", ("N", 3, "H", "W")), end("b", ("N", 3, "H", "W"))]),
        "two.onnx",
    )  # fmt: skip
    nan = small()
    nan[4].bias.fill_(torch.nan)
    cases: list[tuple[type[GenusError], str, NetworkFile]] = [
        (SettingsError, "299x299 pixels; this preset makes 224x224", NetworkFile(path, "imagenet")),
        (SettingsError, "several outputs; name the features by --features-output", NetworkFile(two)),
        (SettingsError, r"has no output 'c'; its inputs are x", NetworkFile(two, output="c")),
        (DataFormatError, r"expected features \(B, F\)", NetworkFile(two, output="b")),
        (SettingsError, "1 or 3", NetworkFile(written(tmp_path, onnx(small(), ("N", 4, 8, 8)), "four.onnx"))),
        (DataFormatError, "NaN or infinity", NetworkFile(written(tmp_path, onnx(nan), "nan.onnx"))),
        (DataFormatError, "not an ONNX file", NetworkFile(written(tmp_path, b"\x80\x04pickle", "p.onnx"))),
        (DataFormatError, "onnxruntime cannot open it", NetworkFile(written(tmp_path, b"", "empty.onnx"))),
        (DataFormatError, "cannot be read", NetworkFile(tmp_path / "missing.onnx")),
        (SettingsError, "expected a network as .onnx", NetworkFile(tmp_path / "net.h5")),
    ]
    for kind, said, file in cases:
        with pytest.raises(kind, match=said):
            network_features(file, GREY)
    with pytest.raises(SettingsError, match="reads pictures of 1 or 3 channels; got 5 points"):
        network_features(NetworkFile(path), Points(5))


def fuzz(folder: Path, trials: int) -> None:
    """Mutated files of both kinds: a typed error, or a network."""
    tensors = folder / "tensors.safetensors"
    save_file(dino_weights(), tensors)
    for kind, content in (("net.onnx", onnx(small())), ("net.safetensors", tensors.read_bytes())):
        refused = 0
        for trial in range(trials):
            generator = noise.stream("fuzz", kind, trial)
            damaged = bytearray(content)
            head = min(len(damaged), 4000)  # where the structure is
            for place in noise.integers(head, (3,), generator).tolist():
                damaged[place] = int(noise.integers(256, (1,), generator))
            if trial % 4 == 0:
                del damaged[int(noise.integers(len(damaged), (1,), generator)) :]
            try:
                network_features(NetworkFile(written(folder, bytes(damaged), kind)), GREY)
            except (DataFormatError, SettingsError) as error:
                refused += 1
                assert kind in str(error)
        assert trials / 4 <= refused


def test_mutated_files_are_refused_or_read(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    fuzz(tmp_path, 60)


@pytest.mark.slow
def test_a_thousand_mutated_files_are_refused_or_read(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    fuzz(tmp_path, 1000)


def dino_weights(width: int = 128, layers: int = 2, side: int = 3) -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.mask_token": (1, width),
        "embeddings.position_embeddings": (1, side * side + 1, width),
        "embeddings.patch_embeddings.projection.weight": (width, 3, 14, 14),
        "embeddings.patch_embeddings.projection.bias": (width,),
        "layernorm.weight": (width,),
        "layernorm.bias": (width,),
    }
    for n in range(layers):
        shapes |= {f"encoder.layer.{n}.{name}": shape for name, shape in _layer_shapes(width).items()}
    return {name: 0.3 * noise.normal(shape, noise.stream("dino", name)) for name, shape in shapes.items()}


@torch.no_grad()
def by_torch(weights: dict[str, Tensor], pictures: Tensor, layers: int = 2, side: int = 3) -> Tensor:
    """The class token by torch's own transformer layers, layer scales folded into the maps before them."""
    width = weights["layernorm.weight"].numel()
    patches = nn.functional.conv2d(
        pictures,
        weights["embeddings.patch_embeddings.projection.weight"],
        weights["embeddings.patch_embeddings.projection.bias"],
        stride=14,
    )
    places = weights["embeddings.position_embeddings"]
    grid = places[0, 1:].T.reshape(1, width, side, side)
    grid = nn.functional.interpolate(grid, tuple(patches.shape[-2:]), mode="bicubic")
    first = weights["embeddings.cls_token"] + places[:, :1]
    x = torch.cat([first.expand(len(pictures), 1, width), (patches + grid).flatten(2).transpose(1, 2)], 1)
    for n in range(layers):
        w = {name: weights[f"encoder.layer.{n}.{name}"] for name in _layer_shapes(width)}
        layer = nn.TransformerEncoderLayer(
            width, width // 64, 4 * width, 0, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
        )
        one, two = w["layer_scale1.lambda1"], w["layer_scale2.lambda1"]
        parts = [f"attention.attention.{part}" for part in ("query", "key", "value")]
        folded = {
            "self_attn.in_proj_weight": torch.cat([w[f"{part}.weight"] for part in parts]),
            "self_attn.in_proj_bias": torch.cat([w[f"{part}.bias"] for part in parts]),
            "self_attn.out_proj.weight": one[:, None] * w["attention.output.dense.weight"],
            "self_attn.out_proj.bias": one * w["attention.output.dense.bias"],
            "linear1.weight": w["mlp.fc1.weight"],
            "linear1.bias": w["mlp.fc1.bias"],
            "linear2.weight": two[:, None] * w["mlp.fc2.weight"],
            "linear2.bias": two * w["mlp.fc2.bias"],
        }
        layer.load_state_dict(folded | {name: w[name] for name in w if name.startswith("norm")})
        x = layer.eval()(x)
    return nn.functional.layer_norm(x[:, 0], (width,), weights["layernorm.weight"], weights["layernorm.bias"], 1e-6)


def test_dinov2_is_the_transformer_that_torch_builds(tmp_path: Path) -> None:
    weights = dino_weights()
    path = tmp_path / "dino.safetensors"
    save_file(weights, path)
    pictures = noise.normal((2, 3, 224, 224), noise.stream("pictures"))
    found = DinoV2(path.read_bytes(), path)(pictures)
    assert found.shape == (2, 128)
    assert torch.allclose(found, by_torch(weights, pictures), atol=1e-5)
    swapped = {k.replace("query", "?").replace("key", "query").replace("?", "key"): v for k, v in weights.items()}
    assert not torch.allclose(found, by_torch(swapped, pictures), atol=1e-3)  # the comparison can fail
    space = network_features(NetworkFile(path), GREY)
    assert space.name.startswith("dinov2 sha256:") and space.extract(PICTURES).shape == (11, 128)
    with pytest.raises(SettingsError, match="224x224 pixels; this preset makes 299x299"):
        network_features(NetworkFile(path, "inception"), GREY)
    with pytest.raises(SettingsError, match="--features-output fits ONNX"):
        network_features(NetworkFile(path, output="y"), GREY)


def test_dinov2_is_that_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.Dinov2Config(hidden_size=128, num_attention_heads=2, num_hidden_layers=2, image_size=518)
    theirs = transformers.Dinov2Model(config).eval()
    for name, parameter in theirs.named_parameters():
        parameter.data += 0.05 * noise.normal(tuple(parameter.shape), noise.stream(name))
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    pictures = noise.normal((2, 3, 224, 224), noise.stream("pictures"))
    with torch.no_grad():
        assert torch.allclose(DinoV2(path.read_bytes(), path)(pictures), theirs(pictures).pooler_output, atol=1e-5)


def test_weights_that_are_no_dinov2_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "dino.safetensors"
    good = dino_weights()
    bias = "encoder.layer.1.mlp.fc2.bias"
    cases = {
        bias: {name: value for name, value in good.items() if name != bias},
        "head.weight": {**good, "head.weight": torch.zeros(2)},
        "layernorm.bias": {**good, "layernorm.bias": torch.zeros(3)},
        "holds NaN": {**good, bias: torch.full((128,), torch.nan)},
        "expected the weights of DINOv2": {"x": torch.zeros(1)},
    }
    for said, weights in cases.items():
        save_file(weights, path)
        with pytest.raises(DataFormatError, match=said):
            network_features(NetworkFile(path), GREY)
    for content in (b"", b"{}", (1 << 40).to_bytes(8, "little") + b"{}", (2 << 20).to_bytes(8, "little") + b"x" * 99):
        path.write_bytes(content)
        with pytest.raises(DataFormatError, match=r"dino\.safetensors"):
            network_features(NetworkFile(path), GREY)
