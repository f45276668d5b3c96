"""Solvers against closed forms, dense matrices, ASTRA, scikit-image, and their own certificates."""

import sys
import types
from functools import partial

import numpy as np
import pytest
import small
import torch
from small import blocks, mask, random

from instab_utils import operators, solvers
from instab_utils.operators import FourierSlice, Identity, Radon
from instab_utils.solvers.differences import (
    gradient,
    gradient_adjoint,
    inverse_laplacian,
    total_length,
)
from instab_utils.solvers.iterative import _row_action, golden_order

N = 15
WIDE = {"dtype": torch.float64}


class Dense(operators.LinearOperator):
    """A small dense matrix as an operator."""

    def __init__(self, n=5, rows=40, complex_=False):
        self.matrix, self.image_shape, self.is_complex = (
            random(rows, n * n, complex_=complex_),
            (n, n),
            complex_,
        )

    def forward(self, x):
        return (x.to(self.matrix.dtype).flatten(-2) @ self.matrix.T)[..., None, :]

    def adjoint(self, y):
        return (y[..., 0, :] @ self.matrix.conj()).unflatten(-1, self.image_shape)

    pinv = adjoint


OPERATORS = {**small.operators(N), "slices": FourierSlice(N, torch.arange(8) * 22.5)}
ITERATIVE = {
    "cgls": solvers.cgls,
    "sirt": solvers.sirt,
    "sart": solvers.sart,
    "em": solvers.em,
    "tv": lambda A, y, n_iter, **o: solvers.tv(A, y, 0.01, n_iter=n_iter, tol=0, **o),
    "tgv": lambda A, y, n_iter, **o: solvers.tgv(A, y, 0.01, n_iter=n_iter, tol=0, **o),
}


POSSIBLE = {"em": ("identity", "radon"), "sart": ("radon", "slices")}


def pairs():
    return [(o, s) for o in OPERATORS for s in ITERATIVE if o in POSSIBLE.get(s, OPERATORS)]


@pytest.mark.parametrize(("operator", "solver"), pairs())
def test_every_solver_on_every_operator(operator, solver):
    """Lowers the misfit; batch = loop; gradients only when asked, and then the right ones."""
    A, solve = OPERATORS[operator], ITERATIVE[solver]
    y = A(blocks(N, batch=2))
    solution = solve(A, y, n_iter=6)
    assert solution.x.dtype == A.adjoint(y).dtype and not solution.x.requires_grad
    assert bool((solution.residuals[-1] < 0.5).all()), solution.residuals
    alone = torch.cat([solve(A, y[b : b + 1], n_iter=6).x for b in range(2)])
    torch.testing.assert_close(solution.x, alone, rtol=1e-9, atol=1e-11)

    single = solve(A, y.to(torch.complex64 if y.is_complex() else torch.float32), n_iter=6)
    assert single.x.dtype in (torch.float32, torch.complex64)
    torch.testing.assert_close(single.x.to(solution.x.dtype), solution.x, rtol=0, atol=2e-4)

    # away from kinks of the projections
    y0 = y + 0.05 * random(*y.shape, seed=6, complex_=y.is_complex())
    y = y0.clone().requires_grad_()
    direction, probe = (
        random(*y.shape, seed=7, complex_=y.is_complex()),
        random(*solution.x.shape, seed=8),
    )

    def loss(y):
        return (solve(A, y, n_iter=6).x * probe).real.sum()

    (slope,) = torch.autograd.grad(loss(y), y)
    h = 1e-6
    numeric = (loss(y0 + h * direction) - loss(y0 - h * direction)) / (2 * h)
    exact = (slope.conj() * direction).real.sum() if y.is_complex() else (slope * direction).sum()
    assert abs(float(numeric - exact)) <= 1e-4 * abs(float(exact)) + 1e-7


@pytest.mark.parametrize("complex_", [False, True])
def test_cgls_reaches_least_squares(complex_):
    A = Dense(complex_=complex_)
    y = random(2, 1, 1, 40, seed=1, complex_=complex_)
    exact = np.linalg.lstsq(A.matrix.numpy(), y[:, 0, 0].numpy().T, rcond=None)[0]
    x = solvers.cgls(A, y, n_iter=60).x
    np.testing.assert_allclose(x.flatten(1).numpy().T, exact, atol=1e-10)


