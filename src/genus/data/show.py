"""What genus sees in a source: its facts in words, and a contact sheet."""

import torch
from PIL import Image
from torch import Tensor

from genus.data.source import Source, TensorSplit
from genus.kinds import Sheet, names_of
from genus.prob import noise


def describe(source: Source) -> dict[str, str]:
    """The facts of a source as rows of a table: what -> words."""
    rows = {
        "name": source.name,
        "domain": str(source.domain),
        "condition": "none" if source.condition is None else str(source.condition),
    }
    rows |= {f"{name} items": f"{len(split):,}" for name, split in source.splits.items()}
    names = names_of(source.condition)
    if names and source.train.condition is not None:
        counts = source.train.condition.bincount(minlength=len(names)).tolist()
        pairs = [f"{name} {count:,}" for name, count in zip(names, counts, strict=True)]
        rows["labels in train"] = ", ".join(pairs[:40]) + (", ..." if len(pairs) > 40 else "")
    x = _some(source.train, 10_000)[0]
    rows |= source.domain.facts(x)
    if source.attributes:
        known = [f"{name} ({', '.join(values)})" if values else name for name, values in source.attributes.items()]
        rows["attributes"] = "; ".join(known)
    rows |= {"licence": source.licence, "citation": source.citation, "homepage": source.homepage}
    rows |= {"notes": source.notes, "fingerprint": source.fingerprint}
    return {key: value for key, value in rows.items() if value}


def preview(source: Source) -> Image.Image:
    """A contact sheet of the training split, with labels where there are some. Raises a ValueError for kinds that are
    not drawn."""
    domain = source.domain
    x, label = _some(source.train, 96 if domain.is_picture else 3000 if domain.scattered else 16)
    names = names_of(source.condition)
    captions = [names[int(y)] for y in label] if names and label is not None else []
    return domain.draw(x, Sheet(12 if domain.is_picture else None, captions=captions))


def _some(split: TensorSplit, count: int) -> tuple[Tensor, Tensor | None]:
    batch = split.batch(torch.arange(min(count, len(split))), noise.stream("preview"))
    return batch.x, batch.condition
