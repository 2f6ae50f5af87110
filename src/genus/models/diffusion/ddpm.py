"""DDPM: denoising diffusion probabilistic models.

Data are drowned in Gaussian noise over T steps; a U-Net learns to name the noise in a noisy datum, and
so to take one step back. Samples start from pure noise and walk all the way. The loss weighs all steps
alike (L_simple), which draws better pictures than the bound on the likelihood, of which it is a
reweighting; the bound itself is what `log_prob` gives.

Ho, Jain, Abbeel (2020), https://arxiv.org/abs/2006.11239; equation numbers are theirs. Learned
variances, their loss L_hybrid, the cosine schedule, fewer steps and steps drawn by importance are those
of Nichol & Dhariwal (2021), https://arxiv.org/abs/2102.09672.

What differs from the papers: any size (odd ones too) and up to three axes; a label is embedded and added
to the embedding of the time, and put out now and then for guidance; rows of numbers (vectors) are
standardised and have a residual MLP for a network and a normal density for a last step, so their bound
is one on the density; clouds are centred and scaled, and have a transformer that knows no order. With
fewer than 1,000 steps the betas grow in proportion, so that alpha_bar(t) stays the same curve. Losses are
means over the entries of a datum. PyTorch's initial weights.

Promises: samples, a variational bound on log p(x), latents, completion, labels.
"""

from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from genus.contract import Batch, Losses, check_condition
from genus.kinds import Domain
from genus.models.diffusion import _bound, _denoiser, _samplers
from genus.models.diffusion._diffusion import BoundDensity
from genus.models.diffusion._process import Steps, cosine_betas, linear_betas, sigmoid_betas
from genus.models.diffusion._weighting import StepMoments
from genus.prob import noise
from genus.recipe import Recipe

HYBRID = 0.001  # the weight of the bound in L_hybrid


