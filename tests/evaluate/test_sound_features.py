"""The feature space of sound: what it is called, and that it hears what ears do."""

import torch

from genus.data.source import Source, TensorSplit
from genus.evaluate.features import features_of
from genus.kinds import Waveform
from genus.prob import noise

DOMAIN = Waveform(600, 8000)


def notes(count: int, hertz: float, key: str) -> torch.Tensor:
    u = noise.uniform((count, 2), noise.stream(key))
    t = torch.arange(600) / 8000
    tone = torch.sin(2 * torch.pi * (hertz * t + u[:, :1])) * (0.2 + 0.5 * u[:, 1:])
    return DOMAIN.codes(tone + 0.001 * noise.normal((count, 600), noise.stream(key, "hiss")))


def source() -> Source:
    x = torch.cat([notes(40, 300 + 100 * k, f"train {k}") for k in range(5)])
    return Source("notes", DOMAIN, TensorSplit(x), TensorSplit(x[:3]), TensorSplit(x[3:6]))


def test_it_is_named_and_a_function_of_the_data() -> None:
    features, again = features_of(source()), features_of(source())
    assert features.name.startswith("log-mel-pca-32/notes sha256:") and features.name == again.name
    x = notes(5, 400, "new")
    found = features.extract(x)
    assert found.shape == (5, features.size) and (found == again.extract(x)).all()


def test_phase_is_not_heard_but_pitch_and_time_are() -> None:
    features = features_of(source())
    same, new, other = (features.extract(notes(20, hertz, key)) for hertz, key in
                        ((400, "a"), (400, "b"), (700, "c")))  # fmt: skip
    assert abs(same.mean(0) - new.mean(0)).max() < 0.25 * abs(same.mean(0) - other.mean(0)).max()
    early = notes(8, 400, "d")
    late = early.flip(1).clone()
    early[:, 300:], late[:, :300] = 128, 128
    parts = [DOMAIN.describe(x)[:, : 24 * 4].view(8, 24, 4).mean((0, 1)) for x in (early, late)]
    assert parts[0][0] > parts[0][3] + 3 and parts[1][0] < parts[1][3] - 3
