"""Two stages: a model of data by latents, and a second model of those latents in place of its prior.

A vqvae's codes with an autoregressive model of codes (van den Oord, Vinyals & Kavukcuoglu 2017,
https://arxiv.org/abs/1711.00937), a vae's latents with a diffusion (latent diffusion; Rombach et al.
2022, https://arxiv.org/abs/2112.10752): whatever the first stage's latents are, any model of that
domain can be the second. A sample is a latent of the second stage, decoded by the first. The
likelihood holds whatever the prior is,

    log p(x) >= E_q(z|x)[ log p(x|z) + log p_second(z) - log q(z|x) ],

the code's cost and the decoder's. Given a condition c, of any kind that the second stage takes, it has it:
p(x|c) = sum_z p(z|c) p(x|z); the first stage was built for none, or for the same.
The stages are trained one after the other (`genus.training.stages`), so this is not in the registry.
"""

import inspect
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from genus import registry
from genus.contract import (
    Batch,
    GenerativeModel,
    HasLogProb,
    HasPosterior,
    IsConditional,
    Likelihood,
    Losses,
    Posterior,
    check_condition,
    name_of,
    weakest,
)
from genus.errors import CapabilityError
from genus.kinds import Domain
from genus.nn.condition import CONDITIONS
from genus.prob.posterior import Certain
from genus.prob.reduce import logmeanexp
from genus.settings import schema

AT_ONCE = 8192  # latents that are scored together


