"""Published networks with their published weights, as maps from measurements to images.

| name       | network, weights                                   | operator, intensities         |
|------------|----------------------------------------------------|-------------------------------|
| `dncnn-25` | DnCNN for sigma = 25/255, Zhang et al.             | `Identity`, peak 1            |
| `deep-mri` | D5C5 cascade, Schlemper et al.                     | `MaskedFourier`, peak about 1 |
| `mri-vn`   | variational network, Hammernik et al., rixez' port | `MultiCoilFourier`, see below |

mri-vn wants max abs(A* y) = 1.

No file is unpickled. The .mat (HDF5) and .npz files hold plain arrays; the .h5 of MRI-VN is a zip
archive written by PyTorch, whose index is read as a list of opcodes without executing any and whose
arrays are raw float32.
"""

import io
import pickletools
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..operators import Identity, LinearOperator, MaskedFourier, MultiCoilFourier
from .cascade import Cascade
from .cases import Reconstructor
from .dncnn import DnCNN
from .variational import VariationalNetwork

FILES = {
    "dncnn-25": "weights/dncnn/sigma25.mat",
    "deep-mri": "weights/deep-mri/d5_c5.npz",
    "mri-vn": "weights/mri-vn/varnet_coronal_pd_fs.h5",
}
OPERATORS = {
    "dncnn-25": (Identity, "denoises: y is the noisy image. Use operators.Identity()"),
    "deep-mri": (
        MaskedFourier,
        "reconstructs single-coil MRI. Use operators.MaskedFourier(mask), lines along axis 0",
    ),
    "mri-vn": (
        MultiCoilFourier,
        "reconstructs parallel MRI. Use operators.MultiCoilFourier(mask, coil_maps)",
    ),
}


def reconstructor(name: str, operator: LinearOperator) -> Reconstructor:
    """Return a published network behind the operator that measured y, as a callable y -> x.

    The networks are not homogeneous: Deep MRI loses 2 dB at peak 0.3 and 10 dB at 0.1. Data of
    another scale c are reconstructed as c f(y / c).

    Args:
        name: "dncnn-25", "deep-mri" or "mri-vn"; underscores are accepted for hyphens.
        operator: of the kind the network was trained for (table above).

    Raises:
        ValueError: for an unknown name, or an operator that the network was not made for.
    """
    name = _known(name)
    kind, cure = OPERATORS[name]
    if not isinstance(operator, kind):
        raise ValueError(f"{name} expects operators.{kind.__name__}; got {operator!r}. It {cure}.")
    if name == "mri-vn" and not operator.centred:
        raise ValueError("mri-vn expects a centred operator; got centred=False. Use centred=True.")
    return Reconstructor(network(name).to(operator.device), operator)


def network(name: str, flip_filters: bool = False) -> nn.Module:
    """Return the network with its published weights, frozen, in evaluation mode, on the CPU.

    Args:
        name: "dncnn-25", "deep-mri" or "mri-vn" (underscores accepted).
        flip_filters: `deep-mri` only. The file does not say whether its training used convolution
            (Lasagne on the CPU) or correlation (Lasagne with cuDNN, the default here); True turns
            the filters by 180 degrees. That is the same as turning image and mask instead: only
            asymmetries of images, phases and masks tell the two apart. On 30 real MR slices: flip -
            no flip = -0.04 +- 0.04 dB, undecided (benchmarks/settle_filter_flip.py).

    Raises:
        ValueError: for an unknown name.
    """
    name = _known(name)
    if flip_filters and name != "deep-mri":
        raise ValueError(
            f"flip_filters is a question about deep-mri only; got it with {name}. Leave it out."
        )
    path = _file(name)
    if name == "dncnn-25":
        net, state = DnCNN(), _matconvnet(path)
    elif name == "deep-mri":
        net, state = Cascade(), _lasagne(path, flip_filters)
    else:
        net, state = VariationalNetwork(), _pytorch_port(path)
    net.load_state_dict(state)
    if name != "mri-vn":
        net.to(memory_format=torch.channels_last)
    return net.requires_grad_(False).eval()


