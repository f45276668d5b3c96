"""Before anything is tested: whether A is linear and its adjoint is one, and whether f is a
function that can be tested.
"""

import warnings

import torch

from .. import profiles
from ..attacks.vectors import norm
from . import operators
from .function import AuditError, Function, FunctionFailed, networks_of, wants_operator

NONLINEAR = 1e-3  # relative, in float32


def operator_is_sound(A) -> float:
    """The adjoint gap.

    Raises:
        AuditError: A is not linear, not deterministic, or its adjoint is not its adjoint.
    """
    generator = profiles.generator(0, "audit checks")
    wrong = operators.nonlinearity(A, generator)
    if not wrong <= NONLINEAR:
        raise AuditError(
            f"{A}",
            f"a linear operator: A(2 x - 3 x') = 2 A x - 3 A x' to {NONLINEAR:g}",
            f"a difference of {wrong:.3g}",
            "Give the noise-free linear part: no noise, no offset, no clipping; add noise by noise=.",
        )
    gap = operators.gap(A, generator)
    if not gap <= operators.GAP:
        raise AuditError(
            f"the adjoint of {A}",
            f"|<A x, y> - <x, A* y>| / (||A x|| ||y||) <= {operators.GAP:g}",
            f"{gap:.3g}",
            "Give the exact adjoint (transposed, complex conjugate), not an inverse or a filtered back-projection.",
        )
    return gap


def function(
    f, A, y: torch.Tensor, network, access: str, allow_random: bool
) -> tuple[Function, float]:
    """f as the tests call it, and how much two calls on the same y differ.

    Raises:
        AuditError: f fails, is in training mode, is random, does not see y, answers with another
            shape, or has no gradients where they are asked for.
    """
    if not callable(f):
        raise AuditError(
            "f",
            "a callable y -> image, or (y, A) -> image",
            type(f).__name__,
            "Give lambda y: ..., or a torch module.",
        )
    modules = networks_of(f, network)
    for module in modules:
        still = [type(m).__name__ for m in module.modules() if m.training]
        if still and not allow_random:
            raise AuditError(
                "the mode of the network",
                "evaluation mode",
                f"training mode ({', '.join(sorted(set(still))[:3])})",
                "Call net.eval() first, or pass allow_random=True if it is meant to be random.",
            )
        at = next((t.device for t in module.parameters()), A.device)
        if at.type != A.device.type:
            raise AuditError(
                "devices",
                "network and operator on one",
                f"the network on {at}, the operator on {A.device}",
                f"Move one of them: net.to('{A.device}'), or A.to('{at}').",
            )
    one = y[:1]
    found, first = _called(f, A, one, wants_operator(f))
    with torch.no_grad():
        second = found(one)
    apart = float(norm(second - first) / norm(first).clamp_min(1e-30))
    if apart > 0 and apart > (1e-5 if y.is_cuda else 0) and not allow_random:
        raise AuditError(
            "f",
            "the same image for the same y",
            f"two calls that differ by {100 * apart:.3g} % of ||f(y)||",
            "Call net.eval(), seed its generator in every call, or pass allow_random=True: the card will say so.",
        )
    with torch.no_grad():
        generator = profiles.generator(0, "audit sees y")
        e = torch.randn(one.shape, generator=generator, dtype=one.dtype).to(one.device) * (one != 0)
        moved = float(norm(found(one + 0.1 * norm(one) / norm(e) * e) - first))
    if not moved > 1e-7 * float(norm(first)):
        raise AuditError(
            "f",
            "an image that depends on y",
            "the same image for y and for y with 10 % of noise",
            "Check that f uses its argument, and that its input has the scale it was trained on.",
        )
    _choose_access(found, one, access)
    _choose_batches(found, y if len(y) > 1 else torch.cat([y, y.flip(-1)]), allow_random)
    return found, apart


def _called(f, A, y, with_operator) -> tuple[Function, torch.Tensor]:
    """With tensors, else with arrays."""
    reasons = []
    for numpy in (False, True):
        made = Function(f, A, with_operator, numpy)
        try:
            with torch.no_grad():
                x = made(y)
            if not numpy and not isinstance(made.raw(y), torch.Tensor):
                made.numpy = True
            return made, x
        except FunctionFailed as error:
            reasons.append(str(error))
            if "not finite" in reasons[-1]:
                break
    if "not finite" in reasons[-1]:
        raise AuditError(
            "f(y) of image 1",
            "finite values",
            reasons[-1],
            "Repair f, or look for a scale it does not expect.",
        )
    shape = tuple(operators.plain(A, y).shape)
    signature = f"f(y{', A' if with_operator else ''})"
    raise AuditError(
        signature,
        f"an image for y of shape {shape}, {y.dtype}",
        reasons[0],
        "Check the shapes, types and devices that f takes; wrap it: lambda y: net(y.mT), or audit.post_processor(net, A).",
    )


def _choose_access(found, y, access):
    words = {
        "auto": None,
        "gradients": True,
        "black box": False,
        "black-box": False,
        "black_box": False,
    }
    if access not in words:
        raise AuditError(
            "access", "'auto', 'gradients' or 'black box'", repr(access), "Choose one of them."
        )
    why = "f takes NumPy arrays" if found.numpy else None
    if why is None and words[access] is not False:
        leaf = y.clone().requires_grad_()
        try:
            (d,) = torch.autograd.grad(found(leaf).abs().square().sum() / 2, leaf)
            finite = bool(torch.isfinite(d.abs()).all())
            why = (
                None
                if finite and bool(d.abs().sum() > 0)
                else "its gradient is 0"
                if finite
                else "its gradient is not finite"
            )
        except (RuntimeError, FunctionFailed) as error:
            why = str(error).split("\n")[0]
    if words[access] and why:
        raise AuditError(
            "access='gradients'",
            "an f that torch can differentiate",
            why,
            "No .detach(), .item(), numpy or no_grad inside f; or pass access='black box', a weaker search.",
        )
    found.gradients = why is None and words[access] is not False
    found.why_black_box = (
        None if found.gradients else "asked for" if words[access] is False else why
    )


def _choose_batches(found, y, allow_random):
    """Two images at once only where that changes neither."""
    y = y[:2]
    if allow_random or found.numpy:
        return
    with torch.no_grad():
        try:
            alone = torch.cat([found(one) for one in y.split(1)])
            found.one_by_one = False
            together = found(y)
        except (FunctionFailed, AuditError):  # of the second image alone: its units will say so
            found.one_by_one = True
            return
    apart = float((norm(together - alone) / norm(alone).clamp_min(1e-30)).max())
    if apart > 1e-3:
        found.one_by_one = True
        warnings.warn(
            f"f treats the images of a batch together (they differ by {100 * apart:.3g} %): it gets one at a time.",
            UserWarning,
            stacklevel=4,
        )
