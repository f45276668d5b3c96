"""Tensors and JSON values in one safetensors file, with a checksum: checkpoints."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from .arrays import content_sha256
from .files import DamagedFile, key, write


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], about: Mapping) -> Path:
    """Write tensors as safetensors, with `about` (JSON values) and a checksum in the header."""
    header = json.dumps(about)
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    return write(path, save(tensors, {"about": header, "sha256": _sha256(header, tensors)}))


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """Return (tensors, about) of `save_tensors`; DamagedFile where the file is altered."""
    try:
        with safe_open(str(path), "pt") as file:
            header = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header["sha256"] != _sha256(header["about"], tensors):
            raise ValueError("its checksum does not match its content")
        return tensors, json.loads(header["about"])
    except (SafetensorError, ValueError, KeyError, TypeError) as reason:
        raise DamagedFile(
            f"checkpoint {path} cannot be used: {reason}. Delete it to start afresh."
        ) from reason


def _sha256(header: str, tensors: Mapping[str, torch.Tensor]) -> str:
    return key(header=header, tensors=content_sha256(tensors))
