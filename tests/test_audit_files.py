"""Networks and images of the reader's own: written here, read back; and every file that should be
refused, refused.
"""

import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from instab_utils.audit.errors import WrongFile
from instab_utils.audit.image_files import load_images
from instab_utils.audit.network_files import load_network


class Small(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.first, self.norm, self.last = (
            nn.Conv2d(1, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.Conv2d(width, 1, 1),
        )
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return x + self.last(self.drop(torch.relu(self.norm(self.first(x)))))


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    network = Small(4)
    network(torch.rand(8, 1, 9, 9))  # running statistics of its own
    return network.eval()


@pytest.fixture(scope="module")
def x():
    return torch.rand(2, 1, 9, 9, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def exported(trained, x, tmp_path_factory):
    """The bytes of an honest .pt2 with a batch of any size."""
    path = tmp_path_factory.mktemp("pt2") / "n.pt2"
    torch.export.save(
        torch.export.export(trained, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},)), path
    )
    return path.read_bytes()


def save_safetensors(state, path):
    from safetensors.torch import save_file

    save_file({k: v.clone() for k, v in state.items()}, path)


WAYS = {
    "w.safetensors": save_safetensors,
    "w.pt": torch.save,
    "w.ckpt": lambda s, p: torch.save(
        {"state_dict": {f"module.{k}": v for k, v in s.items()}, "epoch": 3}, p
    ),
    "w.pth": lambda s, p: torch.save(
        {"model": {f"module._orig_mod.{k}": v for k, v in s.items()}, "optimizer": {"lr": 0.1}}, p
    ),
    "w.bin": lambda s, p: torch.save(
        {f"net.{k}": v.half() if v.is_floating_point() else v for k, v in s.items()}, p
    ),
}


@pytest.mark.parametrize("name", WAYS)
def test_weights_come_back(trained, x, tmp_path, name):
    WAYS[name](trained.state_dict(), tmp_path / name)
    loaded = load_network(tmp_path / name, Small, {"width": 4})
    assert torch.allclose(loaded.network(x), trained(x), atol=2e-3 if name == "w.bin" else 0)
    assert not loaded.network.training and not any(
        p.requires_grad for p in loaded.network.parameters()
    )
    assert len(loaded.sha256) == 64
    y = x.clone().requires_grad_()
    loaded.network(y).sum().backward()
    assert float(y.grad.norm()) > 0


def test_an_exported_network_comes_back(exported, trained, x, tmp_path):
    path = tmp_path / "n.pt2"
    path.write_bytes(exported)
    loaded = load_network(path)
    assert loaded.network.eval() is loaded.network and not loaded.network.training
    y = torch.cat([x, x]).requires_grad_()
    assert torch.equal(loaded.network(y), trained(y))
    loaded.network(y).sum().backward()
    assert float(y.grad.norm()) > 0 and not any(
        p.requires_grad for p in loaded.network.parameters()
    )
    with pytest.raises(ValueError, match="Leave architecture out"):
        load_network(path, Small)


def test_a_network_exported_with_sizes_of_its_own(x, tmp_path):
    """Any height: sizes are expressions, padding a mode as text, an equation, arithmetic."""

    class Folds(nn.Module):
        def forward(self, x):
            x = nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
            h = x.shape[-2]
            x = nn.functional.interpolate(x[..., : h // 2, :], scale_factor=2.0, mode="bilinear")
            return torch.einsum("bchw,bchw->bhw", x, x)[:, None].reshape(x.shape[0], -1) / (
                h * 2 + 1
            )

    network, path = Folds().eval(), tmp_path / "n.pt2"
    sizes = {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO}
    torch.export.save(torch.export.export(network, (x,), dynamic_shapes=(sizes,)), path)
    taller = torch.rand(3, 1, 14, 9)
    assert torch.allclose(load_network(path).network(taller), network(taller))


class Plant:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def rewritten(content: bytes, change) -> bytes:
    """The archive with change(name, data) -> data or None (leave it out) in the place of its
    members.
    """
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = change(name.partition("/")[2], old.read(name))
            if data is not None:
                new.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.ckpt"])
@pytest.mark.parametrize(
    "save", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o))], ids=["torch.save", "pickle"]
)
def test_a_pickle_that_runs_code_is_refused(tmp_path, name, save):
    target, path = tmp_path / "planted", tmp_path / name
    save({"state_dict": {"first.weight": torch.ones(1), "extra": Plant(target)}}, path)
    with pytest.raises(
        WrongFile,
        match="dictionary of tensors; got a pickle that wants to run code.*It was not run",
    ) as error:
        load_network(path, Small)
    assert not target.exists()
    assert error.value.expected and error.value.got and "safetensors" in error.value.cure
    pickle.loads(pickle.dumps(Plant(target)))
    assert target.exists()  # the plant is a plant


