"""Pools, augmentation, patches and pairs; and the proof, by content, that nobody learns from what
is tested.
"""

import hashlib
import math
import re

import h5py
import numpy as np
import pytest
import torch
from test_data import _dicom, _fresh

from instab_utils import data, metrics, operators, profiles, training
from instab_utils.data import augmentation, generated, local_copies, phantoms
from instab_utils.data.augmentation import symmetry

REAL = ("ct", "mr", "natural")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


@pytest.fixture(autouse=True)
def _results_apart(results, monkeypatch):
    monkeypatch.setenv("INSTAB_RESULTS", str(results))


def _generator(seed=0):
    return profiles.generator(seed, "test of training data")


# --- pools ---


@pytest.mark.parametrize(
    "kind, made",
    [
        ("ct", "random ellipses"),
        ("mr", "ellipses and texture"),
        ("natural", "dead leaves"),
        ("ellipses", "random ellipses"),
        ("mixed", "ellipses and texture; .* dead leaves; "),
    ],
)
def test_pools_without_files_are_phantoms_and_say_so(tmp_path, monkeypatch, kind, made):
    _fresh(monkeypatch, tmp_path)
    monkeypatch.setenv("INSTAB_OFFLINE", "1")
    x, source = data.pool(kind, 17, "validate")
    assert x.shape[1:] == (1, 17, 17) and x.dtype == torch.float32 and x.min() >= 0
    torch.testing.assert_close(x.amax((1, 2, 3)), torch.ones(len(x)))
    assert re.search(f"^phantom: .*{made}", source) and (kind == "mixed" or f" {len(x)} " in source)
    assert data.pool(kind, 17, "validate")[0] is x  # in memory
    few, source = data.pool(kind, 17, "validate", n=3)
    assert len(few) == 3 and "3" in source


def test_a_pool_does_not_hide_a_damaged_file(tmp_path, monkeypatch):
    _fresh(monkeypatch, tmp_path)
    monkeypatch.setenv("INSTAB_OFFLINE", "1")
    (tmp_path / "volumes").mkdir()
    (tmp_path / "volumes/CT_pitch.nii.gz").write_bytes(b"half a fi")
    with pytest.raises(data.ChecksumMismatch, match="CT_pitch"):
        data.pool("ct", 17)


def test_wrong_pools_are_refused():
    with pytest.raises(ValueError, match="expected one of ct, mr, .*got 'pet'"):
        data.pool("pet", 17)
    for kind in ("ct", "mixed"):
        with pytest.raises(ValueError, match="expected one of train, validate; got 'test'"):
            data.pool(kind, 17, "test")
    with pytest.raises(ValueError, match="180 x 180 images; got image_size=256.*'mixed'"):
        data.pool("natural", 256)


def test_phantom_tables_do_not_depend_on_the_size():
    small, large = (data.pool("ellipses", size, "validate", 5)[0] for size in (16, 64))
    coarse = torch.nn.functional.avg_pool2d(large, 4)
    coarse = coarse / coarse.amax((1, 2, 3), keepdim=True)
    assert (coarse - small).abs().mean() < 0.01
    assert (coarse - small.flip(0)).abs().mean() > 0.05  # the bound can fail


@pytest.mark.real_data
def test_real_pools_have_the_counts_promised(real_data):
    counts = {"ct": (185, 9), "mr": (506, 60), "natural": (368, 32)}
    for kind, (n_train, n_validate) in counts.items():
        for split, n in (("train", n_train), ("validate", n_validate)):
            x, source = data.pool(kind, 64, split)
            # a slice at the threshold may fall on either side at another size
            assert abs(len(x) - n) <= (
                0 if kind == "natural" or split == "validate" else 0.05 * n
            ), (kind, split, len(x))
            assert (
                source.startswith(f"{len(x)} ")
                and x.min() >= 0
                and x.max() <= 1
                and x.dtype == torch.float32
            )
            assert kind == "natural" or (x > 0.05).float().mean((1, 2, 3)).min() > 0.015
    torch.testing.assert_close(
        data.pool("mr", 64)[0].amax((1, 2, 3)), torch.ones(len(data.pool("mr", 64)[0]))
    )
    natural = data.pool("natural")[0]
    assert natural.shape == (368, 1, 180, 180) and len(data.Patches(natural)) == 82_800
    assert len(data.Patches(data.bsd("train400", None, 180))) == 90_000
    few, source = data.pool("ct", 64, n=4)
    assert len(few) == 4 and source.startswith("4 of ")


