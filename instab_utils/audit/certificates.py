"""Upper bounds of ||f(y + e) - f(y)|| over all ||e|| <= eps, for reconstructions whose every layer
has a rule.
"""

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from .. import networks
from ..networks.automap import MARGIN, SCALE, encode
from ..networks.cascade import to_channels, to_complex
from ..networks.dagan import Generator
from ..networks.layers import symmetric_pad
from ..operators import LinearOperator, MaskedFourier
from . import norms
from .balls import Ball

MARGIN_UP = 1 + 1e-6
"""Certificates are raised by this, and by 1e-9 ||f(y)||: they are computed in double precision,
whose rounding stays below.
"""
BY_NORMS, BY_BOTH, BY_MATRIX = "operator norms", "operator norms and intervals", "operator norm"


# followed step by step, here; others run themselves
UNROLLED = (networks.Cascade, networks.VariationalNetwork, networks.AUTOMAP)


@dataclass(frozen=True)
class Certificate:
    """An upper bound for every image and norm of e; or the reason why there is none."""

    bounds: torch.Tensor | None  # (batch, n_norms), float64
    by: list[str]  # one a norm: what gave the bound
    why_not: str | None = None


class NoCertificate(NotImplementedError):
    """A step of the reconstruction has no rule; the message says which."""


def certificate(
    f: Callable,
    A: LinearOperator | None,
    y: torch.Tensor,
    e_norms: Iterable[float],
    network: nn.Module | None = None,
) -> Certificate:
    """c(eps) >= max over ||e||_2 <= eps of ||f(y + e) - f(y)||_2, image by image.

    Linear f: c = ||f|| eps. Networks run on a `Ball` of radius ||front end|| eps, once with norms
    alone and once with boxes beside them; the smaller result counts. A `Cascade` behind a
    `MaskedFourier` keeps its k-space in two parts, because data consistency puts y + e on the mask:
    v = w eps + (1 - w)(v + n) there, u = u + n elsewhere, n the block's change for a change of
    sqrt(u^2 + v^2).

    Args:
        f: a `Reconstructor`; a module called as f(y); an operator, or its bound method such as
            `A.pinv`, as a linear f. Any other callable has no certificate, unless `network` is
            given and the network in the place of f, behind A as a `Reconstructor` has it or called
            on y, gives f(y) and f of two neighbours of y to 1e-4: then that is certified.
        A: the operator; only its type and norms count.
        y: (batch, ...) measurements.
        e_norms: radii eps >= 0, n_norms of them.

    Returns:
        Certificate. The bound is for f in exact arithmetic, with the weights it has, in evaluation
        mode: it is computed in double precision and moved outward by `MARGIN_UP`. What single
        precision adds to f is rounding, up to 1e-6 ||f(y)|| or so, which is in no bound. Without a
        bound, `bounds` is None and `why_not` names the step.
    """
    e_norms = [float(e) for e in e_norms]
    if not e_norms or not all(e >= 0 and math.isfinite(e) for e in e_norms):
        raise ValueError(f"certificate expects radii ||e|| >= 0; got {e_norms}.")
    try:
        subject = exact(f, A, y, network)
        with torch.no_grad():
            return _bounded(subject, _wide(y), e_norms)
    except NotImplementedError as reason:
        return Certificate(None, [], f"no certificate for this network: {reason}")
    # its code asks of a tensor what a Ball has not
    except (AttributeError, TypeError, RuntimeError, ValueError) as reason:
        said = str(reason).splitlines()[0] if str(reason) else ""
        return Certificate(
            None,
            [],
            f"no certificate for this network: ball arithmetic cannot follow it ({type(reason).__name__}: {said})",
        )


def exact(f, A, y: torch.Tensor, network: nn.Module | None = None):
    """f in double precision, as something `certificate` can follow: a `Reconstructor`, a module, or
    a linear map.

    Raises:
        NoCertificate: where it cannot.
    """
    owner = getattr(f, "__self__", None)
    if isinstance(f, LinearOperator) or isinstance(owner, LinearOperator):
        return f
    if type(f) is networks.Reconstructor:
        if isinstance(f.network, UNROLLED) and type(f.network) not in UNROLLED:
            raise NoCertificate(
                f"{type(f.network).__name__} changes a network whose steps are known"
            )
        return networks.Reconstructor(_module(f.network), f.operator)
    if isinstance(f, nn.Module):
        return _module(f)
    if network is None:
        raise NoCertificate(
            "f is a function whose steps are not known; give its network, or a networks.Reconstructor"
        )
    for candidate in (networks.Reconstructor(network, A), network):
        if _agrees(f, candidate, y):
            return exact(candidate, A, y)
    raise NoCertificate(
        f"f(y) is neither {type(network).__name__} behind A as networks.Reconstructor has it, nor that network of y"
    )


