"""The density of the probability flow: what its equation does to log p, followed from data to noise.

Along du / dphi = v(u, phi), in the angle of the process, log p(u) falls by the divergence of v (Chen et al. 2018,
https://arxiv.org/abs/1806.07366; Song et al. 2021, section D.2, https://arxiv.org/abs/2011.13456):

    log p(u_0) = log N(u_end; 0, 1) + integral of div v dphi

The divergence is estimated by Hutchinson's trace, r^T (dv / du) r with random signs r, which are the same all along
the way; so the number is an estimate, without bias but for the steps of the integration and the start a little way
from the data.
"""

from itertools import pairwise

import torch
from torch import Tensor

from genus.models.diffusion._denoiser import Denoiser
from genus.models.diffusion._process import GaussianProcess
from genus.models.diffusion._samplers import State, classical, slope
from genus.prob import gaussian, noise


def log_density(
    process: GaussianProcess,
    denoise: Denoiser,
    x_0: Tensor,
    steps: int = 50,
    nearest: float = 1e-3,
    generator: torch.Generator | None = None,
) -> Tensor:
    """log p(x_0) in nats of ``x_0``'s own units, ``(B,)`` float64, from one draw of the signs.

    steps: of the classical Runge-Kutta method, 4 calls and 4 gradients each. nearest: the angle that is taken for
    that of data.
    """
    signs = 2.0 * noise.integers(2, tuple(x_0.shape), generator, x_0.device).to(x_0) - 1
    last = float(process.angle(torch.ones(1)))
    angles = path(nearest, last, steps)

    def both(u: Tensor, angle: float) -> State:
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            v = slope(process, denoise, u, angle)
            (back,) = torch.autograd.grad(v, u, signs)
        return v.detach(), (back * signs).double().flatten(1).sum(1)

    state: State = (x_0.detach(), x_0.new_zeros(len(x_0), dtype=torch.float64))
    for start, end in pairwise(angles):
        state = classical(both, state, start, end)
    u, total = state
    return gaussian.log_prob(u.double(), torch.zeros(()), torch.zeros(())).flatten(1).sum(1) + total


def path(first: float, last: float, steps: int) -> list[float]:
    """steps + 1 angles from ``first`` to ``last``: the finer the nearer to the data."""
    if steps < 2:
        raise ValueError(f"expected 2 or more steps of the integration; got {steps}.")
    exponent = 3.0
    root = [first ** (1 / exponent), last ** (1 / exponent)]
    return [(root[0] + k / steps * (root[1] - root[0])) ** exponent for k in range(steps + 1)]