@pytest.mark.real_data
def test_the_mixed_pool_is_the_four_together(real_data):
    x, source = data.pool("mixed", 32, "validate")
    parts = [data.pool(kind, 32, "validate") for kind in ("ct", "mr", "natural", "ellipses")]
    assert torch.equal(x, torch.cat([part for part, _ in parts])) and len(x) == 9 + 60 + 32 + 50
    assert all(phrase.removeprefix("phantom: ") in source for _, phrase in parts)
    large, source = data.pool("mixed", 200, "validate")
    assert large.shape == (151, 1, 200, 200) and "enlarged" in source
    natural = data.pool("natural", None, "validate")[0]
    assert (large[69:101].mean((1, 2, 3)) - natural.mean((1, 2, 3))).abs().max() < 2e-3


# --- the splits are apart, by content ---


def _names(x):
    """SHA-256 of each image at its own scale in 8 bits, the same for its 8 symmetries."""
    x = (255 * x / x.amax((1, 2, 3), keepdim=True)).round().to(torch.uint8)
    return [
        min(
            hashlib.sha256(symmetry(image, k).contiguous().numpy().tobytes()).hexdigest()
            for k in range(8)
        )
        for image in x
    ]


def _shared(*groups):
    """Names that stand in more than one group."""
    return {name for i, a in enumerate(groups) for b in groups[:i] for name in set(a) & set(b)}


@pytest.mark.real_data
@pytest.mark.parametrize("kind", REAL)
def test_no_image_is_in_two_splits(real_data, kind):
    sides = {split: data.pool(kind, 64, split)[0] for split in ("train", "validate")}
    sides["test"] = data.demo(kind, 100, 64, "test")[0].abs()
    names = {split: _names(x) for split, x in sides.items()}
    assert _shared(*names.values()) == set()
    for k in range(8):  # the proof can fail: one planted duplicate, turned, darker, is found
        planted = torch.cat([sides["train"], symmetry(sides["test"][-1:], k)])
        assert _shared(_names(planted), names["test"]) == {names["test"][-1]}


@pytest.mark.real_data
def test_no_file_is_in_two_splits_by_its_pixels(real_data):
    """Decoded pixels at full size, of every slice of every registered image, whatever its file is
    called.
    """

    def decoded(path):
        file = data.fetch(path)
        if path.endswith(".png"):
            return [x.numpy() for x in data.images.read_grey([file])]
        if path.endswith(".nii.gz"):
            return list(data.images.read_nifti(file)[0])
        if path.endswith(".dcm"):
            return list(data.images.read_dicom([file])[0])
        return [np.load(file, allow_pickle=False)] if path.startswith("aapm/") else []

    sides = [
        {
            hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest()
            for path in paths
            for x in decoded(path)
            if np.ptp(np.abs(x)) > 0
        }
        for paths in data.SPLITS.values()
    ]
    assert [len(side) for side in sides] == pytest.approx([1100, 101, 82], rel=0.1) and _shared(
        *sides
    ) == set()


WINDOW = 16


def _window_hashes(x):
    """A 64-bit hash of every 16 x 16 window of an 8-bit image."""
    random = np.random.default_rng(0).integers(1, 2**63, (2, WINDOW), dtype=np.uint64) | np.uint64(
        1
    )
    x = (255 * x).round().numpy().astype(np.uint64)
    rows = sum(weight * x[i : x.shape[0] - WINDOW + 1 + i] for i, weight in enumerate(random[0]))
    return sum(
        weight * rows[:, i : rows.shape[1] - WINDOW + 1 + i] for i, weight in enumerate(random[1])
    )


