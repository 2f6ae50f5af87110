"""What goes wrong in diffusion models with latent variables."""

from torch import Tensor

from genus.contract import Symptom

SIGNAL = 0.01
USED = 0.1


def posterior_collapse(means: Tensor, log_vars: Tensor, cure: str) -> list[Symptom]:
    """A latent vector that says nothing about the datum, so that all shapes become one.

    The prior is learned and has no scale of its own, so a latent counts as active if its posterior
    mean makes up more than 1 % of its variance (for a standard normal prior that is Burda et al.'s
    criterion, 2016, https://arxiv.org/abs/1509.00519, section 5.2). Less than a tenth of them is a collapse.

    Args:
        means: posterior means of a batch, ``(B, latents)``. log_vars: log-variances, of the same shape.
        cure: what to try.
    """
    if len(means) < 2:
        return []
    signal = means.double().var(0)
    latents = means.shape[1]
    active = int((signal > SIGNAL * (signal + log_vars.double().exp().mean(0))).sum())
    if active >= max(1.0, USED * latents):
        return []
    return [Symptom("posterior collapse", f"{active} of {latents} latents tell one datum from another.", cure)]
