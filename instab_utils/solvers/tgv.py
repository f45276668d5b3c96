"""Total generalised variation of second order: even shading costs nothing; PDHG, stopped by a true
duality gap.
"""

import torch
from torch.nn.functional import pad

from ..operators import Identity, MaskedFourier
from .base import Solution, gradients_if_asked, start
from .tv import (
    GRADIENT_NORM_SQUARED,
    _checked,
    _DataStep,
    _drive,
    _half_square,
    _Problem,
    gradient,
    gradient_adjoint,
)

STRAIN_NORM_SQUARED = 8.0  # ||E||^2 <= ||grad||^2, componentwise
# c in |grad x - w|^2 <= (1 + c) |grad x|^2 + (1 + 1/c) |w|^2, which shares the step of q
_COUPLING = 0.3


def tgv(
    A, y, weight, ratio_of_orders=2.0, n_iter=500, tol=5e-2, x0=None, ratio=None, callback=None
) -> Solution:
    r"""min_x F(x) = 1/2 ||A x - y||^2 / ||A||^2 + TGV(x),   TGV(x) = min_w alpha_1 |grad x - w|_1 +
    alpha_0 |E w|_1.

    alpha_1 = weight, alpha_0 = ratio_of_orders * weight. The field w takes over the slope of the
    image, and then only
    changes of slope are paid for: TGV is 0 on affine images, where TV is not, and costs an edge
    what TV costs it. E w = (grad w + grad w^T) / 2 with its Frobenius norm; grad, ||A|| and complex
    images as in `tv`.

    Args:
        A, y, x0, callback: as in `tv`.
        weight: > 0, alpha_1 in the units of tv's weight: a float or a tensor (batch,).
        ratio_of_orders: alpha_0 / alpha_1 > 0, in pixels: a change of slope within about so many
            pixels counts as an edge. Towards 0, TGV -> alpha_0 * (a total variation of the slope)
            and edges blur; towards infinity it becomes alpha_1 * TV without what one rigid field w
            explains, that is nearly TV. 2 is customary, so is sqrt(2).
        n_iter, tol: at most n_iter iterations (one A and one A* each); an image stops, checked
            every 20 iterations, at a relative duality gap <= tol. The bound is loose. MR at
            acceleration 3: at a gap of 5e-2 F is 1e-3 above its minimum; that takes about 300
            iterations at 128 and 1000 at 256 pixels, where 300 (gap 0.25, F 1e-3 above) show the
            same image. CT with 50 views: 100 to 200 iterations.
        ratio: primal step times weight, as in `tv`.

    Returns:
        `Solution`; `gap` is (F(x, w) - D) / F(x, w) at a dual feasible point with the w of the
        iteration: F(x) - min F <= gap * F(x, w), certified.

    Source: Bredies, Kunisch, Pock, SIAM J. Imaging Sci. 3 (2010), definition 3.1 for k = 2; the
    algorithm: Chambolle and Pock, JMIV 40 (2011), algorithm 1. We depart from usual discretisations
    in that differences across the border do not exist (instead of being zero), so that affine
    images cost exactly nothing, and in that both parts of the mixed entry of E w are forward
    differences, which sit at the same corner of the pixel.
    """
    weight = _checked("tgv", y, weight)
    if not ratio_of_orders > 0:
        raise ValueError(
            f"tgv expects ratio_of_orders > 0; got {ratio_of_orders}. For the first order alone use tv."
        )
    with gradients_if_asked(y, x0, weight):
        x = start(A, y, A.pinv(y) if x0 is None else x0)
        problem = _SecondOrder(A, y, weight, ratio_of_orders)
        # Measured on MR and CT at 128: w likes 0.002 / weight, whatever the step of x is.
        if isinstance(A, (Identity, MaskedFourier)):
            states = _pdhg_orthonormal(
                problem, x, 0.03 if ratio is None else ratio, field_step=0.07
            )
        else:
            states = _pdhg(problem, x, 0.003 if ratio is None else ratio, field_step=0.7)
        return _drive(problem, states, n_iter, tol, callback)


def _pdhg(problem, x, ratio, field_step):
    """As in `tv`, K = [A / ||A||, 0; grad, -1; 0, E] on (x, w), with a dual p of the data, q of
    grad x - w, s of E w.
    """
    data = _DataStep(problem)
    tau = ratio / problem.weight
    s_p, fields = 0.25 / tau, _Fields(problem, x, tau, field_step, 0.75)
    r = problem.misfit(x)
    x_bar, r_bar, p = x, r, data.zero(r)
    while True:
        yield x, r, lambda: (data.dual(p), fields.s, fields.w)
        p = data.step(p, r_bar, s_p)
        q = fields.step(x_bar)
        x_new = x - tau * (problem.adjoint(data.dual(p)) + gradient_adjoint(q))
        r_new = problem.misfit(x_new)
        x_bar, r_bar = 2 * x_new - x, 2 * r_new - r
        x, r = x_new, r_new