def _marks(x):
    """Hashes of nine windows of a photograph that have contrast, under the 8 symmetries."""
    height, width = x.shape
    found = set()
    for top in np.linspace(0, height - WINDOW, 3).astype(int):
        for left in np.linspace(0, width - WINDOW, 3).astype(int):
            window = x[top : top + WINDOW, left : left + WINDOW]
            if window.std() > 0.05:
                found |= {int(_window_hashes(symmetry(window, k))[0, 0]) for k in range(8)}
    return found


@pytest.mark.real_data
def test_no_training_photograph_is_a_crop_of_a_held_out_one(real_data):
    """train400 are crops: the same photograph could return shifted, which no hash of whole images
    would show.
    """
    marks = np.array(
        sorted(set().union(*(_marks(x[0]) for x in data.pool("natural")[0]))), dtype=np.uint64
    )
    assert len(marks) > 10_000
    held_out = [
        *data.pool("natural", None, "validate")[0][:, 0],
        *(x[0, 0] for x in data.bsd("set68")),
    ]
    assert not any(np.isin(_window_hashes(x), marks).any() for x in held_out)
    # a shifted, mirrored crop is found
    planted = symmetry(held_out[50][37:217, 101:281], 6)
    assert np.isin(
        _window_hashes(held_out[50]), np.array(sorted(_marks(planted)), dtype=np.uint64)
    ).any()


def test_phantom_streams_are_apart(tmp_path, monkeypatch):
    sides = [_names(data.pool("ellipses", 32, split)[0]) for split in ("train", "validate")]
    monkeypatch.setenv("INSTAB_OFFLINE", "1")
    monkeypatch.setenv("INSTAB_DATA", str(tmp_path))
    sides.append(_names(data.demo("ct", 20, 32, "test")[0]))
    assert [len(set(side)) for side in sides] == [1000, 50, 20] and _shared(*sides) == set()
    scans = [
        _names(data.ellipse_scans(4, 32, 24, 4, split)[1].clamp_min(0))
        for split in ("train", "validate", "test")
    ]
    assert _shared(*scans) == set() and _shared(scans[0], scans[0]) == set(scans[0])


# --- the reader's own sets ---


@pytest.fixture
def ten_patients(tmp_path, monkeypatch):
    monkeypatch.setenv("INSTAB_AAPM", str(tmp_path))
    for p, patient in enumerate(["L067", *(f"L{i}" for i in range(100, 109))]):
        for series, stored in (("full_3mm", 100 + 10 * p), ("quarter_3mm", 900)):
            (tmp_path / patient / series).mkdir(parents=True)
            for k in range(2):
                _dicom(
                    tmp_path / patient / series / f"{k}.IMA",
                    3.0 * k,
                    np.full((8, 8), stored + k),
                    slope=1,
                )
    return tmp_path


def test_own_ct_is_split_by_patient(ten_patients):
    split = {name: data.split_subjects("aapm", name) for name in ("train", "validate", "test")}
    assert split == {
        "train": [f"L{i}" for i in range(100, 108)],
        "validate": ["L067"],
        "test": ["L108"],
    }
    x, source = data.pool("aapm", 4, "test")
    assert x.shape == (2, 1, 4, 4) and source == "2 slices of aapm L108"
    assert len(data.pool("aapm", 4, "train")[0]) == 8 * 2  # of the full dose alone
    assert x.max() < 0.2 < data.aapm_slices("L108/quarter_3mm", 4).max()


