"""What all Gaussian diffusion models do alike: one network, and from it samples, latents, completions, densities.

A subclass chooses a noise process, what the network predicts and how its errors are weighed; it gives
`losses`, and `reverse` where its chain has steps of its own.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from genus.contract import (
    Batch,
    GenerativeModel,
    HasLatents,
    HasLogProb,
    IsConditional,
    IsEditable,
    Likelihood,
    Split,
    check_condition,
    name_of,
)
from genus.kinds import Domain, Grid, Label, Points, Vectors, Waveform, classes_of
from genus.models.diffusion import _bound, _denoiser, _ode, _samplers
from genus.models.diffusion._process import GaussianProcess
from genus.models.diffusion._scaling import Scaling
from genus.nn.timed_mlp import TimedMLP
from genus.nn.timed_set import TimedSet
from genus.nn.unet import UNet
from genus.prob import noise

NEAREST = 1e-3  # the angle that latents are followed from, where nothing else is said: a thousandth of noise


class GaussianDiffusion(GenerativeModel, HasLogProb, HasLatents, IsConditional, IsEditable):
    """A denoiser of grids, sound, tables and clouds at every noise level of a Gaussian process.

    Latents are what data become at the end of the probability flow: as many numbers as the datum has,
    standard normal if the model is right.
    """

    domains: ClassVar[tuple[type[Domain], ...]] = (Grid, Waveform, Vectors, Points)
    needs_ordered_levels = True
    process: GaussianProcess
    predicts: _denoiser.Prediction
    spread = 0.5  # of the data, for the prediction ``edm``
    inputs = 1  # numbers that the network reads for each entry of a map
    outputs = 1  # numbers that it gives for each entry
    nearest = NEAREST

    def __init__(self, domain: Domain, condition: Domain | None):
        super().__init__(domain, condition)
        self.scaling = Scaling(domain)

    @classmethod
    def refuses(cls, domain: Domain) -> str | None:
        if isinstance(domain, Grid) and len(domain.size) > 3:
            return f"{name_of(cls)} models grids of up to three axes; got {domain}."
        return super().refuses(domain)

    def build(
        self,
        *,
        width: int,
        multipliers: tuple[int, ...],
        blocks: int,
        attention: tuple[int, ...],
        dropout: float,
        label_dropout: float,
        flow_steps: int,
    ) -> None:
        """Make the network (of tables a residual MLP, of clouds a transformer, else a U-Net) and embed the labels."""
        domain, condition, self.flow_steps = self.domain, self.condition, flow_steps
        if flow_steps < 2:
            raise ValueError(f"flow_steps: expected 2 or more; got {flow_steps}.")
        if not 0 <= label_dropout < 1:
            raise ValueError(f"label_dropout: expected a share in [0, 1); got {label_dropout}.")
        self.network: UNet | TimedMLP | TimedSet
        if isinstance(domain, Vectors):
            self.network = TimedMLP(
                domain.features, width=width, blocks=blocks * len(multipliers), dropout=dropout,
                outputs=self.outputs * domain.features,
            )  # fmt: skip
        elif isinstance(domain, Points):
            self.network = TimedSet(
                domain.dim, width=width, blocks=blocks * len(multipliers), dropout=dropout, outputs=self.outputs
            )
        else:
            channels, size = (domain.channels, domain.size) if isinstance(domain, Grid) else (1, domain.shape)
            self.network = UNet(
                self.inputs * channels, self.outputs * channels, width=width, multipliers=multipliers, blocks=blocks,
                attention=attention, dropout=dropout, dims=len(size),
            )  # fmt: skip
        self.label_dropout = label_dropout
        self.label: nn.Embedding | None = None
        if isinstance(condition, Label):  # the last row stands for no label
            self.label = nn.Embedding(classes_of(condition) + 1, self.network.embedding_features)

    def initialise(self, split: Split) -> None:
        self.scaling.initialise(split)

    # -- the network ------------------------------------------------------------------------

    def outputs_at(self, x: Tensor, t: Tensor, label: Tensor | None) -> tuple[Tensor, ...]:
        """What the network gives for each entry: ``outputs`` tensors of the shape of x."""
        maps = x.unsqueeze(1) if isinstance(self.domain, Waveform) else x
        context = None if self.label is None or label is None else self.label(label)
        outputs = self.network(self.features(maps), self.time_input(t).to(x.dtype), context)
        return outputs.reshape(len(x), self.outputs, *x.shape[1:]).unbind(1)

    def features(self, maps: Tensor) -> Tensor:
        """What the network reads of ``(B, C, ...)``: ``inputs`` numbers for each of the C."""
        return maps

    def time_input(self, t: Tensor) -> Tensor:
        """What the network is told of the time."""
        return t

    def predict(self, condition: Tensor | None, guidance: float = 0.0) -> _denoiser.Network:
        """The network for a fixed condition. With guidance w it is (1 + w) F(x, label) - w F(x, no label)
        (Ho & Salimans 2022, equation 6, https://arxiv.org/abs/2207.12598): 0 is the model itself."""
        if guidance and self.label is None:
            raise ValueError(f"guidance: this {name_of(self)} has no labels; train it with --conditional.")
        if guidance and not self.label_dropout:
            raise ValueError(
                f"guidance: this {name_of(self)} knows no data without a label; train with --label-dropout."
            )

        def network(x: Tensor, t: Tensor) -> Tensor:
            given = self.outputs_at(x, t, condition)[0]
            if not guidance:
                return given
            return (1 + guidance) * given - guidance * self.outputs_at(x, t, self.null_label(len(x)))[0]

        return network

    def null_label(self, count: int) -> Tensor:
        """The label that stands for none, ``(count,)``."""
        assert self.label is not None
        return torch.full((count,), self.label.num_embeddings - 1, device=self.device)

    def dropped(self, condition: Tensor | None, generator: torch.Generator | None) -> Tensor | None:
        """The labels of a batch, some of them (``label_dropout``) put out."""
        if condition is None or not self.label_dropout:
            return condition
        out = noise.uniform((len(condition),), generator, condition.device) < self.label_dropout
        return torch.where(out, self.null_label(len(condition)), condition)

    def denoiser(self, condition: Tensor | None, guidance: float = 0.0, clip: bool | None = None) -> _denoiser.Denoiser:
        """``(x_t, t)`` -> the estimate of x_0 in scaled units; those of grids and sound stay in [-1, 1]."""
        clip = self.domain.discrete if clip is None else clip
        return _denoiser.denoiser(
            self.process, self.predict(condition, guidance), self.predicts, spread=self.spread, clip=clip
        )

    def reverse(self, condition: Tensor | None, guidance: float = 0.0) -> _samplers.Reverse:
        """The steps of the ancestral sampler: those of q(x_s | x_t, x_0) at the estimate of x_0."""
        denoise = self.denoiser(condition, guidance)
        return lambda x_t, t, s: self.process.posterior(x_t, denoise(x_t, t), t, s)

    # -- samples ------------------------------------------------------------------------------

    usual_sampler: ClassVar[_samplers.Sampler] = "ancestral"

    def times(self, steps: int | None) -> list[float]:
        """Where samplers stop on their way from 1 to 0: after so many steps, or as many as are usual."""
        raise NotImplementedError

    def _sample(
        self,
        count: int,
        condition: Tensor | None,
        generator: torch.Generator | None,
        *,
        sampler: _samplers.Sampler | None = None,
        steps: int | None = None,
        eta: float = 0.0,
        guidance: float = 0.0,
    ) -> Tensor:
        """``count`` data in the domain's own terms.

        Args:
            sampler: ``ancestral`` draws each step from p(x_s | x_t) and wants many; ``ddim``, ``heun``, ``dpm_solver``
                and ``runge_kutta`` follow the probability flow, with 1, 2, 1 and 4 network calls a step. The model's
                own by default.
            steps: from noise to data; as many as are usual for the model by default.
            eta: share of fresh noise in ddim and dpm_solver, from 0 (a deterministic map of the noise) to 1, which
                forgives the errors of a network that was trained for a short time.
            guidance: how far to go beyond the label, in units of what it changes; 0 samples the model itself.
        """
        x = self.start(noise.normal((count, *self.domain.shape), generator, self.device))
        sampler = self.usual_sampler if sampler is None else sampler
        return self.scaling.decode(
            self.walk(x, condition, self.times(steps), sampler, eta=eta, guidance=guidance, generator=generator)
        )

    def start(self, eps: Tensor) -> Tensor:
        """x at time 1, made of standard normal noise."""
        return _samplers.start(self.process, eps)

    def walk(
        self,
        x: Tensor,
        condition: Tensor | None,
        times: Sequence[float],
        sampler: _samplers.Sampler,
        *,
        eta: float = 0.0,
        guidance: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """From x at the first of the times to the last, in scaled units."""
        if sampler == "ancestral":
            return _samplers.ancestral(self.reverse(condition, guidance), x, times, generator)
        denoise = self.denoiser(condition, guidance)
        noisy = {"ddim": _samplers.ddim, "dpm_solver": _samplers.dpm_solver}
        if sampler in noisy:
            return noisy[sampler](self.process, denoise, x, times, eta=eta, generator=generator)
        solvers = {"heun": _samplers.heun, "runge_kutta": _samplers.runge_kutta}
        if sampler not in solvers:
            known = ", ".join(["ancestral", *noisy, *solvers])
            raise ValueError(f"sampler: expected one of {known}; got {sampler!r}.")
        return solvers[sampler](self.process, denoise, x, times)

    # -- latents ----------------------------------------------------------------------------

    def flow_times(self) -> list[float]:
        """From noise to nearly data, evenly in what a Runge-Kutta step likes."""
        last = float(self.process.angle(torch.ones(1)))
        angles = torch.tensor(_ode.path(self.nearest, last, self.flow_steps), dtype=torch.float64)
        return [1.0, *self.process.time_at(angles).flip(0)[1:].tolist()]

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return self.domain.shape

    @torch.no_grad()
    def _encode(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """The noise that data come from, along the probability flow: float32, in the shape of the data."""
        x_1 = _samplers.runge_kutta(
            self.process, self.denoiser(condition), self.scaling.encode(x), self.flow_times()[::-1]
        )
        return x_1 / _samplers.scale(self.process, _samplers.all_at(1.0, x_1), x_1)

    @torch.no_grad()
    def _decode(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """The inverse of `encode`, but for what the least noise hides."""
        if tuple(z.shape[1:]) != self.domain.shape:
            raise ValueError(f"z: expected shape (B, {', '.join(map(str, self.domain.shape))}); got {tuple(z.shape)}.")
        times = [*self.flow_times(), 0.0]
        return self.scaling.decode(self.walk(self.start(z), condition, times, "runge_kutta"))

    # -- completion ---------------------------------------------------------------------------

    def _edit(
        self,
        x: Tensor,
        keep: Tensor,
        condition: Tensor | None,
        generator: torch.Generator | None,
        *,
        steps: int = 50,
        rounds: int = 5,
    ) -> Tensor:
        """Redraw what is not kept (RePaint; Lugmayr et al. 2022, algorithm 1, https://arxiv.org/abs/2201.09865).

        At every noise level the kept entries are data with that noise, the others come from the step before; going
        back up and down again, some times, lets both agree.

        Args:
            steps: noise levels on the way.
            rounds: how often each step is taken.
        """
        if rounds < 1:
            raise ValueError(f"rounds: expected 1 or more; got {rounds}.")
        reverse, x_0 = self.reverse(condition), self.scaling.encode(x)

        def normal() -> Tensor:
            return noise.normal(tuple(x.shape), generator, x.device)

        times = self.times(min(steps, len(self.times(None)) - 1))
        x_t = x_s = self.start(normal())
        for t, s in _samplers.pairs(times, x_t):
            ends = not s[:1].any()
            for lap in range(1 if ends else rounds):
                if lap:  # back up: a draw of q(x_t | x_s)
                    alpha, variance = self.process.transition(t, s, x_t)
                    x_t = alpha.to(x_t) * x_s + variance.sqrt().to(x_t) * normal()
                mean, variance = reverse(x_t, t, s)
                x_s = mean if ends else mean + variance.sqrt() * normal()
                x_s = torch.where(keep, self.process.diffuse(x_0, s, normal()), x_s)
            x_t = x_s
        return torch.where(keep, x, self.scaling.decode(x_t).to(x.dtype))

    # -- likelihood by the probability flow ---------------------------------------------------

    def flow_log_prob(
        self,
        x: Tensor,
        *,
        condition: Tensor | None = None,
        num_samples: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """log p(x) along the probability flow, an estimate in nats for each draw: ``(num_samples, B)`` float64.

        A draw is one of the signs of the trace, and for discrete data one of the noise that fills their bins: the
        mean over draws is then an estimate of a lower bound (Theis et al. 2016, https://arxiv.org/abs/1511.01844).
        The standard deviation over draws, divided by the root of their number, is the standard error.
        """
        self.domain.check(x)
        check_condition(self, condition, len(x))
        denoise, draws = self.denoiser(condition, clip=False), []
        for _ in range(num_samples):
            x_0, volume = self.scaling.dequantize(x, generator)
            draws.append(
                _ode.log_density(self.process, denoise, x_0, self.flow_steps, self.nearest, generator) + volume
            )
        return torch.stack(draws)

    def prepared(self, batch: Batch, generator: torch.Generator | None) -> tuple[Tensor, Tensor | None]:
        """What `losses` of every subclass begin with: scaled data, and labels some of which are put out."""
        check_condition(self, batch.condition, len(batch.x))
        return self.scaling.encode(batch.x), self.dropped(batch.condition, generator)


class FlowDensity(GaussianDiffusion):
    """Models in continuous time: log p(x) is an estimate along the probability flow."""

    @property
    def likelihood(self) -> Likelihood:
        return Likelihood.ESTIMATE

    @property
    def protocol(self) -> dict[str, str]:
        return {"dequantization": "uniform"} if self.domain.discrete else {}

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        """The mean of `flow_log_prob` over ``num_samples`` draws: ``(B,)``. The model's own: without guidance."""
        return self.flow_log_prob(x, condition=condition, num_samples=num_samples, generator=generator).mean(0).float()


class BoundDensity(GaussianDiffusion):
    """Models with a variational bound: log p(x) is at least minus the sum of its terms."""

    @property
    def likelihood(self) -> Likelihood:
        return Likelihood.BOUND

    def bound_terms(
        self, x: Tensor, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """The terms of the bound on -log p(x), in nats of the raw data, each from one draw of noise: "L_0" ``(B,)``,
        "L_t" ``(B, parts)``, "L_T" ``(B,)``."""
        raise NotImplementedError

    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        """The bound of `bound_terms`, averaged over ``num_samples`` draws of the noise: ``(B,)``.

        More draws steady the number; they do not tighten it. Costs T network calls a draw
        and keeps no gradients.
        """
        draws = [self.bound_terms(x, condition=condition, generator=generator) for _ in range(num_samples)]
        return -torch.stack([_bound.total(terms) for terms in draws]).mean(0).float()
