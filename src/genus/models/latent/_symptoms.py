"""What goes wrong in models with latent variables."""

from torch import Tensor

from genus.contract import Symptom

ACTIVE = 0.01
USED = 0.1


def posterior_collapse(means: Tensor, entries: int, cure: str) -> list[Symptom]:
    """Latents that say nothing about the data: the decoder does without them.

    A latent is active if its posterior mean moves with the datum, Var_x(E[z|x]) > 0.01 (Burda
    et al. 2016, section 5.2, https://arxiv.org/abs/1509.00519). Healthy models leave latents
    unused that they do not need, so only a nearly full collapse counts: less than a tenth of
    the latents that the data could fill, or none.

    Args:
        means: posterior means of a batch, ``(B, latents)``.
        entries: how many numbers a datum has; no more latents than that could be needed.
        cure: what to try.
    """
    if len(means) < 2:
        return []
    latents = means.shape[1]
    active = int((means.double().var(0) > ACTIVE).sum())
    if active >= max(1.0, USED * min(latents, entries)):
        return []
    seen = f"{active} of {latents} latents tell one datum from another."
    return [Symptom("posterior collapse", seen, cure)]
