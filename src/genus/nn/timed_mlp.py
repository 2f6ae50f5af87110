"""A residual network for rows of numbers, told the time."""

from torch import Tensor, nn
from torch.nn import functional as F

from genus.nn.embedding import TimeEmbedding


class TimedBlock(nn.Module):
    """norm, linear, plus the embedding; SiLU, dropout, linear; plus the input."""

    def __init__(self, width: int, embedding: int, dropout: float):
        super().__init__()
        self.norm, self.linear1 = nn.LayerNorm(width), nn.Linear(width, width)
        self.embed, self.linear2 = nn.Linear(embedding, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """``(B, width)`` and ``(B, embedding)`` -> ``(B, width)``."""
        inner = self.linear1(self.norm(h)) + self.embed(embedding)
        return h + self.linear2(self.dropout(F.silu(inner)))


class TimedMLP(nn.Module):
    """``(B, features)`` and a time ``(B,)`` in [0, 1] -> ``(B, outputs)``, as many by default; zero before training."""

    def __init__(
        self, features: int, *, width: int = 128, blocks: int = 4, dropout: float = 0.0, outputs: int | None = None
    ):
        super().__init__()
        self.embedding_features = width
        self.time = TimeEmbedding(width, width)
        self.first = nn.Linear(features, width)
        self.blocks = nn.ModuleList([TimedBlock(width, width, dropout) for _ in range(blocks)])
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, features if outputs is None else outputs)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        """context: ``(B, embedding_features)``, added to the embedding of the time."""
        embedding = F.silu(self.time(t) if context is None else self.time(t) + context)
        h = self.first(x)
        for block in self.blocks:
            h = block(h, embedding)
        return self.last(self.norm(h))
