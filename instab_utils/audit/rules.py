"""Rules of ball arithmetic: Lipschitz constant and interval rule of PyTorch's functions."""

import math
from functools import partial

import torch
from torch.nn import functional as F

from . import norms
from .balls import RULES, ULP, Ball


def _affine(x, apply, weight, bias, norm, rows):
    """W x + b as apply(t, W, b); rows: ||row||_2 of every output, broadcasting to it."""
    point = apply(x.point, weight, bias)
    if not x.box:
        return x.new(point, norm * x.radius)
    low, high = x.box
    centre = apply((low + high) / 2, weight, None)
    half = apply((high - low) / 2, weight.abs(), None)
    edge = x.radius.reshape(-1, *[1] * (point.ndim - 1)) * rows
    low = torch.maximum(centre - half, -edge).clamp_max(0)
    high = torch.minimum(centre + half, edge).clamp_min(0)
    return x.new(point, norm * x.radius, low, high)


def _linear(x, weight, bias=None):
    norm = x.remembered(lambda: norms.matrix_norm(weight), weight)
    return _affine(x, F.linear, weight, bias, norm, weight.norm(dim=1))


def _conv(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    def apply(t, w, b):
        return F.conv2d(t, w, b, stride, padding, dilation, groups)

    norm = _conv_norm(x, weight, tuple(x.shape[-2:]), _pair(stride), _pair(dilation), groups)
    return _affine(x, apply, weight, bias, norm, weight.flatten(1).norm(dim=1)[:, None, None])


def _transposed(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    def apply(t, w, b):
        return F.conv_transpose2d(t, w, b, stride, padding, output_padding, groups, dilation)

    s, d = _pair(stride), _pair(dilation)
    sizes = zip(x.shape[-2:], s, d, weight.shape[-2:])
    size = tuple((n - 1) * s + d * (k - 1) + 1 for n, s, d, k in sizes)  # without padding
    outputs = weight.unflatten(0, (groups, -1)).movedim(1, 2).flatten(0, 1).flatten(1)
    norm = _conv_norm(x, weight, size, s, d, groups)
    return _affine(x, apply, weight, bias, norm, outputs.norm(dim=1)[:, None, None])


def _conv_norm(x, weight, *options) -> float:
    return x.remembered(lambda: norms.conv_norm(weight, *options), weight, options)


def _pair(value) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value) * (2 // len(value))


def _add(x, other):
    if not isinstance(x, Ball):
        x, other = other, x
    if not isinstance(other, Ball):
        _refuse_repeats(x, other, "sum")
        return x.new(x.point + other, x.radius, *x.box)
    point = x.point + other.point
    # a broadcast repeats values
    radius = sum(t.radius * (point.numel() / t.point.numel()) ** 0.5 for t in (x, other))
    return x.new(point, radius, *[a + b for a, b in zip(x.box, other.box)])


def _subtract(x, other):
    return _add(x, -other)


def _subtract_from(x, other):
    return _add(-x, other)


def _multiply(x, factor):
    if not isinstance(x, Ball):
        x, factor = factor, x
    if isinstance(factor, Ball):
        raise NotImplementedError("no rule for a product of two layers")
    _refuse_repeats(x, factor, "product")
    largest = factor.abs().max() if isinstance(factor, torch.Tensor) else abs(factor)
    ends = [edge * factor for edge in x.box]
    box = [torch.minimum(*ends), torch.maximum(*ends)] if ends else []
    return x.new(x.point * factor, x.radius * largest, *box)


def _refuse_repeats(x, other, operation) -> None:
    shape = getattr(other, "shape", ())
    if torch.broadcast_shapes(x.shape, shape) != x.shape:
        raise NotImplementedError(f"no rule for a {operation} that repeats a layer's values")


def _cat(parts, dim=0):
    some = next(part for part in parts if isinstance(part, Ball))
    if dim % some.ndim == 0:
        raise NotImplementedError("no rule for a concatenation along the batch")
    balls = []
    for part in parts:
        if not isinstance(part, Ball):
            part = some.new(part, 0 * some.radius, *[0 * part for _ in some.box])
        balls.append(part)
    return some.new(
        torch.cat([ball.point for ball in balls], dim),
        sum(ball.radius.square() for ball in balls).sqrt(),
        *[torch.cat(edges, dim) for edges in zip(*[ball.box for ball in balls])],
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
    return _multiply(x, gain) + shift


def _group_norm(x, n_groups, weight=None, bias=None, eps=1e-5):
    """Bound g(x) = (x - mean) / s of each group of N entries, s = sqrt(var + eps).

    Its Jacobian (P - g g^T / N) / s, P the centring, has norm <= 1/s. On the ball
    sqrt(N var) = ||P x|| >= ||P point|| - radius, and ||g|| <= sqrt(N), so that a change is at most
    2 sqrt(N). The gains of a group's channels multiply it. Box: those two bounds for every entry.
    """
    grouped = x.point.unflatten(1, (n_groups, -1)).flatten(2)
    n = grouped.shape[2]
    spread = (grouped - grouped.mean(2, keepdim=True)).norm(dim=2) * (1 - ULP)
    left = (spread - x.radius[:, None]).clamp_min(0)
    slope = (left.square() / n + eps).rsqrt()
    gains = x.point.new_ones(x.shape[1]) if weight is None else weight.abs()
    gain = gains.reshape(n_groups, -1).amax(1)
    change = (slope * x.radius[:, None]).clamp_max(2 * n**0.5) * gain
    radius = torch.minimum((slope * gain).amax(1) * x.radius, change.norm(dim=1))
    box = ()
    if x.box:
        edge = change.repeat_interleave(x.shape[1] // n_groups, 1)
        edge = edge.reshape(*x.shape[:2], *[1] * (x.ndim - 2)).expand_as(x.point)
        box = -edge, edge
    return x.new(F.group_norm(x.point, n_groups, weight, bias, eps), radius, *box)


def _instance_norm(x, running_mean=None, running_var=None, **options):
    if options.pop("use_input_stats", True):
        options.pop("momentum", None)
        return _group_norm(x, x.shape[1], **options)
    return _batch_norm(x, running_mean, running_var, **options)


def _nonnegative(function, x, *args, **options):
    """Apply a linear map by non-negative weights, the same in every channel."""
    key = function.__name__, str(args), str(options), x.shape[-2:]

    def apply(t):
        return function(t, *args, **options)

    norm = x.remembered(lambda: norms.nonnegative_norm(apply, x.point[:1, :1]), None, *key)
    return x.positive(apply, norm)


def _pad(x, pad, mode="constant", value=None):
    if len(pad) > 2 * (x.ndim - 1):
        raise NotImplementedError(f"no rule for padding the batch, pad = {pad}")
    if mode == "constant":
        return x.positive(lambda t: F.pad(t, pad, value=value or 0), 1.0, lambda t: F.pad(t, pad))
    return _nonnegative(F.pad, x, pad, mode)


def _interpolate(x, size=None, scale_factor=None, mode="nearest", *args, **options):
    if mode not in ("nearest", "nearest-exact", "bilinear", "area"):
        raise NotImplementedError(
            f"no rule for interpolation of mode {mode!r}, whose weights may be negative"
        )
    return _nonnegative(F.interpolate, x, size, scale_factor, mode, *args, **options)


def _max_pool(
    x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
):
    if return_indices:
        raise NotImplementedError("no rule for max-pooling with indices")
    sizes = zip(_pair(kernel_size), _pair(stride or kernel_size), _pair(dilation))
    # that contain one pixel, at most
    windows = math.prod(-(-((k - 1) * d + 1) // s) for k, s, d in sizes)
    return x.monotone(
        lambda t: F.max_pool2d(t, kernel_size, stride, padding, dilation, ceil_mode), windows**0.5
    )


def _leaky_relu(x, negative_slope=0.01, inplace=False):
    return _sloped(x, F.leaky_relu, negative_slope)


def _elu(x, alpha=1.0, inplace=False):
    return _sloped(x, F.elu, alpha)


def _sloped(x, function, slope):
    rule = x.bounded if slope < 0 else x.monotone
    return rule(lambda t: function(t, slope), max(1.0, abs(slope)))


def _mean(x, dim, keepdim=False):
    dims = tuple(d % x.ndim for d in ((dim,) if isinstance(dim, int) else dim))
    if 0 in dims:
        raise NotImplementedError("no rule for a mean over the batch")
    n = math.prod(x.shape[d] for d in dims)
    return x.positive(lambda t: t.mean(dims, keepdim), n**-0.5)


def _reshape(x, *shape):
    shape = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
    point = x.point.reshape(shape)
    if shape[0] not in (-1, x.shape[0]) or len(point) != x.shape[0]:
        raise NotImplementedError(
            f"no rule for a reshape to {shape} of {tuple(x.shape)}; the batch must stay"
        )
    return x.positive(lambda t: t.reshape(shape), 1.0)


def _flatten(x, start_dim=0, end_dim=-1):
    return _reshape(x, *x.point.flatten(start_dim, end_dim).shape)


def _entrywise(function, lipschitz, monotone, x, *args, inplace=False, **options):
    apply = x.monotone if monotone else x.bounded
    return apply(lambda t: function(t, *args, **options), lipschitz)


def _permute(function, x, *args):
    return x.positive(lambda t: function(t, *args), 1.0)


LIPSCHITZ = {"relu": 1.0, "relu6": 1.0, "hardtanh": 1.0, "clamp": 1.0, "tanh": 1.0, "softplus": 1.0}
LIPSCHITZ |= {"sigmoid": 0.25}
NOT_MONOTONE = {"abs": 1.0, "silu": 1.1, "gelu": 1.13}
BY_NAME = {
    "conv2d": _conv,
    "conv_transpose2d": _transposed,
    "linear": _linear,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "max_pool2d": _max_pool,
    "avg_pool2d": partial(_nonnegative, F.avg_pool2d),
    "adaptive_avg_pool2d": partial(_nonnegative, F.adaptive_avg_pool2d),
    "interpolate": _interpolate,
    "pad": _pad,
    "cat": _cat,
    "pixel_shuffle": partial(_permute, torch.pixel_shuffle),
    "flip": partial(_permute, torch.flip),
    "flatten": _flatten,
    "reshape": _reshape,
    "view": _reshape,
    "mean": _mean,
    "dropout": _dropout,
    "dropout2d": _dropout,
    "group_norm": _group_norm,
    "add": _add,
    "sub": _subtract,
    "mul": _multiply,
    "__add__": _add,
    "__sub__": _subtract,
    "__rsub__": _subtract_from,
    "__mul__": _multiply,
}
for constants in (LIPSCHITZ, NOT_MONOTONE):
    for name, constant in constants.items():
        function = getattr(torch, name, None) or getattr(F, name)
        BY_NAME[name] = partial(_entrywise, function, constant, constants is LIPSCHITZ)
for name, rule in BY_NAME.items():
    for home in (torch, F, torch.Tensor):
        if hasattr(home, name):
            RULES[getattr(home, name)] = rule
# torch.batch_norm and torch.instance_norm take their arguments in another order
RULES |= {F.batch_norm: _batch_norm, F.instance_norm: _instance_norm}
