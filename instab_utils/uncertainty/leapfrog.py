"""Leapfrog steps of Hamiltonian dynamics, many chains at once."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Point(NamedTuple):
    """Where chains are."""

    theta: Tensor  # (chains, P)
    value: Tensor  # (chains,): the log density, float64
    gradient: Tensor  # (chains, P): of the log density


def at(log_density: Callable, theta: Tensor) -> Point:
    """Evaluate a log density and its gradient at theta (chains, P)."""
    with torch.enable_grad():
        value = log_density(theta := theta.detach().requires_grad_())
        gradient = torch.autograd.grad(value.sum(), theta)[0]
    return Point(theta.detach(), value.detach().double(), gradient)


def leapfrog(
    log_density: Callable,
    start: Point,
    momentum: Tensor,
    step: Tensor,
    n_steps: int,
    inverse_mass: Tensor,
) -> tuple[Point, Tensor, Tensor]:
    """Return (end, momentum, energy error) of n_steps leapfrog steps of H = U + p^T M^-1 p / 2.

    A step is  p += step/2 grad;  theta += step p / M;  p += step/2 grad,  grad the gradient of
    -U; the half kicks of two steps in succession are one. A chain rests, with value -inf, where
    value or gradient are not finite: the log density is never evaluated at theta = NaN.

    Args:
        momentum: (chains, P); step: (chains,), a step size for each chain.
        inverse_mass: (P,), the diagonal of M^-1.
    """
    step = step[:, None]
    theta, drift = start.theta.clone(), step * inverse_mass
    p = momentum.addcmul(step, start.gradient, value=0.5)
    for left in range(n_steps, 0, -1):
        _, value, gradient = at(log_density, theta.addcmul_(drift, p))
        alive = torch.isfinite(value) & torch.isfinite(gradient.sum(1))
        value = torch.where(alive, value, -math.inf)
        gradient = torch.where(alive[:, None], gradient, 0)
        p = torch.where(alive[:, None], p, 0)
        p.addcmul_(step, gradient, value=1.0 if left > 1 else 0.5)
    kinetic = [(q.square() * inverse_mass).sum(1, dtype=torch.float64) / 2 for q in (momentum, p)]
    error = start.value - value + kinetic[1] - kinetic[0]
    error = torch.where(torch.isfinite(error), error, math.inf)
    return Point(theta, value, gradient), p, error