class TwoStage(GenerativeModel, HasLogProb, HasPosterior, IsConditional):
    """``first``, a model that signs `HasPosterior`, with ``second``, a model of its latents, as its prior."""

    paper = (
        "van den Oord, Vinyals, Kavukcuoglu (2017). Neural Discrete Representation Learning. "
        "https://arxiv.org/abs/1711.00937"
    )
    domains: ClassVar[tuple[type[Domain], ...]] = (Domain,)
    conditions = CONDITIONS
    first: HasPosterior

    def __init__(self, first: GenerativeModel, second: GenerativeModel):
        super().__init__(first.domain, second.condition)
        if not isinstance(first, HasPosterior):
            raise CapabilityError(f"{name_of(first)} cannot be a first stage: it does not sign HasPosterior.")
        if second.domain != first.latent_domain:
            raise ValueError(
                f"the latents of {name_of(first)} are {first.latent_domain}; {name_of(second)} models {second.domain}."
            )
        if first.condition not in (None, second.condition):
            raise ValueError(f"{name_of(first)} was built for {first.condition}; so must {name_of(second)} be.")
        self.first, self.second = first, second

    @classmethod
    def tiny(cls, domain: Domain, condition: Domain | None = None) -> Self:
        """A small VAE with a small flow for its prior."""
        first = registry.get("vae").tiny(domain)
        assert isinstance(first, HasPosterior)
        return cls(first, registry.get("realnvp").tiny(first.latent_domain, condition))

    def _of_first(self, condition: Tensor | None) -> Tensor | None:
        """What the first stage is given: nothing, unless it was built for a condition."""
        return None if self.first.condition is None else condition  # type: ignore[attr-defined]

    def _for_second(self, z: Tensor) -> Tensor:
        """Latents in the second stage's precision: a posterior may be of another."""
        return z.to(next(self.second.parameters(), z).dtype) if z.is_floating_point() else z

    # -- samples and likelihood ---------------------------------------------------------

    def _sample(
        self,
        count: int,
        condition: Tensor | None,
        generator: torch.Generator | None,
        *,
        pixels: Literal["draw", "mode"] = "draw",
        **options: Any,
    ) -> Tensor:
        """Draw z from the second stage, then x from p(x|z). Other options are the second stage's.

        Args:
            pixels: draw takes each entry from its distribution, as the model means it; mode takes its
                likeliest value (the mean of a normal distribution), as papers show it.
        """
        z = self.second.sample(count, condition=condition, generator=generator, **options)
        if pixels == "mode":
            return self.first.decode(z, condition=self._of_first(condition))
        return self.first.generate(z, self._of_first(condition), generator)

    @property
    def decoder_likelihood(self) -> Likelihood:
        return self.first.decoder_likelihood

    @property
    def likelihood(self) -> Likelihood:
        return weakest([Likelihood.BOUND, self.first.decoder_likelihood, self.second.likelihood])

    @property
    def protocol(self) -> dict[str, str]:
        return self.second.protocol if isinstance(self.second, HasLogProb) else {}

    @torch.no_grad()
    def _log_prob(
        self, x: Tensor, condition: Tensor | None, num_samples: int, generator: torch.Generator | None
    ) -> Tensor:
        """A bound from ``num_samples`` draws of z (of the second stage's own noise where z is certain).

        With exact parts it is log mean_k w_k of the weights w = p(x|z) p(z) / q(z|x): their mean is p(x),
        so by Jensen's inequality the logarithm is a bound, the tighter the more draws. Where a part is
        itself a bound or an estimate, mean_k log w_k is taken: a noisy bound on log p(z) is one in the
        mean only, its exponential may well exceed p(z) in the mean, and so would the log of a mean.
        """
        if self.likelihood is Likelihood.NONE:
            lacking = self.first if self.first.decoder_likelihood is Likelihood.NONE else self.second
            raise CapabilityError(f"these two stages have no log_prob: {name_of(lacking)} has none.")  # type: ignore[arg-type]
        log_w = self.log_weights(x, num_samples, condition=condition, generator=generator)
        exact = weakest([self.first.decoder_likelihood, self.second.likelihood]) is Likelihood.EXACT
        return (logmeanexp(log_w) if exact else log_w.double().mean(0)).to(log_w.dtype)

    @torch.no_grad()
    def log_weights(
        self,
        x: Tensor,
        num_samples: int,
        *,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """log w at draws from q(z|x), some at a time: ``(num_samples, B)``; one row where z is certain."""
        if num_samples < 1:
            raise ValueError(f"expected num_samples >= 1; got {num_samples}.")
        q = self.posterior(x, condition)
        draws, inner = (1, num_samples) if isinstance(q, Certain) else (num_samples, 1)
        at_once = max(1, AT_ONCE // max(1, len(x)))
        rows = []
        for start in range(0, draws, at_once):
            z = q.sample(min(at_once, draws - start), generator)
            flat, count = z.flatten(0, 1), len(z)
            labels = None if condition is None else condition.repeat(count, *[1] * (condition.ndim - 1))
            log_p = self.log_likelihood(x.repeat(count, *[1] * (x.ndim - 1)), flat, labels)
            assert isinstance(self.second, HasLogProb)
            prior = self.second.log_prob(
                self._for_second(flat), condition=labels, num_samples=inner, generator=generator
            )
            rows.append((log_p + prior.to(log_p.dtype)).view(count, len(x)) - q.log_prob(z))
        return torch.cat(rows)

    # -- the latents --------------------------------------------------------------------

    @property
    def latent_domain(self) -> Domain:
        return self.first.latent_domain

    def posterior(self, x: Tensor, condition: Tensor | None = None) -> Posterior:
        return self.first.posterior(x, self._of_first(condition))

    def log_prior(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Of the second stage; raises a `CapabilityError` where that has none."""
        return self.second.log_prob(self._for_second(z), condition=condition)

    def sample_prior(
        self, count: int, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        return self.second.sample(count, condition=condition, generator=generator)

    def log_likelihood(self, x: Tensor, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.first.log_likelihood(x, z, self._of_first(condition))

    def generate(self, z: Tensor, condition: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        return self.first.generate(z, self._of_first(condition), generator)

    def _encode(self, x: Tensor, condition: Tensor | None) -> Tensor:
        return self.first.encode(x, condition=self._of_first(condition))

    def _decode(self, z: Tensor, condition: Tensor | None) -> Tensor:
        return self.first.decode(z, condition=self._of_first(condition))

    # -- both at once, for whoever wants a loss of the whole -----------------------------

    def losses(self, batch: Batch, generator: torch.Generator | None = None) -> Losses:
        """Each stage's own loss, the second's on latents of the first that gradients do not enter."""
        check_condition(self, batch.condition, len(batch.x))
        first = self.first.losses(batch._replace(condition=self._of_first(batch.condition)), generator)["loss"]  # type: ignore[attr-defined]
        second = self.second.losses(self._coded(batch, generator), generator)["loss"]
        return {"loss": first + second, "first": first, "second": second}

    def criterion(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor | None:
        first = self.first.criterion(batch._replace(condition=self._of_first(batch.condition)), generator)  # type: ignore[attr-defined]
        second = self.second.criterion(self._coded(batch, generator), generator)
        return None if first is None or second is None else first + second

    @torch.no_grad()
    def _coded(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        return batch._replace(x=self._for_second(self.posterior(batch.x, batch.condition).sample(1, generator)[0]))


def with_options_of(second: type[GenerativeModel]) -> type[TwoStage]:
    """`TwoStage`, its `sample` with the options of a second stage written out: what the command line reads."""

    def _sample(self: TwoStage, *given: Any, **options: Any) -> Tensor:
        return TwoStage._sample(self, *given, **options)

    own, theirs = inspect.signature(TwoStage._sample).parameters, inspect.signature(second._sample).parameters
    described = schema(second._sample).model_fields
    more = {name: theirs[name] for name in described if name not in own}
    listed = [part for part in own.values() if part.kind is not part.VAR_KEYWORD]
    _sample.__signature__ = inspect.Signature([*listed, *more.values()])  # type: ignore[attr-defined]
    lines = [f"    {name}: {described[name].description or ''}" for name in more]
    _sample.__doc__ = "\n".join([inspect.getdoc(TwoStage._sample) or "", *lines])
    return type("TwoStage", (TwoStage,), {"_sample": _sample, "__module__": __name__})