def _agrees(f, candidate, y):
    generator = torch.Generator().manual_seed(0)
    for size in (0.0, 0.01, 0.1):
        noise = torch.randn(y.shape, generator=generator, dtype=y.dtype).to(y.device) * (y != 0)
        near = y + size * noise * y.norm() / noise.norm().clamp_min(1e-30)
        try:
            with torch.no_grad():
                a, b = f(near), candidate(near)
        except (ValueError, TypeError, RuntimeError, AttributeError):
            return False
        if a.shape != b.shape or not bool((a - b).abs().max() <= 1e-4 * a.abs().max()):
            return False
    return True


def _module(network):
    modules = list(network.modules())
    if any(
        m.training
        and (
            isinstance(m, nn.modules.batchnorm._BatchNorm)
            or getattr(m, "p", getattr(m, "fraction", 0))
        )
        for m in modules
    ):
        raise NoCertificate(
            "the network is in training mode, where it is another function: call net.eval() first"
        )
    if any(m._forward_hooks or m._forward_pre_hooks for m in modules):
        raise NoCertificate("the network has hooks, which may change any layer")
    return copy.deepcopy(network).double()


def _wide(t):
    return t.detach().to(torch.complex128 if t.is_complex() else torch.float64)


def _bounded(f, y, e_norms) -> Certificate:
    """Every image beside itself, once for every norm."""
    n = len(e_norms)
    many = y.repeat_interleave(n, 0)
    eps = torch.tensor(e_norms, dtype=torch.float64, device=y.device).repeat(len(y))
    if isinstance(getattr(f, "__self__", f), LinearOperator):
        bounds, by = _linear_norm(f) * eps, [BY_MATRIX] * n
        return Certificate((bounds * MARGIN_UP).reshape(-1, n), by)
    known = {}
    plain, both = (_changed(f, many, eps, boxes, known) for boxes in (False, True))
    bounds = torch.minimum(plain, both)
    if not bool(torch.isfinite(bounds).all()):
        raise NoCertificate("the bound is not finite")
    after = f(y).flatten(1).norm(dim=1).repeat_interleave(n)
    gain = (bounds < 0.999 * plain).reshape(-1, n).any(0)
    return Certificate(
        (bounds * MARGIN_UP + 1e-9 * after).reshape(-1, n),
        [BY_BOTH if g else BY_NORMS for g in gain.tolist()],
    )


def _linear_norm(f):
    owner, name = getattr(f, "__self__", f), getattr(f, "__name__", "forward")
    found = None
    if name in ("forward", "A", "__call__", "adjoint", "A_adjoint"):
        found = norms.adjoint_norm(owner)
    elif name in ("pinv", "A_dagger") or name == "fbp":
        found = norms.pinv_norm(owner)
    if found is None:
        raise NoCertificate(f"there is no norm from above for {name} of {owner}")
    return found


def _changed(f, y, eps, boxes, known) -> torch.Tensor:
    """The radius of f(ball(y, eps)), (batch,)."""

    def around(point, radius):
        return Ball.around(_wide(point), radius, boxes, known)

    if isinstance(f, nn.Module):
        if y.is_complex():
            raise NoCertificate(
                f"{type(f).__name__} reads complex measurements, and ball arithmetic is real"
            )
        return _output(f(around(y, eps)))
    net, A = f.network, f.operator
    if isinstance(net, networks.Cascade):
        radius = _cascade(net, A, y, eps, around)
    elif isinstance(net, networks.VariationalNetwork):
        radius = _variational(net, A, y, eps)
    elif isinstance(net, networks.DnCNN):
        radius = _output(net(around(y, eps)))
    elif isinstance(net, networks.AUTOMAP):
        radius = _automap(net, around(encode(y, A.mask), SCALE * eps))
    elif isinstance(net, Generator):
        x = around(2 * A.adjoint(y).abs() - 1, 2 * _needed(norms.adjoint_norm, A) * eps)
        radius = _output(net(x)) / 2
    else:
        x = A.pinv(y)
        if x.is_complex():
            raise NoCertificate(
                f"{type(net).__name__} reads a complex image, and ball arithmetic is real"
            )
        radius = _output(net(around(x, _needed(norms.pinv_norm, A) * eps)))
    return radius


