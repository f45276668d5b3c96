"""What is audited, checked and put beside a stable solver: the reader's f, A and images as a
subject of the stability test.
"""

import hashlib
import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import torch
from torch import nn

from .. import metrics, profiles, solvers
from ..networks import Case
from ..operators import Identity, LinearOperator, MaskedFourier, MultiCoilFourier, Radon
from ..uncertainty.dropout import MCDropout
from . import checks, images, operators, rates
from .function import AuditError, Function, networks_of
from .images import Measured

WEIGHTS = {
    Identity: (0.003, 0.01, 0.03, 0.05, 0.08, 0.12, 0.2),
    MaskedFourier: (1e-4, 1e-3, 3e-3, 1e-2, 3e-2),
    MultiCoilFourier: (1e-7, 1e-6, 1e-5, 1e-4, 1e-3),
    Radon: (3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3),
    LinearOperator: (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
}
"""TV weights that are tried, by operator: those of the package's own tasks, and a wide grid for
anybody else's.
"""
VERSION = 1  # of the tests: raised by hand when a number of a card changes its meaning
N_VALIDATION = {"smoke": 2, "standard": 8, "paper": 20}
"""Clean images that set the thresholds of alarms."""
STRENGTH, ALARM_STRENGTH = 0.02, 0.05
SMALLEST = 20
"""Pixels a side below which no suits can be drawn."""


@dataclass
class Problem:
    """Everything that the steps need."""

    case: Case
    f: Function
    network: nn.Module | None
    size: SimpleNamespace
    profile: str
    seed: int
    measured: Measured
    validation: Measured
    apart: float  # of two calls of f
    gap: float  # of the adjoint
    alarms: dict[str, Callable]
    rates: list = field(default_factory=list)
    f_at: list = field(default_factory=list)
    why_no_rates: str | None = None
    why_no_details: str | None = None
    chosen_on: str = ""
    complex_output: bool = False

    @property
    def strength(self) -> float:
        return STRENGTH if STRENGTH in self.size.strengths else self.size.strengths[-1]

    @property
    def alarm_strength(self) -> float:
        return ALARM_STRENGTH if ALARM_STRENGTH in self.size.strengths else self.size.strengths[-1]

    @property
    def dropout(self) -> nn.Module | None:
        """The network, if it has layers that MC dropout can switch on."""
        try:
            MCDropout(self.network, 2, profiles.generator(0, "probe"))
        except (ValueError, AttributeError):
            return None
        return self.network if not self.f.numpy else None


def problem(
    f,
    A,
    x=None,
    y=None,
    *,
    network=None,
    rates_given=None,
    alarms=None,
    access="auto",
    profile="standard",
    seed=0,
    noise=0.0,
    source="",
    allow_random=False,
) -> Problem:
    """The checked problem; TV's weight is 0 until it is chosen.

    Raises:
        AuditError: what cannot be audited, and the cure.
    """
    if profile not in profiles.NAMES:
        raise AuditError(
            "profile", f"one of {', '.join(profiles.NAMES)}", repr(profile), "Choose one of them."
        )
    if x is None and y is not None:
        raise AuditError(
            "y without x",
            "the true images beside the measurements",
            "y alone",
            "Pass x: errors, contrasts and the size of perturbations are measured against it.",
        )
    size = profiles.stage("stability", profile)
    A = _operator(A, x)
    gap = checks.operator_is_sound(A)
    if x is None:
        x, finer, known = images.ours(A, size.n_images, "test", images.kind_of(A))
        source = source or known
    else:
        x, finer = images.images(A, x)
        source = source or "the reader's images"
    kind = images.kind_of(A, x)
    if y is None:
        measured = images.measured(
            A, x, finer, noise, profiles.generator(seed, "audit noise"), source
        )
    else:
        if finer > 1:
            raise AuditError(
                "x beside y",
                f"images on the raster of {A}",
                f"images {finer} times as fine",
                "Average them: torch.nn.functional.avg_pool2d.",
            )
        measured = Measured(x, images.taken(A, y, len(x)), None, source)
    level = noise if y is None else _misfit(A, measured)
    vx, vfiner, vsource = images.ours(A, N_VALIDATION[profile], "validate", kind)
    if not measured.x.is_complex() and vx.is_complex():
        vx = vx.abs()
    validation = images.measured(
        A, vx, vfiner, level, profiles.generator(seed, "audit validation noise"), vsource
    )
    found, apart = checks.function(f, A, measured.y, network, access, allow_random)
    modules = networks_of(f, network)
    case = Case(
        name="audit",
        title="audit",
        task="audit",
        A=A,
        x=measured.x,
        y=measured.y,
        reconstruct=lambda y, A: found(y),
        source=source,
        tv_iterations=size.n_iter,
        unrolled_iterations=size.unrolled,
    )
    p = Problem(
        case,
        found,
        modules[0] if len(modules) == 1 else network,
        size,
        profile,
        seed,
        measured,
        validation,
        apart,
        gap,
        dict(alarms or {}),
    )
    with torch.no_grad():
        p.complex_output = bool(found(measured.y[:1]).is_complex())
    n, m = A.image_shape
    if n != m or n < SMALLEST:
        p.why_no_details = (
            f"details are drawn on square images of {SMALLEST} pixels or more; these have {n} x {m}"
        )
    _rates(p, rates_given)
    return p


def with_weight(p: Problem, weight: float) -> None:
    """Put total variation of this weight beside f."""
    p.case = replace(p.case, tv_weight=weight)


def choose_weight(p: Problem) -> dict:
    """TV's weight, best on two validation images that are not audited."""
    v, A = p.validation, p.case.A
    weights = next(w for kind, w in WEIGHTS.items() if isinstance(A, kind))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", "best weight .* is an end of the grid")
        weight, errors = solvers.choose_weight(
            A, v.x[:2], weights, y_validation=v.y[:2], n_iter=p.size.n_iter // 2
        )
    return {
        "weight": weight,
        "chosen_on": f"{min(2, len(v.x))} images that are not audited ({v.source}), from {len(errors)} weights",
    }


def identity(p: Problem) -> dict:
    """What decides the numbers of a unit, but for its name and the code."""
    c = p.case
    return {
        "data": digest(c.x, c.y),
        "validation": digest(p.validation.y),
        "f": _of_function(p),
        "operator": operators.digest(c.A),
        "settings": {
            "profile": p.profile,
            "size": repr(p.size),
            "seed": p.seed,
            "gradients": p.f.gradients,
            "one_by_one": p.f.one_by_one,
        },
        "rates": [[r.share, r.n_samples, digest(r.y)] for r in p.rates],
        "alarms": sorted(p.alarms),
        "version": VERSION,
        "torch": torch.__version__,
    }


def digest(*tensors: torch.Tensor) -> str:
    """SHA-256 of shapes, types and values."""
    return hashlib.sha256(b"".join(operators.data_bytes(t) for t in tensors)).hexdigest()


def weights_sha256(network: nn.Module | None) -> str | None:
    """Of all parameters and buffers, with their names."""
    if network is None:
        return None
    found = hashlib.sha256()
    for name, t in network.state_dict().items():
        found.update(name.encode() + operators.data_bytes(t))
    return found.hexdigest()


def _operator(A, x):
    try:
        shape = None if x is None else tuple(getattr(x, "shape", ()))[-2:]
        if isinstance(A, Identity) and tuple(A.image_shape) == (1, 1) and shape:
            return Identity(shape)
        return operators.normalised(A, shape)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AuditError(
            "A",
            "one of our operators, a deepinv physics, or audit.operator(forward, adjoint, image_size)",
            f"{type(A).__name__} ({error})",
            "Wrap your pair of functions by audit.operator.",
        ) from error


def _misfit(A, m) -> float:
    """How much of y nobody's A x explains: the noise that TV's weight is chosen for."""
    with torch.no_grad():
        away = metrics.relative_error(A(m.x), m.y) if m.y.abs().max() > 0 else torch.zeros(1)
    return float(away.median()) if float(away.median()) > 1e-5 else 0.0


def _rates(p, given) -> None:
    try:
        if given is not None:
            p.rates = rates.given(given, p.measured)
        else:
            p.rates, p.why_no_rates = rates.automatic(p.case.A, p.measured, p.seed)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AuditError(
            "rates",
            "a list of (share, operator) or (share, operator, y)",
            str(error),
            "share: samples as a multiple of those that f is used to; one entry at 1.",
        ) from error
    p.f_at = [p.f if r.A is p.case.A else p.f.at(r.A) for r in p.rates]
    if p.rates and any(f is None for f in p.f_at):
        p.why_no_rates = (
            "f takes y alone, so nobody can tell it that there are more samples; give f(y, A)"
        )
    elif p.rates and not (
        max(r.share for r in p.rates) >= 1.5 and min(abs(r.share - 1) for r in p.rates) < 0.05
    ):
        p.why_no_rates = "there is no rate with 1.5 times the samples, or none with as many as now"
    if p.why_no_rates:
        p.rates, p.f_at = [], []


def _of_function(p) -> dict:
    f = p.f.f
    try:
        source = inspect.getsource(f.forward if isinstance(f, nn.Module) else f)
    except (TypeError, OSError):
        source = type(f).__name__
    with torch.no_grad():
        probe = None if p.apart else digest(p.f(p.case.y[:1]))
    return {
        "source": source,
        "weights": [weights_sha256(n) for n in networks_of(f, p.network)],
        "answers": probe,
    }