def _known(name: str) -> str:
    hyphens = name.replace("_", "-")
    if hyphens not in FILES:
        raise ValueError(
            f"no published network is called {name!r}; expected one of {', '.join(FILES)}."
        )
    return hyphens


def _file(name: str) -> Path:
    from .. import data  # only where weights are read: networks themselves need no data

    return Path(data.fetch(FILES[name]))


def _matconvnet(path: Path) -> dict[str, Tensor]:
    """Read MatConvNet's .mat v7.3.

    MATLAB stores filters (H, W, C_in, C_out) column by column, so that HDF5 shows the axes in
    reverse: (C_out, C_in, W, H), and (C_in, W, H) where C_out = 1. Torch wants (C_out, C_in, H, W);
    both correlate.

    PSNR cannot tell a missing swap (training saw transposed images): the layout is tested by index
    arithmetic instead.
    """
    import h5py

    state = {}
    with h5py.File(path, "r") as file:
        layers = [file[reference] for reference in file["net/layers"][()].ravel()]
        convs = [
            layer
            for layer in layers
            if bytes(layer["type"][()].astype(np.uint8).ravel()) == b"conv"
        ]
        for i, layer in enumerate(convs):
            weight, bias = (file[reference][()] for reference in layer["weights"][()].ravel())
            if weight.ndim == 3:
                weight = weight[None]
            state[f"convs.{i}.weight"] = torch.tensor(np.swapaxes(weight, 2, 3))
            state[f"convs.{i}.bias"] = torch.tensor(bias.ravel())
    return state


def _lasagne(path: Path, flip: bool) -> dict[str, Tensor]:
    """Read Lasagne's arr_0, arr_1, ...: weight (C_out, C_in, H, W) and bias, five a cascade."""
    state = {}
    with np.load(path, allow_pickle=False) as arrays:
        for i in range(len(arrays.files) // 2):
            weight = torch.from_numpy(arrays[f"arr_{2 * i}"])
            state[f"blocks.{i // 5}.{i % 5}.weight"] = weight.flip(-1, -2) if flip else weight
            state[f"blocks.{i // 5}.{i % 5}.bias"] = torch.from_numpy(arrays[f"arr_{2 * i + 1}"])
    return state


def _pytorch_port(path: Path) -> dict[str, Tensor]:
    """Read conv_kernel (48, 1, 11, 11, 2), lamb (), activation.w (1, 48, 1, 1, 31) of ten cells."""
    raw = _torch_archive(path)
    n_layers = len(raw) // 3
    state = {}
    for t in range(n_layers):
        kernel = raw[f"cell_list.{t}.conv_kernel"].reshape(48, 11, 11, 2)
        state[f"filters.{t}"] = kernel.permute(0, 3, 1, 2).contiguous()
        state[f"activations.{t}.weight"] = raw[f"cell_list.{t}.activation.w"].reshape(48, 31)
    state["steps"] = torch.cat([raw[f"cell_list.{t}.lamb"] for t in range(n_layers)])
    return state


def _torch_archive(path: Path) -> dict[str, Tensor]:
    """Read flat float32 arrays by name from a state dict of PyTorch, each whole and in C order.

    The archive's index is a pickle. `pickletools.genops` lists its opcodes and executes none; every
    array appears there as its dotted name followed by the digits that name its file.
    """
    arrays, name = {}, None
    with zipfile.ZipFile(path) as archive:
        index = next(member for member in archive.namelist() if member.endswith("/data.pkl"))
        for opcode, value, _ in pickletools.genops(io.BytesIO(archive.read(index))):
            if opcode.name == "GLOBAL" and value.startswith("torch ") and value.endswith("Storage"):
                if value != "torch FloatStorage":
                    raise ValueError(f"{path} expects float32 arrays only; got {value}.")
            elif opcode.name == "BINUNICODE" and "." in value:
                name = value
            elif opcode.name == "BINUNICODE" and value.isdigit():
                member = index.replace("data.pkl", f"data/{value}")
                arrays[name] = torch.tensor(np.frombuffer(archive.read(member), "<f4"))
    return arrays
