"""What models with latents promise: codes and data, posteriors, decoders that are distributions."""

import copy
import math

import torch

from genus.contract import HasLatents, HasLogProb, HasPosterior, Likelihood
from genus.prob import gaussian, noise
from genus.prob.noise import stream
from genus.prob.posterior import Certain, DiagonalNormal
from genus.testing import oracles
from genus.testing.checks._common import close, within
from genus.testing.statistics import LARGEST_Z, require, z_of_counts, z_of_mean
from genus.testing.subjects import Subject


def check_latents(subject: Subject) -> None:
    """Codes are deterministic, one a datum; decoding gives data; an invertible model gives its own back."""
    model, batch = subject.make(), subject.batch(8)
    assert isinstance(model, HasLatents)
    z, again = (model.encode(batch.x, condition=batch.condition).detach() for _ in range(2))
    require(len(z) == 8 and bool(z.isfinite().all()), f"expected 8 finite codes; got shape {tuple(z.shape)}.")
    require(torch.equal(z, again), "encoding the same data twice gave other codes.")
    require(not torch.equal(z[:4], z[4:]), "different data have the same codes.")
    x, x_again = (model.decode(z, condition=batch.condition).detach() for _ in range(2))
    require(torch.equal(x, x_again), "decoding the same codes twice gave other data.")
    require(
        tuple(x.shape) == tuple(batch.x.shape), f"decoded data: expected {tuple(batch.x.shape)}; got {tuple(x.shape)}."
    )
    require(x.dtype == subject.domain.dtype, f"decoded data: expected dtype {subject.domain.dtype}; got {x.dtype}.")
    within(subject.domain, x)
    invertible = isinstance(model, HasLogProb) and model.likelihood is Likelihood.EXACT
    if invertible and not isinstance(model, HasPosterior):
        close(x.double(), batch.x.double(), "an invertible model does not give its data back", 1e-3)


def check_posterior(subject: Subject) -> None:
    """Draws from q(z|x) are latents, and as likely as its log_prob says: certain codes have log q = 0, a diagonal
    normal distribution's mean log q is minus its entropy."""
    model, batch, draws = subject.make(), subject.batch(8), 512
    assert isinstance(model, HasPosterior)
    with torch.no_grad():
        q = model.posterior(batch.x, batch.condition)
        z = q.sample(draws, stream("posterior"))
        log_q = q.log_prob(z)
    latents = (draws, 8, *model.latent_domain.shape)
    require(tuple(z.shape) == latents, f"draws of latents: expected shape {latents}; got {tuple(z.shape)}.")
    within(model.latent_domain, z.flatten(0, 1))
    require(tuple(log_q.shape) == latents[:2], f"log q: expected shape {latents[:2]}; got {tuple(log_q.shape)}.")
    if isinstance(q, DiagonalNormal):
        entropy = 0.5 * (q.log_var.double() + math.log(2 * math.pi * math.e)).sum(1)
        score = z_of_mean((log_q.double() + entropy).mean(1), 0.0)
        require(abs(score) < LARGEST_Z, f"the mean of log q over its draws is not minus its entropy (z={score:.1f}).")
    elif isinstance(q, Certain):
        require(not log_q.any(), "certain latents: expected log q = 0.")
    if model.standard_prior:
        z = 3 * noise.normal((8, *model.latent_shape), stream("prior"))
        with torch.no_grad():
            log_p = model.log_prior(z, batch.condition)
        expected = gaussian.log_prob(z, z.new_zeros(()), z.new_zeros(())).sum(1)
        close(log_p, expected, "a prior that promises to be N(0, I) has another density")


def check_decoder_distribution(subject: Subject) -> None:
    """p(x|z) sums to one over all states and is what `generate` draws from; p(x|z) p(z) / q(z|x), averaged over
    draws from q, sums to no more than one."""
    model, states, draws = subject.make(), oracles.all_states(subject.domain), 4096
    assert isinstance(model, HasPosterior)
    if model.decoder_likelihood is Likelihood.NONE:
        return
    given = subject.conditions(3)
    for instance, largest in ((copy.deepcopy(model).double(), 1e-12), (model, 1e-6)):
        with torch.no_grad():
            z = instance.posterior(subject.batch(3).x, given).sample(1, stream("given"))[0]
        for row in range(len(z)):
            of_all = None if given is None else given[row].expand(len(states), *given.shape[1:])
            with torch.no_grad():
                p = instance.log_likelihood(states, z[row].expand(len(states), *z[row].shape), of_all).double().exp()
            require(abs(float(p.sum()) - 1) < largest, f"p(x|z) sums to {float(p.sum()):.13f}, not 1 (to {largest:g}).")
    of_draws = None if given is None else given[-1].expand(draws, *given.shape[1:])
    with torch.no_grad():
        x = model.generate(z[-1].expand(draws, *z[-1].shape), of_draws, stream("generate"))
        counts = torch.bincount(oracles.state_index(x, subject.domain), minlength=len(states))
        q = model.posterior(states, of_all)
        weights = model.log_weight(states, q.sample(64, stream("weights")), q, of_all).double().exp()
    score = z_of_counts(counts, p)
    require(score < LARGEST_Z, f"generate does not draw from p(x|z) (chi-square z={score:.1f}).")
    score, mean = z_of_mean(weights.sum(1), 1.0), float(weights.sum(1).mean())
    require(score < LARGEST_Z, f"the weights of all states sum to {mean:.4f}, above 1 (z={score:.1f}).")
