"""Gaussian noise processes: how data drown in noise, and what follows from it in closed form.

    x_t = alpha_t x_0 + sigma_t eps,    eps ~ N(0, 1),    t from 0 (data) to 1 (noise)

A process is its two curves alpha_t and sigma_t. All that samplers and bounds need follows from them
for any two times s < t, whether the process has steps or none:

    q(x_t | x_s)      = N( alpha_ts x_s, sigma_ts^2 ),   alpha_ts = alpha_t / alpha_s,
                                                          sigma_ts^2 = sigma_t^2 - alpha_ts^2 sigma_s^2
    q(x_s | x_t, x_0) = N( alpha_ts sigma_s^2 / sigma_t^2 x_t + alpha_s sigma_ts^2 / sigma_t^2 x_0,
                           sigma_ts^2 sigma_s^2 / sigma_t^2 )

(Kingma et al. 2021, appendix A, https://arxiv.org/abs/2107.00630; for steps of one they are equations
4, 6 and 7 of Ho et al. 2020.) Nothing here knows the shape of a datum: pictures, rows and clouds are
all ``(B, ...)``. Times are ``(B,)`` in float64.

Every process turns by the same angle, phi = atan(sigma / alpha) from 0 to 90 degrees, whatever its
scale: what depends on the process is only at which time it has come how far (`time_at`).
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class GaussianProcess(nn.Module, ABC):
    """q: how data become noise. Subclasses give the two curves, and the time of an angle."""

    @abstractmethod
    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma in float64 at times in [0, 1] of any shape; sigma is 0 at time 0."""

    @abstractmethod
    def time_at(self, angle: Tensor) -> Tensor:
        """The time at which sigma / alpha = tan(angle), for angles that the process passes."""

    def at(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma of each datum in float64, shaped to broadcast with ``like``."""
        shape = (-1, *[1] * (like.ndim - 1))
        alpha, sigma = self.alpha_sigma(t.double())
        return alpha.view(shape), sigma.view(shape)

    def angle(self, t: Tensor) -> Tensor:
        """atan(sigma / alpha), from 0 where all is data to pi / 2 where all is noise."""
        alpha, sigma = self.alpha_sigma(t.double())
        return torch.atan2(sigma, alpha)

    def diffuse(self, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """A draw of q(x_t | x_0) made of standard normal ``eps``."""
        alpha, sigma = self.at(t, x_0)
        return alpha.to(x_0) * x_0 + sigma.to(x_0) * eps

    def eps_of(self, x_t: Tensor, x_0: Tensor, t: Tensor) -> Tensor:
        """The noise that turns x_0 into x_t."""
        alpha, sigma = self.at(t, x_t)
        return (1 / sigma).to(x_t) * x_t - (alpha / sigma).to(x_t) * x_0

    def transition(self, t: Tensor, s: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha_ts and sigma_ts^2 of q(x_t | x_s) for s < t, in float64."""
        (alpha_t, sigma_t), (alpha_s, sigma_s) = self.at(t, like), self.at(s, like)
        alpha = alpha_t / alpha_s
        return alpha, sigma_t.square() - (alpha * sigma_s).square()

    def posterior(self, x_t: Tensor, x_0: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of q(x_s | x_t, x_0) for s < t; the variance broadcasts with x_t."""
        (_, sigma_t), (alpha_s, sigma_s) = self.at(t, x_t), self.at(s, x_t)
        alpha, variance = self.transition(t, s, x_t)
        from_x_t = alpha * (sigma_s / sigma_t).square()
        from_x_0 = alpha_s * variance / sigma_t.square()
        mean = from_x_t.to(x_t) * x_t + from_x_0.to(x_t) * x_0
        return mean, (variance * (sigma_s / sigma_t).square()).to(x_t)


class Steps(GaussianProcess):
    """T small steps (Ho et al. 2020): q(x_k | x_{k-1}) = N( sqrt(1 - beta_k) x_{k-1}, beta_k ), alpha^2 + sigma^2 = 1.

    Step k is time k / T. Between two steps log alpha is a line, so the process has all times.

    betas: ``(T,)`` variances of the single steps, each in (0, 1).
    """

    log_kept: Tensor

    def __init__(self, betas: Tensor):
        super().__init__()
        if betas.ndim != 1 or len(betas) < 2 or not ((betas > 0) & (betas < 1)).all():
            raise ValueError(f"expected at least two betas in (0, 1), shape (T,); got {betas}.")
        log_kept = torch.log1p(-betas.double()).cumsum(0)
        self.register_buffer("log_kept", torch.cat([log_kept.new_zeros(1), log_kept]))  # log alpha_bar, (T + 1,)

    @property
    def steps(self) -> int:
        """T, the number of steps from data to noise."""
        return len(self.log_kept) - 1

    @property
    def log_alpha_bar(self) -> Tensor:
        """log alpha_k^2 of the steps 0 .. T, ``(T + 1,)`` float64."""
        return self.log_kept

    @property
    def alpha_bar(self) -> Tensor:
        """alpha_k^2 of the steps 0 .. T, ``(T + 1,)`` float64."""
        return self.log_alpha_bar.exp()

    def time(self, step: Tensor) -> Tensor:
        """When a step ends: k / T in float64."""
        return step.double() / self.steps

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """On a line in log alpha between the two steps next to ``t``."""
        place = (t.double() * self.steps).clamp(0, self.steps)
        left = place.floor().long().clamp(max=self.steps - 1)
        log_kept = torch.lerp(self.log_alpha_bar[left], self.log_alpha_bar[left + 1], place - left)
        variance = -torch.expm1(log_kept)
        some = variance > 0  # a root has no gradient at 0, and learned rates want one
        return torch.exp(0.5 * log_kept), torch.where(some, torch.where(some, variance, 1.0).sqrt(), 0.0)

    def time_at(self, angle: Tensor) -> Tensor:
        """The inverse of that line: alpha = cos(angle)."""
        log_kept, table = 2 * torch.log(torch.cos(angle.double())), self.log_alpha_bar
        right = torch.searchsorted(-table, -log_kept.contiguous()).clamp(1, self.steps)
        return (right - 1 + (log_kept - table[right - 1]) / (table[right] - table[right - 1])) / self.steps


class LearnedSteps(Steps):
    """Steps whose betas are learned with the network, from 1 / T for the first to 1 / 2 for the last (Sohl-Dickstein et
    al. 2015, section 2.4.1 and the authors' code, https://arxiv.org/abs/1503.03585).

    Their log-odds move by ``bumps`` smooth bumps along the steps; none falls below 1e-6, the first not below 1e-3,
    so that a density of repeated values stays bounded.
    """

    offset: Tensor
    least: Tensor
    basis: Tensor

    def __init__(self, steps: int, bumps: int = 10):
        even = 1 / torch.linspace(steps, 2, steps, dtype=torch.float64)
        super().__init__(even)
        least = torch.full((steps,), 1e-6, dtype=torch.float64)
        least[0] = 1e-3
        place, centre = torch.linspace(0, 1, steps).double()[:, None], torch.linspace(0, 1, bumps).double()
        self.register_buffer("offset", torch.logit(even))
        self.register_buffer("least", least)
        self.register_buffer("basis", (-((place - centre) * bumps).square() / 2).softmax(1))
        self.move = nn.Parameter(torch.zeros(bumps))

    @property
    def log_alpha_bar(self) -> Tensor:
        """As the learned betas have it; differentiable."""
        odds = self.offset + self.basis @ self.move.double()
        betas = self.least + (1 - self.least - 1e-5) * torch.sigmoid(odds)
        log_kept = torch.log1p(-betas).cumsum(0)
        return torch.cat([log_kept.new_zeros(1), log_kept])


class RectifiedFlow(GaussianProcess):
    """alpha = 1 - t, sigma = t: the straight line from the datum to its noise (Lipman et al. 2023,
    https://arxiv.org/abs/2210.02747, with time turned round; Liu et al. 2023, https://arxiv.org/abs/2209.03003)."""

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The line."""
        return 1 - t.double(), t.double()

    def time_at(self, angle: Tensor) -> Tensor:
        """tan(angle) = t / (1 - t)."""
        return torch.sin(angle) / (torch.sin(angle) + torch.cos(angle))


class VarianceExploding(GaussianProcess):
    """alpha = 1, sigma = largest * t^rho: data stay where they are and noise covers them (Karras et al. 2022,
    https://arxiv.org/abs/2206.00364; evenly spaced times are the noise levels of their equation 5).

    At time 1 data of size one are not quite gone: sampling starts with the standard deviation of both.
    """

    def __init__(self, largest: float = 80.0, rho: float = 7.0):
        super().__init__()
        if largest <= 0 or rho < 1:
            raise ValueError(f"expected largest > 0 and rho >= 1; got {largest} and {rho}.")
        self.largest, self.rho = largest, rho

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """1, and the noise."""
        return torch.ones_like(t, dtype=torch.float64), self.largest * t.double() ** self.rho

    def time_at(self, angle: Tensor) -> Tensor:
        """tan(angle) = largest * t^rho."""
        return (torch.tan(angle.double()) / self.largest) ** (1 / self.rho)


class LogLinear(GaussianProcess):
    """log(sigma^2 / alpha^2) = gamma on a line from ``first`` to ``last``, alpha^2 + sigma^2 = 1 (Kingma et al. 2021,
    section 3.2, https://arxiv.org/abs/2107.00630). Time 0 itself is the datum: the line begins right after."""

    def __init__(self, first: float, last: float):
        super().__init__()
        if not first < last:
            raise ValueError(f"expected gamma to rise; got {first} to {last}.")
        self.first, self.last = first, last

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Roots of logistic functions of gamma."""
        t = t.double()
        gamma = torch.where(t > 0, self.first + (self.last - self.first) * t, -torch.inf)
        return torch.sigmoid(-gamma).sqrt(), torch.sigmoid(gamma).sqrt()

    def time_at(self, angle: Tensor) -> Tensor:
        """tan(angle)^2 = exp(gamma)."""
        return (2 * torch.log(torch.tan(angle.double())) - self.first) / (self.last - self.first)


# --- how fast a process of steps drowns its data -----------------------------------------


def linear_betas(steps: int, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """beta_1 .. beta_T on a line (Ho et al. 2020, section 4)."""
    return torch.linspace(first, last, steps, dtype=torch.float64).clamp(max=0.999)


def betas_of(alpha_bar: Tensor) -> Tensor:
    """The betas of alpha_bar_0 .. alpha_bar_T, none above 0.999."""
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)


def cosine_betas(steps: int, offset: float = 0.008) -> Tensor:
    """The betas for which alpha_bar falls like a squared cosine (Nichol & Dhariwal 2021,
    equation 17, https://arxiv.org/abs/2102.09672)."""
    t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return betas_of(torch.cos((t + offset) / (1 + offset) * torch.pi / 2).square())


def sigmoid_betas(steps: int, start: float = -3.0, end: float = 3.0) -> Tensor:
    """The betas for which alpha_bar falls like a sigmoid from ``start`` to ``end``, scaled to run from 1 to 0
    (Jabri et al. 2023, algorithm 1, https://arxiv.org/abs/2212.11972)."""
    t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    s = torch.sigmoid(-(start + t * (end - start)))
    return betas_of((s - s[-1]) / (s[0] - s[-1]))
