"""The reader's operators: a pair of functions, another library's physics, a command line's word."""

import hashlib
import itertools
import json
from collections.abc import Callable, Sequence

import numpy as np
import torch

from .. import profiles
from ..operators import Identity, LinearOperator, MaskedFourier, Radon, as_operator, masks
from ..operators.adapter import _External
from .errors import import_object

GAP = 1e-3
"""Adjoint gap that is taken for round-off: exact pairs have 1e-7 in float32."""


class Pair(LinearOperator):
    """A and A* from two functions; see `operator`."""

    def __init__(
        self, forward, adjoint, image_size, pinv=None, complex=False, numpy=False, device="cpu"
    ):
        self.functions, self.numpy = (forward, adjoint, pinv), numpy
        self._device = torch.device(device)
        square = isinstance(image_size, int)
        self.image_shape = (image_size, image_size) if square else tuple(image_size)
        dtype = torch.complex64 if complex else torch.float32
        x = torch.full((2, 1, *self.image_shape), 0.5, dtype=dtype, device=device)
        y = self._probe(forward, x)
        self.y_shape = tuple(y.shape) if self.single else tuple(y.shape[1:])
        self.is_complex = complex or y.is_complex()

    def _probe(self, forward: Callable, x: torch.Tensor) -> torch.Tensor:
        """Call forward with a batch, or with one image where it takes no batch (`single`)."""
        reasons = []
        for self.single in (False, True):
            try:
                y = self._call(forward, x[0, 0] if self.single else x)
                if self.single or (y.ndim > 1 and len(y) == 2):
                    return y
                reasons.append(f"two images gave {tuple(y.shape)}")
            except Exception as error:
                reasons.append(f"{type(error).__name__}: {error}")
        raise ValueError(
            f"audit.operator: forward takes neither x of shape {tuple(x.shape)} ({reasons[0]}) "
            f"nor {self.image_shape} ({reasons[1]}). "
            "Check image_size, and numpy=True for NumPy code."
        )

    @property
    def device(self):
        return self._device

    def forward(self, x):
        self._check_image(x)
        return _Linear.apply(x, self._forward, self._adjoint)

    def adjoint(self, y):
        return _Linear.apply(y, self._adjoint, self._forward)

    def pinv(self, y):
        """Return the reader's own, or A* y / ||A||^2."""
        if self.functions[2] is None:
            return self.adjoint(y) / self.norm() ** 2
        return self._images(self.functions[2], y)

    def _forward(self, x):
        if self.is_complex and not x.is_complex():
            x = x.to(torch.complex64)
        if not self.single:
            return self._call(self.functions[0], x)
        return torch.stack([self._call(self.functions[0], image) for image in x[:, 0]])

    def _adjoint(self, y):
        return self._images(self.functions[1], y)

    def _images(self, function, y):
        if not self.single:
            return self._call(function, y)
        images = torch.stack([self._call(function, one) for one in y])
        return images.reshape(len(y), 1, *self.image_shape)

    def _call(self, function, z):
        out = function(z.detach().cpu().numpy() if self.numpy else z)
        if not isinstance(out, torch.Tensor):
            out = torch.as_tensor(np.ascontiguousarray(out), device=self.device)
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


class Flat(LinearOperator):
    """An operator whose y has other than four axes, with y as (batch, 1, 1, n_samples)."""

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
    device: torch.device | str = "cpu",
) -> LinearOperator:
    """Return y = A x from a pair of functions, x -> A x and y -> A* y.

    Args:
        forward, adjoint: linear, each other's exact adjoint, which `audit.run` measures; of batches
            (batch, 1, n, m) or of single images (n, m); torch or, with numpy=True, NumPy.
        image_size: n or (n, m).
        pinv: y -> a plain reconstruction; default A* y / ||A||^2.
        complex: whether measurements are complex.
        numpy: hand over arrays.
        device: of the tensors that forward takes and gives, and of the audit.

    Raises:
        ValueError: where forward takes an image in neither form.
    """
    return Pair(forward, adjoint, image_size, pinv, complex, numpy, device)


def normalised(A: object, image_size=None) -> LinearOperator:
    """Return ours or another library's operator with y of four axes.

    deepinv's MRI keeps complex images as two channels.
    """
    if not isinstance(A, LinearOperator):
        size = image_size or getattr(A, "img_size", getattr(A, "img_shape", None))
        if size is None:
            raise ValueError(
                f"audit.run needs the image size of {type(A).__name__}: "
                "pass images x, or operators.as_operator(A, n)."
            )
        size = size if isinstance(size, int) else tuple(size)[-2:]
        A = as_operator(A, size, complex_as_channels="MRI" in type(A).__name__)
    with torch.no_grad():
        y = A(torch.ones((1, 1, *A.image_shape), device=A.device))
    return A if y.ndim == 4 else Flat(A, y.shape[1:])


