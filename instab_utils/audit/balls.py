"""Ball arithmetic on PyTorch tensors: a network runs on a `Ball` in place of a tensor, its own code
unchanged.
"""

import math

import torch
from torch.nn import functional as F

ULP = 1e-12
"""Bounds are moved outward by this, relative to their size and to the values: double precision
rounds a thousand times less.
"""


class Ball:
    """All values point + d with ||d||_2 <= radius in every image; and low <= d <= high elementwise,
    where boxes are kept.

    Args:
        point: (batch, ...) double precision.
        radius: (batch,).
        low, high: (batch, ...) like point, low <= 0 <= high; None: no boxes, norms alone.
        known: norms of layers that were met before, by what decides them. Share it between runs of
            one network.

    Every rule gives ||d'||_2 <= L ||d||_2 with L the layer's Lipschitz constant, an operator norm
    from above for what is linear; and, with boxes, the interval rule of what is affine or monotone.
    Each bound then tightens the other: |d_i| <= radius times the norm of row i of a convolution,
    and radius <= ||max(-low, high)||_2. So the box of pure interval arithmetic is contained.

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
        self.point, self.low, self.high = point, low, high
        self.known = {} if known is None else known
        self.radius = radius * (1 + ULP)
        if low is not None:
            slack = ULP * (point.abs() + high - low)
            low, high = low - slack, high + slack
            self.radius = torch.minimum(
                self.radius, torch.maximum(-low, high).flatten(1).norm(dim=1) * (1 + ULP)
            )
            edge = self.radius.reshape(-1, *[1] * (point.ndim - 1))
            self.low, self.high = torch.maximum(low, -edge), torch.minimum(high, edge)

    @classmethod
    def around(
        cls,
        point: torch.Tensor,
        radius: torch.Tensor,
        boxes: bool = True,
        known: dict | None = None,
    ) -> "Ball":
        """The l2 ball of that radius around every image."""
        edge = radius.reshape(-1, *[1] * (point.ndim - 1)).expand_as(point)
        return cls(point, radius, *((-edge, edge) if boxes else (None, None)), known=known)

    def new(self, point, radius, low=None, high=None):
        return Ball(point, radius, low, high, self.known)

    def positive(self, apply, norm: float, linear=None) -> "Ball":
        """A linear map without negative entries; `apply` may add a constant to `linear`."""
        linear = apply if linear is None else linear
        low, high = (None, None) if self.low is None else (linear(self.low), linear(self.high))
        return self.new(apply(self.point), norm * self.radius, low, high)

    def monotone(self, function, lipschitz: float = 1.0) -> "Ball":
        """A non-decreasing function of every entry, or of groups of entries such as max-pooling."""
        point, low, high = function(self.point), None, None
        if self.low is not None:
            low, high = (
                function(self.point + self.low) - point,
                function(self.point + self.high) - point,
            )
        return self.new(point, lipschitz * self.radius, low, high)

    def bounded(self, function, lipschitz: float) -> "Ball":
        """Any function of every entry with that Lipschitz constant."""
        edge = None if self.low is None else lipschitz * torch.maximum(-self.low, self.high)
        return self.new(
            function(self.point), lipschitz * self.radius, None if edge is None else -edge, edge
        )

    def remembered(self, make, kept, *key) -> float:
        """make() once for that key and that object, which is kept alive: its id names it."""
        key = (id(kept), *key)
        if key not in self.known:
            self.known[key] = make(), kept
        return self.known[key][0]

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        from .rules import RULES

        if func not in RULES:
            raise NotImplementedError(f"no rule for {getattr(func, '__name__', func)}")
        return RULES[func](*args, **(kwargs or {}))

    # what networks ask of their input, and Python's operators
    shape = property(lambda self: self.point.shape)
    ndim = property(lambda self: self.point.ndim)
    device = property(lambda self: self.point.device)
    dtype = property(lambda self: self.point.dtype)

    def __bool__(self):
        raise NotImplementedError("no rule for a branch on a layer's values")

    def dim(self) -> int:
        return self.ndim

    def size(self, axis=None):
        return self.point.size() if axis is None else self.point.size(axis)

    def is_complex(self) -> bool:
        return False

    def contiguous(self, **_):
        return self

    def __getitem__(self, index):
        index = index if isinstance(index, tuple) else (index,)
        untouched = index[0] is Ellipsis and len(index) <= self.ndim or index[0] == slice(None)
        if not untouched or not all(i is Ellipsis or isinstance(i, (slice, int)) for i in index):
            raise NotImplementedError(
                f"no rule for the index {index}; slices after the batch, such as x[..., a:b, c:d], have one"
            )
        return self.positive(lambda t: t[index], 1.0)

    def reshape(self, *shape):
        shape = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
        if (
            shape[0] not in (-1, self.shape[0])
            or self.point.reshape(shape).shape[0] != self.shape[0]
        ):
            raise NotImplementedError(
                f"no rule for a reshape to {shape} of {tuple(self.shape)}; the batch must stay"
            )
        return self.positive(lambda t: t.reshape(shape), 1.0)

    view = reshape

    def flatten(self, start_dim=0, end_dim=-1):
        if start_dim == 0:
            raise NotImplementedError("no rule for a flatten of the batch")
        return self.positive(lambda t: t.flatten(start_dim, end_dim), 1.0)

    def mean(self, dim, keepdim=False):
        dims = tuple(d % self.ndim for d in ((dim,) if isinstance(dim, int) else dim))
        if 0 in dims:
            raise NotImplementedError("no rule for a mean over the batch")
        n = math.prod(self.shape[d] for d in dims)
        return self.positive(lambda t: t.mean(dims, keepdim), n**-0.5)

    def clamp(self, min=None, max=None):
        return self.monotone(lambda t: t.clamp(min, max))

    def relu(self):
        return self.monotone(F.relu)

    def tanh(self):
        return self.monotone(torch.tanh)

    def sigmoid(self):
        return self.monotone(torch.sigmoid, 0.25)

    def abs(self):
        return self.bounded(torch.abs, 1.0)

    def __add__(self, other):
        return torch.add(self, other)

    def __sub__(self, other):
        return torch.add(self, -other)

    def __rsub__(self, other):
        return torch.add(-self, other)

    def __neg__(self):
        return torch.mul(self, -1.0)

    def __mul__(self, other):
        return torch.mul(self, other)

    def __truediv__(self, other):
        if isinstance(other, Ball):
            raise NotImplementedError("no rule for a quotient of two layers")
        return torch.mul(self, 1 / other)

    __radd__, __rmul__ = __add__, __mul__
