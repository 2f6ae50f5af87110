r"""WaveNet: sound sample by sample, each from a window of the past that doubles with every layer.

p(x) = prod_t p(x_t | x_<t), the conditionals a softmax over the codes of a mu-law compander. Layer k
of a stack of causal convolutions with kernel 2 reads its input now and ``d_k`` samples ago (d = 1, 2,
4, ..., 512, and again), through a gate (eq. 2; with a condition y, eq. 3):

    z_k = tanh(W [h(t - d_k), h(t)] + V y) * sigmoid(W' [h(t - d_k), h(t)] + V' y)
    h   = h + R z_k,        logits = B relu(A relu(sum_k S_k z_k))

What differs from the paper: the first layer reads one sample, not two; the last layer has no way
back into h, which nothing would read; a condition of symbols or sound that is no longer than the data is
looked up, layer by layer, in a table (the paper's V y where y is one-hot) and repeated; any other, a longer
one too, is read as one vector y.
What lies before the start reads as zero in every layer. Output biases start at the data's own
frequencies, and the features of codes as sines of them, so that neighbours are alike from the start.

Promises: exact log p(x), also entry by entry; conditions of any kind; edits in the order of time (exact
given what comes before an entry, see `edit`); samples at the cost of one position a step, compiled where
numba is installed.
"""

from collections.abc import Iterable
from typing import Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.contract import (
    Batch,
    GenerativeModel,
    HasConditionals,
    HasLogProb,
    IsConditional,
    IsEditable,
    Likelihood,
    Losses,
    Split,
    Walk,
    batches,
    spread,
)
from genus.kinds import Domain, Tokens, Waveform
from genus.models.autoregressive import _wavenet_numba as fast
from genus.nn.condition import CONDITIONS, ConditionBias, Conditioned, Encoded
from genus.prob import chain, noise
from genus.recipe import Recipe

POSITIONS = 1 << 15  # whose logits are computed at once
COUNTED = 1 << 14  # data whose codes are counted, at most, to start the output biases


class Layer(nn.Module):
    """A causal convolution of kernel 2 with a gate, on features in the last axis."""

    def __init__(self, residual: int, gated: int, dilation: int, last: bool):
        super().__init__()
        self.dilation = dilation
        self.gate = nn.Linear(2 * residual, 2 * gated)  # of the features then, and now
        self.back = None if last else nn.Linear(gated, residual)

    def at(self, then: Tensor, now: Tensor, told: Tensor | None) -> tuple[Tensor, Tensor]:
        """Features one layer on, and the gate's output: for one position or for many."""
        a = self.gate(torch.cat([then, now], -1))
        one, other = (a if told is None else a + told).chunk(2, -1)
        z = one.tanh() * other.sigmoid()
        return (now if self.back is None else now + self.back(z)), z

    def forward(self, h: Tensor, told: Tensor | None) -> tuple[Tensor, Tensor]:
        """`at` all positions of ``h`` (B, T, residual); before the start, features are 0."""
        return self.at(F.pad(h, (0, 0, self.dilation, 0))[:, : h.shape[1]], h, told)