class DDPM(BoundDensity):
    """Denoising diffusion in discrete steps.

    Args:
        timesteps: T, the steps from data to noise; `log_prob` calls the network T times.
        noise_schedule: how the noise grows: ``linear`` in beta (the paper's), ``cosine`` in alpha_bar (better for
            small pictures) or ``sigmoid``.
        predicts: what the network gives: the noise ``eps``, the datum ``x_0`` or the mixture ``v`` of both.
        objective: ``simple`` (eq. 14), ``bound`` (eq. 5, a step at a time) or ``hybrid``, the simple loss with a
            thousandth of the bound, which moves the learned variance alone.
        variance: of the reverse steps: ``beta``_t, that of the ``posterior`` q(x_{t-1} | x_t, x_0), or ``learned``
            between the two (objective hybrid or bound).
        importance: draw the steps of training by what their terms have been, instead of evenly: steadies the
            objective ``bound``.
        width: channels of the U-Net's first level (hidden units of the MLP for vectors, of the
            transformer for clouds).
        multipliers: channels of each level of the U-Net in units of the width.
        blocks: residual blocks a level.
        attention: levels of the U-Net with self-attention; 0 is the full size, 1 half of it.
        dropout: rate of dropout while training.
        label_dropout: share of the labels that are put out in training, so that samples may be guided.
        flow_steps: steps of the integration along the probability flow, for latents and for the estimate of log p(x).
    """

    paper: ClassVar[str] = (
        "Ho, Jain, Abbeel (2020). Denoising Diffusion Probabilistic Models. https://arxiv.org/abs/2006.11239"
    )
    recipes: ClassVar[dict[str, Recipe]] = {
        "quick": Recipe(
            learning_rate=2e-3,
            batch_size=64,
            steps=700,
            warmup_steps=50,
            schedule="cosine",
            clip_norm=1.0,
            ema=0.995,
            settings={"timesteps": 200, "width": 32, "multipliers": (1, 2), "blocks": 1, "dropout": 0.0},
        ),
        "quick-points": Recipe(
            learning_rate=1e-3,
            batch_size=16,
            steps=2000,
            warmup_steps=50,
            schedule="cosine",
            clip_norm=1.0,
            ema=0.995,
            settings={"timesteps": 200, "width": 64, "multipliers": (1, 1), "blocks": 2, "dropout": 0.0},
        ),
        "paper": Recipe(
            learning_rate=2e-4, batch_size=128, steps=800_000, warmup_steps=5000, clip_norm=1.0, ema=0.9999
        ),
    }
    process: Steps

    def __init__(
        self,
        domain: Domain,
        condition: Domain | None = None,
        *,
        timesteps: int = 1000,
        noise_schedule: Literal["linear", "cosine", "sigmoid"] = "linear",
        predicts: Literal["eps", "x_0", "v"] = "eps",
        objective: Literal["simple", "hybrid", "bound"] = "simple",
        variance: Literal["beta", "posterior", "learned"] = "beta",
        importance: bool = False,
        width: int = 128,
        multipliers: tuple[int, ...] = (1, 2, 2, 2),
        blocks: int = 2,
        attention: tuple[int, ...] = (1,),
        dropout: float = 0.1,
        label_dropout: float = 0.1,
        flow_steps: int = 40,
    ):
        super().__init__(domain, condition)
        if timesteps < 2:
            raise ValueError(f"expected timesteps >= 2; got {timesteps}.")
        if (variance == "learned") != (objective == "hybrid") and objective != "bound":
            raise ValueError(
                f"the objective {objective} goes {'not ' * (objective == 'simple')}with a learned variance; got "
                f"{variance=}. Take objective hybrid or bound with variance learned, or simple with beta or posterior."
            )
        if importance and objective == "simple":
            raise ValueError("importance: the simple objective weighs all steps alike; take objective hybrid or bound.")
        betas = {
            "linear": lambda: linear_betas(timesteps, 1e-4 * 1000 / timesteps, 0.02 * 1000 / timesteps),
            "cosine": lambda: cosine_betas(timesteps),
            "sigmoid": lambda: sigmoid_betas(timesteps),
        }[noise_schedule]()
        self.process = Steps(betas)
        self.predicts: Literal["eps", "x_0", "v"] = predicts
        self.objective, self.variance = objective, variance
        self.outputs = 2 if variance == "learned" else 1
        self.moments = StepMoments(timesteps) if importance else None
        self.build(
            width=width, multipliers=multipliers, blocks=blocks, attention=attention, dropout=dropout,
            label_dropout=label_dropout, flow_steps=flow_steps,
        )  # fmt: skip

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, timesteps=4, width=8, multipliers=(1, 1), blocks=1, dropout=0.0, flow_steps=3)

    def time_input(self, t: Tensor) -> Tensor:
        """The steps before this one, 0 .. T - 1, in thousandths: what the paper's code embeds, whatever T is."""
        return (t * self.process.steps - 1) / 1000

    # -- training -----------------------------------------------------------------------------

    def progress(self, fraction: float) -> None:
        if self.moments is not None:
            self.moments.advance()

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        x_0, label = self.prepared(batch, generator)
        if self.moments is None:
            step = 1 + noise.integers(self.process.steps, (len(x_0),), generator, x_0.device)
            weight = torch.ones(len(x_0), device=x_0.device)
        else:
            step, weight = self.moments.draw(len(x_0), generator)
        eps = noise.normal(tuple(x_0.shape), generator, x_0.device, x_0.dtype)
        t = self.process.time(step)
        outputs = self.outputs_at(self.process.diffuse(x_0, t, eps), t, label)
        simple = _denoiser.error(self.process, lambda *_: outputs[0], self.predicts, x_0, t, eps)
        if self.objective == "simple":
            return {"loss": simple}
        # T L_{t-1} / D: in the mean over steps the bound, in nats an entry.
        term = _bound.step_term(
            self.process, self.step_of(outputs, freeze_mean=self.objective == "hybrid"), x_0, step, eps,
            _bound.log_decoder(self.scaling, batch.x),
        )  # fmt: skip
        bound = (self.process.steps / self.domain.num_dims) * term.to(x_0.dtype)
        if self.moments is not None and self.training:
            self.moments.see(step, bound.detach())
        if self.objective == "bound":
            return {"loss": weight * bound, "bound": weight * bound.detach()}
        return {"loss": weight * (simple + HYBRID * bound), "simple": weight * simple, "bound": weight * bound}

    def step_of(self, outputs: tuple[Tensor, ...], freeze_mean: bool = False) -> _samplers.Reverse:
        """The reverse step that the network's outputs at x_t mean."""
        mean_output = outputs[0].detach() if freeze_mean else outputs[0]
        kind = self.variance

        def reverse(x_t: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
            denoise = _denoiser.denoiser(self.process, lambda *_: mean_output, self.predicts, clip=self.clips)
            mean, _ = self.process.posterior(x_t, denoise(x_t, t), t, s)
            if kind == "learned":
                return mean, _bound.between(self.process, x_t, t, s, 0.5 * (outputs[1].to(x_t) + 1))
            return mean, _bound.step_variance(self.process, x_t, t, s, kind).to(x_t)

        return reverse

    @property
    def clips(self) -> bool:
        """Whether estimates of x_0 stay in [-1, 1]: grids and sound, but not where the bound is trained, since
        there a clipped estimate has no gradient."""
        return self.domain.discrete and not (self.training and self.objective == "bound")

    # -- samples --------------------------------------------------------------------------------

    def reverse(self, condition: Tensor | None, guidance: float = 0.0) -> _samplers.Reverse:
        def reverse(x_t: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
            outputs = self.outputs_at(x_t, t, condition)
            if guidance:
                outputs = (self.predict(condition, guidance)(x_t, t), *outputs[1:])
            return self.step_of(outputs)(x_t, t, s)

        return reverse

    def times(self, steps: int | None) -> list[float]:
        return _samplers.of_steps(self.process.steps, steps)

    # -- likelihood -----------------------------------------------------------------------------

    def bound_terms(
        self, x: Tensor, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """The terms of -log p(x) <= L_0 + sum_t L_{t-1} + L_T (equation 5), in nats of the raw data.

        "L_0" ``(B,)`` what the last step costs, "L_t" ``(B, T-1)`` the steps in between
        (column t-2 is L_{t-1}), "L_T" ``(B,)`` what is left of x at the end of the process.
        Every step is counted; each is averaged over one draw of noise. The model's own: without guidance.
        """
        self.domain.check(x)
        check_condition(self, condition, len(x))
        return _bound.bound_terms(
            self.process,
            self.reverse(condition),
            self.scaling.encode(x),
            _bound.log_decoder(self.scaling, x),
            generator,
        )
