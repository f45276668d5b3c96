"""The targeted attack against SciPy's L-BFGS-B and closed forms; its targets pixel by pixel."""

import sys
import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from instab_utils import attacks, profiles, training

F64 = torch.float64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def uniform(*shape, seed=0, dtype=F64):
    return torch.rand(*shape, generator=generator(seed), dtype=dtype)


def network(side, seed=5, dtype=F64):
    """Curved, with couplings between neighbours: tanh of a convolution, added to x."""
    kernel = torch.randn(1, 1, 3, 3, generator=generator(seed), dtype=dtype) * 0.5
    return lambda x: x + torch.tanh(torch.nn.functional.conv2d(x, kernel, padding=1))


def scipy_attack(f, x_in, target, penalty, n_evaluations, box=(0.0, 1.0), **options):
    """SciPy's L-BFGS-B on one image, as its users call it: double-precision vectors; and E at every
    evaluation.
    """
    values = []

    def objective(vector):
        leaf = torch.from_numpy(vector).to(x_in).reshape(x_in.shape).requires_grad_()
        value = (f(leaf) - target).double().square().sum() + penalty * (
            leaf - x_in
        ).double().square().sum()
        (gradient,) = torch.autograd.grad(value, leaf)
        values.append(value.item())
        return values[-1], gradient.double().numpy().ravel()

    found = minimize(
        objective,
        x_in.double().numpy().ravel(),
        jac=True,
        method="L-BFGS-B",
        bounds=[box] * x_in.numel(),
        options={"maxcor": 10, "maxfun": n_evaluations, **options},
    )
    return found, np.minimum.accumulate(values[:n_evaluations])


def test_decoupled_quadratic_has_its_closed_form():
    """f = w x: the minimum is clip((w t + penalty x_in) / (w^2 + penalty)), pixel by pixel."""
    x_in, target = uniform(3, 1, 7, 9), 3 * uniform(3, 1, 7, 9, seed=1) - 1
    w = 0.2 + 2 * uniform(1, 1, 7, 9, seed=2)
    found = attacks.targeted(
        lambda x: w * x, x_in, target, penalty=0.3, n_evaluations=400, tolerance=1e-14
    )
    exact = ((w * target + 0.3 * x_in) / (w**2 + 0.3)).clamp(0, 1)
    # bounds and free pixels both matter
    assert 0.2 < ((exact == 0) | (exact == 1)).double().mean() < 0.8
    assert found.converged.all() and not found.notes
    assert torch.allclose(found.x_adv, exact, atol=2e-6)
    least = ((w * exact - target) ** 2 + 0.3 * (exact - x_in) ** 2).sum((1, 2, 3))
    assert torch.allclose(found.objective, least, rtol=1e-11)


@pytest.mark.parametrize("penalty", [0.0, 0.5])
def test_coupled_quadratic_meets_its_kkt_conditions_and_scipy(penalty):
    matrix = torch.randn(30, 25, generator=generator(3), dtype=F64)
    x_in, target = (
        uniform(2, 1, 5, 5),
        (3 * uniform(2, 25, seed=1) - 1) @ matrix.T + uniform(2, 30, seed=2),
    )
    found = attacks.targeted(
        lambda x: x.flatten(1) @ matrix.T,
        x_in,
        target,
        penalty=penalty,
        n_evaluations=1000,
        tolerance=1e-15,
    )
    x = found.x_adv.flatten(1)
    gradient = 2 * (x @ matrix.T - target) @ matrix + 2 * penalty * (x - x_in.flatten(1))
    size = torch.linalg.vector_norm(target @ matrix)
    assert (x == 0).any() and (x == 1).any() and ((x > 0) & (x < 1)).any()
    assert bool((gradient[x == 0] > 0).all()) and bool((gradient[x == 1] < 0).all())
    assert gradient[(x > 0) & (x < 1)].abs().max() < 1e-6 * size
    for i in range(2):
        peer, _ = scipy_attack(
            lambda x: x.flatten(1) @ matrix.T,
            x_in[i : i + 1],
            target[i : i + 1],
            penalty,
            15000,
            ftol=0,
            gtol=1e-9,
        )
        assert abs(found.objective[i] - peer.fun) <= 1e-9 * peer.fun


