"""Interval arithmetic on tensors: a network's own `forward` runs on an `Interval` for a tensor."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Box(NamedTuple):
    """Bounds of one layer: tensors; those of the bias are None for a layer without one."""

    weight_lower: Tensor
    weight_upper: Tensor
    bias_lower: Tensor | None
    bias_upper: Tensor | None


class Interval:
    """Values that lie in [lower, upper], elementwise, (batch, channels, ...).

    Args:
        point: (batch, c, ...) the values for the weights as they are; None where they are not
            followed.
        both: (batch, 2c, ...) the lower bounds, then the upper ones, so that a monotone function
            is one call; None before the first layer with intervals: there lower = upper = point,
            at the cost of a plain network.
        nonnegative: True where lower >= 0 is certain. Then a layer takes the two-term rule, else
            the four-term rule.
        boxes: bounds of the layers that have them, by the `id` of their weight tensor.
        keep_point: follow `point` beyond the first layer with intervals.

    PyTorch's functions arrive in `__torch_function__`. Convolution, transposed convolution and
    linear layers use `affine`; monotone functions act on both bounds; cat, +, -, x, /, slices and
    batch norm in evaluation mode follow the usual rules; dropout draws one mask for both bounds.
    Instance and group norm take mean and variance from `point`.

    Raises:
        NotImplementedError: for any other function, with its name.
    """

    def __init__(
        self,
        point: Tensor | None,
        both: Tensor | None = None,
        nonnegative: bool = False,
        boxes: Mapping[int, Box] | None = None,
        keep_point: bool = True,
    ):
        self.point = point
        self.both = both
        self.nonnegative = nonnegative
        self.boxes = boxes or {}
        self.keep_point = keep_point

    def new(
        self, point: Tensor | None, both: Tensor | None, nonnegative: bool = False
    ) -> "Interval":
        """Return an interval of other values in the same network."""
        return Interval(point, both, nonnegative, self.boxes, self.keep_point)

    def map(self, function: Callable, nonnegative: bool | None = None) -> "Interval":
        """Return `function` of point and bounds; non-decreasing, channel by channel."""
        sign = self.nonnegative if nonnegative is None else nonnegative
        return self.new(_known(function, self.point), _known(function, self.both), sign)

    @property
    def lower(self) -> Tensor:
        return self.point if self.both is None else self.both.chunk(2, 1)[0]

    @property
    def upper(self) -> Tensor:
        return self.point if self.both is None else self.both.chunk(2, 1)[1]

    @property
    def stacked(self) -> Tensor:
        """(batch, 2c, ...) lower and upper bounds, also before the first layer with intervals."""
        return torch.cat([self.point, self.point], 1) if self.both is None else self.both

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func not in _RULES:
            name = getattr(func, "__name__", func)
            known = ", ".join(sorted({f.__name__ for f in _RULES}))
            raise NotImplementedError(
                f"interval arithmetic has no rule for {name}; it knows {known}. "
                "Give fewer layers an interval, or add a rule to _RULES."
            )
        return _RULES[func](*args, **(kwargs or {}))

    # what networks ask of their input, and Python's operators
    shape = property(lambda self: self.lower.shape)
    ndim = property(lambda self: self.lower.ndim)
    device = property(lambda self: self.lower.device)
    dtype = property(lambda self: self.lower.dtype)

    def dim(self) -> int:
        return self.ndim

    def __getitem__(self, index):
        if index[0] is not Ellipsis and index[:2] != (slice(None), slice(None)):
            raise NotImplementedError(
                f"an Interval is sliced in rows and columns only, x[..., a:b, c:d]; got x[{index}]."
            )
        return self.map(lambda t: t[index])

    def __add__(self, other):
        return _add(self, other)

    def __sub__(self, other):
        return _add(self, -other)

    def __rsub__(self, other):
        return _add(-self, other)

    def __neg__(self):
        return _multiply(self, -1.0)

    def __mul__(self, other):
        return _multiply(self, other)

    def __truediv__(self, other):
        return _multiply(self, 1 / other)

    __radd__ = __add__
    __rmul__ = __mul__


def affine(
    x: Interval,
    box: Box | None,
    weight: Tensor,
    bias: Tensor | None,
    apply: Callable,
    channels: int,
) -> Interval:
    """Return bounds of W x + b for all x in [lo, hi], W in [W_lo, W_hi], b in [b_lo, b_hi].

    Two-term rule, for lo >= 0:

        lower = W_lo^+ lo + W_lo^- hi + b_lo
        upper = W_hi^- lo + W_hi^+ hi + b_hi

    Four-term rule, with t^+ = max(t, 0), t^- = min(t, 0):

        lower = W_lo^+ lo^+ + W_lo^- hi^+ + W_hi^+ lo^- + W_hi^- hi^- + b_lo
        upper = W_hi^- lo^+ + W_hi^+ hi^+ + W_lo^- lo^- + W_lo^+ hi^- + b_hi

    Both are exact; the second is slightly too wide where lo < 0 < hi and W_lo < 0 < W_hi. Bounds
    are stacked along the channels, so that a rule is one call per sign of x, on the weights
    [[W_lo^+, W_lo^-], [W_hi^-, W_hi^+]].

    Args:
        box: bounds of this layer; None: its weights are exact.
        apply: (x, weight, bias) -> the layer's output.
        channels: axis of the weight with the input channels (0 for transposed convolutions, else
            1); the other holds the output's.

    Source: Oala et al., App. A.2 (two terms); their code (four terms).
    """
    followed = x.both is None or x.keep_point
    point = apply(x.point, weight, bias) if followed else None
    if x.both is None and box is None:
        return x.new(point, None)
    low, high, bias_low, bias_high = box or Box(weight, weight, bias, bias)
    biases = None if bias_low is None else torch.cat([bias_low, bias_high])
    if x.both is None:  # lo = hi: half the work
        inputs, weights = x.point, _stacked_weights
    else:
        inputs, weights = x.both, _crossed_weights
    if x.nonnegative:
        both = apply(inputs, weights(low, high, channels), biases)
    else:
        positive = apply(inputs.clamp_min(0), weights(low, high, channels), biases)
        both = positive + apply(inputs.clamp_max(0), weights(high, low, channels), None)
    return x.new(point if x.keep_point else None, both)


def _stacked_weights(low, high, channels):
    return torch.cat([low, high], 1 - channels)


def _crossed_weights(low, high, channels):
    of_lower = torch.cat([low.clamp_min(0), low.clamp_max(0)], channels)
    of_upper = torch.cat([high.clamp_max(0), high.clamp_min(0)], channels)
    return torch.cat([of_lower, of_upper], 1 - channels)


def _layer(function: Callable, channels: int) -> Callable:
    """Return the rule of a layer whose weight has the input channels on axis `channels`."""

    def rule(x, weight, bias=None, *args, **options):
        groups = args[3] if len(args) > 3 else options.get("groups", 1)
        if groups != 1 or (function is F.linear and x.ndim != 2):
            raise NotImplementedError(
                "interval arithmetic takes convolutions with groups = 1, and linear layers on "
                f"(batch, features); got {function.__name__}, groups = {groups}, {x.ndim} axes."
            )

        def apply(inputs, weight, bias):
            return function(inputs, weight, bias, *args, **options)

        return affine(x, x.boxes.get(id(weight)), weight, bias, apply, channels)

    return rule


def _known(function, *values):
    """Return function(*values), or None where one of them is None."""
    return None if any(value is None for value in values) else function(*values)


def _add(x, other):
    if not isinstance(other, Interval):
        if not isinstance(other, Tensor) or other.ndim == 0:
            return x.map(lambda t: t + other, x.nonnegative and bool(other >= 0))
        other = x.new(other, None)
    point = _known(torch.add, x.point, other.point)
    exact = x.both is None and other.both is None
    both = None if exact else x.stacked + other.stacked
    return x.new(point, both, x.nonnegative and other.nonnegative)


def _multiply(x, factor):
    """Return factor x, for a number or for a tensor that broadcasts to one of the bounds."""
    if getattr(factor, "dtype", None) == torch.bool:  # a dropout mask
        positive = True
    else:  # to look at a tensor on a GPU would be to wait for it
        known = not isinstance(factor, Tensor) or factor.device.type == "cpu"
        positive = known and bool((torch.as_tensor(factor) >= 0).all())
    point = _known(lambda t: t * factor, x.point)
    both = None
    if x.both is not None:
        low, high = x.lower, x.upper
        if not positive:  # minimum and maximum would halve the gradient where low = high
            swap = torch.as_tensor(factor, device=low.device) < 0
            low, high = torch.where(swap, high, low), torch.where(swap, low, high)
        both = torch.cat([low * factor, high * factor], 1)
    return x.new(point, both, x.nonnegative and positive)


def _cat(parts, dim=0):
    first = next(p for p in parts if isinstance(p, Interval))
    if dim not in (1, 1 - first.ndim):
        raise NotImplementedError(
            f"interval arithmetic concatenates channels, dim = 1; got dim = {dim}."
        )
    parts = [p if isinstance(p, Interval) else first.new(p, None) for p in parts]
    point = _known(lambda *points: torch.cat(points, 1), *(p.point for p in parts))
    both = None
    if any(p.both is not None for p in parts):
        both = torch.cat([*(p.lower for p in parts), *(p.upper for p in parts)], 1)
    return first.new(point, both, all(p.nonnegative for p in parts))


def _dropout(x, p=0.5, training=True, inplace=False):
    if not training or not p:
        return x
    return _multiply(x, F.dropout(torch.ones_like(x.lower), p, True))


def _batch_norm(x, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    if training:
        raise NotImplementedError(
            "interval arithmetic needs batch norm in evaluation mode: call net.eval() first."
        )
    point = x.point
    if point is not None:
        point = F.batch_norm(point, mean, var, weight, bias, False, momentum, eps)
    return _normalised(x, point, mean[None], var[None], weight, bias, eps)


def _group_norm(x, n_groups, weight=None, bias=None, eps=1e-5):
    if x.point is None:
        raise NotImplementedError(
            "group norm takes its statistics from the point values: needs keep_point=True."
        )
    point = F.group_norm(x.point, n_groups, weight, bias, eps)
    grouped = x.point.unflatten(1, (n_groups, -1)).flatten(2)
    per_group = x.shape[1] // n_groups
    mean = grouped.mean(2).repeat_interleave(per_group, 1)
    var = grouped.var(2, correction=0).repeat_interleave(per_group, 1)
    return _normalised(x, point, mean, var, weight, bias, eps)


def _normalised(x, point, mean, var, weight, bias, eps):
    """Return weight (x - mean) / std + bias, point known; mean and var (batch or 1, channels)."""
    if x.both is None:
        return x.new(point, None)
    gain = (var + eps).rsqrt() * (1 if weight is None else weight)
    shift = (0 if bias is None else bias) - mean * gain
    ones = [1] * (x.ndim - 2)
    bounds = x.new(None, x.both) * gain.reshape(*gain.shape, *ones)
    shift = shift.reshape(*shift.shape, *ones)
    return x.new(point, bounds.both + torch.cat([shift, shift], 1))


def _pad(x, pad, mode="constant", value=None):
    if len(pad) > 2 * (x.ndim - 2):
        raise NotImplementedError(
            f"interval arithmetic pads rows and columns only; got pad = {pad}."
        )
    return x.map(lambda t: F.pad(t, pad, mode, value), x.nonnegative and (value or 0) >= 0)


def _interpolate(x, *args, mode="nearest", **options):
    if mode == "bicubic":  # has negative weights
        raise NotImplementedError(
            'interval arithmetic up-samples with mode "nearest", "bilinear" or "area".'
        )
    return x.map(lambda t: F.interpolate(t, *args, mode=mode, **options))


def _monotone(function: Callable, nonnegative: bool | None = None) -> Callable:
    """Return the rule of a non-decreasing function; `nonnegative`: the sign of its values."""

    def rule(x, *args, **options):
        return x.map(lambda t: function(t, *args, **options), nonnegative)

    return rule


def _like(function: Callable) -> Callable:
    """Return the rule of a mask that a network draws "like x": it has the shape of one bound."""

    def rule(x, **options):
        return function(x.lower, **options)

    return rule


_RULES = {
    torch.conv2d: _layer(F.conv2d, 1),
    F.conv2d: _layer(F.conv2d, 1),
    F.conv_transpose2d: _layer(F.conv_transpose2d, 0),
    F.linear: _layer(F.linear, 1),
    F.relu: _monotone(F.relu, True),
    torch.relu: _monotone(torch.relu, True),
    torch.sigmoid: _monotone(torch.sigmoid, True),
    torch.tanh: _monotone(torch.tanh),
    torch.max_pool2d: _monotone(F.max_pool2d),
    F.max_pool2d: _monotone(F.max_pool2d),
    F.avg_pool2d: _monotone(F.avg_pool2d),
    F.interpolate: _interpolate,
    F.pad: _pad,
    torch.cat: _cat,
    F.dropout: _dropout,
    F.batch_norm: _batch_norm,
    F.group_norm: _group_norm,
    torch.add: _add,
    torch.Tensor.add: _add,
    torch.sub: lambda x, y: x - y,
    torch.mul: lambda x, y: x * y,
    torch.Tensor.__add__: lambda x, y: y + x,
    torch.Tensor.__sub__: lambda x, y: x - y,
    torch.Tensor.__rsub__: lambda x, y: y - x,
    torch.Tensor.__mul__: lambda x, y: x * y,
    torch.empty_like: _like(torch.empty_like),
    torch.ones_like: _like(torch.ones_like),
}