def _output(x):
    if not isinstance(x, Ball):
        raise NoCertificate(
            f"the network returns a {type(x).__name__}, from which no bound is read"
        )
    return x.radius


def _needed(norm, A):
    found = norm(A)
    if found is None:
        raise NoCertificate(f"there is no norm from above for {A}")
    return found


def _consistent(weight, norm):
    """max |1 - weight s^2| over 0 <= s <= norm: the norm of I - weight A* A."""
    return max(1.0, abs(1 - weight * norm**2))


def _cascade(net, A, y, eps, around):
    """With v on the mask and u off it; behind any other operator ||I - w A* A|| (d + n) + w ||A||
    eps.
    """
    w, norm = net.data_consistency.weight, _needed(norms.adjoint_norm, A)
    x, u, v = A.adjoint(y), torch.zeros_like(eps), norm * eps
    for block in net.blocks:
        d = (u.square() + v.square()).sqrt()
        hidden = around(to_channels(x), d)
        for conv in block[:-1]:
            hidden = conv(hidden).relu()
        hidden = block[-1](hidden)
        x = net.data_consistency(x + to_complex(hidden.point), y, A)
        if isinstance(A, MaskedFourier):
            u, v = u + hidden.radius, w * eps + (1 - w) * (v + hidden.radius)
        else:
            v = _consistent(w, norm) * (d + hidden.radius) + w * norm * eps
    return (u.square() + v.square()).sqrt()


def _automap(net, v):
    """`AUTOMAP.forward`, with the mean read off v apart: z - mean(z) and a constant image are
    orthogonal.
    """
    hidden = net.dense[1](torch.tanh(net.dense[0](v)))
    image = _centred(hidden).reshape(-1, 1, net.n, net.n)
    norm = norms.nonnegative_norm(lambda t: symmetric_pad(t, MARGIN), image.point[:1])
    padded = image.positive(lambda t: symmetric_pad(t, MARGIN), norm)
    codes = net.convs[1](torch.tanh(net.convs[0](padded))).relu()
    z = _centred(net.last(codes)[..., MARGIN:-MARGIN, MARGIN:-MARGIN])
    return (z.radius.square() + (v.radius / SCALE).square()).sqrt()


def _centred(x):
    """x - mean(x), an orthogonal projection."""
    means = [
        None if t is None else t.flatten(1).mean(1).reshape(-1, *[1] * (t.ndim - 1))
        for t in (x.point, x.high, x.low)
    ]
    return x.new(
        x.point - means[0],
        x.radius,
        *((None, None) if x.low is None else (x.low - means[1], x.high - means[2])),
    )


def _variational(net, A, y, eps):
    """||du'|| <= (||I - step A* A|| + scale ||D^(1/2) K^T|| ||D^(1/2) K pad||) ||du|| + step ||A||
    eps, D the steepest slopes of phi.
    """
    norm = _needed(norms.adjoint_norm, A)
    radius = norm * eps
    for filters, activation, step in zip(net.filters, net.activations, net.steps):
        crop = filters.shape[-1] - 1
        roots = steepest(activation).sqrt()[:, None, None, None]
        like = torch.zeros(1, 1, *A.image_shape, device=y.device)
        pad = norms.nonnegative_norm(
            lambda t: networks.variational._pad(t, crop, net.padding), like
        )
        k = norms.conv_norm(roots * filters, tuple(n + 2 * crop for n in A.image_shape))
        step = float(step)
        radius = (_consistent(step, norm) + net.scale * k * k * pad) * radius + abs(
            step
        ) * norm * eps
    return radius


def steepest(activation: networks.RBFActivation, points: int = 256) -> torch.Tensor:
    """sup |phi'| from above, a channel: the largest on a grid of step h, plus h/2 sup |phi''|,
    |phi''| <= sum_j |w_j| / s^2.
    """
    s, weight = activation.spacing, activation.weight.detach().double()
    nodes = activation.nodes.double()
    grid = torch.arange(
        -(activation.limit + 8 * s),
        activation.limit + 8 * s,
        s / points,
        dtype=torch.float64,
        device=nodes.device,
    )
    t = (grid[:, None] - nodes) / s
    slopes = ((-t * torch.exp(-t.square() / 2)) @ weight.mT).abs().amax(0) / s
    return slopes + weight.abs().sum(1) / (s * points) + 1e-12