def test_own_ct_is_split_as_in_the_paper_where_the_slices_tell(ten_patients, monkeypatch):
    (ten_patients / "L103" / "full_3mm" / "1.IMA").unlink()
    (ten_patients / "L105" / "full_3mm" / "2.IMA").write_bytes(
        (ten_patients / "L105" / "full_3mm" / "1.IMA").read_bytes()
    )
    monkeypatch.setattr(local_copies, "INN_SLICES", {"validate": 1, "test": 3})
    assert data.split_subjects("aapm", "validate") == ["L103"]
    assert data.split_subjects("aapm", "test") == ["L105"]
    train = data.split_subjects("aapm", "train")
    assert len(train) == 8 and "L067" in train and not {"L103", "L105"} & set(train)
    monkeypatch.setattr(local_copies, "INN_SLICES", {"validate": 2, "test": 3})  # of eight: which?
    assert data.split_subjects("aapm", "validate") == ["L067"]


def test_patients_are_found_in_the_folders_of_the_archives(tmp_path, monkeypatch):
    monkeypatch.setenv("INSTAB_AAPM", str(tmp_path))
    for series in ("full_3mm/L096/full_3mm", "full_1mm/L096/full_1mm", "full_3mm/L067/full_3mm"):
        (tmp_path / series).mkdir(parents=True)
        _dicom(tmp_path / series / "0.IMA", 0.0, np.full((8, 8), 1), slope=1)
    assert local_copies.aapm_patients() == {
        "L067": "full_3mm/L067/full_3mm",
        "L096": "full_3mm/L096/full_3mm",
    }


def test_own_mr_is_split_by_file(tmp_path, monkeypatch):
    monkeypatch.delenv("INSTAB_FASTMRI", raising=False)
    with pytest.raises(data.DataUnavailable, match="INSTAB_FASTMRI"):
        data.pool("fastmri", 4)
    monkeypatch.setenv("INSTAB_FASTMRI", str(tmp_path))
    for i in range(10):
        with h5py.File(tmp_path / f"file{i}.h5", "w") as file:
            file["reconstruction_rss"] = (
                np.arange(1, 49, dtype="f4").reshape(3, 4, 4) * 1e-5 * (1 + i)
            )
    x, source = data.pool("fastmri", 4)
    assert x.shape == (24, 1, 4, 4) and source.startswith("24 slices of fastmri file0.h5, ")
    torch.testing.assert_close(x[1, 0], torch.arange(17, 33).reshape(4, 4) / 32)
    assert (
        data.split_subjects("fastmri", "validate") == ["file8.h5"]
        and len(data.pool("fastmri", 4, "test")[0]) == 3
    )
    with h5py.File(tmp_path / "file0.h5", "w") as file:
        file["kspace"] = np.zeros((1, 4, 4), dtype="c8")
    with pytest.raises(ValueError, match="no reconstruction_rss"):
        data.pool("fastmri", 8)
    for path in list(tmp_path.iterdir())[2:]:
        path.unlink()
    with pytest.raises(data.DataUnavailable, match="needs 3 or more"):
        data.split_subjects("fastmri", "train")


def _knees(folder, shape, n_slices=4, n_coils=3, **attributes):
    """Write a raw fastMRI file; return the complex images that are in it."""
    maps = data.simulated_coils(n_coils, shape)
    x = data.framed(torch.rand(n_slices, 1, 12, 12, generator=_generator(n_slices)), shape)
    y = operators.MultiCoilFourier(torch.ones(shape), maps)(x)
    with h5py.File(folder, "w") as file:
        file["kspace"] = (1e-4 * y).numpy()
        file.attrs.update(attributes)
    return x