def record(seen, k, x):
    seen.append((k, x))


def test_residual_rows_are_those_of_the_iterates():
    A = OPERATORS["radon"]
    y = A(blocks(N, batch=2)) + 0.1 * random(2, 1, *A.sinogram_shape)
    for name in ("cgls", "sirt", "sart", "em"):
        seen = []
        watch = partial(record, seen)
        solution = ITERATIVE[name](A, y.clamp_min(0), n_iter=4, callback=watch)
        assert [k for k, _ in seen] == [0, 1, 2, 3, 4] and solution.n_iter == 4
        for (_, x), row in zip(seen, solution.residuals, strict=True):
            expected = (A(x) - y.clamp_min(0)).flatten(1).norm(dim=1) / y.clamp_min(0).flatten(
                1
            ).norm(dim=1)
            torch.testing.assert_close(row, expected, rtol=1e-9, atol=0)


def test_discrepancy_stops_each_image_by_itself():
    A = OPERATORS["radon"]
    y = A(blocks(N, batch=2))
    y[1] += 0.5 * random(1, *A.sinogram_shape)
    solution = solvers.cgls(A, y, n_iter=30, tol=0.1)
    together = solvers.cgls(A, y, n_iter=30).residuals
    first = (together <= 0.1).to(torch.int).argmax(0)
    assert first[0] != first[1], "the test needs images that stop at different iterations"
    for b in range(2):
        torch.testing.assert_close(solution.x[b], solvers.cgls(A, y, n_iter=int(first[b])).x[b])
    assert bool((solution.residuals[-1] <= 0.1).all()) and solution.n_iter == int(first.max())


def test_sirt_fixed_point_and_bounds():
    A = OPERATORS["radon"]
    x = blocks(N)
    iterates = _row_action(A, A(x), x, [(A, slice(None))], None)
    for _, iterate in zip(range(4), iterates):
        torch.testing.assert_close(iterate.x, x, rtol=0, atol=1e-12)
    y = A(x) + 0.5 * random(1, 1, *A.sinogram_shape)
    free, bounded = (solvers.sirt(A, y, n_iter=30, bounds=b).x for b in (None, (0, 1)))
    assert float(free.min()) < 0 and float(bounded.min()) == 0 and float(bounded.max()) <= 1

    def weighted(x):
        return float(((A(x) - y) ** 2 / A(torch.ones_like(x)).clamp_min(1e-12)).sum())

    values = [weighted(solvers.sirt(A, y, n_iter=k).x) for k in range(6)]
    assert values == sorted(values, reverse=True)


def test_sart_is_a_loop_of_dense_row_updates():
    """One pass, view by view in the golden order, by dense matrices; of one view it is SIRT."""
    A = OPERATORS["radon"]
    y = A(blocks(N)) + 0.1 * random(1, 1, *A.sinogram_shape)
    basis = torch.eye(N * N, **WIDE).view(-1, 1, N, N)
    matrix = A(basis).flatten(0, 1).permute(1, 2, 0)  # (views, bins, pixels)
    x = torch.zeros(N * N, **WIDE)

    def invert(s):
        return torch.where(s > 1e-12, 1 / s.clamp_min(1e-12), 0)

    order = golden_order(A.n_views)
    assert sorted(order) == list(range(A.n_views)) and order[:3] == [0, 5, 2]
    for view in order:
        M = matrix[view]
        x = x + 0.7 * invert(M.sum(0)) * (M.T @ (invert(M.sum(1)) * (y[0, 0, view] - M @ x)))
    ours = solvers.sart(A, y, n_iter=1, relaxation=0.7).x
    torch.testing.assert_close(ours.flatten(), x, rtol=0, atol=1e-9)
    one = Radon(N, [30.0])
    y = one(blocks(N))
    torch.testing.assert_close(solvers.sart(one, y, 3).x, solvers.sirt(one, y, 3).x)


def test_em_keeps_mass_and_sign_and_likelihood():
    A = OPERATORS["radon"]
    y = (A(blocks(N)) + 0.3 * random(1, 1, *A.sinogram_shape)).clamp_min(0)
    y = y * (A(torch.ones(1, 1, N, N, **WIDE)) > 0)
    divergence = []
    for k in range(1, 6):
        x = solvers.em(A, y, n_iter=k).x
        assert float(x.min()) >= 0
        torch.testing.assert_close(A(x).sum(), y.sum(), rtol=1e-12, atol=0)
        projection = A(x)
        divergence.append(float((projection - torch.xlogy(y, projection.clamp_min(1e-300))).sum()))
    assert divergence == sorted(divergence, reverse=True)


