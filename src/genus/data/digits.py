"""Handwritten digits, 8x8 with 17 grey levels, from scikit-learn: real data that is always at hand."""

import torch
from sklearn.datasets import load_digits

from genus.data.source import Source, TensorSplit
from genus.kinds import Grid, Label
from genus.prob import noise


def open_digits() -> Source:
    """1000 / 350 / 447 pictures, the split sizes of Tomczak (2022). Deep generative modeling."""
    bunch = load_digits()
    x = torch.from_numpy(bunch.images).to(torch.uint8).unsqueeze(1)
    y = torch.from_numpy(bunch.target).long()
    order = noise.permutation(len(x), noise.stream("digits"))
    train, validation, test = (TensorSplit(x[part], y[part]) for part in order.split([1000, 350, 447]))
    return Source(
        name="digits",
        domain=Grid(1, (8, 8), 17),
        condition=Label(tuple("0123456789")),
        train=train,
        validation=validation,
        test=test,
        licence="CC BY 4.0",
        citation="Alpaydin & Kaynak (1998). Optical recognition of handwritten digits. UCI repository.",
        homepage="https://archive.ics.uci.edu/dataset/80",
    )
