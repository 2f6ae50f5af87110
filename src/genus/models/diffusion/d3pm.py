"""D3PM: denoising diffusion of integers, without a detour through real numbers.

Entries hop between their levels until nothing is left of the datum: to any level alike (``uniform``), to a mask
for good (``absorbing``), or to levels nearby (``gaussian``). A U-Net reads a noisy datum and says what the other
entries make of each one, p~(x_0 | x_t); Bayes' rule and the process turn that into a step back. With the
absorbing kernel this is a masked language model with a likelihood: in small steps its bound is the mean
log-likelihood over all orders in which entries can be unmasked, that of deep_nade and conv_nade.

Austin, Johnson, Ho, Tarlow, van den Berg (2021), https://arxiv.org/abs/2107.03006; equation numbers are theirs.

What differs from the paper: any size and up to three axes; labels, embedded and added to the time; texts have the
U-Net too (one axis), not a transformer; the mask is a state of its own for pictures too, not a grey; the step to x_0
follows equation 4 as all others do (the authors' code takes p~ itself) and is drawn in sampling, not an argmax; the
logistic's end bins are open, so that it needs no other normalisation, and its mean is not squashed; the gaussian
betas grow in proportion where there are fewer steps, and stay large enough to hop where there are few levels; a
Q_bar is never a table but for the gaussian kernel. PyTorch's initial weights.

Promises: samples, a variational bound on log p(x), labels, completion.
"""

import math
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from genus.contract import (
    Batch,
    GenerativeModel,
    HasLogProb,
    IsConditional,
    IsEditable,
    Likelihood,
    Losses,
    check_condition,
)
from genus.kinds import Domain, Grid, Tokens, classes_of
from genus.models.diffusion import _categorical as categorical
from genus.nn.unet import UNet
from genus.prob import discretized_logistic, noise
from genus.recipe import Recipe

SHARPEST = -7.0  # log-scale of the logistic


