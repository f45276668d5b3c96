"""Total generalised variation against its kernel, dense matrices, limits, and its certificate."""

import numpy as np
import pytest
import small
import torch
from small import random

from instab_utils import solvers
from instab_utils.operators import Identity, MaskedFourier, Radon
from instab_utils.solvers import primal_dual
from instab_utils.solvers.differences import (
    StrainInverse,
    gradient,
    gradient_adjoint,
    strain,
    strain_adjoint,
)
from instab_utils.solvers.generalised_variation import GeneralisedVariation

N = 13
WIDE = {"dtype": torch.float64}


def grid(n, m):
    return torch.arange(n, **WIDE)[:, None].expand(n, m), torch.arange(m, **WIDE).expand(n, m)


def ramps(n=N):
    """Two affine pieces with a jump between them."""
    i, j = grid(n, n)
    return torch.where(j < n // 2, 0.02 * i + 0.01 * j, 0.8 - 0.02 * j)[None, None]


OPERATORS = {
    **small.operators(N),
    "mask without its centre": MaskedFourier(small.mask(N, centre=False)),
}


def objectives(monkeypatch):
    """A list that every F(x, w) is going to be appended to."""
    kept, seen = GeneralisedVariation.regulariser, []

    def regulariser(problem, x):
        value = kept(problem, x)
        misfit = (problem.A(x) - problem.y) / problem.scale
        seen.append(misfit.abs().square().sum() / 2 + value)
        return value

    monkeypatch.setattr(GeneralisedVariation, "regulariser", regulariser)
    return seen


@pytest.mark.parametrize("complex_", [False, True])
def test_strain_has_its_adjoint_and_its_kernel(complex_):
    w = gradient(random(2, 1, 15, 17, complex_=complex_))
    w = [w[0] * random(15, 17, seed=2), w[1] * random(15, 17, seed=3)]
    s = strain(gradient(random(2, 1, 15, 17, seed=1, complex_=complex_)))
    s = [s_i * random(15, 17, seed=4) for s_i in s]
    left = sum((e.conj() * s_i).sum() for e, s_i in zip(strain(w), s))
    right = sum((w_i.conj() * e).sum() for w_i, e in zip(w, strain_adjoint(s)))
    torch.testing.assert_close(left, right)
    v = gradient_adjoint(strain_adjoint(s))
    torch.testing.assert_close(
        gradient_adjoint(strain_adjoint(StrainInverse(v)(v))), v, rtol=0, atol=1e-11
    )

    i, j = grid(15, 17)
    affine = (3 + 2 * i - 5 * j)[None, None]
    inside = [torch.ones(15, 17, **WIDE) for _ in range(2)]
    inside[0][-1], inside[1][:, -1] = 0, 0
    rigid = [f[None, None] * m for f, m in zip((2 + 3 * j, 1 - 3 * i), inside)]
    assert all(not bool(e.any()) for e in (*strain(gradient(affine)), *strain(rigid)))
    bent = strain(gradient((i * i)[None, None]))
    torch.testing.assert_close(bent[0][..., 1:-1, :], torch.full((1, 1, 13, 17), 2.0, **WIDE))


def test_strain_norm_bound_is_nearly_reached():
    w = gradient(random(1, 1, 64, 64))
    for _ in range(200):
        w = strain_adjoint(strain(w))
        size = sum(float((w_i**2).sum()) for w_i in w) ** 0.5
        w = [w_i / size for w_i in w]
    assert 7 < size <= 8


def test_affine_images_are_free_and_tv_shrinks_them():
    i, j = grid(N, N)
    y = (0.1 + 0.03 * i - 0.05 * j)[None, None]
    for A in (OPERATORS["identity"], OPERATORS["radon"]):
        x = solvers.tgv(A, A(y), 0.05, n_iter=600, tol=0).x
        torch.testing.assert_close(x, y, rtol=0, atol=1e-3)
    assert float((solvers.tv(Identity(N), y, 0.05, n_iter=500, tol=1e-4).x - y).abs().max()) > 0.03


def test_ramps_stay_ramps_where_tv_makes_stairs():
    n = 20
    x = ramps(n)
    y = x + 0.02 * random(1, 1, n, n)
    best = {}
    for solve in (solvers.tv, solvers.tgv):
        answers = [
            solve(Identity(n), y, weight, n_iter=300, tol=1e-3).x for weight in (0.01, 0.02, 0.05)
        ]
        best[solve] = min(answers, key=lambda a: float((a - x).norm()))
    assert float((best[solvers.tgv] - x).norm()) < 0.8 * float((best[solvers.tv] - x).norm())
    flat = {
        solve: float((gradient(a)[1][..., :-1].abs() < 1e-3).double().mean())
        for solve, a in best.items()
    }
    assert flat[solvers.tv] > 0.1 > 0.02 > flat[solvers.tgv]


@pytest.mark.parametrize(("complex_", "order"), [(False, 0.5), (True, 1.5)])
def test_minimises_against_a_general_optimiser_on_dense_matrices(complex_, order, monkeypatch):
    """F(x, w) written once more with dense matrices: L-BFGS on a smoothed F reaches the same
    minimum.
    """
    from scipy.optimize import minimize

    n, m, weight = 5, 5, 0.1
    A = (
        MaskedFourier(small.mask(N, fraction=0.6)[:n, :n])
        if complex_
        else Radon(n, [0.0, 30.0, 75.0, 120.0])
    )
    y = A(random(1, 1, n, m, seed=2, complex_=complex_))
    seen = objectives(monkeypatch)
    monkeypatch.setattr(primal_dual, "PROXIMAL_RATIO", 1.0)
    monkeypatch.setattr(primal_dual, "DUAL_RATIO", 0.2)
    solution = solvers.tgv(A, y, weight, order, n_iter=4000, tol=3e-4)
    assert -1e-12 <= float(solution.gap) <= 3e-4
    dtype = torch.complex128 if complex_ else torch.float64
    unit = torch.eye(n * m, dtype=dtype).view(-1, 1, n, m)
    matrix = A(unit).flatten(1).T / A.norm()

    def difference(k):
        return torch.eye(k, **WIDE).diff(dim=0)

    parts = [n * m, (n - 1) * m, n * (m - 1)]

    def length(*fields_and_corners, smooth):
        total = torch.full((n, m), smooth, **WIDE)
        for f, (a, b) in fields_and_corners:
            f = f.abs().square()
            total = total + torch.nn.functional.pad(
                f, (b, m - b - f.shape[1], a, n - a - f.shape[0])
            )
        return total.sqrt().sum()

    def objective(v, smooth):
        x, p, q = v.split(parts)
        x, p, q = x.view(n, m), p.view(n - 1, m), q.view(n, m - 1)
        wide = [
            f.to(dtype)
            for f in (difference(n), difference(m), difference(n - 1), difference(m - 1))
        ]
        first = length((wide[0] @ x - p, (0, 0)), (x @ wide[1].T - q, (0, 0)), smooth=smooth)
        mixed = (p @ wide[1].T + wide[0] @ q) / 2
        second = length(
            (wide[2] @ p, (1, 0)),
            (q @ wide[3].T, (0, 1)),
            (mixed, (0, 0)),
            (mixed, (0, 0)),
            smooth=smooth,
        )
        misfit = matrix @ x.flatten() - y.flatten() / A.norm()
        return misfit.abs().square().sum() / 2 + weight * first + order * weight * second

    def vector(v):
        v = torch.as_tensor(v)
        return torch.complex(*v.view(2, -1)) if complex_ else v

    def with_slope(v, smooth):
        v = torch.as_tensor(v).requires_grad_()
        value = objective(vector(v), smooth)
        return float(value.detach()), torch.autograd.grad(value, v)[0].numpy()

    v = np.zeros(sum(parts) * (2 if complex_ else 1))
    for smooth in (1e-4, 1e-8):
        v = minimize(
            with_slope,
            v,
            args=(smooth,),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 300, "ftol": 1e-9},
        ).x
    best = float(objective(vector(v), 0.0))
    assert abs(float(seen[-1]) - best) <= 1e-3 * best


