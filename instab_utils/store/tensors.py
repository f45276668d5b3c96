"""Tensors and JSON values in one file: nothing pickled, written atomically, checked when read."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch

from .files import DamagedFile, write


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], about: Mapping) -> Path:
    """Write tensors as safetensors, with `about` (JSON values) and a checksum in the header."""
    from safetensors.torch import save

    header = json.dumps(about)
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    return write(path, save(tensors, {"about": header, "sha256": _sha256(header, tensors)}))


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """Return (tensors, about) of `save_tensors`; DamagedFile where the file is altered."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            header = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header["sha256"] != _sha256(header["about"], tensors):
            raise ValueError("its checksum does not match its content")
        return tensors, json.loads(header["about"])
    except (SafetensorError, ValueError, KeyError, TypeError) as reason:
        raise DamagedFile(
            f"{path} cannot be used: {reason}. Delete it to start afresh."
        ) from reason


def _sha256(header: str, tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(header.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy())
    return digest.hexdigest()
