"""Weights of networks, each with a card; trained where there are none."""

import gzip
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from safetensors.torch import load, save

from ..profiles import default_device
from .arrays import content_sha256
from .files import (
    DAMAGES,
    DamagedFile,
    canonical,
    checked_name,
    existing,
    find,
    now,
    results_folder,
    write,
)

CARD = ("architecture", "data", "steps", "seed", "validation", "licence")


class Spec(Protocol):
    """A training, as `load_or_train` needs it; `training.Recipe` is one."""

    key: str
    weights: str

    def build(self, device: Any = None) -> Any: ...
    def train(self, **options: Any) -> tuple[Any, dict]: ...


class Trained(NamedTuple):
    """A network, frozen and in evaluation mode, its card, and its name as a record's input."""

    network: Any
    card: dict
    key: str


def load_or_train(spec: Spec, device=None, progress: bool | None = None) -> Trained:
    """Return the network that `spec` describes, with stored weights if their key matches.

    Otherwise it is trained and saved.

    A training that was killed goes on from its last checkpoint and ends with the same weights.
    Damaged weights are named in a RuntimeWarning and trained again.

    Args:
        spec: such as `training.recipe("ell-50", seed=0)`.
        device: where the network shall be, and be trained; see `profiles.default_device`.
        progress: see `training.fit`.
    """
    device = default_device(device)
    try:
        return _load(spec, device)
    except FileNotFoundError:
        pass
    except DamagedFile as reason:
        warnings.warn(f"{reason} It is trained again.", RuntimeWarning, stacklevel=2)
    checkpoint = results_folder() / "checkpoints" / f"{spec.weights}.safetensors"
    network, card = spec.train(device=device, checkpoint=checkpoint, progress=progress)
    save_weights(spec.weights, network.state_dict(), card, half=card["half"])
    checkpoint.unlink(missing_ok=True)
    return _load(spec, device)


def weights_key(spec: Spec) -> str:
    """Return the name of the spec's weights as a record's input: from their card, if that is there.

    So records are found, too, of trainings whose cards ship without weights.
    """
    path = find("weights", f"{spec.weights}.json")
    card = json.loads(path.read_bytes()) if path else {}
    return _input(spec, card) if card.get("key") == spec.key else load_or_train(spec).key


def _input(spec, card) -> str:
    return f"weights:{spec.weights}@{card['sha256'][:8]}"


def is_trained(spec: Spec) -> bool:
    """Return whether `load_or_train` would only load."""
    return _file(spec.weights) is not None


def _load(spec, device) -> Trained:
    state, card = load_weights(spec.weights)
    if card.get("key") != spec.key:
        raise DamagedFile(
            f"weights {spec.weights!r} belong to the key {card.get('key')}, expected {spec.key}."
        )
    network = spec.build(device).requires_grad_(False).eval()
    network.load_state_dict(state)
    return Trained(network, card, _input(spec, card))


def save_weights(
    name: str, state: Mapping[str, torch.Tensor], card: Mapping, half: bool = False
) -> None:
    """Write weights/<name>.safetensors with its card inside, and the card as <name>.json.

    Args:
        name: letters, digits, hyphens, underscores, e.g. "dncnn17-s0".
        state: a module's state_dict().
        card: at least architecture, data, steps, seed, validation (score) and licence; JSON values.
        half: store floating-point tensors as float16 (where that costs less than 0.05 dB; measure
            it).
    """
    missing = [field for field in CARD if field not in card]
    if missing:
        raise ValueError(
            f"the card of {name!r} lacks {', '.join(missing)}; a card has {', '.join(CARD)}."
        )
    state = {
        k: (v.half() if half and v.is_floating_point() else v).detach().cpu().contiguous()
        for k, v in state.items()
    }
    card = {
        **card,
        "name": checked_name(name),
        "float16": half,
        "created": now(),
        "sha256": content_sha256(state),
    }
    content = save(state, {"card": canonical(card).decode()})
    place = results_folder() / "weights"
    write(place / f"{name}.safetensors", content)
    write(place / f"{name}.json", json.dumps(card, indent=1, allow_nan=False).encode())


def load_weights(name: str) -> tuple[dict[str, torch.Tensor], dict]:
    """Return (state, card); float16 tensors come back as float32.

    The file may be compressed: <name>.safetensors.gz, where that saves space.

    Raises:
        FileNotFoundError: where there are none.
        DamagedFile: where they are altered.
    """
    path = _file(checked_name(name)) or existing("weights", f"{name}.safetensors")
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        n_header = int.from_bytes(content[:8], "little")
        card = json.loads(json.loads(content[8 : 8 + n_header])["__metadata__"]["card"])
        state = load(content)
        if content_sha256(state) != card["sha256"]:
            raise ValueError("its checksum does not match its content")
    except DAMAGES as reason:
        raise DamagedFile(
            f"{path} is damaged and not read: {reason}. Delete it, or restore it from git."
        ) from reason
    return {k: v.float() if v.dtype == torch.float16 else v for k, v in state.items()}, card


def _file(name: str) -> Path | None:
    return find("weights", f"{name}.safetensors") or find("weights", f"{name}.safetensors.gz")
