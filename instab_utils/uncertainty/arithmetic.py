"""Interval arithmetic on PyTorch tensors: a network runs on an `Interval` in place of a tensor, its
own code unchanged.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch.nn import functional as F


class Box(NamedTuple):
    """Bounds of one layer's weights and biases, as tensors; biases None where the layer has none."""

    weight_lower: torch.Tensor
    weight_upper: torch.Tensor
    bias_lower: torch.Tensor | None
    bias_upper: torch.Tensor | None


class Interval:
    """Values that are known to lie in [lower, upper], elementwise, (batch, channels, ...).

    Args:
        point: (batch, c, ...) the values for the weights as they are; None where nobody asks for
            them.
        both: (batch, 2c, ...) the lower bounds, then the upper ones, so that what is monotone is
            one call; None as long as no weight has an interval: then lower = upper = point, at the
            cost of a plain network.
        boxes: bounds of the layers that have them, by the `id` of their weight tensor.
        nonnegative: True where lower >= 0 is known. Then a layer takes the two-term rule, else the
            four-term rule.
        keep_point: follow `point` beyond the first layer with intervals.

    PyTorch's functions arrive in `__torch_function__`. Convolution, transposed convolution and
    linear layers use `affine`; monotone functions act on both bounds; cat, +, -, x, /, slices and
    batch norm in evaluation mode follow the usual rules; dropout draws one mask for both bounds.
    Instance and group norm take mean and variance from `point`.

    Raises:
        NotImplementedError: for any other function, naming it: it would need a rule of its own.
    """

    def __init__(
        self,
        point: torch.Tensor | None,
        both: torch.Tensor | None = None,
        boxes: Mapping[int, Box] | None = None,
        nonnegative: bool = False,
        keep_point: bool = True,
    ):
        self.point, self.both, self.boxes = point, both, boxes or {}
        self.nonnegative, self.keep_point = nonnegative, keep_point

    def like(self, function, nonnegative: bool | None = None) -> "Interval":
        """`function` of the point and of both bounds: right for non-decreasing functions that leave
        channels alone.
        """
        point, both = (None if t is None else function(t) for t in (self.point, self.both))
        return Interval(
            point,
            both,
            self.boxes,
            self.nonnegative if nonnegative is None else nonnegative,
            self.keep_point,
        )

    @property
    def lower(self) -> torch.Tensor:
        return self.point if self.both is None else self.both.chunk(2, 1)[0]

    @property
    def upper(self) -> torch.Tensor:
        return self.point if self.both is None else self.both.chunk(2, 1)[1]

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func not in _RULES:
            raise NotImplementedError(
                f"interval arithmetic has no rule for {getattr(func, '__name__', func)}; it knows "
                f"{', '.join(sorted({f.__name__ for f in _RULES}))}. Give fewer layers an interval, or add a rule to _RULES."
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
        return self.like(lambda t: t[index])

    def __add__(self, other):
        return _add(self, other)

    def __sub__(self, other):
        return _add(self, -other)

    def __rsub__(self, other):
        return _add(-self, other)

    def __neg__(self):
        return _times(self, -1.0)

    def __mul__(self, other):
        return _times(self, other)

    def __truediv__(self, other):
        return _times(self, 1 / other)

    __radd__, __rmul__ = __add__, __mul__


def affine(x: Interval, box: Box | None, weight, bias, apply, channels: int) -> Interval:
    """Bounds of W x + b for all x in [lo, hi], W in [W_lo, W_hi], b in [b_lo, b_hi].

    Two-term rule, lo >= 0:  lower = W_lo^+ lo + W_lo^- hi + b_lo,  upper = W_hi^- lo + W_hi^+ hi +
    b_hi. Four-term rule:          lower = W_lo^+ lo^+ + W_lo^- hi^+ + W_hi^+ lo^- + W_hi^- hi^- +
    b_lo,
                             upper = W_hi^- lo^+ + W_hi^+ hi^+ + W_lo^- lo^- + W_lo^+ hi^- + b_hi,
    t^+ = max(t, 0), t^- = min(t, 0). Both are exact, the second up to a little slack where lo < 0 <
    hi. Bounds are stacked along the channels, so that a rule is one call per sign of x, on weights
    [[W_lo^+, W_lo^-], [W_hi^-, W_hi^+]].

    Args:
        box: bounds of this layer; None: its weights are exact.
        apply: (x, weight, bias) -> the layer's output.
        channels: axis of the weight with the input channels (0 for transposed convolutions); the
            other holds the output's.

    Source: Oala et al., App. A.2 (two terms); their code (four terms).
    """
    point = None
    if x.both is None or x.keep_point:
        point = apply(x.point, weight, bias)
    if x.both is None and box is None:
        return Interval(point, None, x.boxes, False, x.keep_point)
    low, high, bias_low, bias_high = box or Box(weight, weight, bias, bias)
    out = 1 - channels
    biases = None if bias_low is None else torch.cat([bias_low, bias_high])
    if x.both is None:  # lo = hi: half the work
        if x.nonnegative:
            both = apply(x.point, torch.cat([low, high], out), biases)
        else:
            both = apply(x.point.clamp_min(0), torch.cat([low, high], out), biases) + apply(
                x.point.clamp_max(0), torch.cat([high, low], out), None
            )
    else:
        plus, minus = _crossed(low, high, out, channels), _crossed(high, low, out, channels)
        if x.nonnegative:
            both = apply(x.both, plus, biases)
        else:
            both = apply(x.both.clamp_min(0), plus, biases) + apply(
                x.both.clamp_max(0), minus, None
            )
    return Interval(point if x.keep_point else None, both, x.boxes, False, x.keep_point)


def _crossed(low, high, out, channels):
    rows = (
        torch.cat([low.clamp_min(0), low.clamp_max(0)], channels),
        torch.cat([high.clamp_max(0), high.clamp_min(0)], channels),
    )
    return torch.cat(rows, out)


def _conv(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    _ungrouped("conv2d", groups)
    return affine(
        x,
        x.boxes.get(id(weight)),
        weight,
        bias,
        lambda t, w, b: F.conv2d(t, w, b, stride, padding, dilation),
        1,
    )


def _transposed(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    _ungrouped("conv_transpose2d", groups)
    return affine(
        x,
        x.boxes.get(id(weight)),
        weight,
        bias,
        lambda t, w, b: F.conv_transpose2d(t, w, b, stride, padding, output_padding, 1, dilation),
        0,
    )


def _linear(x, weight, bias=None):
    if x.ndim != 2:
        raise NotImplementedError(
            f"interval arithmetic takes linear layers on (batch, features); got {x.ndim} axes."
        )
    return affine(x, x.boxes.get(id(weight)), weight, bias, F.linear, 1)


def _ungrouped(name, groups):
    if groups != 1:
        raise NotImplementedError(
            f"interval arithmetic has no rule for {name} with groups = {groups}; expected 1."
        )


def _add(x, other):
    if not isinstance(other, Interval):
        if isinstance(other, torch.Tensor) and other.ndim:
            other = Interval(other, boxes=x.boxes)
        else:
            return x.like(lambda t: t + other, nonnegative=x.nonnegative and bool(other >= 0))
    keep = x.keep_point and other.keep_point
    point = None if x.point is None or other.point is None else x.point + other.point
    stacked = None if x.both is other.both is None else _stacked(x) + _stacked(other)
    return Interval(
        point, stacked, x.boxes or other.boxes, x.nonnegative and other.nonnegative, keep
    )


def _stacked(x):
    return torch.cat([x.point, x.point], 1) if x.both is None else x.both


def _times(x, factor):
    """factor x: a number, or a tensor without intervals that broadcasts to one of the bounds."""
    if isinstance(factor, torch.Tensor) and factor.ndim and x.both is not None:
        first = torch.cat([x.lower * factor, x.upper * factor], 1)
        if factor.dtype == torch.bool or bool((factor >= 0).all()):
            both, nonnegative = first, x.nonnegative
        else:
            a, b = first.chunk(2, 1)
            both, nonnegative = torch.cat([torch.minimum(a, b), torch.maximum(a, b)], 1), False
        point = None if x.point is None else x.point * factor
        return Interval(point, both, x.boxes, nonnegative, x.keep_point)
    positive = (
        factor.dtype == torch.bool
        if isinstance(factor, torch.Tensor) and factor.ndim
        else bool(factor >= 0)
    )
    scaled = x.like(lambda t: t * factor, nonnegative=x.nonnegative and positive)
    if not positive and x.both is not None:
        scaled.both = torch.cat([*scaled.both.chunk(2, 1)[::-1]], 1)
    return scaled


def _cat(parts, dim=0):
    some = next(p for p in parts if isinstance(p, Interval))
    if dim not in (1, 1 - some.ndim):
        raise NotImplementedError(
            f"interval arithmetic concatenates channels, dim = 1; got dim = {dim}."
        )
    parts = [p if isinstance(p, Interval) else Interval(p) for p in parts]
    point = None if any(p.point is None for p in parts) else torch.cat([p.point for p in parts], 1)
    both = None
    if any(p.both is not None for p in parts):
        both = torch.cat([*(p.lower for p in parts), *(p.upper for p in parts)], 1)
    return Interval(point, both, some.boxes, all(p.nonnegative for p in parts), some.keep_point)


def _dropout(x, p=0.5, training=True, inplace=False):
    return _times(x, F.dropout(torch.ones_like(x.lower), p, True)) if training and p else x


def _batch_norm(x, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    if training:
        raise NotImplementedError(
            "interval arithmetic needs batch norm in evaluation mode: call net.eval() first."
        )
    point = (
        None
        if x.point is None
        else F.batch_norm(x.point, mean, var, weight, bias, False, momentum, eps)
    )
    return _normalised(x, point, mean[None], var[None], weight, bias, eps)


def _group_norm(x, n_groups, weight=None, bias=None, eps=1e-5):
    if x.point is None:
        raise NotImplementedError(
            "group norm takes its statistics from the point values: needs keep_point=True."
        )
    grouped = x.point.unflatten(1, (n_groups, -1)).flatten(2)
    per_group = x.shape[1] // n_groups
    mean, var = (
        t.repeat_interleave(per_group, 1) for t in (grouped.mean(2), grouped.var(2, correction=0))
    )
    return _normalised(
        x, F.group_norm(x.point, n_groups, weight, bias, eps), mean, var, weight, bias, eps
    )


def _normalised(x, point, mean, var, weight, bias, eps):
    """gain x + shift a channel; a negative gain swaps the bounds."""
    gain = (var + eps).rsqrt() * (1 if weight is None else weight)
    shift = (0 if bias is None else bias) - mean * gain
    gain, shift = (t.reshape(*t.shape, *[1] * (x.ndim - 2)) for t in (gain, shift))
    both = None
    if x.both is not None:
        low, high = x.both.chunk(2, 1)
        swap = gain < 0
        both = torch.cat(
            [
                torch.where(swap, high, low) * gain + shift,
                torch.where(swap, low, high) * gain + shift,
            ],
            1,
        )
    return Interval(point, both, x.boxes, False, x.keep_point)


def _pad(x, pad, mode="constant", value=None):
    if len(pad) > 2 * (x.ndim - 2):
        raise NotImplementedError(
            f"interval arithmetic pads rows and columns only; got pad = {pad}."
        )
    return x.like(
        lambda t: F.pad(t, pad, mode, value), nonnegative=x.nonnegative and (value or 0) >= 0
    )


def _interpolate(x, *args, mode="nearest", **options):
    if mode == "bicubic":  # has negative weights
        raise NotImplementedError(
            'interval arithmetic up-samples with mode "nearest", "bilinear" or "area".'
        )
    return x.like(lambda t: F.interpolate(t, *args, mode=mode, **options))


def _monotone(function, nonnegative=None):
    return lambda x, *args, **options: x.like(lambda t: function(t, *args, **options), nonnegative)


def _relu(x, inplace=False):
    return x.like(F.relu, nonnegative=True)


_RULES = {
    torch.conv2d: _conv,
    F.conv2d: _conv,
    F.conv_transpose2d: _transposed,
    F.linear: _linear,
    F.relu: _relu,
    torch.relu: _relu,
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
    # a mask that a network draws "like x" has the shape of one bound
    torch.empty_like: lambda x, **options: torch.empty_like(x.lower, **options),
    torch.ones_like: lambda x, **options: torch.ones_like(x.lower, **options),
}
