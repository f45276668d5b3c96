"""Wavelets as an orthogonal matrix, basis pursuit against another algorithm, sparse signals and its
certificate.
"""

import sys

import pytest
import torch
from small import coils, mask, random

from instab_utils.operators import Identity, LinearOperator, MaskedFourier
from instab_utils.solvers import wavelet
from instab_utils.solvers.wavelets import Wavelets

N = 16


def blocks(n=N, m=N):
    x = torch.full((1, 1, n, m), 0.1, dtype=torch.complex128)
    x[..., 3:9, 4:11] = 1.0
    x[..., 6:, 6:] += 0.5j
    return x


class Rows(LinearOperator):
    """Random projections of real images."""

    def __init__(self, n=N, rows=100):
        self.image_shape = (n, n)
        self.matrix = random(rows, n * n, seed=9) / rows**0.5

    def forward(self, x):
        return (x.flatten(-2) @ self.matrix.T.to(x.dtype))[..., None]

    def adjoint(self, y):
        return (y[..., 0] @ self.matrix.to(y.dtype)).unflatten(-1, self.image_shape)

    pinv = adjoint


def as_matrix(like, levels=3):
    """Psi of real images like one: rows are wavelets, columns pixels."""
    psi = Wavelets(like, levels)
    basis = torch.eye(like.numel(), dtype=torch.float64).view(-1, *like.shape)
    return torch.stack([torch.from_numpy(psi.analysis(e)) for e in basis], 1)


PSI = as_matrix(torch.zeros(1, 1, N, N, dtype=torch.float64))


def wavelet_transform(x):
    return (x.flatten(1) @ PSI.T.to(x.dtype)).view(x.shape)


def inverse_wavelet_transform(z):
    return (z.flatten(1) @ PSI.to(z.dtype)).view(z.shape)


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("complex_", [False, True])
def test_transform_is_orthogonal_and_separable(levels, complex_):
    x = random(1, 1, 8, 12, complex_=complex_)
    psi = Wavelets(x, levels)
    u = psi.analysis(x)
    torch.testing.assert_close(psi.synthesis(u), x, rtol=0, atol=1e-12)
    matrix = as_matrix(x.real, levels)
    identity = torch.eye(96, dtype=torch.float64)
    torch.testing.assert_close(matrix @ matrix.T, identity, rtol=0, atol=1e-12)
    parts = [x.real, x.imag] if complex_ else [x]
    expected = torch.cat([matrix @ part.flatten() for part in parts])
    torch.testing.assert_close(torch.from_numpy(u), expected, rtol=0, atol=1e-12)


def test_the_low_pass_filter_is_daubechies_2():
    """A ramp has no details away from the periodic border (two moments vanish); the taps."""
    ramp = torch.arange(16, dtype=torch.float64).expand(16, 16)[None, None]
    z = torch.from_numpy(Wavelets(ramp, 1).analysis(ramp)).view(16, 16)
    assert z[:8, 9:15].abs().max() < 1e-12 and z[8:].abs().max() < 1e-12
    root = 3**0.5
    taps = torch.tensor([1 - root, 3 - root, 3 + root, 1 + root], dtype=torch.float64) / (
        4 * 2**0.5
    )
    row = as_matrix(torch.zeros(1, 1, 2, 16, dtype=torch.float64), 1)[3].view(2, 16)[0] * 2**0.5
    found = row[row.abs() > 1e-12]
    assert min((found - t).abs().max() for t in (taps, taps.flip(0))) < 1e-12


def pursuit_by_pdhg(A, y, sigma, shape, n_iter=800, step=0.3):
    """min ||z||_1 s.t. ||A Psi* z - y|| <= sigma by primal-dual steps; returns (x, ||z||_1, dual
    lower bound).
    """
    B, B_adjoint = (
        lambda z: A(inverse_wavelet_transform(z)),
        lambda v: wavelet_transform(A.adjoint(v)),
    )

    def moduli(z):
        return torch.view_as_real(z).abs() if A.is_complex else z.abs()

    z = bar = torch.zeros(shape, dtype=torch.complex128 if A.is_complex else torch.float64)
    p, size = torch.zeros_like(y), A.norm() * 1.001
    step, dual = step / size, 1 / (step * size)
    for _ in range(n_iter):
        v = p + dual * (B(bar) - y)
        p = v * max(0.0, 1 - dual * sigma / float(v.norm()))
        u = z - step * B_adjoint(p)
        parts = torch.view_as_real(u) if A.is_complex else u
        new = parts.sgn() * (parts.abs() - step).clamp_min(0)
        new = torch.view_as_complex(new) if A.is_complex else new
        z, bar = new, 2 * new - z
    p = -p / max(1.0, float(moduli(B_adjoint(p)).max()))
    lower = float((y.conj() * p).real.sum() - sigma * p.norm())
    return inverse_wavelet_transform(z), float(moduli(z).sum()), lower


