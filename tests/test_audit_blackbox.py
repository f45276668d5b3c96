"""The search without gradients against linear maps whose worst case is known, and what it promises
whatever f does.
"""

import pytest
import torch

from instab_utils import profiles
from instab_utils.attacks import random_twin
from instab_utils.audit import blackbox

SIDE, STRENGTH = 8, 0.01


def identity(x):
    return x


@pytest.fixture(scope="module")
def linear():
    """f(y) = M y for a random M, its largest singular value and right singular vector, an image."""
    draw = profiles.generator(0, "black box matrix")
    matrix = torch.randn(SIDE**2, SIDE**2, generator=draw) / SIDE
    _, s, vh = torch.linalg.svd(matrix)
    x = torch.rand(1, 1, SIDE, SIDE, generator=draw)
    return (
        (lambda y: (y.flatten(1) @ matrix.T).reshape(y.shape)),
        float(s[0]),
        vh[0].reshape(x.shape),
        x,
    )


def run(f, x, n_calls=200, strengths=(STRENGTH,), starts=(), seed=0):
    return blackbox.search(
        f,
        identity,
        x,
        x,
        strengths=strengths,
        generator=profiles.generator(seed, "black box"),
        n_calls=n_calls,
        starts=starts,
    )


def share(found, linear):
    return float(found.reach[STRENGTH][0] / (STRENGTH * linear[3].norm()) / linear[1])


def test_norms_calls_and_reach_are_exact(linear):
    f, _, _, x = linear
    given = []

    def counted(y):
        given.append(len(y))
        return f(y)

    x = torch.cat([x, 0.5 + 0 * x])
    found = run(counted, x, n_calls=61, strengths=(0.02, 0.005))
    assert sum(given) == 2 * 61
    for s in (0.005, 0.02):
        norms = found.r[s].flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)
        assert torch.allclose(norms, torch.tensor(s), rtol=1e-5)
        reach = (f(x + found.r[s]) - f(x)).flatten(1).norm(dim=1).double()
        assert torch.allclose(reach, found.reach[s], rtol=1e-3)


def test_a_linear_map_is_nearly_exhausted(linear):
    shares = {n: share(run(linear[0], linear[3], n_calls=n), linear) for n in (30, 90, 270)}
    assert shares[30] < shares[90] < shares[270] <= 1.0001
    assert shares[270] > 0.97, shares


def test_better_than_as_many_random_draws(linear):
    f, top, _, x = linear
    draws = random_twin(STRENGTH * x, profiles.generator(0, "draws"), 200)
    random = max(float((f(x + r) - f(x)).norm()) for r in draws) / (STRENGTH * float(x.norm()))
    assert random < 0.7 * top
    for seed in range(3):
        assert share(run(f, x, seed=seed), linear) > 1.2 * random / top


def test_combinations_are_singular_vectors():
    """With as many responses as there are pixels, the best combination is the top right singular
    vector: no search left.
    """
    draw = profiles.generator(1, "black box matrix")
    matrix, u = torch.randn(9, 7, generator=draw), torch.randn(7, 7, generator=draw)
    best, answers = blackbox._combined(u, u @ matrix.T, 3)
    _, s, vh = torch.linalg.svd(matrix)
    assert torch.allclose((best @ vh[:3].T).abs(), torch.eye(3), atol=1e-3)
    assert torch.allclose(answers.norm(dim=1), s[:3], rtol=1e-3)


def test_a_good_start_is_never_lost(linear):
    f, _, worst, x = linear
    found = run(f, x, n_calls=40, starts=[torch.randn_like(x), 7 * worst])
    assert share(found, linear) == pytest.approx(1.0, rel=1e-3)


def test_the_generator_decides(linear):
    f, x = linear[0], linear[3]
    first, second, other = (run(f, x, n_calls=50, seed=seed).r[STRENGTH] for seed in (0, 0, 1))
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_complex_images(linear):
    draw = profiles.generator(2, "black box matrix")
    matrix = torch.randn(36, 36, generator=draw, dtype=torch.complex64)
    x = torch.randn(1, 1, 6, 6, generator=draw, dtype=torch.complex64)
    found = run(lambda y: (y.flatten(1) @ matrix.T).reshape(y.shape), x, n_calls=300)
    assert found.r[STRENGTH].dtype == torch.complex64
    assert float(found.r[STRENGTH].norm() / x.norm()) == pytest.approx(STRENGTH, rel=1e-5)
    top = float(torch.linalg.svdvals(matrix)[0])
    assert 0.95 < float(found.reach[STRENGTH][0] / (STRENGTH * x.norm())) / top <= 1.0001
    # answers of another kind than the image: no echo, still a search
    magnitudes = run(lambda y: y.abs(), x, n_calls=40)
    assert 0 < float(magnitudes.reach[STRENGTH][0]) <= STRENGTH * float(x.norm()) * 1.0001


def test_answers_that_are_not_finite_are_skipped(linear):
    f, _, _, x = linear

    def fails(y):
        bad = (y - x).flatten(1)[:, 0] > 0
        return torch.where(bad[:, None, None, None], torch.nan, f(y))

    found = run(fails, x, n_calls=120)
    assert (
        bool(torch.isfinite(found.reach[STRENGTH]).all())
        and float(found.r[STRENGTH].flatten()[0]) <= 0
    )
    with pytest.raises(ValueError, match="not finite at any"):
        run(lambda y: torch.where((y == x).all(), y, torch.nan), x, n_calls=40)


def test_numpy_and_steps_are_no_obstacle(linear):
    """A network behind an interface of 8 bits has no gradient anywhere; its big steps are found."""
    f, _, _, x = linear
    found = run(lambda y: (f(y) * 255).round().numpy() / 255, x, n_calls=200, strengths=(0.2,))
    exact = run(f, x, n_calls=200, strengths=(0.2,))
    assert float(found.reach[0.2][0]) > 0.9 * float(exact.reach[0.2][0])


def test_wrong_arguments(linear):
    with pytest.raises(ValueError, match="all-zero"):
        run(linear[0], 0 * linear[3])
    with pytest.raises(ValueError, match="Repair f first"):
        run(lambda y: y / 0, linear[3])
