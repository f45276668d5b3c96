"""Networks from files, none of which can run code."""

import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from .archives import exported_program
from .errors import WrongFile, import_object, naming

KINDS = {
    ".safetensors": "safetensors",
    ".pt2": "exported",
    ".pt": "state dict",
    ".pth": "state dict",
    ".ckpt": "state dict",
    ".bin": "state dict",
}
NESTED = (
    *("state_dict", "model_state_dict", "model", "network", "net", "params", "params_ema"),
    "weights",
)
"""Names under which training scripts keep the weights."""
SAVE = (
    "In the code that made it: "
    "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors'), "
    "or torch.export.save(torch.export.export(model.eval(), (y,)), 'model.pt2')."
)


class Loaded(NamedTuple):
    """A network read from a file."""

    network: nn.Module
    """In evaluation mode; no parameter asks for a gradient, which still flows to the input."""
    sha256: str
    """Of the file."""


def load_network(
    path: str | Path,
    architecture: type | Callable[..., nn.Module] | str | None = None,
    options: Mapping[str, object] | None = None,
    device: str | torch.device = "cpu",
) -> Loaded:
    """Return the network in a file: architecture(**options) with its weights, or its own graph.

    | suffix              | what it is             | architecture | how it is read |
    |---------------------|------------------------|--------------|----------------|
    | .safetensors        | weights                | needed       | numbers only, by the format |
    | .pt .pth .ckpt .bin | weights, by torch.save | needed       | `weights_only=True` |
    | .pt2                | graph and weights      | not allowed  | checked, rebuilt: `archives` |

    No file is unpickled with the right to import or call anything, and the bytes that are hashed
    are the bytes that are read. A whole model from torch.save(model) and TorchScript are programs
    and are refused. `architecture` is code of the reader's own, which runs: give only what you
    would import.

    Args:
        path: the file.
        architecture: a class or function that returns the network, or "module:Class".
        options: its keyword arguments.
        device: of the network.

    Weights may lie under "state_dict", "model" and the like, and their names may begin with
    "module." (DataParallel), "_orig_mod." (torch.compile) or one name that all share (Lightning).
    Half-precision weights get the architecture's type.

    Raises:
        WrongFile: a ValueError that names the file, what was expected, what it is, and the cure.
        ValueError: for an architecture that is missing, cannot be imported, or is no network.
    """
    path, device = Path(path), torch.device(device)
    with naming(path):
        kind = KINDS.get(path.suffix.lower())
        content = _content(path, kind)
        if kind == "exported":
            if architecture is not None:
                raise ValueError(
                    f"{path.name} holds its own graph; got architecture={architecture!r} as well. "
                    "Leave architecture out."
                )
            network = exported_program(content, device)
        else:
            network = _build(path, architecture, options or {})
            _fill(network, (_safetensors if kind == "safetensors" else _state_dict)(content))
            network = network.eval().to(device)
        for name, t in [*network.named_parameters(), *network.named_buffers()]:
            t.requires_grad_(False)
            if not bool(torch.isfinite(t).all()):
                cure = "Take an earlier checkpoint of the training."
                raise WrongFile("finite weights", f"NaN or infinity in {name}", cure)
    return Loaded(network, hashlib.sha256(content).hexdigest())


def _content(path: Path, kind: str | None) -> bytes:
    if kind is None:
        expected = f"a file ending in {', '.join(KINDS)}"
        raise WrongFile(expected, path.suffix or "no ending", SAVE)
    if not path.is_file():
        got = "a folder" if path.is_dir() else "nothing there"
        raise WrongFile("a file", got, "Check the path.")
    content = path.read_bytes()
    if not content:
        raise WrongFile("weights", "an empty file", "Copy it again.")
    return content