@pytest.mark.parametrize("method", ["fbp", "cgls", "sirt", "sart"])
def test_astra_agrees(method):
    """Same projector, same number of iterations, float32: apart by round-off.

    Conjugate directions amplify round-off: here 1e-6 of the image after 1 iteration, 1e-5 after 4,
    5e-3 after 8, and ASTRA's own matrix in float64 is as far from ASTRA as we are.
    """
    pytest.importorskip("astra")
    A = Radon(33, torch.arange(12) * 15.0)
    y = A(blocks(33, batch=2).to(torch.float32))
    options = {"fbp": {}, "cgls": {"n_iter": 4}, "sirt": {"n_iter": 20}, "sart": {"n_iter": 3}}
    own = getattr(solvers, method)(A, y, **options[method])
    peer = solvers.external("astra", method, A, y, **options[method])
    assert peer.x.shape == own.x.shape and peer.x.dtype == own.x.dtype
    tolerance = {"fbp": 0.05}.get(method, 1e-4)  # FBP: two samplings of the ramp
    assert float((peer.x - own.x).norm() / own.x.norm()) < tolerance
    assert peer.residuals.shape == (1, 2)


@pytest.mark.parametrize("method", ["sirt", "sart"])
def test_astra_agrees_on_bounds(method):
    pytest.importorskip("astra")
    A = Radon(33, torch.arange(12) * 15.0)
    y = A(blocks(33).to(torch.float32)) + random(1, 1, *A.sinogram_shape).to(torch.float32)
    options = {"n_iter": 4, "bounds": (0, 0.4)}
    own = getattr(solvers, method)(A, y, **options)
    peer = solvers.external("astra", method, A, y, **options)
    assert float(own.x.min()) == 0 and abs(float(own.x.max()) - 0.4) < 1e-6, (
        "the bounds must bind for this test"
    )
    assert float((peer.x - own.x).norm() / own.x.norm()) < 2e-3


def test_tomopy_call_through_a_stand_in(monkeypatch):
    """TomoPy is on conda-forge only. A stand-in module checks the call that the real `tomopy.recon`
    documents.
    """
    calls = []

    def recon(
        tomo,
        theta,
        center=None,
        sinogram_order=False,
        algorithm=None,
        init_recon=None,
        ncore=None,
        **rest,
    ):
        calls.append(
            {
                "tomo": tomo,
                "theta": theta,
                "algorithm": algorithm,
                "init": init_recon.copy(),
                **rest,
            }
        )
        assert center is None and not sinogram_order
        return init_recon + 2

    module = types.SimpleNamespace(recon=recon, astra=object())
    monkeypatch.setitem(sys.modules, "tomopy", module)
    A = Radon(N, [0.0, 45.0, 90.0])
    y = random(2, 1, *A.sinogram_shape)
    x = solvers.external("tomopy", "sirt", A, y, n_iter=7, bounds=(0, None)).x
    (call,) = calls
    assert call["tomo"].shape == (3, 2, A.n_detectors) and call["tomo"].dtype == np.float32
    np.testing.assert_allclose(call["tomo"][:, 1], y[1, 0].numpy(), rtol=1e-6)
    np.testing.assert_allclose(call["theta"], [0, np.pi / 4, np.pi / 2])
    assert call["algorithm"] is module.astra and call["num_gridx"] == call["num_gridy"] == N
    assert call["init"].shape == (2, N, N) and not call["init"].any()
    assert call["options"] == {
        "proj_type": "linear",
        "method": "SIRT",
        "num_iter": 7,
        "extra_options": {"MinConstraint": 0.0},
    }
    assert x.shape == (2, 1, N, N) and bool((x == 2).all())
    solvers.external("tomopy", "sart", A, y, n_iter=7)
    assert calls[1]["options"]["num_iter"] == 7 * 3


