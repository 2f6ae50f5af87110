"""Importance-weighted autoencoder: a variational autoencoder trained on a tighter bound.

With w_k = p(x|z_k) p(z_k) / q(z_k|x) for K draws z_k from q, equation 8 of the paper,

    L_K = E[ log 1/K sum_k w_k ],    ELBO = L_1 <= L_2 <= ... <= log p(x).

The same two networks as the `vae`; only the loss differs. The plain gradient weighs draws by
w~_k = w_k / sum w (eq. 14); with many draws what it says to the encoder drowns in noise. Two
remedies, both without the score of q (its parameters are held, gradients reach them through z):

    stl    sum_k  w~_k   d log w_k   Roeder et al. (2017), https://arxiv.org/abs/1703.09194
    dreg   sum_k  w~_k^2 d log w_k   for the encoder, w~_k for the decoder: unbiased
                                     Tucker et al. (2019), https://arxiv.org/abs/1810.04152

Most draws weigh next to nothing. So the gradient may be had from a few of them, drawn with the
probabilities w~_k: without bias, and cheaper by up to a factor of three (section 3 of the paper).

What differs from the paper: ReLU instead of tanh, one layer of latents, Adam with a cosine rate.

It promises what the vae promises.
"""

from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from genus.contract import Batch, Losses, check_condition
from genus.kinds import Domain
from genus.models.latent._decoder import Scale
from genus.models.latent._networks import Network
from genus.models.latent._prior import PriorName
from genus.models.latent.vae import VAE
from genus.prob import noise
from genus.prob.reduce import logmeanexp
from genus.recipe import Recipe

Estimator = Literal["dreg", "stl", "plain"]


class IWAE(VAE):
    """Importance-weighted autoencoder of grids (any size, channels, levels), sequences, sound and tables.

    Args:
        importance_samples: Draws of z a datum, K of the bound that is trained.
        estimator: Of the gradient: dreg (doubly reparameterised), stl (sticking the landing; biased for
            more than one draw), or plain.
        latent_features: Number of latent variables.
        network: Fully connected layers; conv puts strided convolutions before them (all but tables).
        hidden: Widths of the fully connected layers, from the data inwards.
        channels: Channels of the convolutions, from the data inwards; each halves the size (network conv).
        blocks: Residual blocks after each of these convolutions (network conv).
        decoder: The distribution of an entry given z. auto takes bernoulli for two levels, discretized_logistic for
            ordered levels and sound, categorical for symbols and codes, gaussian for tables.
        scale: Of a discretized_logistic or gaussian distribution: an entry's own, given z, or shared by all entries.
        prior: normal, vamp (a mixture of posteriors at learned pseudo-inputs) or flow. Learned priors
            know no condition.
        components: Pseudo-inputs (prior vamp).
        kl_warmup: Part of training, from 0 to 1, over which the weight of log p(z) - log q(z|x) rises from zero;
            keeps latents from being given up early.
        samples_warmup: Part of training, from 0 to 1, over which the draws rise from one to importance_samples,
            each step of training by the same factor; a step takes as long as it has draws.
        backward_samples: Draws that the gradient is computed from, drawn by their weights; 0 for all.
    """

    paper = "Burda, Grosse, Salakhutdinov (2016). Importance Weighted Autoencoders. https://arxiv.org/abs/1509.00519"
    recipes: ClassVar[dict[str, Recipe]] = {
        "quick": Recipe(
            learning_rate=2e-3, schedule="cosine", batch_size=64, steps=3000, precision="fast-float32",
            settings={"importance_samples": 8},
        ),
        # 3,280 passes over 60,000 data in batches of 20; the paper's rate falls in eight stages.
        "paper": Recipe(learning_rate=1e-3, schedule="cosine", batch_size=20, steps=9_840_000),
    }  # fmt: skip

    def __init__(
        self,
        domain: Domain,
        condition: Domain | None = None,
        *,
        importance_samples: int = 50,
        estimator: Estimator = "dreg",
        latent_features: int = 50,
        network: Network = "mlp",
        hidden: tuple[int, ...] = (200, 200),
        channels: tuple[int, ...] = (32, 64),
        blocks: int = 0,
        decoder: Literal["auto", "bernoulli", "categorical", "discretized_logistic", "gaussian"] = "auto",
        scale: Scale = "entry",
        prior: PriorName = "normal",
        components: int = 500,
        kl_warmup: float = 0.0,
        samples_warmup: float = 0.0,
        backward_samples: int = 0,
    ):
        super().__init__(
            domain, condition, latent_features=latent_features, network=network, hidden=hidden, channels=channels,
            blocks=blocks, decoder=decoder, scale=scale, prior=prior, components=components,
            kl_warmup=kl_warmup,
        )  # fmt: skip
        if importance_samples < 1:
            raise ValueError(f"importance_samples: expected 1 or more; got {importance_samples}.")
        if not 0 <= samples_warmup <= 1:
            raise ValueError(f"samples_warmup: expected a part of training from 0 to 1; got {samples_warmup}.")
        if backward_samples < 0:
            raise ValueError(f"backward_samples: expected 1 or more, or 0 for all; got {backward_samples}.")
        self.importance_samples, self.estimator = importance_samples, estimator
        self.backward_samples = backward_samples
        self.samples_warmup, self.draws = samples_warmup, importance_samples

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        return cls(domain, condition, latent_features=2, hidden=(16,), importance_samples=3)

    def progress(self, fraction: float) -> None:
        super().progress(fraction)
        risen = min(1.0, fraction / self.samples_warmup) if self.samples_warmup > 0 else 1.0
        self.draws = round(self.importance_samples**risen)

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        x, condition, _ = batch
        check_condition(self, condition, len(x))
        given = self.read_condition(condition)
        q = self.posterior(x, given)
        z = q.sample(self.draws, generator)
        distribution = q if self.estimator == "plain" else q.detach()
        few = 0 < self.backward_samples < self.draws
        with torch.set_grad_enabled(torch.is_grad_enabled() and not few):
            log_w = self.log_weight(x, z, distribution, given, self.kl_weight)
        bound = logmeanexp(log_w.detach()).to(log_w.dtype)
        weights = share = log_w.detach().softmax(0)  # w~
        terms = {"effective_samples": 1 / weights.square().sum(0)}
        if few:
            by_weight = log_w.T.unsqueeze(1).expand(-1, self.backward_samples, -1)
            chosen = noise.categorical(by_weight, generator).T  # (backward_samples, B)
            z = z.gather(0, chosen.unsqueeze(-1).expand(-1, -1, z.shape[-1]))
            log_w = self.log_weight(x, z, distribution, given, self.kl_weight)
            weights, share = weights.gather(0, chosen), torch.full_like(log_w, 1 / self.backward_samples)
        if self.estimator == "dreg" and z.requires_grad:
            z.register_hook(lambda gradient: gradient * weights.unsqueeze(-1))
        climb = (share * log_w).sum(0)  # its gradient is that of L_K
        return {"loss": climb.detach() - climb - bound, **terms}

    def criterion(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """The loss as it is after the warm-ups, so that checkpoints are compared by one number."""
        now = self.kl_weight, self.draws
        self.kl_weight, self.draws = 1.0, self.importance_samples
        loss = self.losses(batch, generator)["loss"]
        self.kl_weight, self.draws = now
        return loss

    @property
    def cure(self) -> str:
        return (
            f"Try a longer --kl-warmup (now {self.kl_warmup:g}), a lower --learning-rate, fewer --importance-samples "
            f"(now {self.importance_samples}) or a smaller decoder ({self.size_setting})."
        )