class WaveNet(Conditioned, GenerativeModel, HasLogProb, HasConditionals, IsConditional, IsEditable):
    """WaveNet: dilated causal convolutions, for sound and other sequences.

    Args:
        cycles: how often the dilations are gone through.
        dilations: of a cycle's layers; the model sees 1 + cycles * sum of them samples back.
        residual: features from layer to layer.
        gated: features of each gate.
        skip: features in which all layers' gates are summed.
        head: features of the layer before the logits.
    """

    paper = (
        "van den Oord, Dieleman, Zen, Simonyan, Vinyals, Graves, Kalchbrenner, Senior, Kavukcuoglu (2016). WaveNet: A "
        "Generative Model for Raw Audio. https://arxiv.org/abs/1609.03499"
    )
    domains = (Waveform, Tokens)
    conditions = CONDITIONS
    recipes = {  # noqa: RUF012
        "quick": Recipe(
            learning_rate=4e-3, batch_size=8, steps=250, schedule="cosine", warmup_steps=20, clip_norm=1.0, ema=0.98,
            precision="bfloat16",
            settings={
                "cycles": 1, "dilations": (1, 2, 4, 8, 16, 32, 64, 128, 256), "residual": 24, "gated": 24, "skip": 96,
                "head": 96,
            },
        ),
        # Short sequences (codes of a first stage, lines of a text): a view of 127 back, many at a time.
        "quick-tokens": Recipe(
            optimizer="adamw", weight_decay=0.01, learning_rate=3e-3, batch_size=32, steps=1500, schedule="cosine",
            warmup_steps=100, clip_norm=1.0, ema=0.99, precision="bfloat16",
            settings={
                "cycles": 2, "dilations": (1, 2, 4, 8, 16, 32), "residual": 48, "gated": 48, "skip": 128, "head": 128,
            },
        ),
        "fsdd": Recipe(
            learning_rate=2e-3, batch_size=8, steps=1200, schedule="cosine", warmup_steps=100, clip_norm=1.0,
            ema=0.999, precision="bfloat16",
            settings={
                "cycles": 2, "dilations": (1, 2, 4, 8, 16, 32, 64, 128, 256), "residual": 32, "gated": 32, "skip": 128,
                "head": 128,
            },
        ),
        "paper": Recipe(
            learning_rate=1e-3, batch_size=8, steps=200_000, schedule="cosine", warmup_steps=1000, clip_norm=1.0,
            ema=0.9995, precision="bfloat16",
        ),
    }  # fmt: skip
    domain: Waveform | Tokens
    told: nn.Embedding | ConditionBias
    place: Tensor

    def __init__(
        self,
        domain: Waveform | Tokens,
        condition: Domain | None = None,
        *,
        cycles: int = 3,
        dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
        residual: int = 32,
        gated: int = 32,
        skip: int = 256,
        head: int = 256,
    ):
        super().__init__(domain, condition)
        if not dilations or min(dilations) < 1:
            raise ValueError(f"dilations: expected one number of at least 1 a layer; got {dilations}.")
        for name, size in {"cycles": cycles, "residual": residual, "gated": gated, "skip": skip, "head": head}.items():
            if size < 1:
                raise ValueError(f"{name}: expected at least 1; got {size}.")
        layers = dilations * cycles
        self.embed = nn.Embedding(domain.levels, residual)
        if isinstance(domain, Waveform):
            self._start_smoothly()
        self.bias = nn.Parameter(torch.zeros(residual))
        last = len(layers) - 1
        self.layers = nn.ModuleList(Layer(residual, gated, d, k == last) for k, d in enumerate(layers))
        self.head = nn.Sequential(
            nn.Linear(len(layers) * gated, skip), nn.ReLU(), nn.Linear(skip, head), nn.ReLU(),
            nn.Linear(head, domain.levels),
        )  # fmt: skip
        width, steps = len(layers) * 2 * gated, 1
        if isinstance(condition, Tokens | Waveform) and condition.length <= domain.length:
            self.condition_on(None)
            self.told, steps = nn.Embedding(condition.levels, width), condition.length
        else:
            self.told = ConditionBias(self.condition_on(condition), width)
        self.register_buffer("place", torch.arange(domain.length) * steps // domain.length, persistent=False)

    def _start_smoothly(self) -> None:
        """Sines of the code, of a sixth to three periods each."""
        levels, features = self.embed.weight.shape
        rate, phase = noise.uniform((2, features))
        value = torch.linspace(-1, 1, levels).unsqueeze(1)
        with torch.no_grad():
            self.embed.weight.copy_(2**0.5 * (value * 0.5 * (3 * rate).exp() + 2 * torch.pi * phase).sin())

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        reach = [d for d in (1, 2, 4) if d < domain.num_dims]
        sizes = {"residual": 6, "gated": 6, "skip": 8, "head": 8}
        return cls(domain, condition, cycles=2, dilations=tuple(reach), **sizes)  # type: ignore[arg-type]

    def initialise(self, split: Split) -> None:
        """Output biases start at the logarithms of how often each code comes; scales of the condition."""
        self.fit_condition(spread(split).condition)
        counts, seen = torch.ones(self.domain.levels), 0
        for batch in batches(split, 1024):
            counts += batch.x.flatten().long().bincount(minlength=self.domain.levels).cpu()
            seen += len(batch.x)
            if seen >= COUNTED:
                break
        with torch.no_grad():
            cast(nn.Linear, self.head[-1]).bias.copy_((counts / counts.sum()).log())

    @property
    def likelihood(self) -> Likelihood:
        return Likelihood.EXACT

    # --- all positions at once ----------------------------------------------------------------

    def tell(self, condition: Tensor | None, count: int) -> Tensor | None:
        """What the condition adds before each gate: ``(B, its length, layers, 2 * gated)``."""
        condition = self.given(condition, count)
        if condition is None:
            return None
        if isinstance(self.told, nn.Embedding):
            told = self.told(condition.long())
        else:
            told = self.told.vector(cast(Encoded, self.read_condition(condition))).unsqueeze(1)
        return told.unflatten(-1, (len(self.layers), -1))

    def logits(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Of each entry given those before it: ``(B, T, levels)``."""
        self.domain.check(x)
        told = self.tell(condition, len(x))
        h, found = F.pad(self.embed(x[:, :-1].long()), (0, 0, 1, 0)) + self.bias, []
        for k, layer in enumerate(self.layers):
            h, z = layer(h, None if told is None else self.spread(told[:, :, k]))
            found.append(z)
        return self.head(torch.cat(found, -1)).to(self.bias.dtype)  # out of autocast

    def spread(self, told: Tensor) -> Tensor:
        """A condition's steps ``(B, M, C)`` repeated to the length of the data; one step stays one."""
        return told if told.shape[1] == 1 else told[:, self.place]

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        nats = []
        for index in torch.arange(len(x)).split(max(1, POSITIONS // self.domain.length)):
            part, given = x[index], None if condition is None else condition[index]
            loss = F.cross_entropy(self.logits(part, given).flatten(0, 1), part.flatten().long(), reduction="none")
            nats.append(-loss.view(part.shape).sum(1))
        return torch.cat(nats)

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        return {"loss": -self.log_prob(batch.x, condition=batch.condition)}

    # --- one position after the other ---------------------------------------------------------

    def chain_rule(self, count: int, *, condition: Tensor | None = None) -> Walk:
        walker, entry = Walker(self, count, condition), None
        for place in range(self.domain.length):
            entry = yield place, walker.step(entry)

    def _sample(self, count: int, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Sample by sample, each step at the cost of one position."""
        nothing = torch.zeros(count, self.domain.length, dtype=torch.bool, device=self.device)
        return self.redraw(nothing.to(self.domain.dtype), nothing, condition, generator)

    def _edit(self, x: Tensor, keep: Tensor, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Redraw in the order of time, given what was kept *before* an entry.

        A draw from p(rest | kept) where the kept entries come first (the completion of a sound);
        elsewhere what is kept later is in the sound, but no entry before it knows of it.
        """
        return self.redraw(x, keep, condition, generator)

    @torch.no_grad()
    def redraw(self, x: Tensor, keep: Tensor, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """``x`` with the entries that are not kept drawn one after the other, by the inverse of the
        cumulative distribution; compiled if the weights are float32 and numba is there."""
        u = noise.uniform(tuple(x.shape), generator, dtype=torch.float64)
        if self.bias.dtype == torch.float32 and fast.available():
            told = self.tell(condition, len(x))
            return fast.walk(self.weights(), self.place, told, x, keep, u).to(x.device, x.dtype)
        drawn = x.clone()

        def choose(place: int, logits: Tensor) -> Tensor:
            cumulative, dice = logits.double().softmax(-1).cumsum(-1), u[:, place].to(x.device)
            entry = torch.searchsorted(cumulative, dice.unsqueeze(1) * cumulative[:, -1:], right=True).squeeze(1)
            entry = torch.where(keep[:, place], x[:, place].long(), entry.clamp(max=self.domain.levels - 1))
            drawn[:, place] = entry.to(x.dtype)
            return entry

        chain.drive(self.chain_rule(len(x), condition=condition), choose)
        return drawn

    def weights(self) -> fast.Weights:
        """Everything that a step multiplies with, as the compiled walk reads it."""
        layers = [cast(Layer, layer) for layer in self.layers]
        backs = [layer.back for layer in layers if layer.back is not None]
        nothing = [torch.zeros(self.bias.numel(), layers[0].gate.out_features // 2, device=self.device)]
        still = [torch.zeros_like(self.bias)]
        one, two, three = (cast(nn.Linear, self.head[k]) for k in (0, 2, 4))
        return fast.Weights.of(
            dilations=[layer.dilation for layer in layers],
            embed=self.embed.weight + self.bias,
            start=self.bias,
            gate=torch.stack([layer.gate.weight.T for layer in layers]),
            gate_bias=torch.stack([layer.gate.bias for layer in layers]),
            back=torch.stack([weight.T for weight in [*(b.weight for b in backs), *nothing]]),
            back_bias=torch.stack([*(b.bias for b in backs), *still]),
            head=[(linear.weight.T, linear.bias) for linear in (one, two, three)],
        )


class Walker:
    """A model on its way through sequences side by side: each layer remembers what it has yet to read again."""

    def __init__(self, model: WaveNet, count: int, condition: Tensor | None):
        self.model, self.time = model, 0
        self.layers = list(cast(Iterable[Layer], model.layers))
        self.told = model.tell(condition, count)
        self.h = model.bias.expand(count, -1)
        self.memory = [
            self.h.new_zeros(min(layer.dilation, model.domain.length), *self.h.shape) for layer in self.layers
        ]

    def step(self, entry: Tensor | None) -> Tensor:
        """Logits ``(B, levels)`` of the next entry, given the one before it; None before the first."""
        h = self.h if entry is None else self.model.embed(entry) + self.model.bias
        told = None if self.told is None else self.told[:, self.model.place[self.time]]
        found = []
        for k, (layer, memory) in enumerate(zip(self.layers, self.memory, strict=True)):
            slot = memory[self.time % len(memory)]  # written a dilation ago, if anything was
            on, z = layer.at(slot, h, None if told is None else told[:, k])
            slot.copy_(h)
            h = on
            found.append(z)
        self.time += 1
        return self.model.head(torch.cat(found, -1))