NAMED_TUPLE = """
[1, {"type": "collections.namedtuple", "context": "null", "children_spec": []}]
"""


def plants(target):
    code = f"__import__('os').mkdir({str(target)!r})"
    buffer = io.BytesIO()
    torch.save(Plant(target), buffer)

    def program(edit):
        def change(name, data):
            if name != "models/model.json":
                return data
            tree = json.loads(data)
            edit(tree)
            return json.dumps(tree).encode()

        return change

    def graph(edit):
        return program(lambda tree: edit(tree["graph_module"]["graph"]))

    def config(folder, **entry):
        def change(name, data):
            if name == f"data/{folder}/model_{folder}_config.json":
                tree = json.loads(data)
                first = tree["config"].setdefault(
                    "first.weight", {"tensor_meta": None, "is_param": False, "path_name": "x"}
                )
                first.update(entry)
                return json.dumps(tree).encode()
            return (
                buffer.getvalue()
                if name == f"data/{folder}/{entry.get('path_name', 'weight_0')}"
                else data
            )

        return change

    def symbol(g):
        g["tensor_values"]["x"]["sizes"][0] = {"as_expr": {"expr_str": code, "hint": None}}

    return {
        "pickled weights": (config("weights", use_pickle=True), "pickled or as an object"),
        "a custom object": (
            config("constants", use_pickle=True, path_name="custom_obj_0"),
            "pickled or as an object",
        ),
        "an opaque object": (
            config("constants", use_pickle=True, path_name="opaque_obj_0"),
            "pickled or as an object",
        ),
        "a size": (graph(symbol), "sizes that are arithmetic"),
        "a call": (
            graph(lambda g: g["nodes"][0].update(target="torch.os.mkdir")),
            "a call of 'torch.os.mkdir'",
        ),
        "a file's reader": (
            graph(lambda g: g["nodes"][0].update(target="torch.ops.aten.from_file.default")),
            "a call of",
        ),
        "an attribute": (
            graph(lambda g: g["nodes"][0].update(target="torch.ops.aten.__init__.__globals__")),
            "a call of",
        ),
        "a name": (
            graph(lambda g: g["nodes"][0]["outputs"][0]["as_tensor"].update(name=f"y={code};z")),
            "a name of letters",
        ),
        "an argument's name": (
            graph(lambda g: g["nodes"][0]["inputs"][0].update(name=f"x={code},input")),
            "a name of letters",
        ),
        "a container": (
            program(
                lambda t: t["graph_module"]["module_call_graph"][0]["signature"].update(
                    in_spec=NAMED_TUPLE
                )
            ),
            "a container",
        ),
    }


@pytest.mark.parametrize("what", plants("x"))
def test_an_archive_that_runs_code_is_refused(exported, tmp_path, what):
    target, path = tmp_path / "planted", tmp_path / "n.pt2"
    change, message = plants(target)[what]
    path.write_bytes(rewritten(exported, change))
    assert path.read_bytes() != exported
    with pytest.raises(WrongFile, match=message):
        load_network(path)
    assert not target.exists()