def test_direction_is_that_of_dense_bfgs_on_the_free_pixels(monkeypatch):
    """H from the update formula, pair by pair; some pairs lose their curvature when the held pixels
    are taken out.
    """
    memory, side, b = 4, 3, 40
    module = sys.modules["instab_utils.attacks.targeted_attack"]
    monkeypatch.setattr(module, "MEMORY", memory)
    x = uniform(b, 1, side, side)
    x[uniform(b, 1, side, side, seed=1) < 0.4] = 0
    run = module._Run.begin(x)
    run.gradient, run.value = (
        torch.randn(x.shape, generator=generator(2), dtype=F64),
        1 + uniform(b),
    )
    kept = [[] for _ in range(b)]
    for k in range(7):  # more than fit: the oldest leave
        for i in range(k % 3, b):  # and not the same number for every image
            s, y = (
                torch.randn(side**2, generator=generator(1000 * k + 10 * i + j), dtype=F64)
                for j in (3, 4)
            )
            y = y if s @ y > 0 else -y
            (
                run.pairs[i, int(run.n_pairs[i]) % memory],
                run.pairs[i, memory + int(run.n_pairs[i]) % memory],
            ) = s, y
            run.n_pairs[i] += 1
            kept[i] = [*kept[i][1 - memory :], (s, y)]
    found, dropped = run._aim(0.0, 1.0, 0.5), 0
    for i in range(b):
        free = ~((x[i] == 0) & (run.gradient[i] > 0)).flatten()
        g = run.gradient[i].flatten() * free
        pairs = [(s * free, y * free) for s, y in kept[i]]
        used = [(s, y) for s, y in pairs if s @ y > 1e-6 * s.norm() * y.norm()]
        dropped += len(pairs) - len(used)
        eye = torch.eye(side**2, dtype=F64)
        h = eye * (
            used[-1][0] @ used[-1][1] / used[-1][1].square().sum()
            if used
            else 1 / (g @ g / run.value[i] + 1.0)
        )
        for s, y in used:
            v = eye - torch.outer(y, s) / (s @ y)
            h = v.T @ h @ v + torch.outer(s, s) / (s @ y)
        assert torch.allclose(found[i].flatten(), -h @ g, rtol=1e-8, atol=1e-10 * float(h.norm()))
        assert bool((found[i].flatten()[~free] == 0).all())
    assert dropped > 5


def test_objective_is_the_sum_of_squares_of_the_paper():
    f, x_in, target = network(9), uniform(2, 1, 9, 9), uniform(2, 1, 9, 9, seed=1)
    found = attacks.targeted(f, x_in, target, penalty=0.7, n_evaluations=12)
    assert torch.equal(found.before, f(x_in)) and torch.equal(found.after, f(found.x_adv))
    value = ((found.after - target) ** 2).sum((1, 2, 3)) + 0.7 * ((found.x_adv - x_in) ** 2).sum(
        (1, 2, 3)
    )
    assert torch.allclose(found.objective, value, rtol=1e-13)
    assert torch.allclose(
        found.objective_start, ((found.before - target) ** 2).sum((1, 2, 3)), rtol=1e-13
    )
    assert found.history.shape == (12, 2) and torch.equal(found.history[0], found.objective_start)
    assert bool((found.history.diff(dim=0) <= 0).all()) and torch.equal(
        found.history[-1], found.objective
    )
    assert found.n_evaluations.tolist() == [12, 12] and not found.converged.any()


def test_images_do_not_know_of_each_other():
    """In a batch, alone, in another order: the same path, although the images end at different
    times.
    """
    f = network(11)
    x_in, target = uniform(4, 1, 11, 11), uniform(4, 1, 11, 11, seed=1)
    target[2] = f(x_in)[2]  # nothing to do
    target[3] = f(x_in)[3] + 1e-3 * target[3]  # little to do
    options = dict(penalty=0.2, n_evaluations=200, tolerance=1e-9)
    together = attacks.targeted(f, x_in, target, **options)
    back = attacks.targeted(f, x_in.flip(0), target.flip(0), **options)
    assert (
        together.n_evaluations[2] == 1
        and together.converged.all()
        and together.n_evaluations.unique().numel() > 2
    )
    for i in range(4):
        alone = attacks.targeted(f, x_in[i : i + 1], target[i : i + 1], **options)
        n = int(alone.n_evaluations)
        for other in (alone.x_adv[0], back.x_adv[3 - i]):
            assert torch.allclose(together.x_adv[i], other, atol=1e-9)
        assert together.n_evaluations[i] == n == back.n_evaluations[3 - i]
        assert torch.allclose(together.history[:n, i], alone.history[:, 0], rtol=1e-9)
        assert together.history[n:, i].isnan().all() and not together.history[:n, i].isnan().any()
    assert torch.equal(together.x_adv[2], x_in[2]) and together.objective[2] == 0


@pytest.mark.parametrize("box", [(0.0, 1.0), (-0.25, 1.5)])
def test_every_point_that_f_sees_lies_in_the_box(box):
    seen = []

    def f(x):
        seen.append((float(x.detach().min()), float(x.detach().max())))
        return network(9)(x)

    x_in = uniform(2, 1, 9, 9) * (box[1] - box[0]) + box[0]
    found = attacks.targeted(f, x_in, 5 * uniform(2, 1, 9, 9, seed=1) - 2, penalty=0.01, box=box)
    assert min(low for low, _ in seen) == box[0] and max(high for _, high in seen) == box[1]
    assert bool(((found.x_adv == box[0]) | (found.x_adv == box[1])).any())