def _build(path: Path, architecture, options: Mapping[str, object]) -> nn.Module:
    if architecture is None:
        raise ValueError(
            f"{path.name} holds weights only; expected architecture=..., the class they belong to; "
            "got None. Give the class, or 'module:Class', with options={...}; "
            "or export the network as .pt2."
        )
    if isinstance(architecture, str):
        architecture = import_object(architecture)
    if isinstance(architecture, nn.Module) or not callable(architecture):
        raise ValueError(
            "expected architecture to be a class or a function that returns the network; got "
            f"{type(architecture).__name__}. "
            "Give the class and options={...}, or lambda: network."
        )
    try:
        network = architecture(**options)
    except TypeError as error:
        raise ValueError(
            f"expected options that {architecture.__name__} takes; got {dict(options)} ({error}). "
            "Give options={...} as in the training code."
        ) from error
    if not isinstance(network, nn.Module):
        raise ValueError(
            f"expected {architecture!r} to return a torch.nn.Module; "
            f"got {type(network).__name__}. Give the class."
        )
    return network


def _safetensors(content: bytes) -> dict[str, torch.Tensor]:
    import safetensors.torch

    try:
        return safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        got = f"{type(error).__name__}: {str(error)[:120]}"
        raise WrongFile("safetensors", got, f"Copy it again. {SAVE}") from None


def _state_dict(content: bytes) -> Mapping[str, torch.Tensor]:
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 6):
        expected = "PyTorch 2.6 or newer, whose reader of weights runs no code"
        raise WrongFile(expected, torch.__version__, f"Update it. {SAVE}")
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
        if "constants.pkl" in names or any(name.startswith("code/") for name in names):
            raise WrongFile("weights", "TorchScript, which is a program", SAVE)
        if any(name.startswith("models/") for name in names):
            cure = "Let its name end in .pt2."
            raise WrongFile("weights", "a program of torch.export", cure)
    try:
        weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines()]
        reasons = [line for line in lines if "Unsupported" in line or "GLOBAL" in line]
        reason = f"{type(error).__name__}: {(reasons or [str(error)])[0][:160]}"
        got = f"a pickle that wants to run code, or a damaged file ({reason})"
        raise WrongFile("a dictionary of tensors", got, f"It was not run. {SAVE}") from None
    for _ in range(3):
        if isinstance(weights, Mapping):
            inner = [weights[name] for name in NESTED if isinstance(weights.get(name), Mapping)]
            weights = inner[0] if inner else weights
    got = type(weights).__name__
    if isinstance(weights, Mapping):
        if weights and all(isinstance(value, torch.Tensor) for value in weights.values()):
            return weights
        got = f"keys {', '.join(map(str, list(weights)[:6]))}"
    expected = f"a dictionary of tensors, at the top or under {', '.join(NESTED[:3])}"
    raise WrongFile(expected, got, "Save model.state_dict() alone.")


def _fill(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Load every weight, and no other, into the network."""
    own, name = network.state_dict(), type(network).__name__
    for _ in range(3):  # "module._orig_mod."
        heads = {key.partition(".")[0] for key in weights}
        shorter = {key.partition(".")[2]: value for key, value in weights.items()}
        wrapped = heads <= {"module", "_orig_mod"} or own.keys() & shorter.keys()
        if own.keys() & weights.keys() or len(heads) != 1 or not wrapped:
            break
        weights = shorter
    missing = [key for key in own if key not in weights]
    unexpected = [key for key in weights if key not in own]
    if missing or unexpected:
        raise WrongFile(
            f"weights of {name}, {len(own)} of them",
            f"missing {_few(missing)}; unexpected {_few(unexpected)}",
            "Give the architecture and options that the weights were trained with.",
        )
    shapes = [
        f"{key} {tuple(weights[key].shape)} for {tuple(own[key].shape)}"
        for key in own
        if weights[key].shape != own[key].shape
    ]
    if shapes:
        cure = "Give the options (width, depth, channels) that the weights were trained with."
        raise WrongFile(f"weights in the shapes of {name}", _few(shapes), cure)
    network.load_state_dict(weights)


def _few(names: list[str], n: int = 3) -> str:
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return (", ".join(names[:n]) or "none") + more