@pytest.mark.parametrize("operator", OPERATORS)
def test_gap_is_a_certificate(operator, monkeypatch):
    """Non-negative, an upper bound of what is left at every iterate, and on its way to zero."""
    A = OPERATORS[operator]
    y = A(ramps())
    y = y + 0.02 * random(*y.shape, seed=4, complex_=y.is_complex())
    seen = objectives(monkeypatch)

    def run(n_iter):
        gap = float(solvers.tgv(A, y, 0.01, n_iter=n_iter, tol=0).gap)
        return float(seen[-1]), gap

    best, _ = run(400)
    values = [run(n_iter) for n_iter in (0, 20, 260)]
    for value, gap in values:
        assert gap >= (value - best) / value - 1e-9
    gaps = [gap for _, gap in values]
    assert gaps[-1] < 0.12 and gaps[-1] < 0.2 * gaps[0]
    stopped = solvers.tgv(A, y, 0.01, n_iter=600, tol=0.1)
    assert stopped.n_iter < 600 and float(stopped.gap) <= 0.1


def test_a_large_ratio_of_orders_is_tv_where_no_slope_is_better_than_another():
    """An image of one coordinate and symmetric about its middle: by convexity the best rigid field
    is 0.
    """
    y = torch.zeros(1, 1, N, N, **WIDE)
    y[..., 4:9] = 1
    y = y + 0.1 * torch.cos(torch.arange(N, **WIDE) - 6)
    tv, tgv = (
        f(Identity(N), y, 0.1, n_iter=3000, tol=1e-5).x
        for f in (solvers.tv, lambda *a, **o: solvers.tgv(*a, ratio_of_orders=300.0, **o))
    )
    torch.testing.assert_close(tgv, tv, rtol=0, atol=1e-3)
    second = solvers.tgv(Identity(N), y, 0.1, ratio_of_orders=1.0, n_iter=3000, tol=1e-5).x
    assert float((second - tv).abs().max()) > 1e-2


