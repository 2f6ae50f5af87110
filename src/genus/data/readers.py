"""The user's own files and folders: what they hold is read off their endings."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from genus.data import arrays, pictures, sequences, shapes, sound, tables
from genus.data.guard import LARGEST, Faults, regular_files, told
from genus.data.source import DataOptions, Source, TensorSplit, annotate
from genus.data.splitting import ALIASES, PARTS, by_name, labels_of, without
from genus.errors import DataFormatError
from genus.kinds import Domain, Grid, Label, Points, table

EXPECTED = (
    f"a folder of pictures ({', '.join(pictures.ENDINGS)}), of meshes or point clouds ({', '.join(shapes.ENDINGS)}), "
    f"of recordings ({', '.join(sound.ENDINGS)}); "
    f"or a file: .npy, .npz, IDX, {', '.join(tables.ENDINGS)}, .txt"
)


def open_path(path: Path, options: DataOptions) -> tuple[Source, frozenset[str]]:
    """Open a file or a folder; also the options that its reader takes beyond those of the domain."""
    path = path.resolve()
    if path.is_dir():
        return open_folder(path, options)
    if not path.is_file():
        raise DataFormatError(f"{path}: neither a file nor a folder.")
    name = path.name.lower()
    if name.endswith(tables.ENDINGS):
        return tables.open_table(path, options.label, options.skip_bad), frozenset({"label", "skip_bad"})
    if name.endswith(".txt"):
        return sequences.open_text(path, options.length), frozenset({"length"})
    if name.endswith((".npy", ".npz", "ubyte", "ubyte.gz", ".idx", ".idx.gz")) or "idx" in name:
        return arrays.open_arrays(path, options.axes), frozenset({"axes"})
    for kind in table().values():
        if name.endswith(kind.endings):
            return _open_own(path, kind), frozenset()
    raise DataFormatError(f"{path}: cannot tell what it holds; expected {EXPECTED}.")


def _open_own(path: Path, kind: type[Domain]) -> Source:
    """A file that one kind alone reads."""
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"larger than {LARGEST >> 20} MiB")
        x, domain = kind.read(path)
        domain.check(x)
    except (OSError, ValueError) as error:
        raise DataFormatError(f"{path}: {str(error).rstrip('.')[:200]}.") from None
    return arrays.whole(x, domain, path)


def open_folder(folder: Path, options: DataOptions) -> tuple[Source, frozenset[str]]:
    """A folder of pictures, meshes or clouds, or recordings; also the options that its reader takes.

    Subfolders are classes if every file lies in one. If there are folders ``train``,
    ``val`` (or ``validation``) and ``test``, they are obeyed; else the files are split
    80 / 10 / 10 by a hash of their names.

    A file that cannot be read is a `DataFormatError`; with ``options.skip_bad`` it is left
    out, and the others stay in the splits that they would have been in. Links that lead out
    of the folder count as files that cannot be read.
    """
    files = _census(folder)
    names = [file.relative_to(folder).as_posix() for file in files]
    parts = _given_splits(folder)
    if parts:
        index_of = {part: [k for k, name in enumerate(names) if name.split("/")[0] == parts[part]] for part in PARTS}
        used = {k for index in index_of.values() for k in index}
        if len(used) != len(files):
            stray = next(name for k, name in enumerate(names) if k not in used)
            raise DataFormatError(f"{folder}: {stray} lies outside the folders {', '.join(parts.values())}.")
        empty = next((part for part in PARTS if not index_of[part]), None)
        if empty:
            raise DataFormatError(f"{folder / parts[empty]}: holds no file to read.")
        splits = [torch.tensor(index_of[part]) for part in PARTS]
        below = [name.split("/")[1:] for name in names]
    else:
        splits = by_name(names, str(folder))
        below = [name.split("/") for name in names]

    labels = [place[0] for place in below if len(place) > 1]
    y, label = labels_of(labels, str(folder)) if len(labels) == len(files) else (None, None)

    domain: Domain
    attributes: dict[str, Tensor] = {}
    note, notes = "", "splits as in the folders" if parts else "split 80 / 10 / 10 by file name"
    faults = Faults(options.skip_bad)
    if files[0].suffix.lower() in pictures.ENDINGS:
        kept, x = pictures.read_pictures(files, folder, options.size, faults)
        _refuse_nothing(kept, folder, faults)
        domain = Grid(x.shape[1], tuple(x.shape[2:]))
        note = f"{options.size}x{options.size}" if options.size else ""
    elif files[0].suffix.lower() in sound.ENDINGS:
        labelled = None if y is None or label is None else (y, label)
        source = _open_recordings(files, folder, options, faults, splits, notes, labelled)
        return source, frozenset({"skip_bad", "whole"})
    else:
        kept, x, attributes = shapes.read_shapes(files, folder, options.points, faults)
        _refuse_nothing(kept, folder, faults)
        domain = Points(x.shape[1], x.shape[2])
        note = f"{options.points} points" if options.points else ""
        notes += "; unit_sphere: each bounding box is centred, the farthest vertex is at distance 1"
    y = None if y is None else y[torch.tensor(kept)]
    train, validation, test = (
        TensorSplit(x[i], None if y is None else y[i], attributes={k: v[i] for k, v in attributes.items()})
        for i in without(splits, kept, str(folder))
    )
    skipped = faults.report(len(files), "files")
    note = ", ".join(filter(None, (note, faults.summary(len(files), "files"))))
    source = Source(
        annotate(folder.name, note) if note else folder.name,
        domain,
        train,
        validation,
        test,
        condition=label,
        notes=told(notes, skipped),
        attributes=dict.fromkeys(attributes, ()),
        skipped=skipped,
    )
    return source, frozenset({"skip_bad"})


def _open_recordings(
    files: list[Path],
    folder: Path,
    options: DataOptions,
    faults: Faults,
    splits: list[Tensor],
    notes: str,
    labels: tuple[Tensor, Label] | None,
) -> Source:
    """Recordings, whose splits are made before they are cut into windows."""
    kept, codes, rate = sound.read_recordings(files, folder, faults)
    _refuse_nothing(kept, folder, faults)
    y = None if labels is None else (labels[0][torch.tensor(kept)], labels[1])
    length = options.length or sound.USUAL_LENGTH
    skipped = faults.report(len(files), "files")
    note = ", ".join(
        filter(
            None, (f"whole, {length}" if options.whole else f"windows of {length}", faults.summary(len(files), "files"))
        )
    )
    parts = without(splits, kept, str(folder))
    source = sound.open_recordings(
        annotate(folder.name, note), codes, rate, parts, length, y, {}, whole=options.whole, notes=notes
    )
    return replace(source, notes=told(source.notes, skipped), skipped=skipped)


def _refuse_nothing(kept: list[int], folder: Path, faults: Faults) -> None:
    if not kept:
        raise DataFormatError(f"{folder}: none of its {faults.count} files can be read; the first: {faults.reasons[0]}")


def _census(folder: Path) -> list[Path]:
    """The readable files of a folder, in the order of their names; all of one kind."""
    files = list(regular_files(folder))
    seen = [file for file in files if file.suffix.lower() in pictures.ENDINGS]
    shaped = [file for file in files if file.suffix.lower() in shapes.ENDINGS]
    if shaped and any(file.suffix.lower() == ".obj" for file in shaped):
        seen = []  # pictures beside OBJ files are their textures
    heard = [file for file in files if file.suffix.lower() in sound.ENDINGS]
    if heard and (seen or shaped):
        raise DataFormatError(f"{folder}: holds both recordings ({heard[0].name}) and {(seen or shaped)[0].name}.")
    if heard:
        return heard
    if not seen and not shaped:
        raise DataFormatError(f"{folder}: holds nothing to read; expected {EXPECTED}.")
    if seen and shaped:
        raise DataFormatError(f"{folder}: holds both pictures ({seen[0].name}) and shapes ({shaped[0].name}).")
    return seen or shaped


def _given_splits(folder: Path) -> dict[str, str]:
    """Split -> the folder that holds it, if the user has split the data; else nothing."""
    present = {path.name for path in folder.iterdir() if path.is_dir()}
    found = {part: next((name for name in ALIASES[part] if name in present), "") for part in PARTS}
    if not found["train"] and not found["test"]:
        return {}
    missing = [part for part in PARTS if not found[part]]
    if missing:
        raise DataFormatError(
            f"{folder}: has a folder {found['train'] or found['test']} but none called {' or '.join(missing)}; "
            "give all of train, val and test, or none, and the files will be split by their names."
        )
    return found