def _pdhg_orthonormal(problem, x, ratio, field_step):
    """As in `tv`, K = [grad, -1; 0, E]: the data term has a closed-form proximal map."""
    tau = ratio / problem.weight
    x_bar, fields = x, _Fields(problem, x, tau, field_step, 1.0)
    while True:
        x_k = x
        yield (
            x,
            None,
            lambda: (-problem.A(gradient_adjoint(strain_adjoint(fields.s))), fields.s, fields.w),
        )
        v = x - tau * gradient_adjoint(fields.step(x_bar))
        x = v - tau / (1 + tau) * problem.adjoint(problem.misfit(v))
        x_bar = 2 * x - x_k


class _Fields:
    """w, and the duals q and s: their part of an iteration. w moves by field_step * tau, x by tau.

    The steps satisfy (1 + c) 8 tau s_q <= share and tau_w ((1 + 1/c) s_q + 8 s_s) <= 1, with which
    PDHG converges.
    """

    def __init__(self, problem, x, tau, field_step, share):
        zero = torch.zeros_like(x)
        self.problem, self.w, self.w_bar = problem, (zero, zero), (zero, zero)
        self.q, self.s = (zero, zero), (zero, zero, zero)
        self.tau = field_step * tau
        self.s_q = share / ((1 + _COUPLING) * GRADIENT_NORM_SQUARED * tau)
        self.s_s = (1 / self.tau - (1 + 1 / _COUPLING) * self.s_q) / STRAIN_NORM_SQUARED

    def step(self, x_bar):
        """q, after one step of q and s, then of w."""
        excess = (g - w for g, w in zip(gradient(x_bar), self.w_bar))
        self.q = self.problem.project([q + self.s_q * e for q, e in zip(self.q, excess)])
        self.s = self.problem.project_second(
            [s + self.s_s * e for s, e in zip(self.s, strain(self.w_bar))]
        )
        last = self.w
        self.w = tuple(
            w + self.tau * (q - e) for w, q, e in zip(last, self.q, strain_adjoint(self.s))
        )
        self.w_bar = tuple(2 * new - old for new, old in zip(self.w, last))
        return self.q


class _SecondOrder(_Problem):
    """F(x, w) and its dual; `weight` bounds q, `second_weight` bounds s."""

    def __init__(self, A, y, weight, ratio_of_orders):
        super().__init__(A, y, weight, isotropic=True)
        self.second_weight = ratio_of_orders * weight
        # F >= 0
        self._parts, self._highest = None, torch.zeros((), dtype=torch.float64, device=y.device)

    def project_second(self, s):
        shrink = _shrink(s, self.second_weight)
        return tuple(s_i * shrink for s_i in s)

    def objective(self, x, r, w):
        first = _lengths([g - w_i for g, w_i in zip(gradient(x), w)])
        second = _lengths(strain(w))
        return (
            _half_square(r)
            + self.weight.double().flatten() * first
            + self.second_weight.double().flatten() * second
        )

    def gap(self, x, r, p, s, w):
        """(F(x, w) - max D(p', s')) / F(x, w), shape (batch,), with (p', s') a dual feasible point
        made from (p, s).

        D(p, s) = -1/2 ||p||^2 - Re <p, y>  if  A* p + grad* E* s = 0, |s| <= alpha_0 and |E* s| <=
        alpha_1 (q = E* s: PDHG's own q, which meets that in the limit only, is not used), else
        -inf. As in `tv`: p loses its components along A of the affine images, then v = A* p + grad*
        E* s is a field of second differences' adjoint, which s absorbs; at last both are scaled
        down until the bounds hold. D goes up and down: the highest so far counts.
        """
        if self._parts is None:
            self._parts = self._affine_data(x), _Absorber(x)
        basis, absorb = self._parts
        # coils share one image; channels do not
        flat = p.flatten(1 if x.shape[1] == 1 else 2).to(basis.dtype)
        p = (flat - flat @ basis.mH @ basis).to(p.dtype).view_as(p)
        wide = torch.complex128 if x.is_complex() else torch.float64
        s = [s_i.to(wide) for s_i in s]
        v = self.adjoint(p).to(wide) + gradient_adjoint(strain_adjoint(s))
        s = [s_i - a_i for s_i, a_i in zip(s, absorb(v))]
        shrinks = (
            _shrink(s, self.second_weight.double()),
            _shrink(strain_adjoint(s), self.weight.double()),
        )
        largest = torch.minimum(*(shrink.amin((1, 2, 3)) for shrink in shrinks))
        value = self.objective(x, r, w)
        self._highest = torch.maximum(
            self._highest, value * (1 - self._relative_gap(value, p, largest))
        )
        return (value - self._highest) / value.clamp_min(1e-300)

    def _affine_data(self, x):
        """Orthonormal rows that span A of the affine images."""
        down, right = (
            torch.linspace(-1, 1, k, dtype=x.dtype, device=x.device) for k in x.shape[-2:]
        )
        one = torch.ones_like(x[0, 0])
        data = self.A(torch.stack([one, one * down[:, None], one * right])[:, None]).flatten(1)
        _, size, basis = torch.linalg.svd(
            data.to(torch.complex128 if data.is_complex() else torch.float64), full_matrices=False
        )
        return basis[size > 1e-6 * size[0]]  # a mask may hide some of them


