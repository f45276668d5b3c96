"""What is audited, checked: the reader's f, A and images as a case of the stability test."""

import dataclasses
import functools
import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from torch import nn

from .. import metrics, profiles, solvers
from ..networks import Case
from ..operators import Identity, LinearOperator, MaskedFourier, MultiCoilFourier, Radon
from ..stability.more_samples import Rate
from ..uncertainty.dropout import MCDropout
from . import checks, measurements, operators, rates
from .errors import AuditError
from .function import Function, networks_of
from .measurements import Measurements

TV_WEIGHTS = {
    Identity: (0.003, 0.01, 0.03, 0.05, 0.08, 0.12, 0.2),
    MaskedFourier: (1e-4, 1e-3, 3e-3, 1e-2, 3e-2),
    MultiCoilFourier: (1e-7, 1e-6, 1e-5, 1e-4, 1e-3),
    Radon: (3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3),
    LinearOperator: (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
}
"""Weights of total variation that are tried, by operator; a wide grid for a reader's own."""
NO_TIME_WEIGHT = 1e-3
STRENGTH, ALARM_STRENGTH = 0.02, 0.05
"""||r|| / ||x|| of the verdict and of the worst case that alarms are tested on."""
SMALLEST = 20
"""Pixels a side below which no suits can be drawn."""


@dataclass(frozen=True)
class AuditOptions:
    """Options of `audit.run`."""

    profile: str = "standard"
    """"smoke", "standard" or "paper": sizes of the searches, `profiles.STAGES["stability"]`."""
    seed: int = 0
    noise: float = 0.0
    """||e|| / ||y|| of white noise in y, where y is not given."""
    access: str = "auto"
    """"auto": gradients where f has them; or "black box"."""
    network: nn.Module | None = None
    """The torch module in f, where f does not show it: its weights name stored units, its dropout
    layers are an alarm."""
    rates: Iterable[tuple] | None = None
    """[(share, operator) or (share, operator, y), ...] for more samples; None: made for `Radon` and
    `MaskedFourier` if f takes (y, A)."""
    alarms: Mapping[str, Callable] = field(default_factory=dict)
    """{"name": y -> map}, tested beside ours."""
    allow_random: bool = False
    """Go on with an f that answers differently each time, or is in training mode."""
    source: str = ""
    """What the images are."""
    public: bool = False
    """Whether the card may show the images without loss."""
    task: str = ""
    """A word for the card."""
    about: Mapping[str, object] = field(default_factory=dict)
    """{"file", "sha256", "files"} for the card."""
    say: Callable[[str], None] | None = print
    """Called with a line for every unit."""


@dataclass
class Problem:
    """Everything that the units need."""

    case: Case
    f: Function
    network: nn.Module | None
    options: AuditOptions
    measured: Measurements
    validation: Measurements
    difference: float
    """Of two calls of f."""
    gap: float
    """Of the adjoint."""
    is_complex: bool
    """Whether f(y) is."""
    rates: list[Rate] = field(default_factory=list)
    f_at: list[Function] = field(default_factory=list)
    why_no_rates: str | None = None
    chosen_on: str = ""

    @property
    def size(self) -> SimpleNamespace:
        return profiles.stage("stability", self.options.profile)

    @property
    def strength(self) -> float:
        return self._strength(STRENGTH)

    @property
    def alarm_strength(self) -> float:
        return self._strength(ALARM_STRENGTH)

    def _strength(self, wanted: float) -> float:
        strengths = self.size.strengths
        return wanted if wanted in strengths else strengths[-1]

    @property
    def why_no_details(self) -> str | None:
        n, m = self.case.A.image_shape
        if n == m and n >= SMALLEST:
            return None
        return (
            f"details are drawn on square images of {SMALLEST} pixels or more; these have {n} x {m}"
        )

    @functools.cached_property
    def dropout(self) -> nn.Module | None:
        """The network, if it has layers that MC dropout can switch on."""
        try:
            MCDropout(self.network, 2, profiles.generator(0, "probe"))
        except (ValueError, AttributeError):
            return None
        return None if self.f.numpy else self.network

    def choose_weight(self) -> dict:
        """Return total variation's weight, best on two validation images that are not audited."""
        x, y = self.validation.x[:2], self.validation.y[:2]
        A = self.case.A
        weights = next(grid for kind, grid in TV_WEIGHTS.items() if isinstance(A, kind))
        with warnings.catch_warnings(), torch.no_grad():
            warnings.filterwarnings("ignore", "best weight .* is an end of the grid")
            weight, _ = solvers.choose_weight(
                A, x, weights, y_validation=y, n_iter=self.size.n_iter // 2
            )
        chosen_on = f"{len(x)} images that are not audited ({self.validation.source})"
        return {"weight": weight, "chosen_on": f"{chosen_on}, from {len(weights)} weights"}

    def set_weight(self, chosen: dict | None) -> None:
        if chosen is None:  # no time, or no solution: the smallest of the grid would be a guess
            nothing = "nothing: there was no time to choose it"
            chosen = {"weight": NO_TIME_WEIGHT, "chosen_on": nothing}
        self.case = dataclasses.replace(self.case, tv_weight=chosen["weight"])
        self.chosen_on = chosen["chosen_on"]

    def identity(self) -> dict:
        """Return what decides the numbers of a unit, but for its name and version."""
        case, options = self.case, self.options
        return {
            "data": operators.digest(case.x, case.y),
            "validation": operators.digest(self.validation.y),
            "f": self._function_identity(),
            "operator": operators.operator_digest(case.A),
            "size": repr(self.size),
            "profile": options.profile,
            "seed": options.seed,
            "gradients": self.f.gradients,
            "one_by_one": self.f.one_by_one,
            "rates": [[r.share, r.n_samples, operators.digest(r.y)] for r in self.rates],
            "alarms": sorted(options.alarms),
            "torch": torch.__version__,
        }

    def _function_identity(self) -> dict:
        f = self.f.f
        try:
            source = inspect.getsource(f.forward if isinstance(f, nn.Module) else f)
        except (TypeError, OSError):
            source = type(f).__name__
        with torch.no_grad():
            probe = None if self.difference else operators.digest(self.f(self.case.y[:1]))
        weights = [weights_sha256(network) for network in networks_of(f, self.network)]
        return {"source": source, "weights": weights, "probe": probe}


def weights_sha256(network: nn.Module) -> str:
    """Return the SHA-256 of all parameters and buffers, with their names."""
    state = network.state_dict()
    return operators.digest(*state.values(), names=list(state))


def build_problem(f: Callable, A, x, y, options: AuditOptions) -> Problem:
    """Return the checked problem; total variation's weight is not chosen yet.

    Raises:
        AuditError: what cannot be audited, and the cure.
    """
    _check_arguments(x, y, options)
    A = _operator(A, x)
    gap = checks.adjoint_gap(A)
    measured = _measured(A, x, y, options)
    noise = options.noise if y is None else _misfit(A, measured)
    validation = _validation(A, measured, noise, options)
    function, difference = checks.checked_function(f, A, measured.y, options)
    networks = networks_of(f, options.network)
    size = profiles.stage("stability", options.profile)
    case = Case(
        name="audit",
        title="audit",
        task="audit",
        A=A,
        x=measured.x,
        y=measured.y,
        reconstruct=lambda y, A: function(y),
        source=measured.source,
        tv_iterations=size.n_iter,
        unrolled_iterations=size.unrolled,
    )
    network = networks[0] if len(networks) == 1 else options.network
    with torch.no_grad():
        is_complex = function(measured.y[:1]).is_complex()
    problem = Problem(
        case, function, network, options, measured, validation, difference, gap, is_complex
    )
    _set_rates(problem)
    return problem


def _check_arguments(x, y, options: AuditOptions) -> None:
    names = profiles.NAMES
    if options.profile not in names:
        expected = f"one of {', '.join(names)}"
        raise AuditError("profile", expected, repr(options.profile), "Choose one of them.")
    if x is None and y is not None:
        raise AuditError(
            "y without x",
            "the true images beside the measurements",
            "y alone",
            "Pass x: errors, contrasts and the size of perturbations are measured against it.",
        )


def _operator(A, x) -> LinearOperator:
    shape = None if x is None else tuple(getattr(x, "shape", ()))[-2:]
    try:
        if isinstance(A, Identity) and tuple(A.image_shape) == (1, 1) and shape:
            return Identity(shape).to(A.device)
        return operators.normalised(A, shape)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AuditError(
            "A",
            "one of our operators, a deepinv physics, "
            "or audit.operator(forward, adjoint, image_size)",
            f"{type(A).__name__} ({error})",
            "Wrap your pair of functions by audit.operator.",
        ) from error


def _measured(A: LinearOperator, x, y, options: AuditOptions) -> Measurements:
    if x is None:
        n_images = profiles.stage("stability", options.profile).n_images
        x, source = measurements.our_images(A, n_images, "test", measurements.kind_of(A))
    else:
        x, source = measurements.readers_images(A, x), "the reader's images"
    source = options.source or source
    if y is None:
        generator = profiles.generator(options.seed, "audit noise")
        return measurements.measure(A, x, options.noise, generator, source)
    if tuple(x.shape[-2:]) != tuple(A.image_shape):
        raise AuditError(
            "x beside y",
            f"images on the raster of {A}",
            f"images of {tuple(x.shape[-2:])}",
            "Average them: torch.nn.functional.avg_pool2d.",
        )
    y = measurements.readers_measurements(A, y, len(x))
    return Measurements(x, y, None, source)


def _misfit(A: LinearOperator, measured: Measurements) -> float:
    """Median of ||A x - y|| / ||y||: the noise that total variation's weight is chosen for."""
    if not bool(measured.y.any()):
        return 0.0
    with torch.no_grad():
        misfit = float(metrics.relative_error(A(measured.x), measured.y).median())
    return misfit if misfit > 1e-5 else 0.0


def _validation(
    A: LinearOperator, measured: Measurements, noise: float, options: AuditOptions
) -> Measurements:
    n = profiles.stage("audit", options.profile).n_validation
    kind = measurements.kind_of(A, measured.x)
    x, source = measurements.our_images(A, n, "validate", kind)
    if x.is_complex() and not measured.x.is_complex():
        x = x.abs()
    generator = profiles.generator(options.seed, "audit validation noise")
    return measurements.measure(A, x, noise, generator, source)


def _set_rates(p: Problem) -> None:
    A, f = p.case.A, p.f
    try:
        if p.options.rates is not None:
            p.rates = rates.readers_rates(p.options.rates, p.measured)
        else:
            p.rates, p.why_no_rates = rates.automatic_rates(A, p.measured, p.options.seed)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AuditError(
            "rates",
            "a list of (share, operator) or (share, operator, y)",
            error,
            "share: samples as a multiple of those that f is used to; one entry at 1.",
        ) from error
    p.f_at = [f if rate.A is A else f.at(rate.A) for rate in p.rates]
    shares = [rate.share for rate in p.rates]
    if shares and None in p.f_at:
        p.why_no_rates = (
            "f takes y alone and cannot be told that there are more samples; give f(y, A)"
        )
    elif shares and (max(shares) < 1.5 or min(abs(share - 1) for share in shares) >= 0.05):
        p.why_no_rates = "there is no rate with 1.5 times the samples, or none with as many as now"
    if p.why_no_rates:
        p.rates, p.f_at = [], []