class D3PM(GenerativeModel, HasLogProb, IsConditional, IsEditable):
    """Diffusion in discrete state spaces, with a network that predicts x_0.

    Args:
        kernel: what noise does to an entry: any level alike (``uniform``), a mask (``absorbing``), or a level
            nearby (``gaussian``, for grids of ordered levels).
        timesteps: T, the steps from data to noise; `log_prob` calls the network T times.
        hybrid: lambda of equation 5, the weight of the cross-entropy of p~(x_0 | x_t) beside one step's term of
            the bound, as in the authors' code.
        head: the form of p~: a number for each level (``categorical``), or a mean and a scale (``logistic``, for
            ordered levels); ``auto`` is logistic for the gaussian kernel.
        width: channels of the U-Net's first level.
        multipliers: channels of each level of the U-Net in units of the width.
        blocks: residual blocks a level.
        attention: levels of the U-Net with self-attention; 0 is the full size, 1 half of it.
        dropout: rate of dropout while training.
    """

    paper: ClassVar[str] = (
        "Austin, Johnson, Ho, Tarlow, van den Berg (2021). Structured Denoising Diffusion Models in Discrete "
        "State-Spaces. https://arxiv.org/abs/2107.03006"
    )
    domains: ClassVar[tuple[type[Domain], ...]] = (Grid, Tokens)
    recipes: ClassVar[dict[str, Recipe]] = {
        "quick": Recipe(
            learning_rate=2e-3, batch_size=64, steps=700, warmup_steps=50, schedule="cosine", clip_norm=1.0, ema=0.995,
            settings={"timesteps": 200, "width": 32, "multipliers": (1, 2), "blocks": 1, "dropout": 0.0},
        ),
        "paper": Recipe(
            learning_rate=2e-4, batch_size=128, steps=1_500_000, warmup_steps=5000, clip_norm=1.0, ema=0.9999,
            settings={"kernel": "gaussian"},
        ),
        "paper-codes": Recipe(
            learning_rate=2e-4, batch_size=128, steps=1_500_000, warmup_steps=5000, clip_norm=1.0, ema=0.9999,
        ),
        "paper-tokens": Recipe(
            learning_rate=5e-4, batch_size=512, steps=1_000_000, warmup_steps=10_000, clip_norm=1.0, ema=0.9999,
            settings={"hybrid": 0.01},
        ),
    }  # fmt: skip
    domain: Grid | Tokens

    def __init__(
        self,
        domain: Grid | Tokens,
        condition: Domain | None = None,
        *,
        kernel: categorical.Kernel = "absorbing",
        timesteps: int = 1000,
        hybrid: float = 0.001,
        head: Literal["auto", "categorical", "logistic"] = "auto",
        width: int = 128,
        multipliers: tuple[int, ...] = (1, 2, 2, 2),
        blocks: int = 2,
        attention: tuple[int, ...] = (1,),
        dropout: float = 0.1,
    ):
        super().__init__(domain, condition)
        if timesteps < 2:
            raise ValueError(f"expected timesteps >= 2; got {timesteps}.")
        if hybrid < 0:
            raise ValueError(f"expected hybrid >= 0; got {hybrid}.")
        ordered = isinstance(domain, Grid) and domain.ordered
        if not ordered and (kernel == "gaussian" or head == "logistic"):
            choice = "gaussian kernel" if kernel == "gaussian" else "logistic head"
            raise ValueError(
                f"d3pm: the {choice} takes neighbouring levels for alike, and {domain} has no order; take the "
                "uniform or absorbing kernel and the categorical head."
            )
        self.process = categorical.process_of(kernel, domain.levels, timesteps)
        self.hybrid = hybrid
        self.channels, self.size = (domain.channels, domain.size) if isinstance(domain, Grid) else (1, domain.shape)
        self.logistic = head == "logistic" or (head == "auto" and kernel == "gaussian")
        self.embed = None if ordered else nn.Embedding(self.process.states, width)
        planes = width if not ordered else 1 + self.has_mask
        numbers = 2 if self.logistic else domain.levels
        self.network = UNet(
            planes * self.channels, numbers * self.channels, width=width, multipliers=multipliers, blocks=blocks,
            attention=attention, dropout=dropout, dims=len(self.size),
        )  # fmt: skip
        self.label: nn.Embedding | None = None
        if condition is not None:
            self.label = nn.Embedding(classes_of(condition), self.network.embedding_features)

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        if isinstance(domain, Grid) and len(domain.size) > 3:
            return f"d3pm models grids of up to three axes; got {domain}."
        return super().refuses(domain)

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, timesteps=4, width=8, multipliers=(1, 1), blocks=1, dropout=0.0)  # type: ignore[arg-type]

    @property
    def has_mask(self) -> bool:
        """Whether entries have a state that data have not."""
        return self.process.states > self.process.levels

    # --- network ---

    def scaled(self, x: Tensor) -> Tensor:
        """Ordered states as numbers in [-1, 1]; the mask is the middle."""
        u = discretized_logistic.to_unit(x, self.domain.levels)
        return u.masked_fill(x == self.domain.levels, 0.0)

    def planes(self, x: Tensor) -> Tensor:
        """What the network sees of states ``(B, channels, *size)``: ``(B, planes * channels, *size)``."""
        if self.embed is not None:
            return self.embed(x).movedim(-1, 2).flatten(1, 2)
        return torch.cat([self.scaled(x), (x == self.domain.levels).float()], 1) if self.has_mask else self.scaled(x)

    def log_p(self, x_t: Tensor, step: Tensor, condition: Tensor | None) -> Tensor:
        """log p~(x_0 | x_t), ``(B, *shape, levels)``, of states x_t ``(B, *shape)`` at steps ``(B,)``."""
        x = x_t.view(len(x_t), self.channels, *self.size)
        context = None if self.label is None else self.label(condition)
        outputs = self.network(self.planes(x), step / self.process.steps, context).float()
        numbers = outputs.unflatten(1, (self.channels, -1)).movedim(2, -1)  # (B, channels, *size, numbers)
        if self.logistic:
            level = torch.arange(self.domain.levels, device=x.device)
            mean = self.scaled(x).unsqueeze(-1) + numbers[..., :1]
            log_scale = (numbers[..., 1:] - 2).clamp(min=SHARPEST)
            log_p = discretized_logistic.log_prob(level, mean, log_scale, self.domain.levels)
        else:
            log_p = numbers.log_softmax(-1)
        return log_p.reshape(*x_t.shape, self.domain.levels)

    def reverse(self, condition: Tensor | None, dtype: torch.dtype | None = None) -> categorical.Reverse:
        """The reverse steps for a fixed condition."""
        return categorical.reversing(self.process, lambda x_t, step: self.log_p(x_t, step, condition), dtype)

    # --- loss ---

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """L_vb + lambda T E[-log p~(x_0 | x_t)] at one random step (equation 5, times T), in nats an entry, so that
        the learning rate does not depend on their number. "L_vb" estimates the whole bound without bias."""
        self.domain.check(batch.x)
        check_condition(self, batch.condition, len(batch.x))
        x_0, steps, entries = batch.x.long(), self.process.steps, self.domain.num_dims
        step = 1 + noise.integers(steps, (len(x_0),), generator, x_0.device)
        x_t = self.process.diffuse(x_0, step, generator)
        log_p = self.log_p(x_t, step, batch.condition)
        log_r = self.process.log_reverse(x_t, log_p, step, step - 1)
        cost = categorical.step_cost(self.process, log_r, x_0, x_t, step)
        bound = (steps * cost + self.process.end_cost(x_0).to(cost)) / entries
        cross_entropy = -log_p.gather(-1, x_0.unsqueeze(-1)).flatten(1).mean(1)
        return {"loss": bound + self.hybrid * steps * cross_entropy, "L_vb": bound, "cross_entropy": cross_entropy}

    # --- roles ---

    def _sample(
        self, count: int, condition: Tensor | None, generator: torch.Generator | None, *, steps: int | None = None
    ) -> Tensor:
        """``count`` data in the domain's own terms, each step drawn.

        Args:
            steps: network calls, evenly spaced from T down to 0; all T by default.
        """
        x = categorical.ancestral(
            self.process, self.reverse(condition), (count, *self.domain.shape),
            steps=steps, generator=generator, device=self.device,
        )  # fmt: skip
        return x.to(self.domain.dtype)

    def _edit(self, x: Tensor, keep: Tensor, condition: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """Sample, with the kept entries shown at every step: never masked (absorbing), or as noisy as the others.

        With the absorbing kernel and a perfect network that is the distribution of the others given the kept, up to the
        steps that unmask several at once; the other kernels only approximate it.
        """
        edited = categorical.ancestral(
            self.process, self.reverse(condition), tuple(x.shape),
            known=(x, keep), generator=generator, device=x.device,
        )  # fmt: skip
        return edited.to(x.dtype)

    @property
    def likelihood(self) -> Likelihood:
        return Likelihood.BOUND

    def bound_terms(
        self, x: Tensor, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """The terms of -log p(x) <= L_0 + sum_t L_{t-1} + L_T (equation 1), in nats.

        "L_0" ``(B,)`` what the last step costs, "L_t" ``(B, T-1)`` the steps in between (column t-2 is L_{t-1}),
        "L_T" ``(B,)`` what is left of x at the end of the process. Every step is counted; each is averaged over
        one draw of noise.
        """
        self.domain.check(x)
        check_condition(self, condition, len(x))
        return categorical.bound_terms(self.process, self.reverse(condition, torch.float64), x.long(), generator)

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        """log of the mean weight p(x_{0:T}) / q(x_{1:T} | x_0) of ``num_samples`` paths of noise: ``(B,)``.

        With one path that is a draw whose mean is the bound of `bound_terms`; more paths tighten it towards
        log p(x) (Burda et al. 2016, https://arxiv.org/abs/1509.00519). Costs T network calls a path and keeps no
        gradients.
        """
        paths = [
            categorical.log_weight(self.process, self.reverse(condition, torch.float64), x.long(), generator)
            for _ in range(num_samples)
        ]
        return (torch.stack(paths).logsumexp(0) - math.log(num_samples)).float()