def test_a_phase_goes_through_and_channels_are_apart():
    turn = torch.polar(torch.ones(1, **WIDE), torch.full((1,), 0.7, **WIDE))
    A, x = OPERATORS["mask"], ramps() + 0j
    straight, turned = (solvers.tgv(A, A(x * t), 0.01, n_iter=100, tol=0).x for t in (1, turn))
    torch.testing.assert_close(turned, straight * turn)
    y = random(1, 3, N, N)
    together = solvers.tgv(Identity(N), y, 0.3, n_iter=100, tol=0)
    alone = torch.cat(
        [solvers.tgv(Identity(N), y[:, c : c + 1], 0.3, n_iter=100, tol=0).x for c in range(3)], 1
    )
    torch.testing.assert_close(together.x, alone)
    assert 0 <= float(together.gap) < 1


def test_weight_is_free_of_the_scale_and_batched_and_chosen(monkeypatch):
    A = OPERATORS["coils"]
    y = A(ramps())
    both = solvers.tgv(A, y.repeat(2, 1, 1, 1), torch.tensor([0.01, 0.1]), n_iter=60, tol=0)
    for b, weight in enumerate((0.01, 0.1)):
        torch.testing.assert_close(both.x[b : b + 1], solvers.tgv(A, y, weight, n_iter=60, tol=0).x)
    with monkeypatch.context() as patch:
        patch.setattr(primal_dual, "DUAL_RATIO", 7 * 0.003)
        scaled = solvers.tgv(A, 7 * y, 0.07, n_iter=60, tol=0)
    torch.testing.assert_close(scaled.x, 7 * both.x[:1])
    torch.testing.assert_close(scaled.gap, both.gap[:1])
    best, _ = solvers.choose_weight(
        Identity(N),
        ramps(),
        [1e-4, 0.02, 5.0],
        0.05,
        torch.Generator().manual_seed(0),
        solver=solvers.tgv,
    )
    assert best == 0.02


def test_refusals():
    y = random(1, 1, N, N)
    with pytest.raises(ValueError, match="expected weight > 0"):
        solvers.tgv(Identity(N), y, -1.0)
    with pytest.raises(ValueError, match="ratio_of_orders > 0"):
        solvers.tgv(Identity(N), y, 0.1, ratio_of_orders=0)
