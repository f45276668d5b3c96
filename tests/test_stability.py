"""The stability test: against linear algebra, closed forms and masks that can be counted."""

import dataclasses
import itertools
import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from instab_utils import metrics, profiles, shifts, solvers, training
from instab_utils.networks import Case
from instab_utils.operators import Identity, MaskedFourier, masks
from instab_utils.papers.antun2020 import ladder, records, sampling, verdicts
from instab_utils.stability import more_samples, structure, worst_case


def subject(f, A=None, x=None, stable=None, name="deep-mri"):
    """A subject of 32 pixels a side whose network is f."""
    A = A or Identity(32)
    x = torch.rand(2, 1, 32, 32, generator=profiles.generator(0, "images")) if x is None else x
    about = (name, "test", "denoising", A, x, A(x), lambda y, A: f(y), "made here", 0.1)
    return Solved(*about, solver=stable or (lambda y: y))


@dataclasses.dataclass(frozen=True, eq=False)
class Solved(Case):
    """A case whose stable solver is any function."""

    solver: Callable = None

    def _tv(self, y, n_iter, tol):
        return self.solver(y)


def sizes(**changes):
    """Return the sizes of smoke, with some changed."""
    return SimpleNamespace(**{**vars(profiles.stage("stability", "smoke")), **changes})


def measure(case, size, target="prediction", domain="image"):
    """Return test 1 of every image, under perturbations found now."""
    images = []
    for i in range(len(case.x)):
        worst = worst_case.search(case.f, case, i, size, target, domain)
        own = worst_case.own_search(case, i, size) if domain == "image" else None
        images.append(worst_case.effects(case, i, size, worst, own, domain))
    return worst_case.average(images)


# --- drawings ---


@pytest.mark.parametrize("name", shifts.SUITS)
def test_a_suit_is_a_symmetric_shape_that_fills_its_box(name):
    drawn = shifts.suit(name, 64)
    assert drawn.shape == (64, 64) and drawn.min() >= 0 and drawn.max() == 1
    assert torch.allclose(drawn, drawn.flip(1), atol=1e-6)
    assert 0.25 < drawn.mean() < 0.75
    rows = drawn.amax(1).nonzero()
    assert rows.min() <= 3 and rows.max() >= 60
    small = shifts.suit(name, 8)  # the same shape, averaged over pixels
    assert torch.allclose(
        small, drawn.unflatten(0, (8, 8)).unflatten(2, (8, 8)).mean((1, 3)), atol=0.06
    )


def test_hearts_point_down_and_spades_up():
    width = {name: shifts.suit(name, 64).sum(1) for name in ("heart", "spade", "diamond")}
    assert width["heart"][:32].sum() > 1.5 * width["heart"][32:].sum()
    assert width["spade"][6] < width["heart"][6] / 2 and width["spade"][60] < 25
    area = 2 * 0.7 * 0.98 * 32**2
    assert width["diamond"].sum() == pytest.approx(area, rel=0.01)


def test_suits_that_do_not_exist():
    with pytest.raises(ValueError, match="spade, heart, diamond, club.*'star'"):
        shifts.suit("star", 9)


# --- structure ---


def test_details_lie_in_their_boxes_and_nowhere_else():
    for kind, n in (("suits", 64), ("suits", 33), ("text", 128)):
        for k in range(5):
            fine, boxes = structure.draw(n, kind, profiles.generator(k, "draw"))
            image = torch.nn.functional.avg_pool2d(fine[None, None], structure.FINER)[0, 0]
            left = image.clone()
            for rows, columns in boxes.values():
                assert image[rows, columns].max() > 0.5 and rows.start >= 0 and rows.stop <= n
                left[rows, columns] = 0
            assert left.abs().max() == 0
            assert set(boxes) == ({"text"} if kind == "text" else set(shifts.SUITS))


def test_recovery_of_known_answers():
    """A network that halves contrast shows half of it; one that answers with one image shows
    nothing, and is found out by AUROC.
    """
    fixed = torch.rand(1, 1, 32, 32, generator=profiles.generator(1, "fixed"))
    for f, recovery, area in (
        (lambda y: y / 2 + 0.1, 0.5, None),
        (lambda y: fixed + 0 * y, 0.0, 0.5),
    ):
        case = subject(f)
        found = structure.average([structure.shown_details(case, i, 1) for i in range(2)])
        assert len(found) == len(shifts.SUITS) * len(structure.CONTRASTS)
        for m in found.values():
            shown = m["network"]["contrast_recovery_images"]
            assert shown == pytest.approx([recovery] * 2, abs=1e-5)
            assert m["tv"]["contrast_recovery_images"] == pytest.approx([1.0] * 2, abs=1e-5)
            assert m["n_details"] == 2
            if area is not None:
                assert m["network"]["auroc"].mean == area
            low, high = m["network"]["auroc"].ci
            assert low <= m["network"]["auroc"].mean <= high