def inner(A: LinearOperator) -> LinearOperator:
    return A.inner if isinstance(A, Flat) else A


def own(A: LinearOperator) -> object:
    """Return the object that the reader gave."""
    return getattr(inner(A), "physics", inner(A))


def is_single(A: LinearOperator) -> bool:
    """Whether the reader's functions take one image at a time."""
    return getattr(inner(A), "single", False)


def plain(A: LinearOperator, y: torch.Tensor) -> torch.Tensor:
    """Return y as the reader's own operator gives it."""
    y = y.reshape(len(y), *A.shape) if isinstance(A, Flat) else y
    if isinstance(inner(A), _External) and A.is_complex:
        return torch.view_as_real(y.resolve_conj())[:, 0].movedim(-1, 1)
    return y[0] if is_single(A) else y


def gap(A: LinearOperator, generator: torch.Generator) -> float:
    """Return |<A x, y> - <x, A* y>| / (||A x|| ||y||) for Gaussian x, y = A x or Gaussian y.

    The larger of the two. A wrong scale of the adjoint shows in the first, where the products do
    not nearly vanish: it is 1 - ||A x||^2 / <x, A* A x>.
    """
    x = _gaussian_image(A, generator)
    gaps = []
    with torch.no_grad():
        ideal = A(x)
        other = torch.randn(ideal.shape, generator=generator, dtype=ideal.dtype).to(A.device)
        wide = torch.complex128 if ideal.is_complex() else torch.float64
        for y in (ideal, other):
            left = (y.conj() * ideal).sum(dtype=wide)
            right = (A.adjoint(y).conj() * x).sum(dtype=wide)
            gaps.append(float((left - right).abs() / (ideal.norm() * y.norm())))
    return max(gaps)


def nonlinearity(A: LinearOperator, generator: torch.Generator) -> float:
    """Return ||A(2 x - 3 x') - 2 A x + 3 A x'|| / ||A x|| for Gaussian x, x'."""
    x, other = _gaussian_image(A, generator), _gaussian_image(A, generator)
    with torch.no_grad():
        ideal = A(x)
        difference = A(2 * x - 3 * other) - 2 * ideal + 3 * A(other)
        return float(difference.norm() / ideal.norm().clamp_min(1e-30))


def digest(*tensors: torch.Tensor, names: Sequence[str] = ()) -> str:
    """Return the SHA-256 of names, shapes, types and values of tensors."""
    sha256 = hashlib.sha256()
    for name, t in itertools.zip_longest(names, tensors, fillvalue=""):
        sha256.update(f"{name}{(tuple(t.shape), t.dtype)}".encode())
        sha256.update(t.detach().cpu().resolve_conj().contiguous().numpy().tobytes())
    return sha256.hexdigest()


def operator_digest(A: LinearOperator) -> str:
    """Return the SHA-256 of the operator's name and of A of one Gaussian image."""
    x = _gaussian_image(A, profiles.generator(0, "operator digest"))
    with torch.no_grad():
        return digest(A(x), names=[repr(A)])


def _gaussian_image(A, generator) -> torch.Tensor:
    dtype = torch.complex64 if A.is_complex else torch.float32
    return torch.randn((1, 1, *A.image_shape), generator=generator, dtype=dtype).to(A.device)


def parsed(text: str, seed: int = 0) -> object:
    """Return the operator of a word of the command line.

    "radon:image_size=128,n_views=50[,span_deg=180][,n_detectors=]", "identity:image_size=128",
    "fourier:image_size=128,acceleration=3", or "module:function", which returns an operator.

    Raises:
        ValueError: for anything else.
    """
    kind, _, rest = text.partition(":")
    if kind not in KINDS:
        return import_object(text)()
    options = dict(part.partition("=")[::2] for part in rest.split(",") if part)
    try:
        return KINDS[kind](seed, **{name: json.loads(value) for name, value in options.items()})
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"--operator {kind} expects numbers, as in {kind}:image_size=128; "
            f"got {text!r} ({error})."
        ) from None


def _radon(seed, image_size, n_views=50, span_deg=180, n_detectors=None):
    angles = torch.arange(n_views, dtype=torch.float64) * span_deg / n_views
    return Radon(image_size, angles, n_detectors)


def _fourier(seed, image_size, acceleration=3):
    generator = profiles.generator(seed, "audit mask")
    return MaskedFourier(
        masks.variable_density_lines(image_size, acceleration, generator=generator)
    )


def _identity(seed, image_size):
    return Identity(image_size)


KINDS = {"radon": _radon, "fourier": _fourier, "identity": _identity}
"""Words of the command line -> operator of a seed and the options."""