def test_what_torch_would_unpickle_or_execute_is_left_out(
    exported, trained, x, tmp_path, monkeypatch
):
    """Sample inputs that are a pickle, guards and traces that are code: torch's loader runs the
    first, ours never sees them.
    """
    target, path = tmp_path / "planted", tmp_path / "n.pt2"
    buffer = io.BytesIO()
    torch.save((Plant(target),), buffer)

    def change(name, data):
        if name == "models/model.json":
            tree = json.loads(data)
            tree["guards_code"] = [f"__import__('os').mkdir({str(target)!r})"]
            tree["graph_module"]["graph"]["nodes"][0]["metadata"]["stack_trace"] = (
                f"\n__import__('os').mkdir({str(target)!r})\n"
            )
            return json.dumps(tree).encode()
        return buffer.getvalue() if name == "data/sample_inputs/model.pt" else data

    path.write_bytes(rewritten(exported, change))
    assert torch.equal(load_network(path).network(x), trained(x))
    assert not target.exists()
    # its own message does not format
    monkeypatch.setattr("torch._export.serde.serialize.log.warning", lambda *_, **__: None)
    torch.export.load(path)
    assert target.exists()  # the plant is a plant


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n, d: None if n == "models/model.json" else d, "one exported program"),
        (lambda n, d: b"{" if n == "models/model.json" else d, "readable JSON"),
        (lambda n, d: b"[]" if n == "models/model.json" else d, "an exported program"),
        (
            lambda n, d: None if n.endswith("weights_config.json") else d,
            "readable JSON in data/weights",
        ),
        (lambda n, d: d[:-4] if n == "data/weights/weight_0" else d, "can read"),
        (
            lambda n, d: None if n == "data/weights/weight_0" else d,
            "a member data/weights/weight_0",
        ),
    ],
)
def test_damaged_archives(exported, tmp_path, change, message):
    path = tmp_path / "n.pt2"
    path.write_bytes(rewritten(exported, change))
    with pytest.raises(WrongFile, match=message):
        load_network(path)
    path.write_bytes(exported[:200])
    with pytest.raises(WrongFile, match="zip archive"):
        load_network(path)


def test_an_export_while_training_is_refused(x, tmp_path):
    torch.export.save(torch.export.export(Small().train(), (x,)), tmp_path / "n.pt2")
    with pytest.raises(WrongFile, match="exported while training"):
        load_network(tmp_path / "n.pt2")


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_programs_are_refused(trained, x, tmp_path):
    torch.jit.save(torch.jit.trace(trained, x), tmp_path / "n.pt")
    with pytest.raises(WrongFile, match="TorchScript, which is a program.*torch.export.save"):
        load_network(tmp_path / "n.pt", Small)
    torch.save(trained, tmp_path / "whole.pt")
    with pytest.raises(WrongFile, match="wants to run code.*state_dict"):
        load_network(tmp_path / "whole.pt", Small)


def test_other_weights_are_named(trained, tmp_path):
    path = tmp_path / "w.pt"
    torch.save(trained.state_dict(), path)
    with pytest.raises(
        WrongFile,
        match=r"shapes of Small; got first.weight \(4, 1, 3, 3\) for \(3, 1, 3, 3\).*and \d+ more",
    ):
        load_network(path, Small)
    state = {k.replace("first", "stem"): v for k, v in trained.state_dict().items()}
    torch.save(state, path)
    with pytest.raises(
        WrongFile,
        match="missing first.weight, first.bias; unexpected stem.weight, stem.bias.*architecture",
    ):
        load_network(path, Small, {"width": 4})
    torch.save({**trained.state_dict(), "last.bias": torch.tensor([torch.nan])}, path)
    with pytest.raises(WrongFile, match="NaN or infinity in last.bias"):
        load_network(path, Small, {"width": 4})
    torch.save({"epoch": 3}, path)
    with pytest.raises(WrongFile, match="got keys epoch"):
        load_network(path, Small)


