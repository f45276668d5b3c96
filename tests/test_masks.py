"""Sampling patterns: exact counts of the papers' code, reproducible, nested, centred where they say
so.
"""

import pytest
import torch

from instab_utils.operators import MaskedFourier, masks
from instab_utils.operators.masks import lines_to_mask
from instab_utils.profiles import generator

UNCENTRED = {
    "poisson": lambda random: masks.poisson_disk(64, 0.3, generator=random),
    "variable-density": lambda random: masks.variable_density_lines(generator=random),
}
CENTRED = {
    "variable-density centred": lambda random: masks.variable_density_lines(
        generator=random, centred=True
    ),
    "gaussian": lambda random: masks.gaussian_lines(generator=random),
    "uniform": lambda random: masks.uniform_lines(),
}


@pytest.mark.parametrize("name", [*UNCENTRED, *CENTRED])
def test_every_mask(name):
    make = (UNCENTRED | CENTRED)[name]
    mask, again, other = (make(generator(seed, "mask")) for seed in (0, 0, 1))
    assert mask.dtype == torch.bool and torch.equal(again, mask)
    n, m = mask.shape
    assert mask[n // 2, m // 2] if name in CENTRED else mask[0, 0]
    MaskedFourier(mask)  # accepts it
    assert name == "uniform" or not torch.equal(other, mask)


def test_a_mask_moves_its_zero_frequency():
    both = (
        masks.variable_density_lines(generator=generator(0, "mask"), centred=centred)
        for centred in (True, False)
    )
    centred, plain = both
    assert torch.equal(torch.fft.ifftshift(centred), plain)


def rows(mask):
    """Sampled rows of a mask made of whole rows."""
    assert bool((mask == mask[:, :1]).all())
    return mask[:, 0]


@pytest.mark.parametrize("seed", range(3))
def test_deep_mri_counts(seed):
    for acceleration, count in ((3, 85), (4, 64)):
        sampled = rows(
            masks.variable_density_lines(
                256, acceleration, generator=generator(seed, "mask"), centred=True
            )
        )
        assert int(sampled.sum()) == count and bool(sampled[124:132].all())
    assert masks.variable_density_lines((64, 48), 4, generator=generator(seed, "mask")).shape == (
        64,
        48,
    )


def test_deep_mri_density():
    """Mean sampling of many masks: dense in the middle, about 1 / (2 acc) relative to it far out,
    never zero.
    """
    stream = generator(0, "mask")
    draws = [
        masks.variable_density_lines(128, 4, generator=stream, centred=True)[:, 0]
        for _ in range(400)
    ]
    mean = torch.stack(draws).float().mean(0)
    assert mean[60:68].min() == 1 and mean[50:78].mean() > 0.5 and 0.02 < mean[:32].mean() < 0.25
    assert abs(mean[:60].mean() - mean[68:].mean()) < 0.03


def test_nested_schedule():
    schedule = masks.nested_lines(256, generator=generator(0, "mask"))
    assert list(schedule) == list(range(14, 1, -1))
    before = torch.zeros(256, dtype=torch.bool)
    for acceleration, mask in schedule.items():
        sampled = rows(mask)
        assert int(sampled.sum()) == 256 // acceleration and bool((sampled | ~before).all())
        before = sampled


@pytest.mark.parametrize(
    ("percent", "count"), [(1, 4), (5, 14), (10, 24), (20, 56), (30, 75), (40, 105), (50, 127)]
)
def test_dagan_counts(percent, count):
    mask = masks.gaussian_lines(percent, generator=generator(0, "mask"))
    columns = rows(mask.mT)
    half_width = masks.DAGAN_LINES[percent][1]
    assert int(columns.sum()) == count and bool(columns[128 - half_width : 129 + half_width].all())


def test_variational_network_counts():
    counts = [
        int(rows(masks.uniform_lines(fraction).mT).sum())
        for fraction in (0.05, 0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.50)
    ]
    assert counts == [20, 38, 58, 78, 97, 114, 142, 198]
    columns = rows(masks.uniform_lines(0.15).mT)
    assert masks.uniform_lines(0.15).shape == (640, 368)
    # 29 lines, not the 28 in print
    assert bool(columns[170:199].all()) and not columns[169] and not columns[199]
    assert set(columns[:170].nonzero().flatten().diff().tolist()) == {12}
    assert set(columns[200:].nonzero().flatten().diff().tolist()) == {12}


def test_automap_count_and_spacing():
    mask = torch.fft.fftshift(masks.poisson_disk(generator=generator(0, "mask")))
    assert mask.shape == (128, 128) and int(mask.sum()) == 9855
    assert mask[60:69, 60:69].all()  # the middle is full, the edge is not
    edge = mask[:12].float().mean()
    assert edge < 0.5
    # a random mask would have the edge's density
    neighbours = (mask[:12, 1:] & mask[:12, :-1]).float().mean() / edge
    assert neighbours < 0.25 * edge


@pytest.mark.parametrize("fraction", [0.02, 0.25, 0.9, 1.0])
def test_poisson_disk_fraction_is_exact(fraction):
    mask = masks.poisson_disk(33, fraction, generator=generator(0, "mask"))
    assert int(mask.sum()) == round(fraction * 33**2)


def test_poisson_disk_keeps_its_distance():
    """No pair is nearer than the smaller of their two radii, with the slope read off the result."""
    n = 48
    mask = masks.poisson_disk(n, 0.1, generator=generator(0, "mask"))
    points = torch.fft.fftshift(mask).nonzero().double()
    radius = (points - n // 2).norm(dim=1) / (n / 2)
    outer = points[radius > 0.8]
    nearest = (torch.cdist(outer, outer) + 1e9 * torch.eye(len(outer))).min(1).values
    inner = points[radius < 0.4]
    assert (
        nearest.min() > 2
        and (torch.cdist(inner, inner) + 1e9 * torch.eye(len(inner))).min() < nearest.min()
    )


def test_lines_to_mask():
    assert torch.equal(
        lines_to_mask([1], 3), torch.tensor([[0, 0, 0], [1, 1, 1], [0, 0, 0]]).bool()
    )
    assert torch.equal(
        lines_to_mask([1], (2, 3), axis=1), torch.tensor([[0, 1, 0], [0, 1, 0]]).bool()
    )
    assert torch.equal(lines_to_mask([1], 3, centred=False), lines_to_mask([0], 3))
    assert torch.equal(lines_to_mask(torch.tensor([True, False]), 2), lines_to_mask([0], 2))
    assert lines_to_mask([], 4).sum() == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lines_to_mask([3], 3), r"expects lines 0..2; got \[3\]"),
        (lambda: lines_to_mask(torch.ones(2).bool(), 3), "expects 3 booleans"),
        (lambda: masks.gaussian_lines(25, generator=torch.Generator()), "1, 5, 10, 20, 30, 40, 50"),
        (
            lambda: masks.variable_density_lines(32, 8, generator=torch.Generator()),
            "Lower the acceleration",
        ),
        (lambda: masks.uniform_lines(0.06), "Lower n_centre"),
        (lambda: masks.poisson_disk(8, 0.0, generator=torch.Generator()), "0 < fraction"),
    ],
)
def test_errors_name_the_cure(call, message):
    with pytest.raises(ValueError, match=message):
        call()
