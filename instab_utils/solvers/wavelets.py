"""Basis pursuit denoising in Daubechies-2 wavelets (PyWavelets) by SPGL1."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ..operators import LinearOperator, MaskedFourier, MultiCoilFourier
from .driver import Solution, norm

AXES = (-2, -1)


def wavelet(
    A: LinearOperator,
    y: Tensor,
    sigma: float | Tensor = 0.01,
    relative: bool = False,
    levels: int = 3,
    n_iter: int = 500,
    tol: float = 1e-4,
) -> Solution:
    r"""Return x = Psi^-1 z with z = argmin ||z||_1 subject to ||A Psi^-1 z - y||_2 <= sigma.

    Psi: orthogonal, periodised Daubechies-2 wavelets; ||z||_1 = sum |Re z| + |Im z|. Not
    translation-invariant: the method of the paper, not the best that sparsity can do. Sides that
    2^levels does not divide are continued by unknown pixels, which no datum sees and which the
    smallest ||z||_1 chooses, and which are cut off at the end. SPGL1 and PyWavelets run on the CPU,
    image by image, without gradients.

    Args:
        A: any `LinearOperator`.
        y: measurements, batched; what lies off a mask was not measured and is ignored.
        sigma: >= 0, a float or a tensor (batch,). In the units of y: the printed 0.01 is meant for
            max |A* y| = 1, as `data.kspace` scales it. It is the norm of all noise together, not of
            a sample.
        relative: sigma in units of ||y|| instead, as `noise_level` and `tol` of the other solvers
            are.
        levels: of the wavelet transform.
        n_iter: at most so many iterations, about one A and A* each (40 ms with 15 coils at 128 x
            128). A sigma far below the noise is slow: the printed one is 2e-4 ||y|| there, and
            takes 2000 iterations on noiseless data.
        tol: SPGL1's tolerance of optimality (its gap relative to half the squared misfit) and of
            the root.

    Returns:
        `Solution`; residuals of all iterations (an image that stopped early repeats its last).
        Where the last one is more than 1e-3 above sigma / ||y||, the iterations ran out or no image
        explains y up to sigma.

    Raises:
        ValueError: negative sigma. ImportError: where spgl1 or PyWavelets is missing.

    Source: Antun et al., PNAS 117 (2020), SI (parallel MRI); van den Berg and Friedlander, SIAM J.
    Sci. Comput. 31 (2008). We give SPGL1 y / sigma and A / ||A||, because its tolerances are
    relative to max(1, .): the answer then scales.
    """
    try:
        import pywt  # noqa: F401
        import spgl1  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "wavelet needs the packages spgl1 and PyWavelets: pip install spgl1 PyWavelets. "
            "Without them use tv or tgv."
        ) from error
    y = y.detach()
    if isinstance(A, (MaskedFourier, MultiCoilFourier)):
        y = y * A.mask.to(y.device)
    sigma = torch.as_tensor(sigma, dtype=torch.float64).flatten().expand(len(y))
    if not bool((sigma >= 0).all()):
        raise ValueError(f"wavelet expects sigma >= 0, a norm; got {sigma.tolist()}.")
    if relative:
        sigma = sigma * norm(y).flatten().double().cpu()
    answers = []
    for one, bound in zip(y.split(1), sigma.tolist()):
        with torch.no_grad():
            answers.append(_pursue(A, one, bound, Wavelets(A.adjoint(one), levels), n_iter, tol))
    n_done = max(answer.n_iter for answer in answers)
    residuals = [_repeat_last(answer.residuals, n_done + 1) for answer in answers]
    x = torch.cat([answer.x for answer in answers])
    return Solution(x, n_done, torch.stack(residuals, 1))


class Wavelets:
    """Psi of images like one, as a real vector of coefficients, imaginary parts last."""

    def __init__(self, like: Tensor, levels: int):
        self.like = like
        self.levels = levels
        n, m = like.shape[-2:]
        self.margin = (0, -m % 2**levels, 0, -n % 2**levels)
        coefficients, self.slices = self._coefficients(like)
        self.shape = coefficients.shape

    def analysis(self, x: Tensor) -> np.ndarray:
        """Return Psi x."""
        return _stacked(self._coefficients(x)[0])

    def synthesis(self, u: np.ndarray) -> Tensor:
        """Return Psi^-1 u."""
        import pywt

        z = _unstacked(u, self.like.is_complex()).reshape(self.shape)
        tree = pywt.array_to_coeffs(z, self.slices, output_format="wavedec2")
        x = pywt.waverec2(tree, "db2", mode="periodization", axes=AXES)
        n, m = self.like.shape[-2:]
        return torch.from_numpy(x[..., :n, :m]).to(self.like)

    def _coefficients(self, x: Tensor) -> tuple[np.ndarray, list]:
        import pywt

        low = pad(x, self.margin).cpu().numpy()
        tree = []
        for _ in range(self.levels):  # wavedec2 warns of small images, which periods suit
            low, details = pywt.dwt2(low, "db2", mode="periodization", axes=AXES)
            tree.insert(0, details)
        return pywt.coeffs_to_array([low, *tree], axes=AXES)


def _pursue(
    A: LinearOperator, y: Tensor, sigma: float, psi: Wavelets, n_iter: int, tol: float
) -> Solution:
    """Solve for one image: u = Psi x / unit, B u = A x / (||A|| unit), b = y / (||A|| unit)."""
    from scipy.sparse.linalg import LinearOperator as Matrix
    from spgl1 import spgl1

    scale = A.norm() or 1.0
    y_norm = float(norm(y))
    unit = (sigma or y_norm or 1.0) / scale
    target = sigma / (unit * scale)  # 1, or 0
    b = _stacked(y.cpu().numpy()) / (unit * scale)

    def forward(u: np.ndarray) -> np.ndarray:
        return _stacked((A(psi.synthesis(u)) / scale).cpu().numpy())

    def adjoint(v: np.ndarray) -> np.ndarray:
        data = torch.from_numpy(_unstacked(v, y.is_complex()).reshape(y.shape)).to(y)
        return psi.analysis(A.adjoint(data) / scale)

    u = np.zeros_like(adjoint(b))
    history = []
    if y_norm > sigma:
        B = Matrix((len(b), len(u)), matvec=forward, rmatvec=adjoint, dtype=np.float64)
        u, _, _, info = spgl1(B, b, sigma=target, iter_lim=n_iter, opt_tol=tol)
        history = list(info["rnorm2"])
    history.append(np.linalg.norm(b - forward(u)))
    real = y.real if y.is_complex() else y
    residuals = real.new_tensor(history) / max(np.linalg.norm(b), 1e-300)
    return Solution(psi.synthesis(u) * unit, len(history) - 1, residuals)


def _repeat_last(values: Tensor, length: int) -> Tensor:
    return torch.cat([values, values[-1:].expand(length - len(values))])


def _stacked(a: np.ndarray) -> np.ndarray:
    """Return an array as a float64 vector, [real parts, imaginary parts] if complex."""
    parts = [a.real, a.imag] if np.iscomplexobj(a) else [a]
    return np.concatenate([part.ravel() for part in parts]).astype(np.float64)


def _unstacked(v: np.ndarray, is_complex: bool) -> np.ndarray:
    if not is_complex:
        return v
    real, imaginary = np.split(v, 2)
    return real + 1j * imaginary