def test_tomopy_itself():
    pytest.importorskip("tomopy", reason="TomoPy is on conda-forge only (environment.yml)")
    A = Radon(33, torch.arange(12) * 15.0)
    y = A(blocks(33, batch=2).to(torch.float32))
    own = solvers.sirt(A, y, n_iter=20).x
    peer = solvers.external("tomopy", "sirt", A, y, n_iter=20).x
    assert float((peer - own).norm() / own.norm()) < 1e-2


def test_refusals():
    A, y = OPERATORS["radon"], OPERATORS["radon"](blocks(N))
    for message, call in {
        "unknown library 'gpu'": lambda: solvers.external("gpu", "fbp", A, y),
        "on the CPU, not 'em'": lambda: solvers.external("astra", "em", A, y),
        "needs a Radon operator": lambda: solvers.external("astra", "cgls", Identity(N), y),
        "bounds are an option": lambda: solvers.external("astra", "cgls", A, y, bounds=(0, 1)),
        "views of a Radon operator": lambda: solvers.sart(Identity(N), y),
        "non-negative entries": lambda: solvers.em(OPERATORS["mask"], y),
        "weight > 0": lambda: solvers.tv(A, y, 0.0),
        "0 < relaxation < 2": lambda: solvers.sart(A, y, relaxation=2.0),
        "bounds need real images": lambda: solvers.sirt(
            OPERATORS["mask"], OPERATORS["mask"](blocks(N)), bounds=(0, 1)
        ),
        "generator": lambda: solvers.add_noise(y, 0.1, None),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()
    if "tomopy" not in sys.modules:
        with pytest.raises(ImportError, match="conda-forge"):
            sys.modules["tomopy"] = None
            try:
                solvers.external("tomopy", "sirt", A, y)
            finally:
                del sys.modules["tomopy"]


def test_gradient_adjoint_and_inverse_laplacian():
    for complex_ in (False, True):
        x, q = (
            random(2, 1, 15, 17, complex_=complex_),
            gradient(random(2, 1, 15, 17, seed=1, complex_=complex_)),
        )
        left = sum((g.conj() * q_i).sum() for g, q_i in zip(gradient(x), q))
        torch.testing.assert_close(left, (x.conj() * gradient_adjoint(q)).sum())
        u = inverse_laplacian(x)
        torch.testing.assert_close(
            gradient_adjoint(gradient(u)), x - x.mean((-2, -1), keepdim=True)
        )


def test_tv_of_a_step_in_closed_form():
    """Halves a and b of an n x n image: each moves by weight * n / (n * n / 2) towards the other,
    until they meet.
    """
    n, weight = 16, 0.1
    y = torch.zeros(1, 1, n, n, **WIDE)
    y[..., n // 2 :] = 1
    x = solvers.tv(Identity(n), y, weight, n_iter=4000, tol=1e-10).x
    shift = weight * n / (n * n / 2)
    torch.testing.assert_close(x, y * (1 - 2 * shift) + shift, rtol=0, atol=1e-5)
    flat = solvers.tv(Identity(n), y, 10.0, n_iter=4000, tol=1e-12).x
    torch.testing.assert_close(flat, torch.full_like(y, 0.5), rtol=0, atol=1e-5)


def test_tv_denoising_agrees_with_scikit_image():
    restoration = pytest.importorskip("skimage.restoration")
    y = blocks(17) + 0.1 * random(1, 1, 17, 17)
    peer = restoration.denoise_tv_chambolle(
        y[0, 0].numpy(), weight=0.1, eps=1e-9, max_num_iter=2000
    )
    x = solvers.tv(Identity(17), y, 0.1, n_iter=1000, tol=1e-7).x
    np.testing.assert_allclose(x[0, 0].numpy(), peer, atol=1e-3)


@pytest.mark.parametrize("complex_", [False, True])
def test_tv_minimises_against_a_general_optimiser(complex_):
    """A dense 5 x 5 problem: a general optimiser on a smoothed F does not get below our F(x)."""
    from scipy.optimize import minimize

    A = Dense(complex_=complex_)
    y = A(random(1, 1, 5, 5, seed=2, complex_=complex_))
    weight, scale = 0.05, A.norm()
    solution = solvers.tv(A, y, weight, n_iter=20000, tol=1e-6)
    assert 0 <= float(solution.gap) <= 1e-6

    def image(v):
        v = torch.as_tensor(v)
        return (torch.complex(v[:25], v[25:]) if complex_ else v).view(1, 1, 5, 5)

    def objective(x, smooth=0.0):
        down, right = (g.abs().square() if complex_ else g * g for g in gradient(x))
        tv = (down + right + smooth).sqrt().sum()
        return 0.5 * (A(x) - y).abs().square().sum() / scale**2 + weight * tv

    def with_slope(v, smooth):
        v = torch.as_tensor(v).requires_grad_()
        value = objective(image(v), smooth)
        return float(value.detach()), torch.autograd.grad(value, v)[0].numpy()

    v = np.zeros(50 if complex_ else 25)
    for smooth in (1e-4, 1e-8, 1e-12):
        options = {"maxiter": 1000, "ftol": 1e-13}
        v = minimize(with_slope, v, args=(smooth,), jac=True, method="L-BFGS-B", options=options).x
    best, ours = float(objective(image(v))), float(objective(solution.x))
    assert ours <= best * (1 + 1e-6)
    assert best <= ours * (1 + 1e-4)


@pytest.mark.parametrize("operator", OPERATORS)
def test_gap_is_a_certificate(operator):
    """Non-negative, an upper bound of the true error at every iterate, and on its way to zero."""
    A = OPERATORS[operator]
    y = A(blocks(N))
    y = y + 0.02 * random(*y.shape, seed=4, complex_=y.is_complex())
    on_mask = A(A.adjoint(y)) if operator == "mask" else y
    weight = 0.01

    def objective(x):
        return float(
            0.5 * ((A(x) - on_mask).abs() / A.norm()).square().sum()
            + weight * total_length(gradient(x))
        )

    best = objective(solvers.tv(A, y, weight, n_iter=800, tol=0).x)
    gaps = []
    for n_iter in (0, 5, 20, 400):
        solution = solvers.tv(A, y, weight, n_iter=n_iter, tol=0)
        value = objective(solution.x)
        gaps.append(float(solution.gap))
        assert gaps[-1] >= (value - best) / value - 1e-12
    assert gaps[-1] < 0.06 and gaps[-1] < 0.1 * gaps[0]
    stopped = solvers.tv(A, y, weight, n_iter=2000, tol=0.1)
    assert stopped.n_iter < 400 and float(stopped.gap) <= 0.1


def test_tv_weight_is_free_of_the_scale_of_the_operator_and_batched():
    A = OPERATORS["radon"]

    class Scaled(Radon):
        def forward(self, x):
            return 7 * super().forward(x)

        def adjoint(self, y):
            return 7 * super().adjoint(y)

        def pinv(self, y):
            return super().pinv(y) / 49

    scaled = Scaled(N, A.angles_deg)
    y = A(blocks(N, batch=2)) + 0.1 * random(2, 1, *A.sinogram_shape)
    weights = torch.tensor([0.003, 0.05])
    together = solvers.tv(A, y, weights, n_iter=50, tol=0).x
    torch.testing.assert_close(
        solvers.tv(scaled, 7 * y, weights, n_iter=50, tol=0).x, together, rtol=1e-5, atol=1e-6
    )
    for b in range(2):
        torch.testing.assert_close(
            solvers.tv(A, y[b : b + 1], float(weights[b]), n_iter=50, tol=0).x[0], together[b]
        )


def test_choose_weight_follows_the_noise():
    def generator():
        return torch.Generator().manual_seed(0)

    grid = [1e-5, 1e-3, 1e-2, 3e-2, 1e-1, 10.0]

    def choose(level):
        return solvers.choose_weight(
            Identity(N), blocks(N, batch=2), grid, level, generator(), n_iter=200
        )[0]

    chosen = [choose(0.05), choose(0.3)]
    assert chosen[0] < chosen[1]
    with pytest.warns(UserWarning, match="widen the grid"):
        solvers.choose_weight(Identity(N), blocks(N), [1.0, 10.0], 0.05, generator(), n_iter=50)


def test_noise_has_the_norm_that_was_asked_for_and_stays_on_the_mask():
    A = OPERATORS["mask"]
    y = A(blocks(N, batch=2))
    e = solvers.add_noise(y, 0.1, torch.Generator().manual_seed(0)) - y
    torch.testing.assert_close(e.flatten(1).norm(dim=1), 0.1 * y.flatten(1).norm(dim=1))
    assert not bool(e[..., ~mask(N)].any())