class _Absorber:
    """A right inverse of grad* E* on images without affine component: v -> s with grad* E* s = v.

    Two of the three entries of s suffice but for the image i * j, which the third takes, constant
    over the image. For the two, grad* E* is B u + u B' of an image u, B = D* D with D the second
    differences along one axis: diagonal in the eigenvectors of B and B', a few products of n x n
    matrices. In float64, as its condition grows like n^4.
    """

    def __init__(self, x):
        values, self.vectors = [], []
        for k in x.shape[-2:]:
            D = torch.eye(k, dtype=torch.float64, device=x.device).diff(n=2, dim=0)
            value, vector = torch.linalg.eigh(D.T @ D)
            value[:2] = 0  # of the affine functions, exactly
            values.append(value)
            self.vectors.append(vector)
        self.values = values[0][:, None] + values[1]
        self.values[:2, :2] = torch.inf

    def __call__(self, v):
        n, m = v.shape[-2:]
        i, j = (torch.arange(k, dtype=torch.float64, device=v.device) - (k - 1) / 2 for k in (n, m))
        twist = (v * i[:, None] * j).sum((-2, -1), keepdim=True) / ((n - 1) * (m - 1))
        zero, third = (
            torch.zeros_like(v),
            pad(twist.expand(*v.shape[:-2], n - 1, m - 1), (0, 1, 0, 1)) / 2**0.5,
        )
        v = v - gradient_adjoint(strain_adjoint((zero, zero, third)))
        Q, R = (vectors.to(v.dtype) for vectors in self.vectors)
        down, right = gradient(Q @ ((Q.T @ v @ R) / self.values) @ R.T)
        first, second, _ = strain((down, right))
        return first, second, third


def strain(w):
    """E w as (first, second, mixed), so that |E w|^2 = first^2 + second^2 + mixed^2 at a pixel, of
    w = (down, right).

    first = d_down w_down and second = d_right w_right at pixel centres, mixed = (d_right w_down +
    d_down w_right) / sqrt(2), which is sqrt(2) times the mixed entry, at corners; zero where a
    difference would leave the grid that `gradient` fills. Its kernel are the rigid fields (a + c j,
    b - c i).
    """
    down, right = w
    first = pad(down[..., 1:-1, :] - down[..., :-2, :], (0, 0, 1, 1))
    second = pad(right[..., 1:-1] - right[..., :-2], (1, 1))
    mixed = down[..., :-1, 1:] - down[..., :-1, :-1] + right[..., 1:, :-1] - right[..., :-1, :-1]
    return first, second, pad(mixed, (0, 1, 0, 1)) / 2**0.5


def strain_adjoint(s):
    """Exact adjoint of `strain` on fields that are zero where its values are."""
    first, second, mixed = s
    mixed = mixed / 2**0.5
    down = first - pad(first[..., 1:, :], (0, 0, 0, 1)) + pad(mixed, (1, -1)) - mixed
    right = second - pad(second[..., 1:], (0, 1)) + pad(mixed, (0, 0, 1, -1)) - mixed
    return down, right


def _squares(fields):
    return sum(f.real.square() + f.imag.square() if f.is_complex() else f * f for f in fields)


def _shrink(fields, bound):
    """The factors that bring |fields| to at most `bound`, pixel by pixel."""
    return bound * _squares(fields).clamp_min(bound * bound).rsqrt()


def _lengths(fields):
    return _squares(fields).sqrt().sum((1, 2, 3), dtype=torch.float64)
