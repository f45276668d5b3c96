"""What every function of PyTorch does to a ball: its Lipschitz constant and its interval rule."""

import math

import torch
from torch.nn import functional as F

from . import norms
from .balls import ULP, Ball


def _affine(x, apply, weight, bias, norm, rows):
    """W x + b: apply(t, W, b); rows: ||row||_2 of every output, broadcasting to it."""
    point, low, high = apply(x.point, weight, bias), None, None
    if x.low is not None:
        centre = apply((x.low + x.high) / 2, weight, None)
        half = apply((x.high - x.low) / 2, weight.abs(), None)
        edge = x.radius.reshape(-1, *[1] * (point.ndim - 1)) * rows
        low, high = (
            torch.maximum(centre - half, -edge).clamp_max(0),
            torch.minimum(centre + half, edge).clamp_min(0),
        )
    return x.new(point, norm * x.radius, low, high)


def _conv(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    norm = x.remembered(
        lambda: norms.conv_norm(weight, x.shape[-2:], _pair(stride), _pair(dilation), groups),
        weight,
        "conv",
        x.shape[-2:],
        _pair(stride),
        _pair(dilation),
        groups,
    )
    return _affine(
        x,
        lambda t, w, b: F.conv2d(t, w, b, stride, padding, dilation, groups),
        weight,
        bias,
        norm,
        weight.flatten(1).norm(dim=1)[:, None, None],
    )


def _transposed(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    def apply(t, w, b):
        return F.conv_transpose2d(t, w, b, stride, padding, output_padding, groups, dilation)

    size = [
        (n - 1) * s + d * (k - 1) + 1
        for n, s, d, k in zip(x.shape[-2:], _pair(stride), _pair(dilation), weight.shape[-2:])
    ]
    norm = x.remembered(
        lambda: norms.conv_norm(weight, size, _pair(stride), _pair(dilation), groups),
        weight,
        "transposed",
        x.shape[-2:],
        _pair(stride),
        _pair(dilation),
        groups,
    )
    return _affine(
        x,
        apply,
        weight,
        bias,
        norm,
        weight.unflatten(0, (groups, -1))
        .movedim(1, 2)
        .flatten(2)
        .norm(dim=2)
        .flatten()[:, None, None],
    )


def _linear(x, weight, bias=None):
    norm = x.remembered(lambda: norms.matrix_norm(weight), weight, "linear")
    return _affine(x, F.linear, weight, bias, norm, weight.norm(dim=1))


def _pair(value):
    return (value, value) if isinstance(value, int) else tuple(value) * (2 // len(value))


def _add(x, other):
    if not isinstance(other, Ball):
        if (
            isinstance(other, torch.Tensor)
            and torch.broadcast_shapes(x.shape, other.shape) != x.shape
        ):
            raise NotImplementedError("no rule for a sum that repeats a layer's values")
        return x.new(x.point + other, x.radius, x.low, x.high)
    point = x.point + other.point
    # a broadcast repeats values
    radius = sum(t.radius * (point.numel() / t.point.numel()) ** 0.5 for t in (x, other))
    return x.new(
        point,
        radius,
        *((None, None) if x.low is None else (x.low + other.low, x.high + other.high)),
    )


def _times(x, factor):
    if isinstance(factor, Ball):
        raise NotImplementedError("no rule for a product of two layers")
    largest = abs(factor)
    if isinstance(factor, torch.Tensor) and factor.ndim:
        if torch.broadcast_shapes(x.shape, factor.shape) != x.shape:
            raise NotImplementedError("no rule for a product that repeats a layer's values")
        largest = factor.abs().max()
    low = high = None
    if x.low is not None:
        ends = x.low * factor, x.high * factor
        low, high = torch.minimum(*ends), torch.maximum(*ends)
    return x.new(x.point * factor, x.radius * largest, low, high)


def _plus(x, y):
    return _add(x, y) if isinstance(x, Ball) else _add(y, x)


def _product(x, y):
    return _times(x, y) if isinstance(x, Ball) else _times(y, x)


def _cat(parts, dim=0):
    some = next(p for p in parts if isinstance(p, Ball))
    if dim % some.ndim == 0:
        raise NotImplementedError("no rule for a concatenation along the batch")
    parts = [
        p
        if isinstance(p, Ball)
        else some.new(p, torch.zeros_like(some.radius), *[None if some.low is None else 0 * p] * 2)
        for p in parts
    ]
    low, high = (
        None if some.low is None else torch.cat([getattr(p, end) for p in parts], dim)
        for end in ("low", "high")
    )
    return some.new(
        torch.cat([p.point for p in parts], dim),
        sum(p.radius.square() for p in parts).sqrt(),
        low,
        high,
    )


def _dropout(x, p=0.5, training=True, inplace=False):
    if training and p:
        raise NotImplementedError("no rule for dropout in training mode: call net.eval() first")
    return x


def _batch_norm(x, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    if training or mean is None:
        raise NotImplementedError("no rule for batch norm in training mode: call net.eval() first")
    gain = (var + eps).rsqrt() * (1 if weight is None else weight)
    shift = (0 if bias is None else bias) - mean * gain
    gain, shift = (t.reshape(-1, *[1] * (x.ndim - 2)) for t in (gain, shift))
    return _times(x, gain) + shift


def _group_norm(x, n_groups, weight=None, bias=None, eps=1e-5):
    """Per group of N entries g(x) = (x - mean) / s, s = sqrt(var + eps): its Jacobian (P - g g^T /
    N) / s, P the centring, has norm <= 1/s.

    On the ball sqrt(N var) = ||P x|| >= ||P point|| - radius, and ||g|| <= sqrt(N), so that a
    change is at most 2 sqrt(N). The gains of a group's channels multiply it. Boxes: those two
    bounds for every entry.
    """
    grouped = x.point.unflatten(1, (n_groups, -1)).flatten(2)
    n = grouped.shape[2]
    spread = (grouped - grouped.mean(2, keepdim=True)).norm(dim=2) * (1 - ULP)
    left = (spread - x.radius[:, None]).clamp_min(0)
    slope = (left.square() / n + eps).rsqrt()
    gains = x.point.new_ones(x.shape[1]) if weight is None else weight.abs()
    gain = gains.reshape(n_groups, -1).amax(1)
    each = torch.minimum(slope * x.radius[:, None], torch.full_like(slope, 2 * n**0.5)) * gain
    radius = torch.minimum((slope * gain).amax(1) * x.radius, each.norm(dim=1))
    edge = None
    if x.low is not None:
        edge = (
            each.repeat_interleave(x.shape[1] // n_groups, 1)
            .reshape(*x.shape[:2], *[1] * (x.ndim - 2))
            .expand_as(x.point)
        )
    return x.new(
        F.group_norm(x.point, n_groups, weight, bias, eps),
        radius,
        None if edge is None else -edge,
        edge,
    )


def _instance_norm(
    x,
    running_mean=None,
    running_var=None,
    weight=None,
    bias=None,
    use_input_stats=True,
    momentum=0.1,
    eps=1e-5,
):
    return (
        _group_norm(x, x.shape[1], weight, bias, eps)
        if use_input_stats
        else _batch_norm(x, running_mean, running_var, weight, bias, eps=eps)
    )


def _pad(x, pad, mode="constant", value=None):
    if len(pad) > 2 * (x.ndim - 1):
        raise NotImplementedError(f"no rule for padding the batch, pad = {pad}")
    if mode == "constant":
        return x.positive(lambda t: F.pad(t, pad, value=value or 0), 1.0, lambda t: F.pad(t, pad))
    return _weights(x, lambda t: F.pad(t, pad, mode), mode, *pad)


def _weights(x, apply, *key):
    """A linear map of every channel by non-negative weights; not remembered by object, so that
    `key` must say which.
    """
    norm = x.remembered(
        lambda: norms.nonnegative_norm(apply, x.point[:1, :1]), None, *key, x.shape[-2:]
    )
    return x.positive(apply, norm)


def _interpolate(x, size=None, scale_factor=None, mode="nearest", align_corners=None, **options):
    if mode not in ("nearest", "nearest-exact", "bilinear", "area"):
        raise NotImplementedError(
            f"no rule for interpolation of mode {mode!r}, whose weights may be negative"
        )
    return _weights(
        x,
        lambda t: F.interpolate(t, size, scale_factor, mode, align_corners, **options),
        mode,
        str(size),
        str(scale_factor),
        align_corners,
    )


def _max_pool(
    x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
):
    if return_indices:
        raise NotImplementedError("no rule for max-pooling with indices")
    k, s, d = _pair(kernel_size), _pair(stride or kernel_size), _pair(dilation)
    # that see one pixel, at most
    windows = math.prod(-(-((a - 1) * c + 1) // b) for a, b, c in zip(k, s, d))
    return x.monotone(
        lambda t: F.max_pool2d(t, kernel_size, stride, padding, dilation, ceil_mode), windows**0.5
    )


def _avg_pool(x, *args, **options):
    return _weights(x, lambda t: F.avg_pool2d(t, *args, **options), "avg", str(args), str(options))


def _adaptive(x, output_size):
    return _weights(
        x, lambda t: F.adaptive_avg_pool2d(t, output_size), "adaptive", str(output_size)
    )


def _leaky(x, negative_slope=0.01, inplace=False):
    if negative_slope < 0:
        return x.bounded(lambda t: F.leaky_relu(t, negative_slope), max(1.0, -negative_slope))
    return x.monotone(lambda t: F.leaky_relu(t, negative_slope), max(1.0, negative_slope))


def _elu(x, alpha=1.0, inplace=False):
    return x.monotone(lambda t: F.elu(t, alpha), max(1.0, alpha))


def _isometry(function):
    return lambda x, *args: x.positive(lambda t: function(t, *args), 1.0)


RULES = {
    torch.conv2d: _conv,
    F.conv2d: _conv,
    F.conv_transpose2d: _transposed,
    F.linear: _linear,
    F.relu: lambda x, inplace=False: x.relu(),
    torch.relu: Ball.relu,
    torch.sigmoid: Ball.sigmoid,
    torch.tanh: Ball.tanh,
    F.leaky_relu: _leaky,
    F.elu: _elu,
    torch.abs: Ball.abs,
    F.softplus: lambda x, *args: x.monotone(lambda t: F.softplus(t, *args)),
    F.hardtanh: lambda x, min_val=-1.0, max_val=1.0, inplace=False: x.clamp(min_val, max_val),
    F.relu6: lambda x, inplace=False: x.clamp(0, 6),
    torch.clamp: Ball.clamp,
    F.silu: lambda x, inplace=False: x.bounded(F.silu, 1.1),
    F.gelu: lambda x, approximate="none": x.bounded(
        lambda t: F.gelu(t, approximate=approximate), 1.13
    ),
    torch.max_pool2d: _max_pool,
    F.max_pool2d: _max_pool,
    F.avg_pool2d: _avg_pool,
    F.adaptive_avg_pool2d: _adaptive,
    F.interpolate: _interpolate,
    F.pad: _pad,
    torch.cat: _cat,
    F.pixel_shuffle: _isometry(F.pixel_shuffle),
    torch.pixel_shuffle: _isometry(torch.pixel_shuffle),
    torch.flatten: Ball.flatten,
    torch.flip: _isometry(torch.flip),
    torch.reshape: Ball.reshape,
    torch.mean: Ball.mean,
    F.dropout: _dropout,
    F.dropout2d: _dropout,
    F.batch_norm: _batch_norm,
    F.group_norm: _group_norm,
    F.instance_norm: _instance_norm,
    torch.add: _plus,
    torch.Tensor.add: _plus,
    torch.sub: lambda x, y: _plus(x, -y),
    torch.Tensor.sub: lambda x, y: _plus(x, -y),
    torch.mul: _product,
    torch.Tensor.mul: _product,
    torch.Tensor.__add__: _plus,
    torch.Tensor.__sub__: lambda x, y: _plus(x, -y),
    torch.Tensor.__rsub__: lambda x, y: _plus(-x, y),
    torch.Tensor.__mul__: _product,
}
