"""Checks before any test: is A linear, is its adjoint one, can f be tested, and how."""

import warnings

import torch

from .. import profiles
from ..attacks.vectors import norm
from . import operators
from .errors import AuditError, FunctionFailed
from .function import Function, networks_of, wants_operator

NONLINEAR = 1e-3
"""Relative deviation from linearity that is taken for round-off in float32."""
ACCESS = ("auto", "black box")


def adjoint_gap(A) -> float:
    """Return the adjoint gap of a sound operator.

    Raises:
        AuditError: A is not linear, not deterministic, or its adjoint is not its adjoint.
    """
    generator = profiles.generator(0, "audit checks")
    deviation = operators.nonlinearity(A, generator)
    if not deviation <= NONLINEAR:
        raise AuditError(
            f"{A}",
            f"a linear operator: A(2 x - 3 x') = 2 A x - 3 A x' to {NONLINEAR:g}",
            f"a difference of {deviation:.3g}",
            "Give the linear part: no noise, no offset, no clipping; add noise by noise=.",
        )
    gap = operators.gap(A, generator)
    if not gap <= operators.GAP:
        raise AuditError(
            f"the adjoint of {A}",
            f"|<A x, y> - <x, A* y>| / (||A x|| ||y||) <= {operators.GAP:g}",
            f"{gap:.3g}",
            "Give the exact adjoint (transposed, complex conjugate), "
            "not an inverse or a filtered back-projection.",
        )
    return gap


def checked_function(f, A, y: torch.Tensor, options) -> tuple[Function, float]:
    """Return f as the tests call it, and the relative difference of two calls on the same y.

    Raises:
        AuditError: f fails, is in training mode, is random, does not depend on y, or answers with
            another shape.
    """
    if not callable(f):
        raise AuditError(
            "f",
            "a callable y -> image, or (y, A) -> image",
            type(f).__name__,
            "Give lambda y: ..., or a torch module.",
        )
    allow_random = options.allow_random
    if options.access not in ACCESS:
        got = repr(options.access)
        raise AuditError("access", f"one of {ACCESS}", got, "Choose one of them.")
    for module in networks_of(f, options.network):
        _check_mode(module, allow_random)
    one = y[:1]
    function, first = _called(f, A, one)
    with torch.no_grad():
        difference = float(norm(function(one) - first) / norm(first).clamp_min(1e-30))
    if difference > (1e-5 if y.is_cuda else 0) and not allow_random:
        raise AuditError(
            "f",
            "the same image for the same y",
            f"two calls that differ by {100 * difference:.3g} % of ||f(y)||",
            "Call net.eval(), seed its generator in every call, or pass allow_random=True: "
            "the card will say so.",
        )
    e = torch.randn(one.shape, generator=profiles.generator(0, "audit sees y"), dtype=one.dtype)
    e = e.to(one.device) * (one != 0)
    with torch.no_grad():
        change = norm(function(one + 0.1 * norm(one) / norm(e) * e) - first)
    if not float(change) > 1e-7 * float(norm(first)):
        raise AuditError(
            "f",
            "an image that depends on y",
            "the same image for y and for y with 10 % of noise",
            "Check that f uses its argument, and that its input has the scale it was trained on.",
        )
    function.why_black_box = _why_black_box(function, one, options.access)
    function.gradients = function.why_black_box is None
    _choose_batches(function, y if len(y) > 1 else torch.cat([y, y.flip(-1)]), allow_random)
    return function, difference


def _check_mode(module: torch.nn.Module, allow_random: bool) -> None:
    training = sorted({type(m).__name__ for m in module.modules() if m.training})
    if training and not allow_random:
        raise AuditError(
            "the mode of the network",
            "evaluation mode",
            f"training mode ({', '.join(training[:3])})",
            "Call net.eval() first, or pass allow_random=True if it is meant to be random.",
        )


def _called(f, A, y) -> tuple[Function, torch.Tensor]:
    """f and f(y), with tensors, else with arrays."""
    reasons = []
    for numpy in (False, True):
        function = Function(f, A, wants_operator(f), numpy)
        try:
            with torch.no_grad():
                x = function(y)
            if not numpy and not isinstance(function.raw(y), torch.Tensor):
                function.numpy = True
            return function, x
        except FunctionFailed as error:
            reasons.append(str(error))
            if "not finite" in str(error):
                raise AuditError(
                    "f(y) of image 1",
                    "finite values",
                    error,
                    "Repair f, or look for a scale it does not expect.",
                ) from None
    raise AuditError(
        "f(y, A)" if wants_operator(f) else "f(y)",
        f"an image for y of shape {tuple(operators.plain(A, y).shape)}, {y.dtype}",
        reasons[0],
        "Check the shapes, types and devices that f takes; wrap it: lambda y: net(y.mT), "
        "or audit.post_processor(net, A).",
    )


def _why_black_box(function: Function, y: torch.Tensor, access: str) -> str | None:
    """Why f is searched without gradients, or None."""
    if access == "black box":
        return "asked for"
    if function.numpy:
        return "f takes NumPy arrays"
    leaf = y.clone().requires_grad_()
    try:
        (gradient,) = torch.autograd.grad(function(leaf).abs().square().sum() / 2, leaf)
    except (RuntimeError, FunctionFailed) as error:
        return str(error).split("\n")[0]
    if not bool(torch.isfinite(gradient.abs()).all()):
        return "its gradient is not finite"
    return None if bool(gradient.abs().sum() > 0) else "its gradient is 0"


def _choose_batches(function: Function, y: torch.Tensor, allow_random: bool) -> None:
    """Call f with two images at once only where that changes neither."""
    y = y[:2]
    if allow_random or function.numpy:
        return
    with torch.no_grad():
        try:
            alone = torch.cat([function(one) for one in y.split(1)])
            function.one_by_one = False
            together = function(y)
        except (FunctionFailed, AuditError):  # of the second image alone: its units report it
            function.one_by_one = True
            return
    difference = float((norm(together - alone) / norm(alone).clamp_min(1e-30)).max())
    if difference > 1e-3:
        function.one_by_one = True
        function.notes.append(
            f"f treats the images of a batch together (they differ by {100 * difference:.3g} %): "
            "it gets one at a time."
        )
        warnings.warn(function.notes[0], UserWarning, stacklevel=5)