def test_own_raw_mr_has_the_slices_and_the_matrix_of_the_paper(tmp_path, monkeypatch):
    monkeypatch.setenv("INSTAB_FASTMRI", str(tmp_path))
    monkeypatch.setattr(local_copies, "KNEE_SCANS", 2)
    shape = (40, 28)
    for i in range(10):
        other = {0: (40, 30)}.get(i, shape)
        kind = "CORPD_FBK" if i == 1 else "CORPDFS_FBK"
        x = _knees(tmp_path / f"file{i}.h5", other, 31 if i == 2 else 4, acquisition=kind)
    assert local_copies.fastmri_knees("train", shape) == ["file2.h5", "file3.h5"]
    found, source = data.pool("fastmri", shape, "train")
    # slices 11 to 30 of the first, and of the short one its middle
    assert found.shape == (20 + 1, 1, *shape) and found.is_complex()
    assert source == "21 slices of fastmri file2.h5, file3.h5"
    test, _ = data.pool("fastmri", shape, "test")
    truth = x[2:3] / x[2:3].amax()
    # up to the slow phase and gain of estimated maps
    outside = data.framed(torch.ones(12, 12), shape) == 0
    assert metrics.pearson(test.abs(), truth) > 0.97 and test.abs()[0, 0][outside].max() < 0.2
    with pytest.raises(data.DataUnavailable, match="no train file .* 44 x 28"):
        data.pool("fastmri", (44, 28), "train")
    with pytest.raises(ValueError, match="expected one of fastmri; got 'mr'"):
        data.pool("mr", shape)
    how = training.recipe("mri-vn", "smoke", image_size=shape, sampling=0.15, pool="fastmri")
    what = training.task(how)
    assert torch.equal(what.A.coil_maps, data.fastmri_coils(shape))
    draw, source = training.batches(how, what)
    y, x, A = draw(0)
    assert y.shape == (2, 3, *shape) and "fastmri" in source
    assert torch.equal(training.test_images(what, 5)[0], test)


def test_own_images_are_taken_at_the_papers_profile_only(ten_patients, monkeypatch):
    monkeypatch.delenv("INSTAB_FASTMRI", raising=False)
    own = training.recipe("med-50", "paper")
    assert (own.pool, own.n_train) == ("aapm", 475)
    assert training.recipe("unet-limited", "paper").pool == "aapm"
    assert training.recipe("ell-50", "paper").pool is None
    assert training.recipe("med-50").pool is training.recipe("mri-vn", "paper").pool is None
    what = training.task(own, 32)
    images, source = training.test_images(what, 16)
    assert images.shape == (2, 1, 64, 64) and source == "2 slices of aapm L108"
    monkeypatch.delenv("INSTAB_AAPM")
    public = training.recipe("med-50", "paper")
    assert (public.pool, public.n_train) == (None, None) and public.key != own.key


# --- augmentation ---


@pytest.fixture
def augment_by(monkeypatch):
    """Augmentation by the named ranges alone, and by the symmetries of the square."""

    def augment(x, *ranges):
        with monkeypatch.context() as patch:
            for name in {"ROTATION_DEG", "ZOOM", "GAMMA", "SHIFT"}.difference(ranges):
                patch.setattr(augmentation, name, 0)
            return data.augment(x, _generator())

    return augment


@pytest.mark.parametrize("n", [15, 16])
def test_augmentation_permutes_pixels_in_eight_ways(n, augment_by):
    x = torch.rand(1, 1, n, n, generator=_generator(), dtype=torch.float64)
    found = augment_by(x.expand(100, 1, n, n))
    distance = torch.stack([(found - symmetry(x, k)).abs().amax((1, 2, 3)) for k in range(8)])
    assert (distance < 1e-5).sum(0).eq(1).all() and set(distance.argmin(0).tolist()) == set(
        range(8)
    )


def _blob(n, x0, y0):
    u = torch.arange(n) - (n - 1) / 2
    return torch.exp(-((u - x0)[None, :] ** 2 + (u - y0)[:, None] ** 2) / 18)[None, None]


def _centre(x):
    u = torch.arange(x.shape[-1]) - (x.shape[-1] - 1) / 2
    mass = x.sum((1, 2, 3))
    return torch.stack([(x.sum((1, 2)) * u).sum(-1) / mass, (x.sum((1, 3)) * u).sum(-1) / mass], -1)


def _upright_centre(x):
    """Return the centre up to the symmetries of the square: both coordinates >= 0, ascending."""
    return _centre(x).abs().sort(-1).values


