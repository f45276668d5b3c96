"""Ball arithmetic: a network runs, unchanged, on a `Ball` in place of a tensor."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

ULP = 1e-12
"""Outward rounding of bounds, relative; double precision rounds a thousand times less."""
RULES: dict[Callable, Callable] = {}
"""What a function of PyTorch does to a ball; `rules` fills it."""


class Ball:
    """All values point + d with ||d||_2 <= radius in every image.

    Every rule gives ||d'||_2 <= L ||d||_2 with L the layer's Lipschitz constant, an operator norm
    from above for linear layers.

    Args:
        point: (batch, ...) double precision.
        radius: (batch,).

    Raises:
        NotImplementedError: for a function without a rule, naming it.
    """

    def __init__(self, point: torch.Tensor, radius: torch.Tensor):
        self.point = point
        self.radius = radius * (1 + ULP)

    def mapped(self, function: Callable, lipschitz: float = 1.0) -> Ball:
        """Return a ball around function(point) that holds the function's values on this one."""
        return Ball(function(self.point), lipschitz * self.radius)

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func not in RULES:
            raise NotImplementedError(f"no rule for {getattr(func, '__name__', func)}")
        return RULES[func](*args, **(kwargs or {}))

    def __getattr__(self, name: str):
        """Return what the point has (`shape`), or a tensor's method (`relu`) by its rule."""
        if name in ("shape", "ndim", "device", "dtype", "dim", "size"):
            return getattr(self.point, name)
        if name.startswith("__"):
            raise AttributeError(name)
        rule = RULES.get(getattr(torch.Tensor, name, None))
        if rule is None:
            raise NotImplementedError(f"no rule for {name}")
        return functools.partial(rule, self)

    def is_complex(self) -> bool:
        return False

    def contiguous(self, **_) -> Ball:
        return self

    def __bool__(self) -> bool:
        raise NotImplementedError("no rule for a branch on a layer's values")

    def __getitem__(self, index) -> Ball:
        index = index if isinstance(index, tuple) else (index,)
        batch_stays = index[0] is Ellipsis and len(index) <= self.ndim or index[0] == slice(None)
        slices = all(i is Ellipsis or isinstance(i, slice | int) for i in index)
        if not (batch_stays and slices):
            raise NotImplementedError(
                f"no rule for the index {index}; "
                "slices after the batch, such as x[..., a:b, c:d], have one"
            )
        return self.mapped(lambda t: t[index])

    def __add__(self, other) -> Ball:
        return torch.add(self, other)

    def __sub__(self, other) -> Ball:
        return torch.add(self, -other)

    def __rsub__(self, other) -> Ball:
        return torch.add(-self, other)

    def __neg__(self) -> Ball:
        return torch.mul(self, -1.0)

    def __mul__(self, other) -> Ball:
        return torch.mul(self, other)

    def __truediv__(self, other) -> Ball:
        if isinstance(other, Ball):
            raise NotImplementedError("no rule for a quotient of two layers")
        return torch.mul(self, 1 / other)

    __radd__, __rmul__ = __add__, __mul__
