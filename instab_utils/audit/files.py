"""A network and images of the reader's own, from files, none of which can run code."""

import hashlib
import importlib
import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from .archives import exported_program
from .pictures import Images, load_images
from .wrong import WrongFile

__all__ = ["Images", "Loaded", "WrongFile", "load_images", "load_network"]

NETWORKS = {
    ".safetensors": "safetensors",
    ".pt2": "exported",
    ".pt": "state dict",
    ".pth": "state dict",
    ".ckpt": "state dict",
    ".bin": "state dict",
}
NESTED = (
    "state_dict",
    "model_state_dict",
    "model",
    "network",
    "net",
    "params",
    "params_ema",
    "weights",
)
SAVE = (
    "In the code that made it: safetensors.torch.save_file(model.state_dict(), 'weights.safetensors'), "
    "or torch.export.save(torch.export.export(model.eval(), (y,)), 'model.pt2')."
)


class Loaded(NamedTuple):
    """A network read from a file."""

    # eval mode, no parameter asks for a gradient; gradients still flow to its input
    network: nn.Module
    kind: str  # "safetensors", "exported", "state dict"
    sha256: str  # of the file
    n_parameters: int


def load_network(
    path: str | Path,
    architecture: type | Callable[..., nn.Module] | str | None = None,
    options: Mapping[str, object] | None = None,
    device: str | torch.device = "cpu",
) -> Loaded:
    """The network in a file: architecture(**options) with the file's weights, or the exported graph
    itself.

    | suffix             | what it is                     | architecture | how it is read |
    |--------------------|--------------------------------|--------------|-------------------------------------------------|
    | .safetensors       | weights                        | needed       | numbers only, by the
    format                     | | .pt .pth .ckpt .bin| weights, from torch.save       | needed |
    `weights_only=True`, PyTorch 2.6 or newer       | | .pt2               | graph and weights,
    torch.export| not allowed  | checked and rebuilt, see `archives`             |

    No file is unpickled with the right to import or call anything, and the bytes that are hashed
    are the bytes that are read. A whole model from torch.save(model) and TorchScript are programs
    and are refused. `architecture` is code of the reader's own,
    which runs: give only what you would import.

    Args:
        path: the file.
        architecture: a class or function that returns the network, or "module:Class" with what
            Python can import.
        options: its keyword arguments.
        device: where the network shall be.

    Weights may lie under "state_dict", "model" and the like, and their names may begin with
    "module." (DataParallel), "_orig_mod." (torch.compile) or one name that all share (Lightning).
    Half-precision weights get the architecture's type.

    Raises:
        WrongFile: a ValueError that names the file, what was expected, what it is, and the cure.
        ValueError: for an architecture that is missing, cannot be imported, or is no network.
    """
    path, device = Path(path), torch.device(device)
    kind = NETWORKS.get(path.suffix.lower())
    if kind is None:
        raise WrongFile(
            path, f"a file ending in {', '.join(NETWORKS)}", path.suffix or "no ending", SAVE
        )
    if not path.is_file():
        raise WrongFile(
            path, "a file", "a folder" if path.is_dir() else "nothing there", "Check the path."
        )
    content = path.read_bytes()
    if not content:
        raise WrongFile(path, "weights", "an empty file", "Copy it again.")
    if kind == "exported":
        if architecture is not None:
            raise ValueError(
                f"{path.name} holds its own graph; got architecture={architecture!r} as well. Leave architecture out."
            )
        network = exported_program(path, content, device)
    else:
        network = _built(path, architecture, options)
        weights = (
            _safetensors(path, content) if kind == "safetensors" else _state_dict(path, content)
        )
        _fill(path, network, weights)
        network = network.eval().to(device)
    for name, p in [*network.named_parameters(), *network.named_buffers()]:
        p.requires_grad_(False)
        if (p.is_floating_point() or p.is_complex()) and not bool(torch.isfinite(p).all()):
            raise WrongFile(
                path,
                "finite weights",
                f"NaN or infinity in {name}",
                "Take an earlier checkpoint of the training.",
            )
    return Loaded(
        network,
        kind,
        hashlib.sha256(content).hexdigest(),
        sum(p.numel() for p in network.parameters()),
    )


