"""Trained networks: looked up by everything that decides their weights, trained where there are
none.
"""

import warnings
from typing import Any, NamedTuple, Protocol

from .arrays import load_weights, save_weights
from .files import DamagedFile, find, folder


class Spec(Protocol):
    """What `load_or_train` needs to know of a training; `training.Recipe` is one."""

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
    """The network that `spec` describes: with shipped or cached weights if their key matches, else
    trained and saved.

    A training that was killed goes on from its last checkpoint and ends with the same weights.
    Damaged weights are named in a RuntimeWarning and trained again.

    Args:
        spec: such as `training.recipe("ell-50", seed=0)`.
        device: where the network shall be, and be trained. None: the CPU, trained where `spec`
            trains by default.
        progress: see `training.fit`.
    """
    try:
        return _load(spec, device)
    except FileNotFoundError:
        pass
    except DamagedFile as reason:
        warnings.warn(f"{reason} It is trained again.", RuntimeWarning, stacklevel=2)
    checkpoint = folder() / "checkpoints" / f"{spec.weights}.safetensors"
    network, card = spec.train(device=device, checkpoint=checkpoint, progress=progress)
    save_weights(spec.weights, network.state_dict(), card, half=card["half"])
    checkpoint.unlink(missing_ok=True)
    return _load(spec, device)


def is_trained(spec: Spec) -> bool:
    """True where `load_or_train` would only load."""
    return find("weights", f"{spec.weights}.safetensors") is not None


def _load(spec, device) -> Trained:
    state, card = load_weights(spec.weights)
    if card.get("key") != spec.key:
        raise DamagedFile(
            f"weights {spec.weights!r} belong to the key {card.get('key')}, expected {spec.key}."
        )
    network = spec.build(device)
    network.load_state_dict(state)
    return Trained(
        network.requires_grad_(False).eval(), card, f"weights:{spec.weights}@{card['sha256'][:8]}"
    )