def test_architectures(trained, tmp_path):
    path = tmp_path / "w.pt"
    torch.save(nn.Conv2d(1, 2, 3).state_dict(), path)
    options = {"in_channels": 1, "out_channels": 2, "kernel_size": 3}
    assert isinstance(load_network(path, "torch.nn:Conv2d", options).network, nn.Conv2d)
    for architecture, message in (
        (None, "holds weights only"),
        ("torch.nn:Nothing", "can import"),
        ("nonsense", "module:name"),
        (trained, "a class or a function"),
        (dict, "return a torch.nn.Module"),
    ):
        with pytest.raises(ValueError, match=message):
            load_network(path, architecture)
    with pytest.raises(ValueError, match="options that Conv2d takes"):
        load_network(path, nn.Conv2d, {"width": 3})
    for name, message in (
        ("w.pkl", "a file ending in"),
        ("none.pt", "nothing there"),
        ("empty.pt", "an empty file"),
    ):
        if name == "empty.pt":
            (tmp_path / name).touch()
        with pytest.raises(WrongFile, match=message):
            load_network(tmp_path / name, Small)
    (tmp_path / "w.safetensors").write_bytes(b"no weights at all")
    with pytest.raises(WrongFile, match="expected safetensors"):
        load_network(tmp_path / "w.safetensors", Small)


GREY = np.arange(12 * 10).reshape(12, 10).astype(np.uint8) * 2


def picture(array, **options):
    def write(path):
        from PIL import Image

        Image.fromarray(array).save(path, **options)

    return write


def hdf5(**datasets):
    def write(path):
        import h5py

        with h5py.File(path, "w") as file:
            for name, value in datasets.items():
                file[name] = value

    return write


FLOATS = GREY.astype(np.float32) * 3
COMPLEX = (FLOATS * np.exp(1j * FLOATS)).astype(np.complex64)
ROUND_TRIPS = {  # name: how it is written, the image that must come back
    "a.png": (picture(GREY), GREY / 255),
    "b.png": (picture(GREY.astype(np.uint16) * 200), GREY * (200 / 65535)),
    "c.tif": (picture(GREY.astype(np.uint16) * 200), GREY * (200 / 65535)),
    "d.tiff": (picture(FLOATS), GREY / GREY.max()),
    "e.png": (picture(np.repeat(GREY[..., None], 3, 2)), GREY / 255),
    "f.bmp": (picture(GREY), GREY / 255),
    "g.npy": (lambda p: np.save(p, FLOATS), GREY / GREY.max()),
    "h.npy": (lambda p: np.save(p, GREY.astype(np.int16)), GREY / GREY.max()),
    "i.npy": (lambda p: np.save(p, GREY > 99), 1.0 * (GREY > 99)),
    "j.npy": (lambda p: np.save(p, COMPLEX), COMPLEX / np.abs(COMPLEX).max()),
    "k.h5": (hdf5(image=FLOATS, kspace=COMPLEX, mask=GREY, name=np.arange(3)), GREY / GREY.max()),
}


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_an_image_comes_back(tmp_path, name):
    write, expected = ROUND_TRIPS[name]
    write(tmp_path / name)
    images = load_images(tmp_path / name)
    assert (
        images.x.shape == (1, 1, 12, 10)
        and images.names == (name,)
        and len(images.sha256s[0]) == 64
        and name in images.source
    )
    assert images.x.dtype == (torch.complex64 if np.iscomplexobj(expected) else torch.float32)
    assert np.allclose(images.x[0, 0].numpy(), expected, atol=1e-6)


def test_jpeg(tmp_path):
    smooth = np.linspace(20, 230, 256).reshape(16, 16).astype(np.uint8)
    picture(smooth, quality=95)(tmp_path / "a.jpg")
    assert np.abs(load_images(tmp_path / "a.jpg").x[0, 0].numpy() * 255 - smooth).max() < 6


def test_pages_stacks_and_slices(tmp_path):
    from PIL import Image

    stack = np.stack([GREY + k for k in range(5)])
    pages = [Image.fromarray(page) for page in stack]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    np.save(tmp_path / "b.npy", stack[:, None])
    for name in ("a.tif", "b.npy"):
        images = load_images(tmp_path / name)
        assert np.allclose(images.x[:, 0].numpy() * 255, stack) and images.names[4] == f"{name}[4]"
        assert load_images(tmp_path / name, slices=3).names == tuple(
            f"{name}[{k}]" for k in (1, 2, 3)
        )
        assert load_images(tmp_path / name, slices=[4, -5]).names == (
            f"{name}[4]",
            f"{name}[0]",
        )
    for slices in ([5], "middle", 0, []):
        with pytest.raises(WrongFile, match="a count, or indices from 0 to 4"):
            load_images(tmp_path / "b.npy", slices=slices)