def test_rotation_zoom_and_shift_stay_in_their_ranges_and_fill_them(augment_by):
    x = _blob(65, 12, 5).expand(200, 1, 65, 65)
    start = _upright_centre(x)
    turned = _upright_centre(augment_by(x, "ROTATION_DEG"))
    angle = torch.rad2deg(
        torch.atan2(turned[:, 1], turned[:, 0]) - torch.atan2(start[:, 1], start[:, 0])
    )
    torch.testing.assert_close(turned.norm(dim=-1), start.norm(dim=-1), atol=0.05, rtol=0)
    assert angle.abs().max() < 10.2 and angle.max() > 9 and angle.min() < -9
    zoomed = _upright_centre(augment_by(x, "ZOOM")) / start
    torch.testing.assert_close(zoomed[:, 0], zoomed[:, 1], atol=0.01, rtol=0)
    assert 1 / 1.11 < zoomed.min() < 0.92 and 1.08 < zoomed.max() < 1.11
    moved = (_upright_centre(augment_by(x, "SHIFT")) - start) / 65
    assert (
        moved.abs().max() < 0.051 and (moved.amax(0) > 0.04).all() and (moved.amin(0) < -0.04).all()
    )
    assert (moved[:, 0] - moved[:, 1]).abs().max() > 0.05  # each direction by its own amount


def test_gamma_is_one_exponent_an_image_within_its_bounds(augment_by):
    x = 0.1 + 0.8 * torch.rand(1, 1, 9, 9, generator=_generator(), dtype=torch.float64)
    x = torch.stack([symmetry(x, k) for k in range(8)]).mean(0)
    found = augment_by(x.expand(200, 1, 9, 9), "GAMMA")
    exponent = found.log() / x.log()
    assert (exponent.amax((1, 2, 3)) - exponent.amin((1, 2, 3))).max() < 1e-3
    assert 1 / 1.201 < exponent.min() < 0.86 and 1.17 < exponent.max() < 1.201