def test_without_a_box_it_is_the_unconstrained_minimum():
    x_in, target = uniform(2, 1, 6, 6), 9 * uniform(2, 1, 6, 6, seed=1)
    found = attacks.targeted(
        lambda x: 2 * x, x_in, target, penalty=1.0, box=(-np.inf, np.inf), tolerance=1e-13
    )
    assert torch.allclose(found.x_adv, (2 * target + x_in) / 5, atol=1e-6)


def test_a_large_penalty_keeps_the_input():
    f, x_in, target = network(9), uniform(2, 1, 9, 9), uniform(2, 1, 9, 9, seed=1)
    change = [
        (attacks.targeted(f, x_in, target, penalty=penalty).x_adv - x_in).norm()
        for penalty in (0.1, 10, 1e4, 1e8)
    ]
    assert change[0] > change[1] > change[2] > change[3] and change[3] < 1e-6
    assert abs(change[2] / change[3] / 1e4 - 1) < 0.01  # first order in 1 / penalty


def test_steps_are_shortened_where_the_parabola_misleads():
    """Steep walls behind the start: full steps go up, and the search still reaches what SciPy
    reaches.
    """

    def f(x):
        return torch.exp(6 * x) - 1

    x_in, target = 0.9 * uniform(2, 1, 5, 5), 100 * uniform(2, 1, 5, 5, seed=1)
    found = attacks.targeted(f, x_in, target, penalty=0.5, n_evaluations=300, tolerance=1e-12)
    assert bool((found.history.diff(dim=0) == 0).any())  # rejected trials
    for i in range(2):
        peer, _ = scipy_attack(
            f, x_in[i : i + 1], target[i : i + 1], 0.5, 15000, ftol=0, gtol=1e-10
        )
        assert abs(found.objective[i] - peer.fun) < 1e-6 * peer.fun


def test_single_precision_is_enough_to_converge():
    f, x_in, target = (
        network(15, dtype=torch.float32),
        uniform(3, 1, 15, 15, dtype=torch.float32),
        None,
    )
    target = f(x_in) + 0.1 * torch.randn(x_in.shape, generator=generator(1))
    found = attacks.targeted(f, x_in, target, n_evaluations=300)
    wide = attacks.targeted(
        network(15), x_in.double(), target.double(), n_evaluations=300, tolerance=1e-12
    )
    assert (
        found.x_adv.dtype == torch.float32
        and found.converged.all()
        and found.n_evaluations.max() < 100
    )
    assert torch.allclose(found.objective, wide.objective, rtol=1e-3)


def test_nothing_left_to_gain_ends_the_search():
    """tolerance=0 goes on until rounding: the note says so, and nothing is lost."""
    x_in, target = (
        uniform(1, 1, 8, 8, dtype=torch.float32),
        2 * uniform(1, 1, 8, 8, seed=1, dtype=torch.float32),
    )
    found = attacks.targeted(
        lambda x: torch.sin(3 * x), x_in, target, n_evaluations=2000, tolerance=0.0
    )
    usual = attacks.targeted(lambda x: torch.sin(3 * x), x_in, target, n_evaluations=2000)
    assert int(found.n_evaluations) < 2000
    assert bool(found.converged) or "no step lowers" in found.notes[0]
    assert usual.converged.all() and int(usual.n_evaluations) < 60
    assert found.objective <= usual.objective <= found.objective * (1 + 1e-3)


def test_a_non_finite_image_is_stopped_and_the_others_go_on():
    def f(x):  # image by image: one that leaves 0.6 is lost
        return (
            torch.where((x.detach() > 0.6).flatten(1).any(1)[:, None, None, None], torch.nan, 1.0)
            * x
        )

    x_in = 0.5 * uniform(3, 1, 6, 6)
    target = x_in.clone()
    target[0] += 0.01
    target[1] += 0.9
    target[2] -= 0.1
    with pytest.warns(
        RuntimeWarning, match="image 1: objective or gradient not finite at evaluation"
    ):
        found = attacks.targeted(f, x_in, target, penalty=0.01)
    assert list(found.notes) == [1] and found.converged.tolist() == [True, False, True]
    assert (
        torch.isfinite(found.x_adv).all()
        and found.x_adv.max() <= 0.6
        and torch.isfinite(found.objective).all()
    )
    assert bool((found.objective <= found.objective_start).all())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            dict(x_in=torch.full((1, 1, 4, 4), 1.1)),
            r"inside box = \[0, 1\]; got 1.1 to 1.1. Clip it",
        ),
        (
            dict(target=torch.zeros(1, 1, 4, 5)),
            r"shaped like f\(x_in\), \(1, 1, 4, 4\); got \(1, 1, 4, 5\)",
        ),
        (dict(target=torch.zeros(2, 1, 4, 4)), r"got \(2, 1, 4, 4\)"),
        (dict(f=lambda x: x.detach()), "must be differentiable"),
    ],
)
def test_targeted_says_what_is_wrong(change, words):
    usual = dict(f=lambda x: x, x_in=torch.full((1, 1, 4, 4), 0.5), target=torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match=words):
        attacks.targeted(**{**usual, **change})


