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
    """All values point + d with ||d||_2 <= radius in every image and low <= d <= high elementwise.

    Every rule gives ||d'||_2 <= L ||d||_2 with L the layer's Lipschitz constant, an operator norm
    from above for linear layers; and, with a box, the interval rule of affine or monotone layers.
    Each bound then tightens the other: |d_i| <= radius times the norm of row i of a convolution,
    and radius <= ||max(-low, high)||_2, so the box of pure interval arithmetic is contained.

    Args:
        point: (batch, ...) double precision.
        radius: (batch,).
        low, high: (batch, ...) like point, low <= 0 <= high; both or neither (norms alone).
        known: norms of layers computed before, by what decides them. Share it between runs of one
            network.

    Raises:
        NotImplementedError: for a function without a rule, naming it.
    """

    def __init__(
        self,
        point: torch.Tensor,
        radius: torch.Tensor,
        low: torch.Tensor | None = None,
        high: torch.Tensor | None = None,
        known: dict | None = None,
    ):
        self.point = point
        self.known = {} if known is None else known
        self.radius = radius * (1 + ULP)
        self.box = ()
        if low is None:
            return
        slack = ULP * (point.abs() + high - low)
        low, high = low - slack, high + slack
        corner = torch.maximum(-low, high).flatten(1).norm(dim=1)
        self.radius = torch.minimum(self.radius, corner * (1 + ULP))
        edge = self.over(self.radius)
        self.box = torch.maximum(low, -edge), torch.minimum(high, edge)

    @classmethod
    def around(
        cls,
        point: torch.Tensor,
        radius: torch.Tensor,
        boxes: bool = True,
        known: dict | None = None,
    ) -> Ball:
        """Return the l2 ball of that radius around every image."""
        edge = radius.reshape(-1, *[1] * (point.ndim - 1)).expand_as(point)
        box = (-edge, edge) if boxes else (None, None)
        return cls(point, radius, *box, known=known)

    def new(self, point: torch.Tensor, radius: torch.Tensor, *box: torch.Tensor) -> Ball:
        return Ball(point, radius, *(box or (None, None)), known=self.known)

    def over(self, values: torch.Tensor) -> torch.Tensor:
        """Return (batch,) values shaped to multiply the point."""
        return values.reshape(-1, *[1] * (self.point.ndim - 1))

    def positive(self, apply: Callable, norm: float, linear: Callable | None = None) -> Ball:
        """Apply a linear map without negative entries; `apply` may add a constant to `linear`."""
        box = map(linear or apply, self.box)
        return self.new(apply(self.point), norm * self.radius, *box)

    def monotone(self, function: Callable, lipschitz: float = 1.0) -> Ball:
        """Apply a non-decreasing function of every entry, or of groups of entries (max-pooling)."""
        point = function(self.point)
        box = [function(self.point + edge) - point for edge in self.box]
        return self.new(point, lipschitz * self.radius, *box)

    def bounded(self, function: Callable, lipschitz: float) -> Ball:
        """Apply any function of every entry with that Lipschitz constant."""
        box = ()
        if self.box:
            edge = lipschitz * torch.maximum(-self.box[0], self.box[1])
            box = -edge, edge
        return self.new(function(self.point), lipschitz * self.radius, *box)

    def remembered(self, compute: Callable[[], float], owner: object, *key: object) -> float:
        """Return compute(), computed once for key and owner, which is kept alive for its id."""
        key = (id(owner), *key)
        if key not in self.known:
            self.known[key] = compute(), owner
        return self.known[key][0]

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
        return self.positive(lambda t: t[index], 1.0)

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
