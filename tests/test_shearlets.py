"""Shearlets against dense matrices and their invariants; the solver on top against dense solves,
certified TV and optimality.
"""

import math

import numpy as np
import pytest
import small
import torch
from small import blocks, coils, random

from instab_utils import solvers
from instab_utils.operators import Identity, LinearOperator, MaskedFourier, Radon
from instab_utils.solvers import Shearlets, ShearletSettings, reweighted_l1

SIZES = [15, 16, (9, 16), (16, 9)]
LEVELS = [(1, 1, 2), (0, 0, 1, 1), (0,)]
N = 16
NOT_ADDED = torch.zeros(1, 1, 1, 1, dtype=torch.bool)


def mask(n=N, **options):
    """With the lowest frequency, wherever it lies."""
    sampled = small.mask(n, **options)
    sampled[n // 2, n // 2] = True
    return sampled


OPERATORS = {
    **small.operators(N, mask()),
    "centred": MaskedFourier(mask(), centred=True),
    "odd centred": MaskedFourier(mask(15), centred=True),
}


# -- the transform


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("complex_", [False, True])
def test_tight_frame_with_an_exact_adjoint_on_white_noise(size, levels, complex_):
    transform = Shearlets(size, levels)
    x = random(2, 3, *transform.image_shape, complex_=complex_)
    c = transform.analysis(x)
    assert c.shape == (2, 3, transform.n_bands, *transform.image_shape) and c.dtype == x.dtype
    torch.testing.assert_close(transform.synthesis(c), x, rtol=0, atol=1e-12)
    torch.testing.assert_close(c.abs().square().sum(), x.abs().square().sum(), rtol=1e-12, atol=0)
    other = random(*c.shape, seed=1, complex_=complex_)
    left, right = (c.conj() * other).sum(), (x.conj() * transform.synthesis(other)).sum()
    torch.testing.assert_close(left, right, rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", SIZES)
def test_filters_are_real_so_that_both_paths_agree(size):
    """Real images through rfft2, the same images as complex ones through fft2; complex ones are two
    real ones.
    """
    transform = Shearlets(size)
    x, z = random(1, 1, *transform.image_shape), random(1, 1, *transform.image_shape, complex_=True)
    torch.testing.assert_close(
        transform.analysis(x.to(torch.complex128)), transform.analysis(x).to(torch.complex128)
    )
    parts = torch.complex(
        transform.analysis(z.real.contiguous()), transform.analysis(z.imag.contiguous())
    )
    torch.testing.assert_close(transform.analysis(z), parts)


def test_number_of_bands_and_single_precision():
    assert [Shearlets(16, levels).n_bands for levels in [(1, 1, 2), (1, 2, 2), (0, 0, 1, 1)]] == [
        33,
        41,
        25,
    ]
    transform = Shearlets(32)
    x = random(1, 1, 32, 32).to(torch.float32)
    c = transform.analysis(x)
    assert c.dtype == torch.float32
    torch.testing.assert_close(c, transform.analysis(x.double()).float(), rtol=0, atol=2e-6)
    torch.testing.assert_close(transform.synthesis(c), x, rtol=0, atol=2e-6)


def test_bands_are_the_windows_band_by_band():
    """Against NumPy's full transform of one image, window by window."""
    transform = Shearlets((15, 16))
    x = random(1, 1, 15, 16)
    windows = transform.windows(x.to(torch.complex128)).real.numpy()
    expected = [np.fft.ifft2(window * np.fft.fft2(x[0, 0].numpy())) for window in windows]
    assert max(np.abs(band.imag).max() for band in expected) < 1e-13
    np.testing.assert_allclose(transform.analysis(x)[0, 0].numpy(), np.real(expected), atol=1e-13)


def directions(level):
    """Degrees of the middles of a scale's wedges, on the square of a radius."""
    n = 2 ** (level + 2)
    positions = [4 * i / n for i in range(n)]
    across = [max(-1, min(1, 2 - position)) for position in positions]
    up = [min(position, 1, 4 - position) for position in positions]
    return torch.rad2deg(torch.atan2(torch.tensor(up), torch.tensor(across)))


@pytest.mark.parametrize("degrees", [0, 20, 45, 63.4, 90, 117, 135, 170])
def test_an_edge_lands_in_the_band_of_its_direction(degrees):
    """A smooth edge with its normal at `degrees`: at each fine scale the strongest wedge is the
    nearest one.
    """
    n = 64
    transform = Shearlets(n, (1, 1, 2))
    rows, columns = torch.meshgrid(
        *2 * [torch.arange(n, dtype=torch.float64) - (n - 1) / 2], indexing="ij"
    )
    angle = math.radians(degrees)
    distance = columns * math.cos(angle) - rows * math.sin(angle)
    # nothing at the border, which is not an edge
    disc = torch.exp(-(((rows**2 + columns**2) / 14**2) ** 2))
    energy = (
        transform.analysis((torch.sigmoid(4 * distance) * disc)[None, None])
        .square()
        .sum((0, 1, 3, 4))
    )
    for first, level in ((9, 1), (17, 2)):  # after the low-pass and eight wedges
        angles = directions(level)
        bands = first + torch.arange(len(angles))
        away = (angles - degrees + 90) % 180 - 90
        assert energy[bands].argmax() == away.abs().argmin()
        aligned = energy[bands][away.abs() <= 46].sum() / energy[bands].sum()
        assert aligned > 0.9


def test_coefficients_move_with_the_image():
    transform = Shearlets((15, 16))
    x = random(1, 1, 15, 16)
    moved = transform.analysis(x.roll((3, 5), (-2, -1)))
    torch.testing.assert_close(
        moved, transform.analysis(x).roll((3, 5), (-2, -1)), rtol=0, atol=1e-12
    )


def test_the_transform_is_differentiable_and_says_what_it_expects():
    transform = Shearlets((4, 5), (0,))
    assert torch.autograd.gradcheck(transform.analysis, random(1, 1, 4, 5).requires_grad_())
    assert torch.autograd.gradcheck(
        transform.synthesis, random(1, 1, 5, 4, 5, complex_=True).requires_grad_()
    )
    transform = Shearlets((5, 6), (0, 1))
    for message, call in {
        r"expects shape \(batch, channels, 5, 6\)": lambda: transform.analysis(random(5, 6)),
        r"channels, 13, 5, 6\)": lambda: transform.synthesis(random(1, 1, 12, 5, 6)),
        "levels of integers": lambda: Shearlets(8, (1.5,)),
        "expects levels": lambda: Shearlets(8, ()),
        "both >= 2": lambda: Shearlets(1),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()


# -- the solver


def matrix(f, like):
    """Dense matrix of a linear map on images like `like`, (1, 1, n, m), by columns."""
    basis = torch.eye(like.numel(), dtype=like.dtype).reshape(-1, *like.shape)
    return torch.stack([f(e).flatten() for e in basis], 1)


def setup(A, **settings):
    settings = ShearletSettings(levels=(0, 1), **settings)
    y = A(random(1, 1, *A.image_shape, seed=2, complex_=A.is_complex))
    x = torch.zeros_like(A.adjoint(y))
    exact = isinstance(A, (Identity, MaskedFourier))
    kind = reweighted_l1.DiagonalSplitting if exact else reweighted_l1.ConjugateSplitting
    return kind(A, y, x, settings), x


EXACT = [
    Identity(9),
    MaskedFourier(mask(9)),
    MaskedFourier(mask(8), True),
    MaskedFourier(mask(9), True),
]
BY_STEPS = [Radon(9, torch.arange(5) * 36.0), coils(mask(9))]


@pytest.mark.parametrize("A", EXACT + BY_STEPS)
def test_each_step_is_a_dense_solve(A):
    """min beta/2 ||A u - y||^2 + sum_i mu_i/2 ||K_i u - w_i||^2 for given w_i, by dense matrices:
    exactly, or by enough conjugate gradients.
    """
    problem, x = setup(A, mu=3.0, mu_gradient=2.0, beta=40.0, cg_steps=200)
    u = random(*x.shape, seed=4, complex_=x.is_complex())
    problem.refresh(problem.misfit(u), NOT_ADDED)
    dense = matrix(lambda e: A(e) / problem.scale, x)
    normal = 40.0 * dense.mH @ dense
    rhs = 40.0 * dense.mH @ problem.y.flatten()
    target = 0
    for i, term in enumerate(problem.terms):
        rows = term.multipliers.shape[0]
        w = random(1, 1, rows, *A.image_shape, seed=10 + i, complex_=x.is_complex())
        term.shrink = lambda c, w=w: w
        target = target + term.pull(problem.spectrum(u), problem)

        def K(e, t=term):
            return problem.image(t.multipliers * problem.spectrum(e)[..., None, :, :])

        dense = matrix(K, x)
        normal = normal + term.mu * dense.mH @ dense
        rhs = rhs + term.mu * dense.mH @ w.flatten()
    expected = torch.linalg.solve(normal, rhs)
    solved = problem.solve(target, u)
    torch.testing.assert_close(solved.flatten(), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "A", [Identity(N), MaskedFourier(mask()), Radon(9, torch.arange(5) * 36.0)]
)
def test_without_shearlets_it_minimises_periodic_total_variation(A):
    """Convex case: no re-weighting, y left alone."""
    y = A(blocks(A.image_shape[0]))
    y = y + 0.05 * random(*y.shape, seed=5, complex_=A.is_complex)
    y = A(A.adjoint(y)) if A.is_complex else y
    mu, n_iter = (20.0, 120) if isinstance(A, Radon) else (60.0, 300)
    only_tv = ShearletSettings(weight=0.0, beta=30.0, mu_gradient=mu, cg_steps=4)
    x = solvers.shearlet(A, y, n_iter, math.inf, only_tv).x
    unit, scale = A.pinv(y).abs().max(), A.norm()
    check_minimum(A, y / unit / scale, x / unit, scale, 30.0)


def check_minimum(A, y, x, scale, beta):
    """F = TV_periodic + beta/2 ||A x - y||^2 against PDHG on the same F, which has a different
    iteration altogether.
    """

    def D(u):
        return torch.stack([u.roll(-1, -2) - u, u.roll(-1, -1) - u])

    def Dt(p):
        return p[0].roll(1, -2) - p[0] + p[1].roll(1, -1) - p[1]

    def objective(u):
        size = D(u).abs().square().sum(0).sqrt().sum()
        return float(size + beta / 2 * (A(u) / scale - y).abs().square().sum())

    u = bar = torch.zeros_like(x)
    p, q = torch.zeros_like(y), torch.zeros_like(D(u))
    tau, s_p, s_q = 0.01, 30.0, 8.0
    assert tau * (s_p + 8 * s_q) < 1  # converges
    for _ in range(600 if isinstance(A, Radon) else 2000):
        p = (p + s_p * (A(bar) / scale - y)) / (1 + s_p / beta)
        q = q + s_q * D(bar)
        q = q / q.abs().square().sum(0).sqrt().clamp_min(1)
        new = u - tau * (A.adjoint(p) / scale + Dt(q))
        u, bar = new, 2 * new - u
    peer, ours = objective(u), objective(x)
    assert abs(ours - peer) <= 2e-5 * peer, (ours, peer)
    torch.testing.assert_close(x, u, rtol=0, atol=2e-3)


def test_agrees_with_our_certified_tv_where_the_border_does_not_matter():
    """A constant frame wide enough: periodic and free borders have nothing to say."""
    n = 32
    A, y = Identity(n), torch.full((1, 1, n, n), 0.2, dtype=torch.float64)
    y[..., 12:20, 10:18] = 1.0
    weight = 0.05
    tv = solvers.tv(A, y, weight, n_iter=1000, tol=1e-7).x
    only_tv = ShearletSettings(weight=0.0, beta=1 / weight, mu_gradient=60.0)
    x = solvers.shearlet(A, y, 400, math.inf, only_tv).x
    torch.testing.assert_close(x, tv, rtol=0, atol=2e-3)


def test_shearlet_shrinkage_in_closed_form():
    """One sweep from x0 = y of denoising, no TV: x = (beta y + mu Psi* shrink(Psi y)) / (beta +
    mu).
    """
    A, y = Identity(N), blocks(N) + 0.1 * random(1, 1, N, N)
    unit = y.abs().max()
    transform = Shearlets(N, (0, 1))
    for reweight in (None, 0.1):
        settings = ShearletSettings(
            (0, 1), weight=0.2, alpha=0.0, mu=4.0, beta=3.0, reweight=reweight, eps=0.01
        )
        iterates = reweighted_l1.DiagonalSplitting(A, y, y, settings).iterates(y, 0.0)
        _, (x, *_) = next(iterates), next(iterates)
        s = transform.analysis(y / unit)
        threshold = torch.full_like(s, 0.2 / 4)
        if reweight:
            threshold *= 0.1 * s.abs().amax((-2, -1), keepdim=True) / (0.01 + s.abs())
        d = s.sign() * (s.abs() - threshold).clamp_min(0)
        d[:, :, 0] = s[:, :, 0]
        torch.testing.assert_close(
            x / unit, (3 * y / unit + 4 * transform.synthesis(d)) / 7, rtol=0, atol=1e-10
        )


@pytest.mark.parametrize("name", OPERATORS)
def test_on_every_operator(name):
    """Lowers the misfit; batch = loop; brightness and ||A|| do not matter; single precision;
    residuals; gradients.
    """
    A = OPERATORS[name]
    y = A(blocks(A.image_shape[0], batch=2))
    solution = solvers.shearlet(A, y, n_iter=10)
    assert solution.x.dtype == A.adjoint(y).dtype and not solution.x.requires_grad
    misfit = (A(solution.x) - y).flatten(1).norm(dim=1) / y.flatten(1).norm(dim=1)
    torch.testing.assert_close(solution.residuals[-1], misfit)
    assert bool((misfit < 0.1).all()), misfit
    alone = torch.cat([solvers.shearlet(A, y[b : b + 1], n_iter=10).x for b in range(2)])
    torch.testing.assert_close(solution.x, alone, rtol=0, atol=1e-9)
    torch.testing.assert_close(
        solvers.shearlet(A, 50 * y, n_iter=10).x, 50 * solution.x, rtol=0, atol=1e-7
    )
    narrow = solvers.shearlet(
        A, y.to(torch.complex64 if y.is_complex() else torch.float32), n_iter=10
    ).x
    torch.testing.assert_close(narrow.to(solution.x.dtype), solution.x, rtol=0, atol=5e-3)

    y0 = y[:1] + 0.05 * random(*y[:1].shape, seed=6, complex_=y.is_complex())
    direction, probe = (
        random(*y0.shape, seed=7, complex_=y.is_complex()),
        random(1, 1, *A.image_shape, seed=8),
    )
    few = ShearletSettings(levels=(0, 1))

    def loss(y):
        return (solvers.shearlet(A, y, 2, settings=few).x * probe).real.sum()

    variable = y0.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(variable), variable)
    h = 1e-6
    numeric = float(loss(y0 + h * direction) - loss(y0 - h * direction)) / (2 * h)
    exact = float((slope.conj() * direction).real.sum())
    assert abs(numeric - exact) <= 1e-3 * abs(exact) + 1e-6


def test_scale_of_the_operator_does_not_matter():
    A = OPERATORS["radon"]

    class Scaled(LinearOperator):
        image_shape = A.image_shape
        forward = staticmethod(lambda x: 7 * A(x))
        adjoint = staticmethod(lambda y: 7 * A.adjoint(y))
        pinv = staticmethod(lambda y: A.pinv(y) / 7)
        norm = staticmethod(lambda: 7 * A.norm())

    y = A(blocks(N))
    torch.testing.assert_close(
        solvers.shearlet(Scaled(), 7 * y, n_iter=5).x, solvers.shearlet(A, y, n_iter=5).x
    )


def test_full_samples_are_recovered():
    A = MaskedFourier(torch.ones(N, N))
    x = torch.polar(blocks(N), 0.3 * blocks(N))
    torch.testing.assert_close(solvers.shearlet(A, A(x), n_iter=10).x, x, rtol=0, atol=1e-5)
    A = Radon(N, torch.arange(48) * 3.75)
    x = solvers.shearlet(A, A(blocks(N)), n_iter=60).x
    assert float((x - blocks(N)).norm() / blocks(N).norm()) < 0.015


def test_few_samples_are_completed_better_than_by_zeros():
    n = 32
    x = torch.zeros(1, 1, n, n, dtype=torch.float64)
    x[..., 8:20, 10:24] = 1
    x[..., 14:17, 13:18] = 0.5
    A = MaskedFourier(mask(n, fraction=0.35, seed=1))

    def error(r):
        return float((r - x).norm() / x.norm())

    y = A(x)
    assert error(solvers.shearlet(A, y, n_iter=100).x) < 0.4 * error(A.pinv(y))
    # boxes: exact from few samples, which is known
    assert error(solvers.shearlet(A, y, n_iter=100, settings=ShearletSettings(weight=0.0)).x) < 1e-5


def test_residual_is_added_back_down_to_the_noise_and_no_further():
    """Each image of the batch by itself; without a level the misfit goes on falling, and the image
    suffers.
    """
    A = Radon(N, torch.arange(24) * 7.5)
    y = A(blocks(N, batch=2))
    noise = random(*y.shape)
    y = (
        y
        + torch.tensor([0.02, 0.1]).view(2, 1, 1, 1)
        * y.flatten(1).norm(dim=1).view(2, 1, 1, 1)
        / noise.norm()
        * 2**0.5
        * noise
    )
    for level in (0.02, 0.1):
        solution = solvers.shearlet(A, y, n_iter=40, noise_level=level)
        assert len(solution.residuals) == 41
        assert 0.8 * level < float(solution.residuals[-1, 0 if level == 0.02 else 1]) < 1.1 * level
    free = solvers.shearlet(A, y, n_iter=40).residuals[-1]
    assert bool((free < 0.9 * torch.tensor([0.02, 0.1])).all()), free

    def error(level):
        return float(
            (solvers.shearlet(A, y[1:], noise_level=level).x - blocks(N, batch=2)[1:]).norm()
        )

    assert error(0.1) < 0.8 * error(0.0)


def test_nothing_breaks_on_zeros():
    for name in ("mask", "radon", "coils"):
        A = OPERATORS[name]
        y = A(torch.zeros(1, 1, *A.image_shape, dtype=torch.float64)).requires_grad_()
        x = solvers.shearlet(A, y, n_iter=2).x
        (slope,) = torch.autograd.grad(x.abs().square().sum() + x.real.sum(), y)
        assert not bool(x.any()) and bool(
            torch.isfinite(torch.view_as_real(slope) if slope.is_complex() else slope).all()
        )
    empty = MaskedFourier(torch.zeros(N, N))
    no_tv = ShearletSettings(alpha=0.0)
    assert not bool(solvers.shearlet(empty, empty(blocks(N)), 2, settings=no_tv).x.any())


def test_refusals():
    A, y = OPERATORS["mask"], OPERATORS["mask"](blocks(N))
    for message, call in {
        "mu_gradient >= 0": lambda: ShearletSettings(weight=-1.0),
        "no term is left": lambda: ShearletSettings(weight=0.0, alpha=0.0),
        "beta > 0": lambda: ShearletSettings(beta=0.0),
        "reweight in": lambda: ShearletSettings(reweight=2.0),
        "n_iter >= 0": lambda: solvers.shearlet(A, y, n_iter=-1),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()