def test_slope_is_least_squares_with_an_offset():
    draw = torch.Generator().manual_seed(0)
    s, noise = torch.rand(9, 9, generator=draw), torch.randn(9, 9, generator=draw)
    change = 0.3 + 0.7 * s + noise
    columns = torch.stack([torch.ones(81), s.flatten()], 1)
    expected = torch.linalg.lstsq(columns.double(), change.flatten().double()[:, None]).solution[
        1, 0
    ]
    assert structure.slope(change, s) == pytest.approx(float(expected), rel=1e-6)


def test_auroc_of_pairs():
    assert structure.auroc([(0.0, 1.0), (0.5, 2.0)]).mean == 1.0
    mixed = structure.auroc([(0.0, 1.0), (2.0, 3.0)])  # of the four comparisons three are right
    assert mixed.mean == 0.75 and mixed.ci[0] <= 0.75 <= mixed.ci[1]


# --- worst cases ---


def test_a_linear_network_amplifies_by_its_largest_singular_value():
    n = 8
    draw = torch.Generator().manual_seed(0)
    M = torch.randn(n * n, n * n, generator=draw) / n
    x = torch.rand(1, 1, n, n, generator=draw) + 0.5
    case = subject(lambda y: (y.flatten(1) @ M.T).view_as(y), Identity(n), x)
    largest = float(torch.linalg.matrix_norm(M, 2))
    size = sizes(ascent=40, restarts=2)
    for m in measure(case, size).values():
        assert m["network"]["amplification_images"] == pytest.approx([largest], rel=0.02)
        assert m["tv_own"]["amplification_images"] == pytest.approx([1.0], rel=1e-4)
        assert m["network_random"]["amplification_images"][0] < largest
        assert math.isfinite(worst_case.lost_db({k: v.mean for k, v in loss(m["network"])}))
    # here A = I: the same, in relative units
    relative = float(x.norm() / case.f(x).norm())
    for m in measure(case, size, domain="measurement").values():
        found = m["network"]["amplification_images"]
        assert found == pytest.approx([largest * relative], rel=0.02) and "tv_own" not in m


def loss(values):
    return [(k, v) for k, v in values.items() if k in ("psnr_clean_db", "psnr_perturbed_db")]


def test_noise_and_a_finer_raster_stay_in_the_measurement():
    """The attack adds A r to what was measured; at strength 0 nothing else changes."""
    mask = masks.variable_density_lines(32, 3, generator=profiles.generator(0, "mask"))
    A = MaskedFourier(mask)
    x = torch.rand(1, 1, 32, 32, generator=profiles.generator(0, "x")).to(torch.complex64)
    case = subject(A.pinv, A, x, A.pinv)
    noisy = dataclasses.replace(
        case, y=solvers.add_noise(case.y, 0.1, profiles.generator(0, "noise"))
    )
    for strength, r in worst_case.search(noisy.f, noisy, 0, sizes()).items():
        # zero-filling is a projection: the worst r lies in its range, and f(y + e) - f(y) = r
        seen = A.pinv(A(r))
        assert float(seen.norm()) == pytest.approx(strength * float(x.norm()), rel=0.02)
    clean = float(metrics.psnr_db(A.pinv(noisy.y), x))
    for m in measure(noisy, sizes()).values():
        assert m["network"]["psnr_clean_db"].mean == pytest.approx(clean)


def test_the_neighbourhood_of_a_linear_network():
    """Of f = A^+, a v as large as r changes as much as r does: bad for sure, and unlike r."""
    case, images = subject(lambda y: y), []
    for i in range(2):
        r = worst_case.search(case.f, case, i, sizes())[0.05]
        images.append(worst_case.around(case, i, r, 0.05, 2))
    found = worst_case.rarity(images, 2)
    assert all(m["n_draws"] == 4 for m in found.values())
    assert set(found) == set(worst_case.FRACTIONS)
    near, far = found[0.25], found[2.0]
    assert near["r_and_v"]["n_bad"] == near["n_draws"] and near["v_alone"]["n_bad"] == 0
    assert far["v_alone"]["n_bad"] == far["n_draws"]
    assert near["r_and_v"]["correlation"].mean > 0.9 > far["r_and_v"]["correlation"].mean


def test_a_ladder_of_perturbations_measures_every_method():
    """f doubles, the solver and the front end copy: gains 2, 1, 1; noise on r has its own size."""
    x = torch.rand(1, 1, 32, 32, generator=profiles.generator(0, "x")) + 0.1
    case = subject(lambda y: 2 * y, x=x)
    r = 0.1 * torch.randn(x.shape, generator=profiles.generator(0, "r"))
    draw = profiles.generator(0, "twins")
    run = ladder.ladder(case, {0.1: r}, case.tv, 3, draw)
    assert run["gain network"] == run["gain random"] == pytest.approx([2.0])
    assert run["gain TV"] == run["gain front end"] == pytest.approx([1.0])
    assert run["dB TV"][1] == pytest.approx(float(metrics.psnr_db(x + r, x)))
    assert run["pictures"].shape == run["network"].shape == (2, 32, 32)
    around = ladder.noise(case, r, draw)
    assert around["size"][0] == 1 and around["size"][2] == pytest.approx(0.25)
    assert around["correlation"][1] > 0.9


