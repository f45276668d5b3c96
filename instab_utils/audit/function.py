"""The reconstruction under test: called in one way, counted, and stopped where it breaks."""

import inspect
import itertools
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from ..networks import Reconstructor
from .errors import AuditError, FunctionFailed
from .operators import own, plain

OPERATOR_NAMES = {"a", "op", "operator", "physics", "forward_operator", "forward_model"}
"""Names of a second parameter with a default that still is an operator."""


class PostProcessor:
    """f(y) = net(A^+ y); f(y, B) the same network behind another operator B."""

    def __init__(self, net: Callable, A: object, front_end: str = "pinv"):
        self.network, self.A, self.front_end = net, A, front_end

    def __call__(self, y: torch.Tensor, A: object = None) -> torch.Tensor:
        A = self.A if A is None else A
        if self.front_end == "none":
            return self.network(y)
        front_end = A.A_dagger if self.front_end == "pinv" else A.A_adjoint
        return self.network(front_end(y))


def post_processor(net: Callable, A: object) -> PostProcessor:
    """Return f(y) = net(A.pinv(y)), which also takes another operator: f(y, B) = net(B.pinv(y)).

    Args:
        net: images (batch, 1, n, m) -> images.
        A: operator with `A_dagger`: ours, `audit.operator`, or deepinv's.
    """
    return PostProcessor(net, A)


def wants_operator(f: Callable) -> bool:
    """Return whether f is called as f(y, A).

    It has two arguments without a default, or a second one that is named like an operator.
    """
    try:
        signature = inspect.signature(f.forward if isinstance(f, nn.Module) else f)
    except (TypeError, ValueError):  # built in: it has none
        return False
    places = [p for p in signature.parameters.values() if p.kind <= p.POSITIONAL_OR_KEYWORD]
    if len(places) < 2:
        return False
    return places[1].default is places[1].empty or places[1].name.lower() in OPERATOR_NAMES


def networks_of(f: Callable, network: nn.Module | None = None) -> list[nn.Module]:
    """Return the modules that f is visibly made of, or the one that is given.

    f itself, its `.network`, its arguments and self, what it closes over and names.
    """
    if network is not None:
        return [network]
    parts = [f, *getattr(f, "args", ())]
    parts += [getattr(f, name, None) for name in ("func", "__self__", "network", "net", "model")]
    try:
        outer = inspect.getclosurevars(f)
        parts += [*outer.nonlocals.values(), *outer.globals.values()]
    except (TypeError, ValueError):  # no function of Python, or a variable that is not yet assigned
        pass
    networks = []
    for part in parts:
        part = part if isinstance(part, nn.Module) else getattr(part, "network", None)
        if isinstance(part, nn.Module) and all(part is not other for other in networks):
            networks.append(part)
    return networks


class Function:
    """x = f(y) as the tests call it: (batch, ...) -> (batch, 1, n, m), finite, counted.

    Args:
        f: the reader's callable. It gets the y of the reader's operator, and that operator if it
            wants one.
        A: the operator; `own(A)` is the object the reader gave.
        with_operator: as `wants_operator`.
        numpy: hand over arrays.
        gradients: False cuts the graph: a black box.
    """

    def __init__(
        self, f: Callable, A, with_operator: bool, numpy: bool = False, gradients: bool = True
    ):
        self.f, self.A, self.with_operator = f, A, with_operator
        self.numpy, self.gradients, self.one_by_one = numpy, gradients, True
        self.why_black_box, self.notes = None, []
        self.n_calls = self.n_gradients = 0
        tensors = itertools.chain(*[(*n.parameters(), *n.buffers()) for n in networks_of(f)])
        self.dtype = next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)

    def at(self, A) -> "Function | None":
        """Return the same network behind another operator; None where f takes no operator."""
        if isinstance(self.f, Reconstructor):
            return Function(Reconstructor(self.f.network, A), A, False, self.numpy, False)
        return Function(self.f, A, True, self.numpy, False) if self.with_operator else None

    def __call__(self, y: torch.Tensor) -> torch.Tensor:
        if self.one_by_one and len(y) > 1:
            return torch.cat([self(one) for one in y.split(1)])
        self.n_calls += len(y)
        differentiated = self.gradients and torch.is_grad_enabled() and y.requires_grad
        self.n_gradients += len(y) if differentiated else 0
        try:
            with torch.set_grad_enabled(differentiated):
                x = self.image(self.raw(y), len(y))
        except AuditError:
            raise
        except Exception as error:
            raise FunctionFailed(y, f"{type(error).__name__}: {error}") from error
        n_wrong = int((~torch.isfinite(x.detach())).sum())
        if n_wrong:
            raise FunctionFailed(
                y, f"f(y) is not finite: {n_wrong} of {x.numel()} values are NaN or infinite"
            )
        return x

    def raw(self, y: torch.Tensor):
        """Return f's answer as it gives it."""
        y = plain(self.A, y)
        if self.dtype == torch.float64:
            y = y.to(torch.complex128 if y.is_complex() else self.dtype)
        operator = (own(self.A),) if self.with_operator else ()
        return self.f(y.detach().cpu().numpy() if self.numpy else y, *operator)

    def image(self, x, n: int) -> torch.Tensor:
        """Return an answer as (n, 1, h, w).

        It may have the shape (n, 1, h, w), (n, h, w), (h, w) for one image, or (n, 2, h, w), two
        real channels, for a complex one.
        """
        if not (isinstance(x, torch.Tensor | np.ndarray) or np.isscalar(x)):
            raise AuditError(
                "the output of f",
                "one image, a tensor or an array",
                type(x).__name__,
                "Give back the image alone: lambda y: f(y)[0].",
            )
        x = x if isinstance(x, torch.Tensor) else torch.as_tensor(np.ascontiguousarray(x))
        if not (x.is_complex() or x.is_floating_point()):
            raise AuditError(
                "the output of f",
                "floating-point or complex numbers",
                x.dtype,
                "Convert it: f(y).float().",
            )
        x = x.to(torch.complex64 if x.is_complex() else torch.float32)
        h, w = self.A.image_shape
        if tuple(x.shape) == (n, 2, h, w) and self.A.is_complex:
            x = torch.view_as_complex(x.movedim(1, -1).contiguous())
        shapes = [(n, 1, h, w), (n, h, w)] + [(h, w)] * (n == 1)
        if tuple(x.shape) not in shapes:
            raise AuditError(
                "the shape of f(y)",
                shapes[0],
                tuple(x.shape),
                "Bring it to that shape inside f, cropped or with axes added.",
            )
        return x.reshape(shapes[0]).to(self.A.device)
