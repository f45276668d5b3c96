"""Optimisers and schedules of the trainings."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn

from .ipalm import IPALM


def _cosine(step: int, steps: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def _warm_cosine(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / 100) * _cosine(step, steps)


def _constant(step: int, steps: int) -> float:
    return 1.0


def _halving(step: int, steps: int) -> float:
    return 0.5 ** (3 * step // steps)


def _falling(step: int, steps: int) -> float:
    return 10 ** -min(1.0, 5 * step / steps)


SCHEDULES: dict[str, Callable[[int, int], float]] = {
    "constant": _constant,
    "cosine": _warm_cosine,
    "decay": _cosine,
    "halving": _halving,
    "falling": _falling,
}
"""Factor of the learning rate at a step. "decay" is a cosine, "cosine" warms up over 100 steps
before it; "halving" halves it after each third (DAGAN: every 5 of 15 epochs); "falling" is
FBPConvNet's: logarithmically to a tenth after a fifth (20 of 101 epochs), then constant."""


class ClippedSGD(torch.optim.Optimizer):
    """v <- momentum v - g - decay w;  w <- w + clip(lr v, -limit, limit): clips the update.

    As in the training code of Jin et al. 2017 (FBPConvNet), where it is called gradient clipping.
    """

    def __init__(
        self,
        parameters: Iterable,
        lr: float,
        momentum: float = 0.99,
        limit: float = 1e-2,
        weight_decay: float = 0.0,
    ):
        options = {"lr": lr, "momentum": momentum, "limit": limit, "weight_decay": weight_decay}
        super().__init__(parameters, options)

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for w in (w for w in group["params"] if w.grad is not None):
                v = self.state[w].setdefault("velocity", torch.zeros_like(w))
                v.mul_(group["momentum"]).sub_(w.grad).sub_(w, alpha=group["weight_decay"])
                w.add_((group["lr"] * v).clamp_(-group["limit"], group["limit"]))


_KINDS = {
    "adam": (torch.optim.Adam, {"fused": True}),
    "rmsprop": (torch.optim.RMSprop, {"foreach": True}),
    "clipped-sgd": (ClippedSGD, {}),
    "ipalm": (IPALM, {}),
}


def optimiser(
    kind: str, parameters: Iterable[nn.Parameter], lr: float, **options
) -> torch.optim.Optimizer:
    """Return "adam" or "rmsprop" in its fastest form, FBPConvNet's "clipped-sgd", MRI-VN's "ipalm".

    Raises:
        ValueError: for an unknown kind.
    """
    if kind not in _KINDS:
        raise ValueError(f"optimiser expects one of {', '.join(_KINDS)}; got {kind!r}.")
    make, fastest = _KINDS[kind]
    return make(list(parameters), lr, **fastest, **options)
