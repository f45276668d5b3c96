"""Upper bounds of ||f(y + e) - f(y)|| over ||e|| <= eps, where every layer of f has a rule."""

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from .. import networks
from ..networks.automap import MARGIN, SCALE, encode
from ..networks.cascade import to_channels, to_complex
from ..networks.dagan import Generator
from ..networks.layers import symmetric_pad
from ..networks.zero_filled import ZeroFilledUNet
from ..operators import LinearOperator, MaskedFourier
from . import norms, rules  # noqa: F401 (rules fill balls.RULES)
from .balls import Ball

UPWARD = 1 + 1e-6
"""Factor on certificates, with 1e-9 ||f(y)||: double precision rounds less."""
BY_NORMS, BY_MATRIX = "operator norms", "operator norm"
"""What gives a bound: the norms of a network's layers, or that of one linear map."""
BEHIND_PINV = (networks.LimitedAngleUNet, networks.FBPConvNet, ZeroFilledUNet)
"""Networks of A^+ y, as are all modules without a method `reconstruct`."""


@dataclass(frozen=True)
class Certificate:
    """An upper bound for every image and norm of e; or the reason why there is none."""

    bounds: torch.Tensor | None
    """(batch, n_norms), float64."""
    by: list[str]
    """What gave the bound, one a norm."""
    why_not: str | None = None


def certificate(
    f: Callable,
    A: LinearOperator | None,
    y: torch.Tensor,
    e_norms: Iterable[float],
    network: nn.Module | None = None,
) -> Certificate:
    """Return c(eps) >= max over ||e||_2 <= eps of ||f(y + e) - f(y)||_2, image by image.

    Linear f: c = ||f|| eps. Networks run on a `Ball` of radius ||front end|| eps. A `Cascade`
    behind a `MaskedFourier` keeps its k-space in two parts, because data consistency puts y + e on
    the mask: v = w eps + (1 - w)(v + n) there, u = u + n elsewhere, n the block's change for a
    change of sqrt(u^2 + v^2).

    Args:
        f: a `Reconstructor`; a module called as f(y); an operator, or its bound method such as
            `A.pinv`, as a linear f. Any other callable has no certificate, unless `network` is
            given and the network in the place of f, behind A as a `Reconstructor` has it or called
            on y, gives f(y) and f of two neighbours of y to 1e-4: then that is certified.
        A: the operator; only its type and norms count.
        y: (batch, ...) measurements.
        e_norms: radii eps >= 0, n_norms of them.

    Returns:
        The bound for f in exact arithmetic, with the weights it has, in evaluation mode: it is
        computed in double precision and moved outward by `UPWARD`. Single precision adds rounding
        to f, up to about 1e-6 ||f(y)||, which is in no bound. Without a bound, `bounds` is None and
        `why_not` names the step.
    """
    e_norms = [float(e) for e in e_norms]
    if not e_norms or not all(e >= 0 and math.isfinite(e) for e in e_norms):
        raise ValueError(f"certificate expects radii ||e|| >= 0; got {e_norms}.")
    try:
        subject = exact(f, A, y, network)
        with torch.no_grad():
            return _bounded(subject, _wide(y), e_norms)
    # code that asks of a tensor what a Ball has not
    except (AttributeError, TypeError, RuntimeError, ValueError) as error:
        reason = str(error)
        if not isinstance(error, NotImplementedError):
            first = reason.partition("\n")[0]
            reason = f"ball arithmetic cannot follow it ({type(error).__name__}: {first})"
    return Certificate(None, [], f"no certificate for this network: {reason}")


def exact(f: Callable, A, y: torch.Tensor, network: nn.Module | None = None) -> Callable:
    """Return f in double precision as a `Reconstructor`, a module, or a linear map.

    Raises:
        NotImplementedError: where it is none of these.
    """
    if isinstance(getattr(f, "__self__", f), LinearOperator):
        return f
    if type(f) is networks.Reconstructor:
        return networks.Reconstructor(_module(f.network), f.operator)
    if isinstance(f, nn.Module):
        return _module(f)
    if network is None:
        raise NotImplementedError(
            "f is a function whose steps are not known; "
            "give its network, or a networks.Reconstructor"
        )
    for candidate in (networks.Reconstructor(network, A), network):
        if _agree(f, candidate, y):
            return exact(candidate, A, y)
    raise NotImplementedError(
        f"f(y) is neither {type(network).__name__} behind A as networks.Reconstructor has it, "
        "nor that network of y"
    )


def _agree(f, candidate, y) -> bool:
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


def _module(network: nn.Module) -> nn.Module:
    """Copy in double precision a network that is neither random nor changed by hooks."""
    for m in network.modules():
        random = getattr(m, "p", getattr(m, "fraction", 0))
        if m.training and (random or isinstance(m, nn.modules.batchnorm._BatchNorm)):
            raise NotImplementedError(
                "the network is in training mode, where it is another function: "
                "call net.eval() first"
            )
        if m._forward_hooks or m._forward_pre_hooks:
            raise NotImplementedError("the network has hooks, which may change any layer")
    return copy.deepcopy(network).double()


def _wide(t: torch.Tensor) -> torch.Tensor:
    return t.detach().to(torch.complex128 if t.is_complex() else torch.float64)


