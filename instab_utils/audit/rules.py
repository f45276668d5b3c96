"""Rules of ball arithmetic: Lipschitz constants of PyTorch's functions."""

import math
from functools import partial

import torch
from torch.nn import functional as F

from . import norms
from .balls import RULES, ULP, Ball


def _linear(x, weight, bias=None):
    return x.mapped(lambda t: F.linear(t, weight, bias), norms.matrix_norm(weight))


def _conv(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    size = tuple(x.shape[-2:])
    norm = norms.conv_norm(weight, size, _pair(stride), _pair(dilation), groups)
    return x.mapped(lambda t: F.conv2d(t, weight, bias, stride, padding, dilation, groups), norm)


def _transposed(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    s, d = _pair(stride), _pair(dilation)
    sizes = zip(x.shape[-2:], s, d, weight.shape[-2:])
    size = tuple((n - 1) * s + d * (k - 1) + 1 for n, s, d, k in sizes)  # without padding
    norm = norms.conv_norm(weight, size, s, d, groups)
    options = stride, padding, output_padding, groups, dilation
    return x.mapped(lambda t: F.conv_transpose2d(t, weight, bias, *options), norm)


def _pair(value) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value) * (2 // len(value))


def _add(x, other):
    if not isinstance(x, Ball):
        x, other = other, x
    if not isinstance(other, Ball):
        _refuse_repeats(x, other, "sum")
        return x.mapped(lambda t: t + other)
    point = x.point + other.point
    # a broadcast repeats values
    radius = sum(t.radius * (point.numel() / t.point.numel()) ** 0.5 for t in (x, other))
    return Ball(point, radius)


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
    return x.mapped(lambda t: t * factor, largest)


def _refuse_repeats(x, other, operation) -> None:
    shape = getattr(other, "shape", ())
    if torch.broadcast_shapes(x.shape, shape) != x.shape:
        raise NotImplementedError(f"no rule for a {operation} that repeats a layer's values")


def _cat(parts, dim=0):
    if dim % parts[0].ndim == 0:
        raise NotImplementedError("no rule for a concatenation along the batch")
    points = [getattr(part, "point", part) for part in parts]
    squares = [part.radius.square() for part in parts if isinstance(part, Ball)]
    return Ball(torch.cat(points, dim), sum(squares).sqrt())


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
    2 sqrt(N). The gains of a group's channels multiply it.
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
    return Ball(F.group_norm(x.point, n_groups, weight, bias, eps), radius)


def _instance_norm(x, running_mean=None, running_var=None, **options):
    if options.pop("use_input_stats", True):
        options.pop("momentum", None)
        return _group_norm(x, x.shape[1], **options)
    return _batch_norm(x, running_mean, running_var, **options)


def _nonnegative(function, x, *args, **options):
    """Apply a linear map by non-negative weights, the same in every channel."""

    def apply(t):
        return function(t, *args, **options)

    return x.mapped(apply, norms.nonnegative_norm(apply, x.point[:1, :1]))


def _pad(x, pad, mode="constant", value=None):
    if len(pad) > 2 * (x.ndim - 1):
        raise NotImplementedError(f"no rule for padding the batch, pad = {pad}")
    if mode == "constant":
        return x.mapped(lambda t: F.pad(t, pad, value=value or 0))
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
    return x.mapped(
        lambda t: F.max_pool2d(t, kernel_size, stride, padding, dilation, ceil_mode), windows**0.5
    )


def _leaky_relu(x, negative_slope=0.01, inplace=False):
    return x.mapped(lambda t: F.leaky_relu(t, negative_slope), max(1.0, abs(negative_slope)))


def _elu(x, alpha=1.0, inplace=False):
    return x.mapped(lambda t: F.elu(t, alpha), max(1.0, abs(alpha)))


def _mean(x, dim, keepdim=False):
    dims = tuple(d % x.ndim for d in ((dim,) if isinstance(dim, int) else dim))
    if 0 in dims:
        raise NotImplementedError("no rule for a mean over the batch")
    n = math.prod(x.shape[d] for d in dims)
    return x.mapped(lambda t: t.mean(dims, keepdim), n**-0.5)


def _reshape(x, *shape):
    shape = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
    point = x.point.reshape(shape)
    if shape[0] not in (-1, x.shape[0]) or len(point) != x.shape[0]:
        raise NotImplementedError(
            f"no rule for a reshape to {shape} of {tuple(x.shape)}; the batch must stay"
        )
    return x.mapped(lambda t: t.reshape(shape))


def _flatten(x, start_dim=0, end_dim=-1):
    return _reshape(x, *x.point.flatten(start_dim, end_dim).shape)


def _mapped(function, lipschitz, x, *args, inplace=False, **options):
    return x.mapped(lambda t: function(t, *args, **options), lipschitz)


LIPSCHITZ = {
    **dict.fromkeys(("relu", "relu6", "hardtanh", "clamp", "tanh", "softplus", "abs"), 1.0),
    **dict.fromkeys(("pixel_shuffle", "flip"), 1.0),
    "sigmoid": 0.25,
    "silu": 1.1,
    "gelu": 1.13,
}
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
for name, constant in LIPSCHITZ.items():
    function = getattr(torch, name, None) or getattr(F, name)
    BY_NAME[name] = partial(_mapped, function, constant)
for name, rule in BY_NAME.items():
    for home in (torch, F, torch.Tensor):
        if hasattr(home, name):
            RULES[getattr(home, name)] = rule
# torch.batch_norm and torch.instance_norm take their arguments in another order
RULES |= {F.batch_norm: _batch_norm, F.instance_norm: _instance_norm}