@pytest.mark.parametrize("kind", ["mask", "coils", "real"])
def test_the_same_minimum_as_another_algorithm(kind):
    A = {"mask": MaskedFourier(mask(N)), "coils": coils(mask(N)), "real": Rows()}[kind]
    clean = A(blocks() if A.is_complex else blocks().real)
    y = clean + 0.02 * random(*clean.shape, seed=4, complex_=A.is_complex) * (clean != 0)
    sigma = 0.05 * float(y.norm())
    x, l1, lower = pursuit_by_pdhg(A, y, sigma, (1, 1, N, N))
    assert l1 - lower <= 1e-3 * l1, "the other algorithm has to have converged"
    ours = wavelet(A, y, sigma, n_iter=2000, tol=1e-6)
    torch.testing.assert_close(
        (A(ours.x) - y).norm(), torch.tensor(sigma, dtype=torch.float64), rtol=1e-3, atol=0
    )
    z = wavelet_transform(ours.x)
    parts = z.real.abs() + z.imag.abs() if A.is_complex else z.abs()
    assert lower * (1 - 1e-3) <= float(parts.sum()) <= l1 * (1 + 1e-3)
    torch.testing.assert_close(ours.x, x, rtol=0, atol=0.05 * float(x.abs().max()))


@pytest.mark.parametrize("complex_", [False, True])
def test_sparse_coefficients_are_recovered_exactly(complex_):
    A = MaskedFourier(mask(N, fraction=0.6)) if complex_ else Rows()
    z = torch.zeros(1, 1, N * N, dtype=torch.complex128 if complex_ else torch.float64)
    where = torch.randperm(N * N, generator=torch.Generator().manual_seed(1))[:8]
    z[..., where] = random(8, seed=2, complex_=complex_)
    x = inverse_wavelet_transform(z.view(1, 1, N, N))
    exact = wavelet(A, A(x), sigma=0.0, n_iter=3000)
    torch.testing.assert_close(exact.x, x, rtol=0, atol=1e-3)
    near = wavelet(A, A(x), sigma=1e-3, relative=True, n_iter=3000)
    assert float((near.x - x).norm() / x.norm()) < 0.01


def test_with_all_data_it_is_soft_thresholding():
    """A = I: the minimum is soft thresholding of Psi y at the threshold whose misfit is sigma."""
    y = random(1, 1, N, N)
    z = wavelet_transform(y)
    threshold = 0.3
    soft = z.sgn() * (z.abs() - threshold).clamp_min(0)
    answer = wavelet(Identity(N), y, float((soft - z).norm()), tol=1e-8)
    torch.testing.assert_close(answer.x, inverse_wavelet_transform(soft), rtol=0, atol=1e-3)


def test_sides_that_are_not_divisible_and_what_lies_off_the_mask():
    n, m = 14, 19
    A = MaskedFourier(mask(n, m))
    y = A(blocks(n, m))
    answer = wavelet(A, y, 0.02, relative=True)
    assert answer.x.shape == (1, 1, n, m)
    torch.testing.assert_close(
        (A(answer.x) - y).norm() / y.norm(),
        torch.tensor(0.02, dtype=torch.float64),
        rtol=2e-3,
        atol=0,
    )
    noise_elsewhere = y + 5 * (1 - A.mask)
    torch.testing.assert_close(wavelet(A, noise_elsewhere, 0.02, relative=True).x, answer.x)


def test_batch_is_a_loop_and_the_answer_scales():
    A = MaskedFourier(mask(N))
    y = torch.cat([A(blocks()), A(blocks().mT) * 3])
    both = wavelet(A, y, torch.tensor([0.5, 0.2]))
    for b, sigma in enumerate((0.5, 0.2)):
        alone = wavelet(A, y[b : b + 1], sigma)
        torch.testing.assert_close(both.x[b : b + 1], alone.x)
        torch.testing.assert_close(both.residuals[-1, b], alone.residuals[-1, 0])
    assert both.residuals.shape == (both.n_iter + 1, 2)
    scaled = wavelet(A, 100 * y, torch.tensor([50.0, 20.0]))
    torch.testing.assert_close(scaled.x, 100 * both.x, rtol=1e-6, atol=1e-6)
    single = wavelet(A, y.to(torch.complex64), torch.tensor([0.5, 0.2]))
    assert single.x.dtype == torch.complex64 and single.residuals.dtype == torch.float32
    torch.testing.assert_close(single.x.to(both.x.dtype), both.x, rtol=0, atol=0.05)


def test_honest_about_what_was_not_reached(monkeypatch):
    A = MaskedFourier(mask(N))
    y = A(blocks()) + 0.1 * random(1, 1, N, N, complex_=True)
    short = wavelet(A, y, 1e-3, n_iter=3)
    assert short.n_iter == 3 and float(short.residuals[-1]) > 1e-3
    nothing = wavelet(A, y, 2.0, relative=True)
    assert not bool(nothing.x.any()) and float(nothing.residuals[-1]) == 1
    empty = wavelet(A, torch.zeros_like(y), 0.0)
    assert not bool(empty.x.any()) and float(empty.residuals[-1]) == 0
    with pytest.raises(ValueError, match="sigma >= 0"):
        wavelet(A, y, -0.1)
    monkeypatch.setitem(sys.modules, "spgl1", None)
    with pytest.raises(ImportError, match="pip install spgl1 PyWavelets"):
        wavelet(A, y, 0.1)
