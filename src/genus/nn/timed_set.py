"""A transformer for sets of points, told the time."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.nn.embedding import TimeEmbedding
from genus.nn.unet import zeroed

OCTAVES = 4  # of a position, as sines and cosines: places near each other differ in the fast ones


class TimedSetBlock(nn.Module):
    """Self-attention, then a perceptron of each point; their scales, shifts and gates come from the embedding.

    Peebles & Xie (2023), adaLN-Zero, section 3.2, https://arxiv.org/abs/2212.09748: gates start at zero.
    """

    def __init__(self, width: int, embedding: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.norm1, self.norm2 = (nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        self.modulate = zeroed(nn.Linear(embedding, 6 * width))

    def attend(self, h: Tensor) -> Tensor:
        """Every point of ``(B, N, width)`` looks at every other one."""
        split = self.query_key_value(h).unflatten(-1, (3, self.heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """``(B, N, width)`` and ``(B, embedding)`` -> ``(B, N, width)``."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulate(embedding)[:, None].chunk(6, dim=-1)
        h = h + gate1 * self.dropout(self.attend(torch.addcmul(shift1, self.norm1(h), 1 + scale1)))
        return h + gate2 * self.dropout(self.perceptron(torch.addcmul(shift2, self.norm2(h), 1 + scale2)))


class TimedSet(nn.Module):
    """Points ``(B, N, dim)`` and a time ``(B,)`` in [0, 1] -> ``(B, outputs, N, dim)``; zero before training.

    Any number of points; with another order of them, the same answers in that order. Costs N^2.

    outputs: numbers for each coordinate of a point.
    """

    def __init__(
        self, dim: int, *, width: int = 128, blocks: int = 4, heads: int = 4, dropout: float = 0.0, outputs: int = 1
    ):
        super().__init__()
        if width % heads:
            raise ValueError(f"width: expected a multiple of {heads}, the heads of attention; got {width}.")
        self.embedding_features, self.outputs = width, outputs
        self.time = TimeEmbedding(width, width)
        self.first = nn.Linear(dim * (1 + 2 * OCTAVES), width)
        self.blocks = nn.ModuleList([TimedSetBlock(width, width, heads, dropout) for _ in range(blocks)])
        self.norm = nn.LayerNorm(width)
        self.last = zeroed(nn.Linear(width, outputs * dim))

    def forward(self, x: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        """context: ``(B, embedding_features)``, added to the embedding of the time."""
        embedding = F.silu(self.time(t) if context is None else self.time(t) + context)
        angles = torch.cat([x * 2.0**octave for octave in range(OCTAVES)], dim=-1)
        h = self.first(torch.cat([x, angles.sin(), angles.cos()], dim=-1))
        for block in self.blocks:
            h = block(h, embedding)
        return self.last(self.norm(h)).unflatten(-1, (self.outputs, -1)).movedim(2, 1)
