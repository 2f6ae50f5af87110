"""What checkpoints survive, and what hostile run folders get: the full forms of the tests' trials.

100 SIGKILLs during back-to-back saves, 500 damaged checkpoints, 1,000 fuzzed weight files and
2,000 run folders with a fuzzed document, half of them configurations (each file: seconds, and peak
memory above where it
began), and the strangers' run folders. Takes about two minutes on one core:

    python benchmarks/survival.py [--quick]
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TRIALS = Path(__file__).parents[1] / "tests" / "training"
sys.path.insert(0, str(TRIALS))

from trials import run_trial  # noqa: E402  (it lies beside the tests, which share it)


def main(share: float) -> None:
    """Print one line a trial; ``share`` of the full counts."""
    kills, damages, files = (max(8, round(count * share)) for count in (100, 500, 1000))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        f = run_trial("kills", folder, kills)
        print(f"{f['kills']} SIGKILLs while saving ({f['midway']} left a temporary folder; {f['saves']} saves): "
              f"{f['verified']} found a verified checkpoint, {f['too_old']} an older one than the second newest, "
              f"{f['uncleaned']} leftovers at the next start")  # fmt: skip
        f = run_trial("corruptions", folder, damages)
        print(f"{f['damaged']} flipped bits and truncations: {f['noticed']} noticed and fallen back from, "
              f"{f['named']} named, {f['refused']} refused by --strict")  # fmt: skip
        for kind, f in run_trial("fuzz", folder, files).items():
            print(f"{f['files']} fuzzed {kind}: {f['valid']} valid, {f['typed']} typed errors, "
                  f"{len(f['worse'])} worse; worst {f['worst_seconds']} s ({f['slowest'][:60]}), "
                  f"{f['megabytes']} MB", *[f"({f['documents']})" for _ in range("documents" in f)])  # fmt: skip
        command = [sys.executable, str(TRIALS / "strangers.py"), place]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        result = json.loads(done.stdout.splitlines()[-1])
        variants = result["variants"].values()
        print(f"{len(variants)} strangers' folders: {sum(v['outcome'] != 'opened' for v in variants)} refused by name, "
              f"{sum(bool(v['deeds']) for v in variants)} ran, imported, sent or read anything elsewhere "
              f"(the careless reader: {len(result['control'])} deeds heard)")  # fmt: skip


if __name__ == "__main__":
    main(0.05 if "--quick" in sys.argv else 1.0)
