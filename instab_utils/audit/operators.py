"""Operators of the reader under our contract: a pair of functions, another library's physics, a
word on the command line.
"""

import hashlib
import importlib
from collections.abc import Callable

import numpy as np
import torch

from .. import operators, profiles
from ..operators import LinearOperator, MaskedFourier, Radon, as_operator, masks
from ..operators.adapter import _External

GAP = 1e-3
"""|<A x, y> - <x, A* y>| / (||A x|| ||y||) that is taken for round-off: exact pairs have 1e-7 in
float32.
"""


class Pair(LinearOperator):
    """A and A* from two functions; see `operator`."""

    def __init__(self, forward, adjoint, image_size, pinv=None, complex=False, numpy=False):
        self.functions, self.is_complex, self.numpy = (forward, adjoint, pinv), complex, numpy
        self.image_shape = (
            (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        )
        probe = torch.full(
            (2, 1, *self.image_shape), 0.5, dtype=torch.complex64 if complex else torch.float32
        )
        self.single, reasons = False, []
        for self.single in (False, True):
            try:
                y = self._call(forward, probe[0, 0] if self.single else probe)
                if self.single or (y.ndim > 1 and len(y) == 2):
                    break
                reasons.append(f"two images gave {tuple(y.shape)}")
            except Exception as error:
                reasons.append(f"{type(error).__name__}: {error}")
        else:
            raise ValueError(
                f"audit.operator: forward takes neither x of shape (2, 1, {self.image_shape[0]}, {self.image_shape[1]}) "
                f"({reasons[0]}) nor {self.image_shape} ({reasons[1]}). Check image_size, and numpy=True for NumPy code."
            )
        self.y_shape = tuple(y.shape) if self.single else tuple(y.shape[1:])
        self.has_pinv, self.is_complex = pinv is not None, complex or y.is_complex()

    def forward(self, x):
        self._check_image(x)
        return _Linear.apply(x, self._there, self._back)

    def adjoint(self, y):
        return _Linear.apply(y, self._back, self._there)

    def pinv(self, y):
        """The reader's own, or A* y / ||A||^2."""
        if self.has_pinv:
            return self._inverse(y)
        return self.adjoint(y) / self.norm() ** 2

    def _there(self, x):
        if self.is_complex and not x.is_complex():
            x = x.to(torch.complex64)
        return self._images(self.functions[0], x, lambda one: one[0, 0], lambda y: y[None])

    def _back(self, y):
        return self._images(
            self.functions[1], y, lambda one: one[0], lambda x: x.reshape(1, 1, *self.image_shape)
        )

    def _inverse(self, y):
        if not self.numpy:
            return self._images(
                self.functions[2],
                y,
                lambda one: one[0],
                lambda x: x.reshape(1, 1, *self.image_shape),
            )
        inverse = lambda z: self._images(
            self.functions[2],
            z,
            lambda one: one[0],
            lambda x: x.reshape(1, 1, *self.image_shape),
        )
        return _Linear.apply(y, inverse, _no_transpose)

    def _images(self, function, z, open_, close):
        if not self.single:
            return self._call(function, z)
        return torch.cat([close(self._call(function, open_(one))) for one in z.split(1)])

    def _call(self, function, z):
        out = function(z.detach().cpu().numpy()) if self.numpy else function(z)
        out = (
            torch.as_tensor(np.ascontiguousarray(out)) if not isinstance(out, torch.Tensor) else out
        )
        return out.to(torch.complex64 if out.is_complex() else torch.float32)

    def __repr__(self):
        names = ", ".join(getattr(f, "__name__", type(f).__name__) for f in self.functions[:2])
        return f"operator({names}, {self.image_shape[0]}x{self.image_shape[1]})"


class _Linear(torch.autograd.Function):
    """apply(z), whose gradient is transpose(gradient); the real part of it for a real z."""

    @staticmethod
    def forward(ctx, z, apply, transpose):
        ctx.transpose, ctx.real = transpose, not z.is_complex()
        return apply(z)

    @staticmethod
    def backward(ctx, gradient):
        back = ctx.transpose(gradient)
        return back.real if ctx.real and back.is_complex() else back, None, None


def _no_transpose(_):
    raise ValueError(
        "pinv is NumPy code and has no gradient. Write it in torch, or leave pinv out."
    )


class Flat(LinearOperator):
    """An operator whose y has other axes than (batch, channels, n, m), with y as (batch, 1, 1,
    number of samples).
    """

    def __init__(self, inner: LinearOperator, shape: tuple[int, ...]):
        self.inner, self.shape = inner, tuple(shape)
        self.image_shape, self.is_complex = inner.image_shape, inner.is_complex

    def forward(self, x):
        return self.inner.forward(x).reshape(len(x), 1, 1, -1)

    def adjoint(self, y):
        return self.inner.adjoint(y.reshape(len(y), *self.shape))

    def pinv(self, y):
        return self.inner.pinv(y.reshape(len(y), *self.shape))

    @property
    def device(self):
        return self.inner.device

    def __repr__(self):
        return repr(self.inner)


def operator(
    forward: Callable,
    adjoint: Callable,
    image_size: int | tuple[int, int],
    pinv: Callable | None = None,
    complex: bool = False,
    numpy: bool = False,
) -> LinearOperator:
    """y = A x from a pair of functions, x -> A x and y -> A* y, of batches (batch, 1, n, m) or of
    single images (n, m).

    Args:
        forward, adjoint: linear, each other's exact adjoint, which `audit.run` measures; torch or,
            with numpy=True, NumPy.
        image_size: n or (n, m).
        pinv: y -> a plain reconstruction; default A* y / ||A||^2.
        complex: whether measurements are complex.
        numpy: hand over arrays.

    Raises:
        ValueError: where forward takes an image in neither form.
    """
    return Pair(forward, adjoint, image_size, pinv, complex, numpy)


def normalised(A, image_size=None) -> LinearOperator:
    """Ours, or anybody's, with y of four axes. deepinv's MRI keeps complex images as two channels."""
    if not isinstance(A, LinearOperator):
        size = image_size or getattr(A, "img_size", getattr(A, "img_shape", None))
        size = size if isinstance(size, int) or size is None else tuple(size)[-2:]
        if size is None:
            raise ValueError(
                f"audit.run needs the image size of {type(A).__name__}: pass images x, or operators.as_operator(A, n)."
            )
        A = as_operator(A, size, complex_as_channels="MRI" in type(A).__name__)
    with torch.no_grad():
        y = A(torch.ones((1, 1, *A.image_shape), device=A.device))
    if y.ndim == 4:
        return A
    return Flat(A, y.shape[1:])


def own(A) -> object:
    """The object that the reader gave."""
    A = A.inner if isinstance(A, Flat) else A
    return A.physics if isinstance(A, _External) else A


def plain(A, y: torch.Tensor) -> torch.Tensor:
    """y as the reader's own operator gives it."""
    if isinstance(A, Flat):
        y = y.reshape(len(y), *A.shape)
        A = A.inner
    if isinstance(A, _External) and A.is_complex:
        return torch.view_as_real(y.resolve_conj())[:, 0].movedim(-1, 1)
    return y[0] if isinstance(A, Pair) and A.single else y


def shape_of_y(A, y: torch.Tensor) -> list[int]:
    """Of one measurement, as the reader's own operator gives it, without the batch."""
    inner = A.inner if isinstance(A, Flat) else A
    return list(plain(A, y).shape[0 if isinstance(inner, Pair) and inner.single else 1 :])


def gap(A, generator: torch.Generator) -> float:
    """|<A x, y> - <x, A* y>| / (||A x|| ||y||) for Gaussian x, the larger of y = A x and a Gaussian
    y.

    A wrong scale of the adjoint shows in the first, where the two products do not nearly vanish: it
    is 1 - ||A x||^2 / <x, A* A x>.
    """
    x = _gaussian((1, 1, *A.image_shape), A.is_complex, generator).to(A.device)
    found = []
    with torch.no_grad():
        there = A(x)
        for y in (there, _gaussian(there.shape, there.is_complex(), generator).to(A.device)):
            left, right = (
                (y.conj() * there).sum(dtype=_wide(y)),
                (A.adjoint(y).conj() * x).sum(dtype=_wide(y)),
            )
            found.append(float((left - right).abs() / (there.norm() * y.norm())))
    return max(found)


def _wide(t):
    return torch.complex128 if t.is_complex() else torch.float64


def nonlinearity(A, generator: torch.Generator) -> float:
    """||A(2 x - 3 x') - 2 A x + 3 A x'|| / ||A x|| for Gaussian x, x'."""
    x, other = (
        _gaussian((1, 1, *A.image_shape), A.is_complex, generator).to(A.device) for _ in range(2)
    )
    with torch.no_grad():
        there = A(x)
        return float(
            (A(2 * x - 3 * other) - 2 * there + 3 * A(other)).norm() / there.norm().clamp_min(1e-30)
        )


def digest(A) -> str:
    """SHA-256 of what the operator is called and of what it makes of one Gaussian image."""
    x = _gaussian(
        (1, 1, *A.image_shape), A.is_complex, profiles.generator(0, "operator digest")
    ).to(A.device)
    with torch.no_grad():
        y = A(x)
    return hashlib.sha256(repr(A).encode() + data_bytes(y)).hexdigest()


def data_bytes(t: torch.Tensor) -> bytes:
    return (
        str((tuple(t.shape), t.dtype)).encode()
        + t.detach().cpu().resolve_conj().contiguous().numpy().tobytes()
    )


def _gaussian(shape, complex_, generator):
    return torch.randn(
        shape, generator=generator, dtype=torch.complex64 if complex_ else torch.float32
    )


def parsed(text: str, seed: int = 0):
    """The operator of a word: "radon:image_size=128,n_views=50[,span_deg=180][,n_detectors=]",
    "fourier:image_size=128,acceleration=3", "identity:image_size=128" or "module:function", which
    returns an operator.

    Raises:
        ValueError: for anything else.
    """
    kind, _, rest = text.partition(":")
    known = {
        "radon": {"image_size", "n_views", "span_deg", "n_detectors"},
        "fourier": {"image_size", "acceleration"},
        "identity": {"image_size"},
    }
    if kind not in known:
        return imported(text)()
    options = dict(part.partition("=")[::2] for part in rest.split(",") if part)
    if set(options) - known[kind] or "image_size" not in options:
        raise ValueError(
            f"--operator {kind} expects image_size and may have {', '.join(sorted(known[kind]))}; got {text!r}."
        )
    try:
        numbers = {name: float(value) for name, value in options.items()}
    except ValueError:
        raise ValueError(
            f"--operator {kind} expects numbers, as in {kind}:image_size=128; got {text!r}."
        ) from None
    n = int(numbers["image_size"])
    if kind == "identity":
        return operators.Identity(n)
    if kind == "fourier":
        generator = profiles.generator(seed, "audit mask")
        return MaskedFourier(
            masks.variable_density_lines(n, numbers.get("acceleration", 3.0), generator=generator)
        )
    n_views, span = int(numbers.get("n_views", 50)), numbers.get("span_deg", 180.0)
    n_detectors = int(numbers["n_detectors"]) if "n_detectors" in numbers else None
    return Radon(n, torch.arange(n_views, dtype=torch.float64) * span / n_views, n_detectors)


def imported(text: str) -> Callable:
    """What "module:name" names.

    Raises:
        ValueError: where there is no such module or name.
    """
    module, _, name = text.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"expected module:name, something Python can import from here; got {text!r} ({error})."
        ) from None
