"""Do damaged and malicious data files do harm? Reads a thousand mutated files of each format, and the bombs.

python benchmarks/fuzz.py [--files 1000] [--formats png csv ...] [--only fuzz|bombs]
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "data"))
import fuzzing


def main() -> int:
    """Print what became of the files, the slowest of them and the peak of memory; 1 if a limit was broken."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--formats", nargs="*", default=fuzzing.FORMATS, choices=fuzzing.FORMATS)
    parser.add_argument("--only", choices=("fuzz", "bombs"))
    chosen = parser.parse_args()
    failures = []
    if chosen.only != "bombs":
        print("format             files  refused  accepted  slowest/s  before/MB  peak/MB")
        for kind in chosen.formats:
            try:
                row = fuzzing.apart("run", kind, chosen.files)
            except AssertionError as error:
                failures.append(str(error))
                continue
            print(
                f"{kind:<17} {row['files']:>6}  {row['refused']:>7}  {row['accepted']:>8}  {row['slowest']:>9.3f}  "
                f"{row['before'] / 1e6:>9.0f}  {row['peak'] / 1e6:>7.0f}", flush=True
            )  # fmt: skip
            if row["slowest"] > fuzzing.SECONDS or row["peak"] > fuzzing.PEAK:
                failures.append(f"{kind}: too slow or too large")
    if chosen.only != "fuzz":
        print("\nbomb                          file/kB   outcome  seconds  before/MB  peak/MB")
        for name in fuzzing.BOMBS:
            try:
                row = fuzzing.apart("detonate", name)
            except AssertionError as error:
                failures.append(str(error))
                continue
            print(
                f"{name:<28} {row['size'] / 1e3:>8.0f}  {row['outcome']:>8}  {row['seconds']:>7.2f}  "
                f"{row['before'] / 1e6:>9.0f}  {row['peak'] / 1e6:>7.0f}", flush=True
            )  # fmt: skip
            if row["seconds"] > fuzzing.SECONDS or row["peak"] > fuzzing.PEAK:
                failures.append(f"{name}: too slow or too large")
    print("\n" + ("\n".join(failures) or "every file was read or refused in one sentence, within the limits"))
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
