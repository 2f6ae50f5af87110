"""What a model costs: samples a second, parameters, memory."""

import statistics
import sys
import time

import torch
from torch import Tensor

from genus.contract import GenerativeModel
from genus.evaluate.likelihood import evaluating
from genus.evaluate.score import Score
from genus.prob import noise


def sampling_speed(
    model: GenerativeModel,
    count: int = 16,
    *,
    condition: Tensor | None = None,
    seed: int = 0,
    repeats: int = 3,
    options: dict[str, object] | None = None,
) -> Score:
    """Samples a second: the median of ``repeats`` draws of ``count``; ``options`` go to ``sample``."""
    if count < 1 or repeats < 1:
        raise ValueError(f"expected count and repeats of at least 1; got {count} and {repeats}.")
    seconds = []
    with evaluating(model):
        for repeat in range(repeats):
            generator = noise.stream(seed, "speed", repeat)
            start = time.perf_counter()
            model.sample(count, condition=condition, generator=generator, **(options or {}))
            if model.device.type == "cuda":
                torch.cuda.synchronize(model.device)
            seconds.append(time.perf_counter() - start)
    protocol = {
        "batch": count,
        "repeats": repeats,
        "device": model.device.type,
        "threads": torch.get_num_threads(),
        "options": options or {},
    }
    value = count / max(statistics.median(seconds), 1e-9)
    return Score("sampling speed", value, unit="samples/s", better="higher", protocol=protocol)


def parameter_count(model: GenerativeModel) -> Score:
    """How many numbers training moves."""
    return Score("parameters", float(model.num_parameters))


def peak_memory() -> Score | None:
    """Largest resident memory of this process so far, in MiB; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kibibytes elsewhere
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    return Score("peak memory", peak, unit="MiB", better="lower", protocol={"of": "the whole process so far"})