def squares(mask):
    """First and last row and column of each (n, m) mask, which must be a full rectangle."""
    found = []
    for image in mask[:, 0]:
        rows, columns = image.any(1).nonzero()[:, 0], image.any(0).nonzero()[:, 0]
        assert image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert image.sum() == len(rows) * len(columns)
        found.append((int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])))
    return found


@pytest.mark.parametrize(("side", "expected"), [(200, 50), (128, 50), (120, 47), (64, 25), (17, 8)])
def test_noise_target_is_noise_in_one_square(side, expected):
    x_rec = uniform(30, 2, side, side + 3)
    target, mask = attacks.patch_target(x_rec, "noise", generator())
    assert mask.shape == (30, 1, side, side + 3) and mask.dtype == torch.bool
    places = squares(mask)
    assert {(b - a + 1, d - c + 1) for a, b, c, d in places} == {(expected, expected)}
    assert len(set(places)) > 15  # each image has its own
    everywhere = mask.expand_as(target)
    assert torch.equal(target[~everywhere], x_rec[~everywhere])
    noise = (target - x_rec)[everywhere]
    assert abs(noise.std() / (25 / 255) - 1) < 5 / (2 * noise.numel()) ** 0.5
    assert abs(noise.mean()) < 5 * (25 / 255) / noise.numel() ** 0.5


def test_places_reach_all_edges():
    places = squares(attacks.patch_target(uniform(300, 1, 12, 16), "noise", generator())[1])
    assert {a for a, *_ in places} == set(range(5)) and {c for _, _, c, _ in places} == set(
        range(9)
    )


def test_dark_target_follows_the_authors_proportions():
    """At 512: 50 pixels, blurred by 2; scipy.ndimage's blur of the square is the oracle, away from
    the edges.
    """
    from scipy import ndimage

    x_rec = 0.2 + uniform(1, 1, 512, 512)
    mean = float(x_rec.mean())
    target, mask = attacks.patch_target(x_rec, "dark", generator(2))
    ((top, bottom, left, right),) = squares(mask)
    assert min(top, left) > 0 and max(bottom, right) < 511  # this seed: the blur is not cut off
    assert bottom - top + 1 == right - left + 1 == 50 + 2 * 8
    square = np.zeros((512, 512))
    square[top + 8 : bottom - 7, left + 8 : right - 7] = 1.5 * mean
    dark = x_rec[0, 0].numpy() - ndimage.gaussian_filter(square, 2, mode="constant")
    dark[dark < 0] = x_rec.min()
    assert np.abs(target[0, 0].numpy() - dark).max() < 1e-6
    small, small_mask = attacks.patch_target(x_rec[..., :128, :128], "dark", generator(2))
    assert small_mask.sum() == (12 + 2 * 2) ** 2 and bool((small >= 0).all())


def test_patch_target_says_what_is_wrong():
    with pytest.raises(ValueError, match="'bright'"):
        attacks.patch_target(torch.zeros(1, 1, 32, 40), "bright", generator())


@pytest.mark.real_data
def test_on_real_images_it_is_as_good_as_scipy():
    """On two crops the objective is within 1 %, after at most 1.3 times the evaluations."""
    setting = training.case("dncnn", n_images=2, tv=False)
    f = setting.f.network
    x_in = setting.y[..., 50:98, 50:98].clamp(0, 1).contiguous()
    with torch.no_grad():
        target, _ = attacks.patch_target(f(x_in), "noise", profiles.generator(0, "patch"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = attacks.targeted(f, x_in, target, n_evaluations=40)
    spent = {"scipy": 0, "ours": 0}
    for i in range(2):
        peer, values = scipy_attack(f, x_in[i : i + 1], target[i : i + 1], 0.5, 40)
        assert found.objective[i] <= 1.01 * values[-1]
        spent["scipy"] += 1 + int((values <= 1.01 * values[-1]).argmax())
        spent["ours"] += 1 + int((found.history[:, i].numpy() <= 1.01 * values[-1]).argmax())
    assert spent["ours"] <= 1.3 * spent["scipy"], spent
