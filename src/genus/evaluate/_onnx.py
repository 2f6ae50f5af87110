"""ONNX files of strangers: looked through before onnxruntime sees them, and run from memory.

An ONNX file is a graph of known operations, so opening one runs no code. It may however name
*other* files that hold its weights, anywhere on the machine. Such a file is refused: it could
read what it should not, and its SHA-256 would not say what the numbers were made with.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genus.errors import DataFormatError, SettingsError

# message -> field number -> message that the field holds: every way from a model to a tensor
# (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto)
FIELDS: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto", 6: "GraphProto", 10: "TensorProto", 11: "GraphProto",
        22: "SparseTensorProto", 23: "SparseTensorProto",
    },
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
}  # fmt: skip
EXTERNAL_DATA, DATA_LOCATION = 13, 14  # fields of TensorProto
DEEPEST = 40  # graphs within graphs
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types of protocol buffers


def check_closed(content: bytes, path: Path) -> None:
    """Raise a `DataFormatError` unless ``content`` has the form of an ONNX model whose every tensor
    lies in the file itself."""
    try:
        outside = _names_other_files(memoryview(content), "ModelProto", DEEPEST)
    except (IndexError, ValueError) as error:
        raise DataFormatError(f"{path}: not an ONNX file ({error}).") from None
    if outside:
        raise DataFormatError(
            f"{path}: keeps weights in another file, refused: its SHA-256 would not cover them; "
            "save the network as one file (torch.onnx.export with external_data=False)."
        )


def _names_other_files(message: memoryview, kind: str, depth: int) -> bool:
    if not depth:
        raise ValueError(f"more than {DEEPEST} levels deep")
    for number, value in _fields(message):
        if kind == "TensorProto" and (number == EXTERNAL_DATA or (number == DATA_LOCATION and value != 0)):
            return True
        if number in FIELDS[kind]:
            if not isinstance(value, memoryview):
                raise ValueError(f"field {number} of {kind} is a number")
            if _names_other_files(value, FIELDS[kind][number], depth - 1):
                return True
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a protocol buffer message: number, and value (a number, or the bytes)."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        if key & 7 == VARINT:
            value, place = _varint(message, place)
            yield key >> 3, value
            continue
        if key & 7 == BYTES:
            length, place = _varint(message, place)
        elif key & 7 in (FIXED32, FIXED64):
            length = 4 if key & 7 == FIXED32 else 8
        else:
            raise ValueError(f"wire type {key & 7}")
        if not key >> 3 or length > len(message) - place:
            raise ValueError("a field is longer than the file")
        yield key >> 3, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if shift > 63 or place >= len(message):
            raise ValueError("a number does not end")
        value |= (message[place] & 127) << shift
        place += 1
        if message[place - 1] < 128:
            return value, place
        shift += 7


class OnnxNetwork:
    """A network of one picture input, run by onnxruntime on the CPU in float32.

    channels, size: what the input takes, None where the file leaves it open; batch: how many
    pictures a call takes, None for any number.
    """

    def __init__(self, content: bytes, path: Path, output: str | None = None):
        check_closed(content, path)
        try:
            import onnxruntime
        except ImportError:
            raise SettingsError(
                f"{path}: ONNX networks need onnxruntime; install it with: pip install 'genus[features]'."
            ) from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong comes as an error
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
            inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
            told = f"its inputs are {_listed(inputs)}, its outputs {_listed(outputs)}"
        except Exception as error:  # onnxruntime has no common base for its errors
            raise DataFormatError(f"{path}: onnxruntime cannot open it ({_first_line(error)}).") from None
        self.path = path
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type != "tensor(float)":
            raise DataFormatError(f"{path}: expected one input of float32 pictures (B, C, H, W); {told}.")
        names = [found.name for found in outputs]
        if output is None and len(names) > 1:
            raise SettingsError(f"{path}: has several outputs; name the features by --features-output; {told}.")
        if output is not None and output not in names:
            raise SettingsError(f"{path}: has no output {output!r}; {told}.")
        self.input, self.output = inputs[0].name, output or names[0]
        batch, channels, *size = (side if isinstance(side, int) else None for side in inputs[0].shape)
        self.batch, self.channels = batch, channels
        self.size = (size[0], size[1]) if size[0] and size[1] else None
        self.kind = "onnx" if len(names) == 1 else f"onnx output {self.output}"
        self.about = f"ONNX, input {_listed(inputs)}, output {self.output} of {_listed(outputs)}"

    def __call__(self, pictures: Tensor) -> Tensor:
        """``(B, C, H, W)`` float32 to what the network gives, ``(B, ...)``."""
        try:
            (found,) = self.session.run([self.output], {self.input: pictures.numpy()})
        except Exception as error:
            raise DataFormatError(f"{self.path}: onnxruntime cannot run it ({_first_line(error)}).") from None
        if not isinstance(found, np.ndarray) or found.dtype.kind != "f":
            raise DataFormatError(f"{self.path}: expected numbers from the output {self.output!r}.")
        return torch.from_numpy(found)


def _listed(ends: Any) -> str:
    """``x float (N, 3, 299, 299)`` of each input or output."""
    return ", ".join(f"{end.name} {end.type} ({', '.join(map(str, end.shape))})" for end in ends)[:400]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
