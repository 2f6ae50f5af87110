"""A codebook: vectors by the nearest of K codes, learned while the encoder learns.

Gradients pass a code straight through, z + sg(e - z) (van den Oord et al. 2017, section 3.1,
https://arxiv.org/abs/1711.00937). The codes follow the encoder by a loss of their own
("gradient", equation 3), or as running means of what chose them ("ema", appendix A.1):

    weight_k <- decay weight_k + (1 - decay) share_k,    share_k: the part of the batch's vectors that chose k,
    total_k  <- decay total_k  + (1 - decay) (sum of the vectors that chose k) / (all vectors),
    code_k    = total_k / weight_k, with Laplace-smoothed weights, so that a code that nobody chooses
                fades to zero instead of blowing up.

Shares instead of the paper's counts make everything linear in the batch. What a step has seen is
kept in buffers of its own and taken in by `advance` before the next step, so a batch worked off in
parts, or by several processes that average their buffers, ends where the whole one does (to rounding).

A code whose weight falls under ``revive`` of an even share is dead: it becomes a vector of the last
batch, with the weight and total of a fresh code. Vectors far from their code are likelier to be taken.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.prob import noise

Learning = Literal["ema", "gradient"]
SMOOTHING = 1e-5  # of the weights, in even shares
IN_USE = 0.01  # of an even share
AT_ONCE = 2**14  # vectors whose distances to all codes are in memory together


class Quantised(NamedTuple):
    """What a codebook makes of vectors ``(B, features, *size)``.

    codes: ``(B, *size)`` int64. vectors: the codes' vectors, of the shape that came; gradients pass to what
    came. commitment: ``(B,)``, the mean square of z - sg(e). pull: of sg(z) - e, zero without gradients.
    """

    codes: Tensor
    vectors: Tensor
    commitment: Tensor
    pull: Tensor


def nearest(rows: Tensor, codes: Tensor) -> Tensor:
    """The number of the code nearest to each row ``(N, features)``; the first one of equals."""
    half = 0.5 * codes.square().sum(1)
    return torch.cat([F.linear(part, -codes, half).min(1).indices for part in rows.split(AT_ONCE)])


class Codebook(nn.Module):
    """``count`` codes of ``features`` numbers.

    decay: of the running means. revive: the part of an even share under which a code is dead; 0 revives none.
    """

    codes: Tensor
    usage: Tensor
    weight: Tensor
    total: Tensor
    seen: Tensor
    new_share: Tensor
    new_total: Tensor
    offer: Tensor

    def __init__(self, count: int, features: int, learning: Learning = "ema", decay: float = 0.99, revive: float = 0.0):
        super().__init__()
        self.learning, self.decay, self.revive = learning, decay, revive
        codes, even = torch.empty(count, features).normal_(), torch.full((count,), 1 / count)
        if learning == "gradient":
            self.codes = nn.Parameter(codes)
        else:
            self.register_buffer("codes", codes)
            self.register_buffer("total", codes / count)
            self.register_buffer("new_total", torch.zeros(count, features))
        self.register_buffer("usage", even)  # running share of each code; a revival leaves it as it is
        self.register_buffer("weight", even.clone())  # the same, but a revived code starts at an even share
        self.register_buffer("seen", torch.zeros(()))  # how much of the batch this process has seen since `advance`
        self.register_buffer("new_share", torch.zeros(count))
        self.register_buffer("offer", torch.zeros(count, features))  # what each code becomes if it is dead

    def extra_repr(self) -> str:
        count, features = self.codes.shape
        return f"{count} codes of {features}, learning={self.learning}, decay={self.decay:g}, revive={self.revive:g}"

    def forward(self, z: Tensor, generator: torch.Generator | None = None) -> Quantised:
        """Vectors ``(B, features, *size)`` by their codes; in training mode also remembers what chose what."""
        with torch.autocast(z.device.type, enabled=False):
            z = z.to(self.codes.dtype)
            rows = z.detach().movedim(1, -1)
            codes = nearest(rows.flatten(0, -2), self.codes.detach()).view(rows.shape[:-1])
            e = self.look_up(codes)
            far = (z - e.detach()).square()
            commitment = far.flatten(1).mean(1)
            learns = self.learning == "gradient"
            pull = (z.detach() - e).square().flatten(1).mean(1) if learns else torch.zeros_like(commitment)
            if self.training:
                self._remember(rows.flatten(1, -2), codes.flatten(1), far.detach().sum(1).flatten(1), generator)
            return Quantised(codes, z + (e - z).detach(), commitment, pull)

    def look_up(self, codes: Tensor) -> Tensor:
        """Codes ``(B, *size)`` as vectors ``(B, features, *size)``."""
        return F.embedding(codes.long(), self.codes).movedim(-1, 1)

    @torch.no_grad()
    def fill(self, rows: Tensor, generator: torch.Generator) -> None:
        """Begin with distinct rows of ``(N, features)``, drawn at random; where there are too few, near copies."""
        count = len(self.codes)
        some = rows[noise.permutation(len(rows), generator)[: 16 * count].to(rows.device)].unique(dim=0)
        order = noise.permutation(len(some), generator).to(rows.device)
        chosen = some[order[torch.arange(count, device=rows.device) % len(some)]]
        blur = noise.normal(tuple(chosen.shape), generator, rows.device, rows.dtype)
        blur[: len(some)] = 0
        self.codes.copy_(chosen + 0.1 * rows.std(correction=0) * blur)
        if self.learning == "ema":
            self.total.copy_(self.codes / count)

    @torch.no_grad()
    def _remember(self, rows: Tensor, codes: Tensor, far: Tensor, generator: torch.Generator | None) -> None:
        """Add what ``rows (B, places, features)`` chose; every term is linear in the batch.

        Datum i of the whole batch makes the offers i, i + B, i + 2B, ..., each a place of its own drawn in
        proportion to the squared distance ``far (B, places)`` to its code, so each offer comes from one part.
        """
        part, parts = noise.part()
        count, chosen, share = len(self.codes), codes.flatten(), 1 / parts
        each = share / len(chosen)
        self.seen += share
        self.new_share += each * chosen.bincount(minlength=count)
        if self.learning == "ema":
            self.new_total.index_add_(0, chosen, rows.flatten(0, 1), alpha=each)

        batch, whole = len(rows), parts * len(rows)
        heights = (far + 1e-12).cumsum(1)
        u = noise.uniform((batch, -(-count // whole)), generator, rows.device, rows.dtype)
        place = torch.searchsorted(heights, u * heights[:, -1:], right=True).clamp(max=rows.shape[1] - 1)
        first = part * batch + torch.arange(batch, device=rows.device)
        code = first[:, None] + whole * torch.arange(u.shape[1], device=rows.device)
        offered = rows.gather(1, place.unsqueeze(-1).expand(-1, -1, rows.shape[2]))
        self.offer[code[code < count]] += offered[code < count]

    @torch.no_grad()
    def advance(self) -> None:
        """Take in what the last step has seen: running means, then dead codes. Call it before each step.

        Buffers that processes have averaged hold one over the number of processes of what there was to see.
        """
        if not self.seen:
            return
        share, offer, rate = self.new_share / self.seen, self.offer / self.seen, 1 - self.decay
        self.usage.lerp_(share, rate)
        self.weight.lerp_(share, rate)
        if self.learning == "ema":
            self.total.lerp_(self.new_total / self.seen, rate)
            self.codes.copy_(self.total / self.smoothed.unsqueeze(1))
            self.new_total.zero_()
        self._replace(self.weight < self.revive / len(self.codes), offer)
        for sums in (self.seen, self.new_share, self.offer):
            sums.zero_()

    @property
    def smoothed(self) -> Tensor:
        """Laplace-smoothed weights: all a little nearer to an even share, the sum as it was."""
        whole = self.weight.sum()
        return (self.weight + SMOOTHING / len(self.weight)) / (whole + SMOOTHING) * whole

    def _replace(self, dead: Tensor, offer: Tensor) -> None:
        even = 1 / len(dead)
        self.codes.copy_(torch.where(dead.unsqueeze(1), offer, self.codes))
        self.weight.masked_fill_(dead, even)
        if self.learning == "ema":
            self.total.copy_(torch.where(dead.unsqueeze(1), even * offer, self.total))

    @property
    def perplexity(self) -> Tensor:
        """exp of the entropy of the running shares: how many codes, equally used, would say as much.

        That of a single batch depends on its size, which is why this is of the running shares.
        """
        p = self.usage / self.usage.sum()
        return torch.special.entr(p).sum().exp()

    @property
    def in_use(self) -> Tensor:
        """The number of codes that were chosen for at least 1 % of an even share, on the running average."""
        return (self.usage >= IN_USE / len(self.usage)).sum()
