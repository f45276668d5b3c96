"""The registry in its three situations, damaged files, and the readers on files written here and on
the real ones.
"""

import hashlib
import http.server
import socketserver
import threading

import h5py
import numpy as np
import pytest
import torch

from instab_utils import data, operators
from instab_utils.data import images, measured, phantoms, registry

BSD = {f"bsd/set68/test{i:03d}.png": f"image {i}".encode() * 50 for i in range(12)}
CONTENTS = BSD | {"aapm/val/a.npy": b"a slice"}


@pytest.fixture
def small_registry(tmp_path, monkeypatch):
    """A registry of 13 small files, an empty data folder, a process that has asked nothing yet."""
    small = {
        path: registry.File(
            path, f"http://127.0.0.1:9/{path}", _sha256(content), len(content), "free"
        )
        for path, content in CONTENTS.items()
    }
    monkeypatch.setattr(registry, "registry", lambda: small)
    _fresh(monkeypatch, tmp_path / "data")
    return tmp_path / "data"


def _sha256(content):
    return hashlib.sha256(content).hexdigest()


def _fresh(monkeypatch, folder):
    monkeypatch.setattr(registry, "_answers", {})
    monkeypatch.setattr(registry, "_verified", {})
    monkeypatch.setenv("INSTAB_DATA", str(folder))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("INSTAB_OFFLINE", "INSTAB_DATA_MIRROR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """An HTTP server on this machine with the registry's layout; `.requests` counts, `.root` holds
    the files.
    """
    root = tmp_path / "mirror"
    for path, content in CONTENTS.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    with _serving(root) as server:
        monkeypatch.setenv("INSTAB_DATA_MIRROR", f"http://127.0.0.1:{server.server_address[1]}/")
        yield server


class _serving:
    def __init__(self, root):
        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args):
                super().__init__(*args, directory=root)

            def log_message(self, *_):
                self.server.requests.append(f"{self.command} {self.path}")

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.requests, self.server.root = [], root

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        return self.server

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def hanging_up(monkeypatch):
    """A server that takes the call and says nothing; its list has one entry a connection."""
    calls = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            calls.append(self.client_address)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("INSTAB_DATA_MIRROR", f"http://127.0.0.1:{server.server_address[1]}")
        yield calls
        server.shutdown()
        thread.join()


# --- the registry ---


def test_registry_is_the_published_one():
    files = data.files()
    lines = [
        f"{file.path} {file.url} {file.sha256} {file.n_bytes} {file.licence}" for file in files
    ]
    assert len(files) == 505 and sum(file.n_bytes for file in files) == 71_459_068
    assert (
        _sha256("\n".join(lines).encode())
        == "68d72d6dba67f613ef171dec71f055a1f44a3bb3f842694ac367ef4b6b3c9f0f"
    )
    # the one file that has another name upstream
    dncnn = registry.registry()["weights/dncnn/sigma25.mat"]
    assert dncnn.url.endswith("/model/specifics/sigma=25.mat") and dncnn.n_bytes == 2_295_807
    assert len(data.files("bsd/set68")) == 68 and len(data.files("aapm/")) == 13
    assert all("AAPM" in file.licence for file in data.files("aapm"))


def test_splits_name_every_image_once():
    named = [path for paths in data.SPLITS.values() for path in paths]
    assert sorted(named) == sorted(
        file.path for file in data.files() if not file.path.startswith("weights/")
    )
    for path in named:  # a subject never has slices on two sides
        subject = path.rsplit("/", 1)[0]
        if subject not in ("bsd/train400", "volumes"):  # there every file is a subject of its own
            sides = [
                split
                for split, paths in data.SPLITS.items()
                if any(p.startswith(subject + "/") for p in paths)
            ]
            assert len(sides) == 1


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="did you mean aapm/test/CT_img_0.npy"):
        data.fetch("aapm/val/CT_img_0.npy")
    with pytest.raises(
        ValueError, match="no registered files in 'bsd/set6'; expected one of aapm/test"
    ):
        data.files("bsd/set6")
    with pytest.raises(ValueError, match="expected one of set68, train400; got 'set69'"):
        data.bsd("set69")


# --- the three situations ---


def test_data_at_hand(small_registry, mirror):
    for path, content in CONTENTS.items():
        (small_registry / path).parent.mkdir(parents=True, exist_ok=True)
        (small_registry / path).write_bytes(content)
    assert data.situation() == "files" and data.available("bsd")
    assert [path.read_bytes() for path in data.fetch_group("bsd/set68")] == list(BSD.values())
    assert mirror.requests == []


def test_files_are_hashed_once_while_they_stay_the_same(small_registry, mirror, monkeypatch):
    data.fetch("aapm/val/a.npy")
    hashed = []
    true_hash = registry.pooch.file_hash
    monkeypatch.setattr(
        registry.pooch, "file_hash", lambda path: hashed.append(path) or true_hash(path)
    )
    data.fetch("aapm/val/a.npy")
    assert hashed == []
    (small_registry / "aapm/val/a.npy").write_bytes(CONTENTS["aapm/val/a.npy"] + b"!")
    with pytest.raises(data.ChecksumMismatch):
        data.fetch("aapm/val/a.npy")
    assert len(hashed) == 1


def test_network_but_no_data(small_registry, mirror, capfd):
    assert data.situation() == "download" and not data.available("bsd/set68")
    paths = data.fetch_group("bsd/set68")
    assert [path.read_bytes() for path in paths] == list(BSD.values())
    assert "bsd/set68: 100%" in capfd.readouterr().err
    assert len([r for r in mirror.requests if r.startswith("HEAD")]) == 1
    assert len([r for r in mirror.requests if r.startswith("GET")]) == 12
    data.fetch_group("bsd/set68")
    assert len(mirror.requests) == 13
    assert sorted(p.name for p in (small_registry / "bsd/set68").iterdir()) == [
        f"test{i:03d}.png" for i in range(12)
    ]
    assert data.situation("bsd/set68") == "files"


def test_no_progress_bar_in_the_book(small_registry, mirror, capfd, monkeypatch):
    monkeypatch.setenv("INSTAB_BOOK", "1")
    data.fetch_group("bsd/set68")
    assert capfd.readouterr().err == ""


def test_an_interrupted_download_goes_on(small_registry, mirror):
    (mirror.root / "bsd/set68/test011.png").unlink()
    with pytest.raises(data.DataUnavailable, match="test011.png.*404"):
        data.fetch_group("bsd/set68")
    before = len(list((small_registry / "bsd/set68").iterdir()))
    assert before == 11 and data.situation() == "download"
    (mirror.root / "bsd/set68/test011.png").write_bytes(CONTENTS["bsd/set68/test011.png"])
    mirror.requests.clear()
    assert len(data.fetch_group("bsd/set68")) == 12
    assert mirror.requests == ["GET /bsd/set68/test011.png"]


def test_a_source_that_gives_other_bytes_is_refused(small_registry, mirror):
    (mirror.root / "aapm/val/a.npy").write_bytes(b"another slice")
    with pytest.raises(data.ChecksumMismatch) as error:
        data.fetch("aapm/val/a.npy")
    for words in (_sha256(b"another slice"), _sha256(b"a slice"), "Nothing was written"):
        assert words in str(error.value)
    assert list((small_registry / "aapm/val").iterdir()) == []


def test_neither_is_found_out_once(small_registry, hanging_up):
    """One connection for the whole process, whatever is asked for afterwards."""
    assert data.situation() == "phantoms" and data.situation("aapm/val") == "phantoms"
    for path in CONTENTS:
        said = (
            f"{path} is not available: expected .*sha256 [0-9a-f]{{64}}, found no file.*INSTAB_DATA"
        )
        with pytest.raises(data.DataUnavailable, match=said):
            data.fetch(path)
    with pytest.raises(data.DataUnavailable):
        data.fetch_group("bsd/set68")
    assert len(hanging_up) == 1


def test_the_question_waits_no_longer_than_its_patience(small_registry, monkeypatch):
    """Name resolution can hang for minutes and knows no timeout."""
    asked, answer = [], threading.Event()
    monkeypatch.setattr(registry, "PATIENCE_S", 0.05)
    monkeypatch.setattr(registry, "_reaches", lambda url: asked.append(url) or answer.wait(30))
    assert not data.online() and not data.online() and len(asked) == 1
    answer.set()
    assert not data.online()  # a late answer does not change the situation in the middle of a run


def test_a_network_that_goes_away_is_not_asked_again(small_registry, hanging_up, monkeypatch):
    monkeypatch.setattr(registry, "_reaches", lambda url: True)
    assert data.situation() == "download"
    for path in CONTENTS:
        with pytest.raises(data.DataUnavailable, match="does not answer"):
            data.fetch(path)
    assert len(hanging_up) == 1 and data.situation() == "phantoms"


def test_offline_switch_never_connects(small_registry, hanging_up, monkeypatch):
    monkeypatch.setenv("INSTAB_OFFLINE", "1")
    assert data.situation() == "phantoms" and not data.online()
    with pytest.raises(data.DataUnavailable, match="INSTAB_OFFLINE is set"):
        data.fetch("aapm/val/a.npy")
    assert hanging_up == []


@pytest.mark.parametrize(
    "content", [b"a sl", b"a slicf", b""], ids=["truncated", "tampered", "empty"]
)
def test_damaged_files_are_named_and_left_alone(small_registry, mirror, content):
    target = small_registry / "aapm/val/a.npy"
    target.parent.mkdir(parents=True)
    target.write_bytes(content)
    with pytest.raises(data.ChecksumMismatch) as error:
        data.fetch("aapm/val/a.npy")
    message = str(error.value)
    for words in (str(target), _sha256(content), _sha256(b"a slice"), "move it away"):
        assert words in message
    assert target.read_bytes() == content and mirror.requests == []


# --- one call for a chapter ---


@pytest.mark.parametrize("split", ["train", "validate", "test"])
@pytest.mark.parametrize("kind", ["natural", "ct", "mr"])
def test_demo_without_files_gives_phantoms(tmp_path, monkeypatch, kind, split):
    _fresh(monkeypatch, tmp_path)
    monkeypatch.setenv("INSTAB_OFFLINE", "1")
    x, source = data.demo(kind, 3, 33, split)
    assert source.startswith("phantom: ") and x.shape == (3, 1, 33, 33)
    assert (
        x.dtype == (torch.complex64 if kind == "mr" else torch.float32)
        and 0.5 < x.abs().max() <= 1 + 1e-6
    )
    assert torch.equal(x, data.demo(kind, 3, 33, split)[0])
    other = {"train": "test", "validate": "train", "test": "validate"}[split]
    assert not torch.equal(x, data.demo(kind, 3, 33, other)[0])


def test_demo_does_not_hide_a_damaged_file(tmp_path, monkeypatch):
    _fresh(monkeypatch, tmp_path)
    monkeypatch.setenv("INSTAB_OFFLINE", "1")
    (tmp_path / "aapm/test").mkdir(parents=True)
    (tmp_path / "aapm/test/CT_img_0.npy").write_bytes(b"half a fi")
    with pytest.raises(data.ChecksumMismatch, match="CT_img_0.npy"):
        data.demo("ct", 1, 32)


# --- readers, on files written here ---


def test_resampling_averages_interpolates_and_pads():
    x = np.random.default_rng(0).random(12)
    np.testing.assert_allclose(images.resampling_matrix(12, 4, 3.0) @ x, x.reshape(4, 3).mean(1))
    np.testing.assert_allclose(images.resampling_matrix(12, 12, 1.0), np.eye(12), atol=1e-15)
    np.testing.assert_allclose(images.resampling_matrix(12, 14, 1.0) @ x, np.pad(x, 1))
    ramp = np.arange(12.0)
    fine = images.resampling_matrix(12, 24, 0.5) @ ramp
    np.testing.assert_allclose(np.diff(fine[1:-1]), 0.5)  # linear stays linear inside
    coarse = images.resampling_matrix(12, 5, 2.4)
    np.testing.assert_allclose(coarse.sum(1), 1)
    np.testing.assert_allclose(coarse.sum(0) * 2.4, 1)  # every old pixel counts once


def test_nifti_is_turned_and_made_square(tmp_path):
    """Stored with axes (front, left, up) and 1 x 2 mm pixels: the front goes to the top, right to
    the left.
    """
    nibabel = pytest.importorskip("nibabel")
    array = np.zeros((8, 3, 2), dtype=np.int16)  # 8 mm front to back, 6 mm across
    array[7, 0, 1] = 100  # front-most, right-most, upper slice
    affine = np.array([[0, -2.0, 0, 0], [1.0, 0, 0, 0], [0, 0, 5.0, 0], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / "v.nii.gz")
    slices, pixel = images.read_nifti(tmp_path / "v.nii.gz")
    assert slices.shape == (2, 8, 3) and pixel == (1.0, 2.0)
    assert np.argwhere(slices).tolist() == [[1, 0, 0]]
    square = images.resampled(slices, pixel, 8)
    assert square.shape == (2, 1, 8, 8) and square[0].abs().max() == 0
    # the 6 mm sit in the middle of 8 mm: one empty column at either side
    assert square[1, 0].argmax() == 1
    assert square[1, 0, :, [0, 7]].abs().max() < 0.26 * 100


def _dicom(path, height_mm, stored, slope, spacing=(0.5, 0.5)):
    pydicom = pytest.importorskip("pydicom")
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    d = pydicom.Dataset()
    d.file_meta = meta
    d.SOPClassUID, d.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    d.Modality, d.PixelSpacing = "CT", list(spacing)
    d.ImageOrientationPatient, d.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, height_mm]
    d.Rows, d.Columns = stored.shape
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 1
    d.RescaleSlope, d.RescaleIntercept = slope, -1024
    d.PixelData = stored.astype("<i2").tobytes()
    d.save_as(path, enforce_file_format=True)


def test_dicom_is_sorted_by_position_and_rescaled(tmp_path):
    for name, height in (("a", 5.0), ("b", -20.0), ("c", 0.0)):  # neither by name nor by time
        _dicom(tmp_path / f"{name}.dcm", height, np.full((4, 6), 100 + height), slope=2)
    slices, pixel = images.read_dicom(sorted(tmp_path.iterdir()))
    assert slices.shape == (3, 4, 6) and pixel == (0.5, 0.5)
    assert slices[:, 0, 0].tolist() == [2 * 80 - 1024, 2 * 100 - 1024, 2 * 105 - 1024]
    _dicom(tmp_path / "d.dcm", 9.0, np.zeros((4, 6)), slope=2, spacing=(0.7, 0.7))
    with pytest.raises(ValueError, match="expected one DICOM series"):
        images.read_dicom(sorted(tmp_path.iterdir()))


@pytest.fixture
def scan(tmp_path):
    """A Data Exchange file of an off-centre phantom whose rotation axis meets bin 21.5 of 60, and
    its sinogram.
    """
    angles = np.linspace(0, 180, 45, endpoint=False)
    ellipses = torch.tensor([[0.02, 0.5, 0.3, 0.2, 0.1, 20], [0.03, 0.1, 0.2, -0.3, 0.2, 0]])
    # axis at 19.5
    clean = (
        phantoms.ellipse_sinogram(ellipses, angles, 40, 40, bin_average=True)[0, 0].double().numpy()
    )
    y = np.pad(clean, ((0, 0), (2, 18)))
    random = np.random.default_rng(0)
    white, dark = 3000 + 500 * random.random(60), 90 + 5 * random.random(60)
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["exchange/data"] = np.stack(
            [np.full_like(y, 90), dark + (white - dark) * np.exp(-y)], 1
        ).astype("f4")
        file["exchange/data_dark"] = np.stack([dark, dark], 0)[None].repeat(3, 0)
        file["exchange/data_white"] = np.stack([white, white], 0)[None].repeat(3, 0)
        file["exchange/theta"] = angles
    return tmp_path / "scan.h5", clean, y


def test_exchange_file_is_corrected_and_centred(scan):
    path, clean, y = scan
    found, angles_deg = measured.read_exchange(path, slice=1)
    np.testing.assert_allclose(found, y, atol=1e-5)
    assert measured.rotation_centre(found, angles_deg) == pytest.approx(21.5, abs=0.05)
    np.testing.assert_allclose(measured._centred_bins(found, 21.5, 1, 40), clean, atol=1e-5)
    np.testing.assert_allclose(
        measured._centred_bins(found, 21.5, 2, 20), clean.reshape(45, 20, 2).mean(-1), atol=1e-5
    )
    assert measured._centred_bins(found, 21.5, 1, None).shape == (45, 44)
    with pytest.raises(ValueError, match="44 bins of 1 lie symmetric.*got n_detectors=46"):
        measured._centred_bins(found, 21.5, 1, 46)
    with pytest.raises(ValueError, match="has 2 slices; got slice=2"):
        measured.read_exchange(path, slice=2)


def test_own_ct_series_are_found_and_windowed(tmp_path, monkeypatch):
    monkeypatch.delenv("INSTAB_AAPM", raising=False)
    with pytest.raises(data.DataUnavailable, match="INSTAB_AAPM expects a folder.*got None"):
        data.aapm_series()
    monkeypatch.setenv("INSTAB_AAPM", str(tmp_path))
    (tmp_path / "L067/full_1mm").mkdir(parents=True)
    for k in range(5):
        _dicom(
            tmp_path / f"L067/full_1mm/{9 - k}.IMA", 3.0 * k, np.full((8, 8), 12 + 10 * k), slope=1
        )
    assert data.aapm_series() == ["L067/full_1mm"]
    x = data.aapm_slices("L067/full_1mm", image_size=4, n=3, window=(-1022, -982))
    assert x.shape == (3, 1, 4, 4)
    # -1012, -992 and -972 HU
    torch.testing.assert_close(x[:, 0, 0, 0], torch.tensor([10 / 40, 30 / 40, 1.0]))
    with pytest.raises(ValueError, match="no .IMA or .dcm files.*expected one of L067/full_1mm"):
        data.aapm_slices("L096")


@pytest.mark.parametrize("n_coils", [1, 4])
def test_own_fastmri_slice_reconstructs(tmp_path, monkeypatch, n_coils):
    """A file with the schema of fastMRI, fully sampled: the adjoint is the image, up to the phase
    the maps hold.
    """
    monkeypatch.setenv("INSTAB_FASTMRI", str(tmp_path))
    n, maps = 64, data.simulated_coils(n_coils, 64)
    image = phantoms.raster(phantoms.SHEPP_LOGAN, n) + 0.1
    y = operators.MultiCoilFourier(torch.ones(n, n), maps)(image)[0]
    with h5py.File(tmp_path / "file1.h5", "w") as file:
        stored = torch.stack([torch.zeros_like(y), 1e-4 * y, torch.zeros_like(y)])
        file["kspace"] = (stored if n_coils > 1 else stored[:, 0]).numpy()
    assert data.fastmri_scans() == ["file1.h5"]
    found = data.fastmri_slice("file1.h5")
    assert found.y.shape == (1, n_coils, n, n) and found.mask.all()
    x = operators.MultiCoilFourier(found.mask, found.coil_maps).adjoint(found.y).abs()
    assert (x - image / image.max()).norm() < 0.02 * x.norm()
    with pytest.raises(ValueError, match="has 3 slices; got slice=3"):
        data.fastmri_slice("file1.h5", 3)


# --- the real files ---


@pytest.mark.real_data
def test_every_real_file_has_its_hash(real_data):
    assert len(data.fetch_group("")) == 505 and data.situation() == "files"


@pytest.mark.real_data
def test_real_images_have_the_shapes_and_ranges_promised(real_data):
    natural = data.bsd("set68")
    assert len(natural) == 68 and sorted({tuple(x.shape) for x in natural}) == [
        (1, 1, 321, 481),
        (1, 1, 481, 321),
    ]
    assert sum(x.shape[-1] == 481 for x in natural) == 53
    assert data.bsd("train400", 5, 180).shape == (5, 1, 180, 180)
    with pytest.raises(ValueError, match="larger than this 180 x 180 image"):
        data.bsd("train400", 1, 200)
    for x in (
        torch.cat([x.flatten() for x in natural]),
        data.aapm("val", 128),
        data.aapm("test"),
        data.dicom_series(image_size=128),
        data.volume("chris_t1", 96, 4),
        data.volume("CT_pitch", 96, 4, window=(0, 255)),
    ):
        assert x.dtype == torch.float32 and x.min() >= 0 and 0.9 < x.max() <= 1
    assert data.aapm("val", 128).shape == (9, 1, 128, 128) and data.aapm("test").shape == (
        4,
        1,
        512,
        512,
    )
    full = data.aapm("test", n=1)
    torch.testing.assert_close(data.aapm("test", 128, n=1), torch.nn.functional.avg_pool2d(full, 4))
    with pytest.raises(ValueError, match="aapm/test has 4 files; got n=5"):
        data.aapm("test", n=5)
    mr = data.dicom_series("vs-seg-001", 256)
    assert mr.shape == (10, 1, 256, 256) and torch.equal(mr.amax((1, 2, 3)), torch.ones(10))
    assert data.volume("chris_PD", 64).shape == (54, 1, 64, 64)


@pytest.mark.real_data
def test_real_kspace_gives_a_brain(real_data):
    y, mask, maps = data.kspace()
    assert y.shape == (1, 8, 230, 180) and y.dtype == torch.complex64 and mask.dtype == torch.bool
    assert 0.12 < mask.float().mean() < 0.13 and torch.equal(y * mask, y)
    torch.testing.assert_close(maps.abs().square().sum(0), torch.ones(230, 180))
    zero_filled = operators.MultiCoilFourier(mask, maps).adjoint(y)[0, 0]
    assert zero_filled.abs().max().item() == pytest.approx(1, abs=1e-4)
    assert zero_filled.abs()[60:170, 50:130].mean() > 10 * zero_filled.abs()[:, :8].mean()
    inside = zero_filled.abs() > 0.3
    # the maps took up the phase
    assert zero_filled.imag[inside].norm() < 0.2 * zero_filled.real[inside].norm()


@pytest.mark.real_data
def test_real_tooth_sinogram_is_centred(real_data):
    scan = data.tooth(slice=0)
    assert scan.y.shape == (1, 1, 181, 592) and scan.centre == 295.5 and len(scan.angles_deg) == 181
    # air on the left, in units of -log
    assert scan.y[..., :60].mean().abs() < 0.01 and 1.5 < scan.y.max() < 2.5
    # an independent check: the last view, 0.99 degrees short of 180, is the first one seen from
    # behind
    first, last = scan.y[0, 0, 0], scan.y[0, 0, -1].flip(0)
    apart = [float((first - last.roll(shift)).norm()) for shift in range(-4, 5)]
    assert apart.index(min(apart)) == 4
    assert data.tooth(1, binning=2, n_detectors=180).y.shape == (1, 1, 181, 180)


@pytest.mark.real_data
@pytest.mark.parametrize(
    "kind, source",
    [
        ("natural", "BSD68 test images"),
        ("ct", "AAPM test slices"),
        ("mr", "vs-seg-001 T1 MR slices, with a synthetic smooth phase"),
    ],
)
def test_demo_gives_real_images(real_data, kind, source):
    x, name = data.demo(kind, 2, 128)
    assert name == source and x.shape == (2, 1, 128, 128) and not name.startswith("phantom")
    for split in ("train", "validate"):
        x, name = data.demo(kind, 2, 128, split)
        assert x.shape == (2, 1, 128, 128) and not name.startswith("phantom") and name != source
    assert data.demo(kind, 100, 64)[0].shape[0] == {"natural": 68, "ct": 4, "mr": 10}[kind]


@pytest.mark.real_data
def test_real_files_come_through_a_mirror(real_data, tmp_path, monkeypatch):
    _fresh(monkeypatch, tmp_path / "new")
    with _serving(real_data) as server:
        monkeypatch.setenv("INSTAB_DATA_MIRROR", f"http://127.0.0.1:{server.server_address[1]}")
        x, source = data.demo("mr", 10, 64)
    assert source.startswith("vs-seg-001") and data.available("vs-seg-001")
    assert len(server.requests) == 11  # one question, ten files
