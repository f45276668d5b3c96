"""Shifts: what is changed is exactly the mask, what it is changed to is exactly what the docstring
says.
"""

import pytest
import torch
from scipy import ndimage

from instab_utils import shifts


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=generator(seed), dtype=dtype) * 0.8 + 0.1


def noisy(x, seed=9):
    return x + 0.1 * torch.randn(x.shape, generator=generator(seed), dtype=x.dtype)


@pytest.mark.parametrize("shape", [(3, 1, 16, 16), (2, 2, 17, 20), (1, 1, 15, 31)])
@pytest.mark.parametrize("half", shifts.HALVES)
def test_salt_and_pepper_takes_one_half_and_leaves_the_other_to_the_bit(shape, half, monkeypatch):
    monkeypatch.setattr(shifts, "HALVES", (half,))
    x = images(*shape)
    y = noisy(x)
    shift = shifts.salt_and_pepper_half(y, x, generator())
    n, m = shape[2:]
    part = {
        "left": (slice(n), slice(m // 2)),
        "right": (slice(n), slice(m - m // 2, m)),
        "top": (slice(n // 2), slice(m)),
        "bottom": (slice(n - n // 2, n), slice(m)),
    }[half]
    expected = torch.zeros(shape, dtype=torch.bool)
    expected[..., part[0], part[1]] = True
    assert shift.mask.dtype == torch.bool and torch.equal(shift.mask, expected)
    assert torch.equal(shift.x[~expected], y[~expected])
    inside, clean = shift.x[expected], x[expected]
    # no Gaussian noise is left in it
    assert bool(((inside == 0) | (inside == 1) | (inside == clean)).all())


def test_salt_and_pepper_has_the_share_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(shifts, "HALVES", ("top",))
    x = images(4, 1, 200, 200)
    for amount in (0.05, 0.4):
        inside = shifts.salt_and_pepper_half(noisy(x), x, generator(), amount).x[:, :, :100]
        n = inside.numel()
        # four standard deviations of the share
        spread = 4 * (amount / 2 * (1 - amount / 2) / n) ** 0.5
        assert abs((inside == 0).double().mean() - amount / 2) < spread
        assert abs((inside == 1).double().mean() - amount / 2) < spread
    every = shifts.salt_and_pepper_half(noisy(x), x, generator(), 1.0).x[:, :, :100]
    assert bool(((every == 0) | (every == 1)).all())


def test_halves_are_drawn_for_each_image_and_can_be_drawn_again():
    x = images(400, 1, 4, 4)
    first, again = (shifts.salt_and_pepper_half(noisy(x), x, generator(3)) for _ in range(2))
    assert torch.equal(first.x, again.x) and torch.equal(first.mask, again.mask)
    corners = first.mask[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]].long() @ torch.tensor([8, 4, 2, 1])
    counts = {int(code): int((corners == code).sum()) for code in corners.unique()}
    assert set(counts) == {0b1010, 0b0101, 0b1100, 0b0011}  # left, right, top, bottom
    assert min(counts.values()) > 60  # 100 +- 9 each
    assert not torch.equal(first.x, shifts.salt_and_pepper_half(noisy(x), x, generator(4)).x)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(x=torch.zeros(1, 1, 8, 9)), "one shape"),
        (dict(amount=1.5), "got 1.5"),
        (dict(amount=0.0), "0 < amount"),
    ],
)
def test_salt_and_pepper_says_what_is_wrong(change, words):
    usual = dict(x_noisy=torch.zeros(1, 1, 8, 8), x=torch.zeros(1, 1, 8, 8), generator=generator())
    with pytest.raises(ValueError, match=words):
        shifts.salt_and_pepper_half(**{**usual, **change})


@pytest.mark.parametrize("shape", [(2, 1, 16, 16), (2, 3, 31, 40), (3, 1, 128, 128)])
def test_dove_changes_the_mask_to_the_mean_and_nothing_else(shape):
    x = images(*shape)
    shift = shifts.dove(x, generator())
    assert shift.mask.shape == x.shape and shift.mask.dtype == torch.bool
    assert torch.equal(shift.x[~shift.mask], x[~shift.mask])
    for i in range(len(x)):
        assert torch.allclose(shift.x[i][shift.mask[i]], x[i].mean(), rtol=1e-12)
    assert bool((shift.mask == shift.mask[:, :1]).all())


def test_dove_is_one_bird_in_the_middle_rows():
    n = 128
    mask = shifts.dove(images(64, 1, n, n), generator()).mask[:, 0]
    rows, columns = mask.any(2), mask.any(1)
    assert not rows[:, : n // 4].any() and not rows[:, 3 * n // 4 :].any()
    first, last = columns.long().argmax(1), n - 1 - columns.flip(1).long().argmax(1)
    assert len(set((last - first).tolist())) == 1  # the same bird everywhere
    # the column goes from edge to edge
    assert first.min() < 8 and last.max() >= n - 8
    bird = mask[0, n // 4 : 3 * n // 4, first[0] : last[0] + 1]
    for i in range(64):
        assert torch.equal(mask[i, n // 4 : 3 * n // 4, first[i] : last[i] + 1], bird)
    assert ndimage.label(bird.numpy(), ndimage.generate_binary_structure(2, 1))[1] == 1
    assert 0.3 < mask[0].sum() / (n // 2) ** 2 < 0.45
    assert bird.shape[1] >= 0.9 * n / 2  # from tail to beak


def test_dove_keeps_its_shape_at_every_resolution():
    coarse, fine = shifts.dove_silhouette(64), shifts.dove_silhouette(256)
    averaged = fine.reshape(64, 4, 64, 4).double().mean((1, 3))
    assert ((averaged >= 0.5) == coarse).double().mean() > 0.995
    wings = ndimage.label(coarse[:14].numpy())[1]
    assert wings == 2  # two wing tips


@pytest.mark.parametrize("shape", [(12, 12), (64, 17)])
def test_dove_says_what_does_not_fit(shape):
    with pytest.raises(ValueError, match="dove expects"):
        shifts.dove(torch.zeros(1, 1, *shape), generator())


def test_text_leaves_the_background_black():
    image = shifts.text("CAN U SEE IT", 128, height=11)
    assert (
        image.shape == (1, 1, 128, 128)
        and float(image[..., 0, :].max()) == 0
        and float(image.max()) > 0.9
    )