def dicom(path, stored, slope, intercept):
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        "1.2.840.10008.5.1.4.1.1.2",
        "1.2.3",
    )
    d = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    d.SOPClassUID, d.SOPInstanceUID, d.Modality = meta.MediaStorageSOPClassUID, "1.2.3", "CT"
    d.Rows, d.Columns = stored.shape
    d.ImageOrientationPatient, d.ImagePositionPatient, d.PixelSpacing = (
        [1, 0, 0, 0, 1, 0],
        [0, 0, 0],
        [0.5, 0.5],
    )
    d.SamplesPerPixel, d.PhotometricInterpretation, d.PixelRepresentation = 1, "MONOCHROME2", 0
    d.BitsAllocated, d.BitsStored, d.HighBit = 16, 16, 15
    d.RescaleSlope, d.RescaleIntercept, d.PixelData = (
        slope,
        intercept,
        stored.astype("<u2").tobytes(),
    )
    d.save_as(path, enforce_file_format=True)


def test_dicom_needs_a_window(tmp_path):
    stored = GREY.astype(np.uint16) * 8
    dicom(tmp_path / "a.dcm", stored, 2, -1024)
    images = load_images(tmp_path, window=(-1024, 1500))
    assert np.allclose(images.x[0, 0].numpy(), np.clip(stored * 2 / 2524, 0, 1), atol=1e-6)
    with pytest.raises(
        WrongFile, match="a.dcm: expected values from 0 up; got values from -1024 to .* window"
    ):
        load_images(tmp_path / "a.dcm")


def test_nifti(tmp_path):
    import nibabel

    # right, front, up
    volume = np.random.default_rng(0).uniform(0, 50, (10, 12, 9)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([2.0, 1.0, 3.0, 1.0])), tmp_path / "v.nii.gz")
    images = load_images(tmp_path / "v.nii.gz", slices="all")
    expected = np.stack([np.rot90(volume[:, :, k])[:, ::-1] for k in range(9)]) / volume.max()
    assert np.allclose(images.x[:, 0].numpy(), expected, atol=1e-6)
    assert load_images(tmp_path / "v.nii.gz").names == tuple(f"v.nii.gz[{k}]" for k in (2, 3, 5, 6))
    # 12 x 1 mm by 10 x 2 mm: as wide as 20 mm, black above and below
    square = load_images(tmp_path / "v.nii.gz", image_size=20)
    assert square.x.shape == (4, 1, 20, 20)
    assert float(square.x[:, :, :3].abs().max()) == 0 and float(square.x[:, :, 4:16].mean()) > 0.3


def test_one_size_for_all(tmp_path):
    picture(GREY)(tmp_path / "a.png")
    picture(np.kron(GREY, np.ones((2, 2), np.uint8)))(tmp_path / "b.png")
    with pytest.raises(
        WrongFile,
        match=r"b.png: expected .* like a.png \(12, 10\); got \(24, 20\). Give image_size",
    ):
        load_images([tmp_path / "a.png", tmp_path / "b.png"])
    a, b = load_images(str(tmp_path / "*.png"), image_size=(12, 10)).x
    assert torch.equal(a, torch.from_numpy(GREY[None] / np.float32(255))) and torch.allclose(
        a, b, atol=1e-6
    )
    assert load_images(tmp_path, image_size=24).x.shape == (2, 1, 24, 24)