def _built(path, architecture, options) -> nn.Module:
    if architecture is None:
        raise ValueError(
            f"{path.name} holds weights only; expected architecture=..., the class they belong to; got None. Give the "
            "class, or 'module:Class', with options={...}; or export the network as .pt2."
        )
    if isinstance(architecture, str):
        module, _, name = architecture.partition(":")
        try:
            architecture = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(
                f"expected architecture as 'module:Class' that Python can import; got {architecture!r} ({error}). "
                "Install its package, or start Python in its folder."
            ) from error
    if isinstance(architecture, nn.Module) or not callable(architecture):
        raise ValueError(
            f"expected architecture to be a class or a function that returns the network; got "
            f"{type(architecture).__name__}. Give the class and options={{...}}, or lambda: network."
        )
    try:
        network = architecture(**(options or {}))
    except TypeError as error:
        raise ValueError(
            f"expected options that {architecture.__name__} takes; got {dict(options or {})} ({error}). "
            "Give options={...} as in the training code."
        ) from error
    if not isinstance(network, nn.Module):
        raise ValueError(
            f"expected {architecture!r} to return a torch.nn.Module; got {type(network).__name__}. Give the class."
        )
    return network


def _safetensors(path, content: bytes) -> dict[str, torch.Tensor]:
    import safetensors
    import safetensors.torch

    try:
        return safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise WrongFile(
            path,
            "safetensors",
            f"{type(error).__name__}: {str(error)[:120]}",
            f"Copy it again. {SAVE}",
        ) from None


def _state_dict(path, content: bytes) -> dict[str, torch.Tensor]:
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 6):
        raise WrongFile(
            path,
            "PyTorch 2.6 or newer, whose reader of weights runs no code",
            torch.__version__,
            f"Update it. {SAVE}",
        )
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
        if "constants.pkl" in names or any(name.startswith("code/") for name in names):
            raise WrongFile(path, "weights", "TorchScript, which is a program", SAVE)
        if any(name.startswith("models/") for name in names):
            raise WrongFile(
                path, "weights", "a program of torch.export", "Let its name end in .pt2."
            )
    try:
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        reason = next(
            (
                line.strip()
                for line in str(error).splitlines()
                if "Unsupported" in line or "GLOBAL" in line
            ),
            "",
        )
        raise WrongFile(
            path,
            "a dictionary of tensors",
            f"a pickle that wants to run code, or a damaged file "
            f"({type(error).__name__}: {(reason or str(error))[:160]})",
            f"It was not run. {SAVE}",
        ) from None
    for _ in range(3):
        inner = next(
            (
                found[key]
                for key in NESTED
                if isinstance(found, Mapping) and isinstance(found.get(key), Mapping)
            ),
            None,
        )
        if inner is None:
            break
        found = inner
    if (
        not isinstance(found, Mapping)
        or not found
        or not all(isinstance(v, torch.Tensor) for v in found.values())
    ):
        got = (
            f"keys {', '.join(map(str, list(found)[:6]))}"
            if isinstance(found, Mapping)
            else type(found).__name__
        )
        raise WrongFile(
            path,
            f"a dictionary of tensors, at the top or under {', '.join(NESTED[:3])}",
            got,
            "Save model.state_dict() alone.",
        )
    return dict(found)


def _fill(path, network: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Weights into the network: every one, no other."""
    own = network.state_dict()
    for _ in range(3):  # "module._orig_mod."
        heads = {name.partition(".")[0] for name in weights}
        shorter = {name.partition(".")[2]: value for name, value in weights.items()}
        if (
            len(heads) != 1
            or len(own.keys() & shorter.keys()) <= len(own.keys() & weights.keys())
            and heads - {"module", "_orig_mod"}
        ):
            break
        if own.keys() & weights.keys():
            break
        weights = shorter
    missing, unexpected = [n for n in own if n not in weights], [n for n in weights if n not in own]
    if missing or unexpected:
        raise WrongFile(
            path,
            f"weights of {type(network).__name__}, {len(own)} of them",
            f"missing {_few(missing)}; unexpected {_few(unexpected)}",
            "Give the architecture and options that the weights were trained with.",
        )
    shapes = [
        f"{n} {tuple(weights[n].shape)} for {tuple(own[n].shape)}"
        for n in own
        if weights[n].shape != own[n].shape
    ]
    if shapes:
        raise WrongFile(
            path,
            f"weights in the shapes of {type(network).__name__}",
            _few(shapes),
            "Give the options (width, depth, channels) that the weights were trained with.",
        )
    network.load_state_dict(weights)


def _few(names: list[str], n: int = 3) -> str:
    return (", ".join(names[:n]) or "none") + (
        f" and {len(names) - n} more" if len(names) > n else ""
    )