def test_exact_intervals_of_rates():
    assert worst_case.rate(0, 20).ci == pytest.approx([0.0, 1 - 0.025 ** (1 / 20)])
    assert worst_case.rate(20, 20).ci == pytest.approx([0.025 ** (1 / 20), 1.0])
    low, high = worst_case.rate(7, 20).ci

    def tail(p, ks):
        return sum(math.comb(20, k) * p**k * (1 - p) ** (20 - k) for k in ks)

    assert tail(low, range(7, 21)) == pytest.approx(0.025)
    assert tail(high, range(8)) == pytest.approx(0.025)


# --- more samples ---


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # sure, but below the margin
        ([1.0, 1.1, 0.9, 1.0], 1),
        ([-1.0, -1.1, -0.9, -1.0], -1),
        ([0.3, 0.3, 0.31, 0.3], 0),
        ([3.0, -2.0, 2.0, -1.0], 0),
    ],
)  # above the margin, but not sure
def test_verdicts(change, expected):
    assert more_samples.verdict(torch.tensor(change)) == expected


def measured(name):
    """Return the case of a network of smoke's size without its network."""
    task = training.task(name, training.recipe(name, "smoke").image_size)
    images, _ = training.test_images(task, 1)
    y, x, A = task.measure(images, None)
    about = (name, name, task.task, A, x, y, None, "made here", 0.1, images)
    return Solved(*about, solver=A.pinv)


@pytest.mark.parametrize("name", ["ell-50", "unet-limited", "deep-mri", "mri-vn"])
def test_rates_grow_and_hold_that_of_the_training(name):
    case = measured(name)
    found = list(sampling.rates(case))
    counts = [rate.n_samples for rate in found]
    assert counts == sorted(counts) and all(len(rate.y) == len(case.x) for rate in found)
    if name == "unet-limited":
        same = next(rate for rate in found if rate.share == 1)
        assert torch.allclose(same.y, case.y, atol=1e-4)
        assert torch.equal(same.A.angles_deg, case.A.angles_deg)
    if name == "mri-vn":
        same = next(rate for rate in found if rate.share == 1)
        assert torch.equal(same.A.mask, case.A.mask)
    if name == "deep-mri":
        grown = [rate.A.mask.bool() for rate in found]
        assert all(bool((a <= b).all()) for a, b in itertools.pairwise(grown))


def test_rows_are_computed_once(tmp_path, monkeypatch):
    monkeypatch.setenv("INSTAB_RESULTS", str(tmp_path))
    case = dataclasses.replace(measured("deep-mri"), reconstruct=lambda y, A: A.pinv(y))
    monkeypatch.setattr(training, "case", lambda name, profile: case)
    first = records.samples("deep-mri", "smoke")
    monkeypatch.setattr(sampling, "rates", None)  # would fail if it were asked again
    assert records.samples("deep-mri", "smoke") == first
    m = first[0]["metrics"]
    assert len(m["network"]["psnr_db"]) == len(m["tv"]["psnr_db"]) == len(m["share"])
    assert m["network"]["psnr_db"] == m["front_end"]["psnr_db"]
    assert records.samples("automap", "smoke") == []
    with pytest.raises(ValueError, match="no case is called alexnet"):
        records.run(records.samples, "smoke", ["alexnet"])


def test_shearlets_are_a_subject_that_knows_its_raster(own_results):
    case, of_network = training.case("shearlets-ct", "smoke"), training.case("med-50", "smoke")
    assert torch.equal(case.y, of_network.y[: len(case.y)]) and "no network" in case.title
    validation = training.case("med-50", "smoke", 2, split="validate", tv=False)
    level = float(metrics.relative_error(validation.A(validation.x), validation.y).mean())
    assert 0 < level < 0.1  # images on the finer raster: A x explains y up to a few per cent
    assert torch.equal(case.f(case.y), solvers.shearlet(case.A, case.y, noise_level=level).x)
    # at another rate the same method
    assert torch.equal(case.behind(case.A, case.y), case.f(case.y))


@pytest.mark.parametrize(("ci", "sure"), [([0.5, 2.0], True), ([-0.5, 2.0], False), (None, False)])
def test_a_verdict_whose_interval_holds_0_is_not_sure(monkeypatch, ci, sure):
    network = {"verdict": 1, "change_db": 1.0, "change_db_ci": ci}
    tv = {"verdict": 1, "change_db": 2.0}
    row = {"metrics": {"network": network, "tv": tv}}
    monkeypatch.setattr(verdicts, "stored", lambda *a, **k: [row])
    found = verdicts.samples_verdict("dagan")
    assert (found.word, found.tv_word, found.sure) == ("improves", "improves", sure)
    assert found.paper == "degrades" and not found.agrees
    assert ("holds 0" in found.evidence) is not sure


def test_unknown_subjects():
    with pytest.raises(ValueError, match="no network is called 'alexnet'"):
        training.case("alexnet", "smoke")