def _bounded(f, y, e_norms) -> Certificate:
    """Run every image once for every norm."""
    n = len(e_norms)
    many = y.repeat_interleave(n, 0)
    eps = torch.tensor(e_norms, dtype=torch.float64, device=y.device).repeat(len(y))
    if isinstance(getattr(f, "__self__", f), LinearOperator):
        bounds = _linear_norm(f) * eps * UPWARD
        return Certificate(bounds.reshape(-1, n), [BY_MATRIX] * n)
    bounds = _change(f, many, eps)
    if not bool(torch.isfinite(bounds).all()):
        raise NotImplementedError("the bound is not finite")
    size = f(y).flatten(1).norm(dim=1).repeat_interleave(n)
    bounds = bounds * UPWARD + 1e-9 * size
    return Certificate(bounds.reshape(-1, n), [BY_NORMS] * n)


def _linear_norm(f) -> float:
    owner, name = getattr(f, "__self__", f), getattr(f, "__name__", "forward")
    if name in ("forward", "A", "__call__", "adjoint", "A_adjoint"):
        return norms.adjoint_norm(owner)
    if name in ("pinv", "A_dagger", "fbp"):
        return norms.pinv_norm(owner)
    raise NotImplementedError(f"there is no norm from above for {name} of {owner}")


def _change(f, y, eps) -> torch.Tensor:
    """Return the radius of f(ball(y, eps)), (batch,)."""

    def around(point, radius):
        if point.is_complex():
            reader = type(getattr(f, "network", f)).__name__
            raise NotImplementedError(
                f"{reader} reads complex numbers, and ball arithmetic is real"
            )
        return Ball(_wide(point), radius)

    if isinstance(f, nn.Module):
        return _radius(f(around(y, eps)))
    net, A = f.network, f.operator
    if type(net) is networks.Cascade:
        return _cascade(net, A, y, eps, around)
    if type(net) is networks.VariationalNetwork:
        return _variational(net, A, eps)
    if type(net) is networks.AUTOMAP:
        return _automap(net, around(encode(y, A.mask), SCALE * eps))
    if type(net) is networks.DnCNN:
        return _radius(net(around(y, eps)))
    if type(net) is Generator:
        norm = 2 * norms.adjoint_norm(A)
        return _radius(net(around(2 * A.adjoint(y).abs() - 1, norm * eps))) / 2
    if type(net) in BEHIND_PINV or not hasattr(net, "reconstruct"):
        return _radius(net(around(A.pinv(y), norms.pinv_norm(A) * eps)))
    raise NotImplementedError(f"the steps of {type(net).__name__}.reconstruct are not known")


def _radius(x) -> torch.Tensor:
    if not isinstance(x, Ball):
        raise NotImplementedError(
            f"the network returns a {type(x).__name__}, from which no bound is read"
        )
    return x.radius


def _consistent(weight: float, norm: float) -> float:
    """max |1 - weight s^2| over 0 <= s <= norm: the norm of I - weight A* A."""
    return max(1.0, abs(1 - weight * norm**2))


def _cascade(net, A, y, eps, around) -> torch.Tensor:
    """With v on the mask, u off it; behind others ||I - w A* A|| (d + n) + w ||A|| eps."""
    w, norm = net.data_consistency.weight, norms.adjoint_norm(A)
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


def _automap(net, v) -> torch.Tensor:
    """`AUTOMAP.forward`; its mean, read off v, is orthogonal to z - mean(z)."""

    def pad(t):
        return symmetric_pad(t, MARGIN)

    hidden = net.dense[1](torch.tanh(net.dense[0](v)))
    image = _centred(hidden).reshape(-1, 1, net.n, net.n)
    padded = image.mapped(pad, norms.nonnegative_norm(pad, image.point[:1]))
    codes = net.convs[1](torch.tanh(net.convs[0](padded))).relu()
    z = _centred(net.last(codes)[..., MARGIN:-MARGIN, MARGIN:-MARGIN])
    return (z.radius.square() + (v.radius / SCALE).square()).sqrt()


def _centred(x: Ball) -> Ball:
    """x - mean(x) of (batch, n), an orthogonal projection."""
    return x.mapped(lambda t: t - t.mean(tuple(range(1, t.ndim)), keepdim=True))


def _variational(net, A, eps) -> torch.Tensor:
    """Follow ||du|| through the steps, D the steepest slopes of phi.

    ||du'|| <= (||I - step A* A|| + scale ||D^(1/2) K^T|| ||D^(1/2) K pad||) ||du||
              + step ||A|| eps.
    """
    norm = norms.adjoint_norm(A)
    radius = norm * eps
    like = torch.zeros(1, 1, *A.image_shape, device=eps.device)
    for filters, activation, step in zip(net.filters, net.activations, net.steps):
        crop, step = filters.shape[-1] - 1, float(step)
        pad = partial(networks.variational._pad, width=crop, mode=net.padding)
        roots = steepest(activation).sqrt()[:, None, None, None]
        size = tuple(n + 2 * crop for n in A.image_shape)
        k = norms.conv_norm(roots * filters, size)
        regulariser = net.scale * k * k * norms.nonnegative_norm(pad, like)
        radius = (_consistent(step, norm) + regulariser) * radius + abs(step) * norm * eps
    return radius


def steepest(activation: networks.RBFActivation, points: int = 256) -> torch.Tensor:
    """Return sup |phi'| of every channel from above.

    The largest on a grid of step h, plus h/2 sup |phi''|, |phi''| <= sum_j |w_j| / s^2.
    """
    s, weight = activation.spacing, activation.weight.detach().double()
    nodes = activation.nodes.double()
    end = 1 + 8 * s
    grid = torch.arange(-end, end, s / points, dtype=torch.float64, device=nodes.device)
    t = (grid[:, None] - nodes) / s
    slopes = ((-t * torch.exp(-t.square() / 2)) @ weight.mT).abs().amax(0) / s
    return slopes + weight.abs().sum(1) / (s * points) + 1e-12