def test_augmentation_is_the_generators_and_stays_in_range():
    x = 3 * torch.rand(4, 1, 17, 17, generator=_generator()) - 1
    a, b, c = (data.augment(x, _generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c) and a.min() >= 0 and a.max() <= 1
    assert (a[0] - a[1]).abs().max() > 0.1
    one, other = _generator(), _generator()
    data.augment(x, one)
    torch.rand(7, len(x), generator=other)  # seven numbers an image
    assert torch.equal(torch.rand(3, generator=one), torch.rand(3, generator=other))
    for wrong in (x[0], x[..., :9], x.to(torch.complex64)):
        with pytest.raises(ValueError, match="augment expects real square images"):
            data.augment(wrong, _generator())


# --- patches ---


def test_patches_are_slices_of_the_images():
    x = torch.rand(3, 1, 31, 27, generator=_generator())
    patches, rows, columns = data.Patches(x, size=8, stride=5), 5, 4
    assert len(patches) == 3 * rows * columns
    order = torch.randperm(len(patches), generator=_generator())
    found = patches.take(order)
    assert found.dtype == torch.float32 and found.shape == (60, 1, 8, 8)
    for number, patch in zip(order.tolist(), found):
        i, r, c = number // 20, 5 * (number // 4 % 5), 5 * (number % 4)
        assert torch.equal(patch, x[i, :, r : r + 8, c : c + 8])
    # no copy
    assert patches._windows.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


def test_patches_under_the_symmetries_of_the_square():
    x = torch.rand(2, 1, 20, 20, generator=_generator())
    before, patches = x.clone(), data.Patches(x, size=7, stride=3)
    indices = torch.arange(100) % len(patches)
    plain, turned = patches.take(indices), patches.take(indices, _generator())
    equal = torch.stack([(symmetry(plain, k) == turned).all(-1).all(-1)[:, 0] for k in range(8)])
    # each under exactly one, and all eight occur
    assert (equal.sum(0) == 1).all() and equal.any(1).all()
    assert torch.equal(turned, patches.take(indices, _generator())) and torch.equal(x, before)


# --- sparse-view pairs ---


def test_ellipse_scans_are_reconstructions_of_known_phantoms(monkeypatch):
    n, n_views = 64, 200
    x_fbp, x_true = data.ellipse_scans(3, n, n_views, 10)
    assert x_fbp.shape == x_true.shape == (3, 1, n, n) and x_true.dtype == torch.float32
    generator = profiles.generator(0, "ellipse scans train")
    tables = torch.cat([phantoms.random_ellipses(1, 64, generator)[1] for _ in range(3)])
    angles_deg = torch.arange(n_views) * 180 / n_views
    y = phantoms.ellipse_sinogram(tables, angles_deg, image_size=n, bin_average=True)
    torch.testing.assert_close(x_true, operators.Radon(n, angles_deg).fbp(y), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        x_fbp, operators.Radon(n, angles_deg[::10]).fbp(y[:, :, ::10]), atol=1e-5, rtol=0
    )
    image = phantoms.raster(tables, n)
    inside = -torch.nn.functional.max_pool2d(-image, 5, 1, 2) == torch.nn.functional.max_pool2d(
        image, 5, 1, 2
    )
    # away from edges: exact but ripple
    assert inside.float().mean() > 0.2 and (x_true - image)[inside].abs().mean() < 0.01
    assert (x_true - image).norm() < 0.2 * image.norm() < (x_fbp - image).norm()
    # the mean survives
    torch.testing.assert_close(x_true.sum((1, 2, 3)), image.sum((1, 2, 3)), rtol=0.02, atol=0)
    # three groups of views instead of one
    monkeypatch.setattr(generated, "_GROUP_SIZE", n_views * n**2 / 3)
    torch.testing.assert_close(
        data.ellipse_scans(2, n, n_views, 10)[1], x_true[:2], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("n_views, n_groups", [(200, 3), (1000, 4), (7, 2), (5, 9)])
def test_view_groups_hold_every_view_once_and_are_symmetric(n_views, n_groups):
    groups = generated._view_groups(n_views, n_groups)
    assert torch.equal(torch.cat(groups).sort().values, torch.arange(n_views))
    if n_views % 4 == 0:
        for group in groups:
            for mirrored in ((n_views - group) % n_views, (n_views // 2 - group) % n_views):
                assert torch.equal(mirrored.sort().values, group)


def test_mapped_arrays_are_made_once_kept_apart_and_mended(results):
    calls = []

    def fill(x):
        calls.append(x.shape)
        x[:] = 7

    x = generated.mapped(fill, (2, 3), name="test")
    x[0] = 0  # a private page
    assert torch.equal(
        generated.mapped(fill, (2, 3), name="test"), torch.full((2, 3), 7.0)
    ) and calls == [(2, 3)]
    generated.mapped(fill, (2, 3), name="other")
    assert len(calls) == 2
    path = results / "arrays" / f"{generated.store.key(name='test')}.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.warns(RuntimeWarning, match="damaged.*made again"):
        assert generated.mapped(fill, (2, 3), name="test").sum() == 42
    with pytest.raises(ZeroDivisionError):
        generated.mapped(lambda x: 1 / 0, (2,), name="broken")
    assert [p for p in path.parent.iterdir() if "partial" in p.name] == []


def test_wrong_scans_are_refused():
    with pytest.raises(ValueError, match="1 <= subset <= n_views; got 3, 9, 8"):
        data.ellipse_scans(3, 16, 8, 9)


# --- complex images ---


def test_each_image_has_a_fresh_phase():
    x = 0.1 + 0.9 * torch.rand(3, 1, 33, 33, generator=_generator())
    z = data.with_smooth_phase(x, _generator())
    torch.testing.assert_close(z.abs(), x)
    assert torch.equal(z, data.with_smooth_phase(x, _generator())) and z.dtype == torch.complex64
    turn = (z[:, :, 1:] / x[:, :, 1:] * (z[:, :, :-1] / x[:, :, :-1]).conj()).angle()
    assert turn.abs().max() < 2 * math.pi * 3 / 33 and (z[0] / x[0] - z[1] / x[1]).abs().max() > 0.5