NAN = FLOATS.copy()
NAN[3, 4] = np.nan
COLOUR = np.repeat(GREY[..., None], 3, 2).copy()
COLOUR[0, 0, 1] = 200
WRONG = {  # name: how it is written, what the error says
    "nan.npy": (lambda p: np.save(p, NAN), "finite values; got 1 NaN"),
    "constant.npy": (lambda p: np.save(p, np.full((9, 9), 3.0)), "one value everywhere"),
    "zero.npy": (lambda p: np.save(p, np.zeros((9, 9))), "one value everywhere"),
    "tiny.npy": (lambda p: np.save(p, FLOATS[:5]), r"at least 8 x 8 pixels; got \(5, 10\)"),
    "negative.npy": (
        lambda p: np.save(p, FLOATS - 9),
        "values from 0 up; got values from -9 .*window",
    ),
    "objects.npy": (
        lambda p: np.save(p, np.array([{"a": 1}], object), allow_pickle=True),
        "is a pickle and is not read",
    ),
    "text.npy": (lambda p: np.save(p, np.array(["a"])), "numbers of shape"),
    "line.npy": (lambda p: np.save(p, np.arange(99.0)), r"got float64 of shape \(99,\)"),
    "cut.npy": (lambda p: p.write_bytes(b"\x93NUMPY\x01"), "a readable .npy image"),
    "colour.png": (picture(COLOUR), "a grey image; got colour .*convert"),
    "clear.png": (picture(np.stack([GREY, GREY // 2], -1)), "colour or transparency"),
    "cut.png": (lambda p: p.write_bytes(b"\x89PNG\r\n"), "a readable .png image"),
    "cut.dcm": (lambda p: p.write_bytes(b"nothing"), "a readable .dcm image"),
    "cut.nii": (lambda p: p.write_bytes(b"nothing"), "a readable .nii image"),
    "cut.h5": (lambda p: p.write_bytes(b"nothing"), "a readable .h5 image"),
    "kspace.h5": (
        hdf5(kspace=np.stack([COMPLEX] * 3)),
        "k-space .*, which is a measurement.*reconstruction_rss",
    ),
    "coils.h5": (hdf5(kspace=np.stack([[COMPLEX] * 3] * 2)), "k-space"),
    "two.h5": (
        hdf5(a=FLOATS, b=FLOATS),
        r"one two- or three-dimensional dataset; got a \(12, 10\), b",
    ),
    "none.h5": (hdf5(a=np.arange(3)), "one two- or three-dimensional dataset"),
    "what.xyz": (lambda p: p.write_bytes(b"x"), "a file ending in .png"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_image_is_named(tmp_path, name):
    write, message = WRONG[name]
    write(tmp_path / name)
    with pytest.raises(WrongFile, match=message) as error:
        load_images(tmp_path / name)
    assert str(error.value).startswith(f"{name}: expected ") and error.value.cure


def test_datasets_by_name(tmp_path):
    hdf5(a=FLOATS, **{"deep/b": FLOATS[::-1]}, kspace=COMPLEX)(tmp_path / "two.h5")
    for name, expected in (("a", GREY), ("/deep/b", GREY[::-1])):
        assert np.allclose(
            load_images(f"{tmp_path}/two.h5::{name}").x[0, 0].numpy(), expected / GREY.max()
        )
    with pytest.raises(WrongFile, match="a dataset 'c'; got a"):
        load_images(f"{tmp_path}/two.h5::c")
    with pytest.raises(WrongFile, match="k-space"):
        load_images(f"{tmp_path}/two.h5::kspace")


def test_wrong_arguments(tmp_path):
    np.save(tmp_path / "a.npy", COMPLEX)
    np.save(tmp_path / "b.npy", FLOATS)
    for paths, options, message in (
        (tmp_path, {}, "all images real or all complex"),
        (tmp_path / "a.npy", {"window": (1, 2)}, "window=.0, high."),
        (tmp_path / "b.npy", {"window": (2, 1)}, "low < high"),
        ([], {}, "at least one path"),
        (tmp_path / "*.png", {}, "none there"),
    ):
        with pytest.raises(ValueError, match=message):
            load_images(paths, **options)
    assert float(load_images(tmp_path / "a.npy", window=(0, 99.0)).x.abs().max()) == pytest.approx(
        1.0
    )
