"""A training in the middle of its work, in one file of tensors."""

from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from ..store.files import DamagedFile
from ..store.tensors import load_tensors, save_tensors


def save(
    path: Path,
    step: int,
    network: nn.Module,
    optimisers: list[torch.optim.Optimizer],
    history,
    best,
) -> None:
    """Write weights, best weights, optimiser states and the history after `step` steps."""
    tensors = {f"last/{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"best/{k}": v for k, v in (best or {}).items()}
    for i, optimiser in enumerate(optimisers):
        for number, values in optimiser.state_dict()["state"].items():
            tensors |= {
                f"optimiser/{i}/{number}/{k}": v for k, v in values.items() if v is not None
            }
    tensors = {name: torch.as_tensor(value) for name, value in tensors.items()}
    about = {"step": step, "history": {**asdict(history), "best_db": repr(history.best_db)}}
    save_tensors(path, tensors, about)


def load(path: Path, network: nn.Module, optimisers: list[torch.optim.Optimizer]):
    """Put a checkpoint back into network and optimisers; return (step, history, best weights).

    The history as keyword arguments; no best weights are None.

    Raises:
        DamagedFile: for a file that cannot be read or belongs to another network.
    """
    tensors, header = load_tensors(path)
    try:
        network.load_state_dict(_under("last/", tensors))
        for i, optimiser in enumerate(optimisers):
            state: dict[int, dict] = {}
            for name, value in _under(f"optimiser/{i}/", tensors).items():
                number, _, key = name.partition("/")
                state.setdefault(int(number), {})[key] = value
            optimiser.load_state_dict(
                {"state": state, "param_groups": optimiser.state_dict()["param_groups"]}
            )
            # fused steps walk through memory: moments must lie as their weights do
            for w, values in optimiser.state.items():
                values |= {
                    k: torch.empty_like(w, dtype=v.dtype).copy_(v)
                    for k, v in values.items()
                    if v.shape == w.shape
                }
    except (ValueError, KeyError, RuntimeError) as reason:
        raise DamagedFile(
            f"checkpoint {path} cannot be used: {reason}. Delete it to start afresh."
        ) from reason
    history = {**header["history"], "best_db": float(header["history"]["best_db"])}
    device = next(network.parameters()).device
    best = {k: v.to(device) for k, v in _under("best/", tensors).items()}
    return header["step"], history, best or None


def _under(prefix: str, tensors: dict) -> dict:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
