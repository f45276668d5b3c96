"""The network under test, whatever it is: called one way, counted, and stopped where it breaks."""

import inspect
import itertools
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from .operators import own, plain

SECOND = {"a", "op", "operator", "physics", "forward_operator", "forward_model"}


class AuditError(ValueError):
    """What cannot be audited as it is: `what`, `expected`, `got`, `cure`."""

    def __init__(self, what: str, expected: str, got: str, cure: str):
        super().__init__(f"{what}: expected {expected}; got {got}. {cure}")
        self.what, self.expected, self.got, self.cure = what, expected, got, cure


class FunctionFailed(RuntimeError):
    """f raised an exception, or gave something that is not finite; `y` is what it was called with."""

    def __init__(self, y: torch.Tensor, why: str):
        super().__init__(why)
        self.y = y.detach()


class PostProcessor:
    """f(y) = net(A^+ y); f(y, B) the same network behind another operator. Batched, differentiable."""

    def __init__(self, net: Callable, A, front_end: str = "pinv"):
        self.network, self.A, self.front_end = net, A, front_end

    def __call__(self, y: torch.Tensor, A=None) -> torch.Tensor:
        A = self.A if A is None else A
        if self.front_end == "none":
            return self.network(y)
        back = getattr(A, self.front_end, None) or getattr(
            A, {"pinv": "A_dagger", "adjoint": "A_adjoint"}[self.front_end]
        )
        return self.network(back(y))


def post_processor(net: Callable, A) -> PostProcessor:
    """f(y) = net(A.pinv(y)), and f(y, B) = net(B.pinv(y)): a network that repairs what the
    scanner's geometry alone shows.

    Args:
        net: images (batch, 1, n, m) -> images.
        A: operator with `pinv` (ours, `audit.operator`) or `A_dagger` (deepinv).
    """
    return PostProcessor(net, A)


def wants_operator(f: Callable) -> bool:
    """Whether f is called as f(y, A): by two arguments without a default, or a second one that is
    named like an operator.
    """
    try:
        parameters = inspect.signature(
            f.forward if isinstance(f, nn.Module) else f
        ).parameters.values()
    except (TypeError, ValueError):  # built in: it does not say
        return False
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(places) > 1 and (
        places[1].default is inspect.Parameter.empty or places[1].name.lower() in SECOND
    )


def networks_of(f: Callable, given: nn.Module | None = None) -> list[nn.Module]:
    """The modules that f is made of, as far as one can see: itself, `.network`, what it closes over
    and names.
    """
    if given is not None:
        return [given]
    code, held = getattr(f, "__code__", None), []
    for cell in getattr(f, "__closure__", None) or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:  # not yet assigned
            continue
    held += (
        [f.__globals__[name] for name in code.co_names if name in f.__globals__]
        if code is not None
        else []
    )
    held += [*getattr(f, "args", ()), getattr(f, "func", None), getattr(f, "__self__", None)]
    held += [getattr(f, name, None) for name in ("network", "net", "model")]
    found = [f] if isinstance(f, nn.Module) else []
    for item in held:
        item = item if isinstance(item, nn.Module) else getattr(item, "network", None)
        if isinstance(item, nn.Module) and all(item is not other for other in found):
            found.append(item)
    return found


class Function:
    """x = f(y) as the tests call it: tensors (batch, ...) -> (batch, 1, n, m), finite, counted, one
    image at a time if need be.

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
        self.f, self.A, self.with_operator, self.numpy, self.gradients = (
            f,
            A,
            with_operator,
            numpy,
            gradients,
        )
        self.one_by_one = True
        self.n_calls = self.n_gradients = 0
        tensors = itertools.chain.from_iterable(
            itertools.chain(n.parameters(), n.buffers()) for n in networks_of(f)
        )
        self.dtype = next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)

    def at(self, A) -> "Function | None":
        """The same network behind another operator; None where f takes no operator."""
        from ..networks import Reconstructor

        if isinstance(self.f, Reconstructor):
            return Function(Reconstructor(self.f.network, A), A, False, self.numpy, False)
        return Function(self.f, A, True, self.numpy, False) if self.with_operator else None

    def __call__(self, y: torch.Tensor) -> torch.Tensor:
        if self.one_by_one and len(y) > 1:
            return torch.cat([self(one) for one in y.split(1)])
        self.n_calls += len(y)
        asked = self.gradients and torch.is_grad_enabled() and y.requires_grad
        self.n_gradients += len(y) if asked else 0
        try:
            with torch.set_grad_enabled(asked):
                x = self.image(self.raw(y), len(y))
        except AuditError:
            raise
        except Exception as error:
            raise FunctionFailed(y, f"{type(error).__name__}: {error}") from error
        finite = torch.isfinite(
            torch.view_as_real(x.detach().resolve_conj()) if x.is_complex() else x.detach()
        )
        if not bool(finite.all()):
            raise FunctionFailed(
                y,
                f"f(y) is not finite: {int((~finite).sum())} of {finite.numel()} values are NaN or infinite",
            )
        return x

    def raw(self, y: torch.Tensor):
        """f's answer as it gives it."""
        y = plain(self.A, y)
        if self.dtype == torch.float64:
            y = y.to(torch.complex128 if y.is_complex() else self.dtype)
        extra = (own(self.A),) if self.with_operator else ()
        return self.f(y.detach().cpu().numpy() if self.numpy else y, *extra)

    def image(self, x, n: int) -> torch.Tensor:
        """Any of (n, 1, h, w), (n, h, w), (h, w) for one image, and two real channels for a complex
        one, as (n, 1, h, w).
        """
        if isinstance(x, (tuple, list)) or not (
            isinstance(x, (torch.Tensor, np.ndarray)) or np.isscalar(x)
        ):
            raise AuditError(
                "the output of f",
                "one image, a tensor or an array",
                type(x).__name__,
                "Give back the image alone: lambda y: f(y)[0].",
            )
        x = torch.as_tensor(np.ascontiguousarray(x)) if not isinstance(x, torch.Tensor) else x
        shape = tuple(self.A.image_shape)
        if not (x.is_complex() or x.is_floating_point()):
            raise AuditError(
                "the output of f",
                "floating-point or complex numbers",
                str(x.dtype),
                "Convert it: f(y).float().",
            )
        x = x.to(torch.complex64 if x.is_complex() else torch.float32)
        if tuple(x.shape) == (n, 2, *shape) and self.A.is_complex:
            x = torch.view_as_complex(x.movedim(1, -1).contiguous())
        if tuple(x.shape) not in ((n, 1, *shape), (n, *shape), shape if n == 1 else None):
            raise AuditError(
                "the shape of f(y)",
                f"({n}, 1, {shape[0]}, {shape[1]})",
                str(tuple(x.shape)),
                "Bring it to that shape inside f, cropped or with axes added.",
            )
        return x.reshape(n, 1, *shape).to(self.A.device)
