"""Arrays on disk: results looked up instead of recomputed, and exhibits of the book."""

import hashlib
import io
import json
import re
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch

from .. import profiles
from .files import (
    DAMAGES,
    DamagedFile,
    canonical,
    checked_name,
    existing,
    find,
    key,
    now,
    places,
    results_folder,
    write,
)

EXHIBIT_BYTES = 300_000
# data whose terms forbid to pass it on, in any lossless form
NOT_REDISTRIBUTABLE = re.compile("aapm|l067", re.IGNORECASE)
_PROVENANCE = "provenance"
KINDS = {"tensor": torch.from_numpy, "array": np.asarray, "number": np.ndarray.item}


def cached_arrays(
    name: str, parameters: Mapping, compute: Callable[..., Mapping], *, version: int
) -> dict[str, object]:
    """Return compute(**parameters), computed once and then read from arrays/<name>-<key>.npz.

    Args:
        name: of the result, such as "inr-passes".
        parameters: everything that the result depends on, as JSON values. Build operators and
            networks inside `compute`.
        compute: returns a dictionary of tensors, arrays and numbers. Tensors come back as tensors
            (on the CPU), arrays as arrays, numbers as Python numbers.
        version: of `compute`; raised by hand when its meaning changes.

    A damaged file is named in a RuntimeWarning and recomputed.
    """
    digest = key(name=checked_name(name), version=version, parameters=parameters)
    file = f"{name}-{digest[:16]}.npz"
    path = find("arrays", file)
    if path is not None:
        try:
            return _unpack(path)[0]
        except DamagedFile as reason:
            warnings.warn(
                f"{reason} It is recomputed and overwritten.", RuntimeWarning, stacklevel=2
            )
    start = time.perf_counter()
    result = compute(**parameters)
    about = {"name": name, "version": version, "device": profiles.device_name()}
    about["seconds"] = time.perf_counter() - start
    path = write(places("arrays")[0] / file, _pack(result, about))
    return _unpack(path)[0]


def save_exhibit(
    name: str,
    arrays: Mapping,
    *,
    data: Iterable[str],
    profile: str,
    seed: int,
    version: int = 1,
    note: str = "",
) -> str:
    """Write exhibits/<name>.npz, small lossless arrays for pages where the data are not at hand.

    Args:
        name: letters, digits, hyphens, underscores.
        arrays: name -> tensor, array or number; at most 300 kB compressed in all (uint8 or float16
            images help).
        data: registry paths or names of what the arrays were made from, e.g.
            "vs-seg-001/1-061.dcm", "phantom".
        profile, seed, version: as for a record.
        note: a sentence for the page.

    Returns:
        The exhibit's name.

    Raises:
        ValueError: for AAPM data, which must not be passed on in lossless form, and for exhibits
            over 300 kB.
    """
    data = sorted(data)
    closed = [source for source in data if NOT_REDISTRIBUTABLE.search(source)]
    if closed or not data:
        raise ValueError(
            f"exhibit {name!r} is made from {closed or 'unnamed data'}. Exhibits are passed on and "
            "need data whose licence allows that, by name: use vs-seg-001, volumes, bsd or a "
            "phantom."
        )
    about = {
        "data": data,
        "profile": profiles.get(profile).name,
        "seed": int(seed),
        "version": version,
        "note": note,
        "device": profiles.device_name(),
        "torch": torch.__version__,
        "created": now(),
    }
    content = _pack(arrays, about)
    if len(content) > EXHIBIT_BYTES:
        raise ValueError(
            f"exhibit {name!r} has {len(content) / 1000:.0f} kB; at most "
            f"{EXHIBIT_BYTES // 1000} kB. Store fewer frames, a crop, or uint8 / float16."
        )
    write(results_folder() / "exhibits" / f"{checked_name(name)}.npz", content)
    return name


def load_exhibit(name: str) -> tuple[dict[str, object], dict]:
    """Return (arrays, provenance) of an exhibit.

    Raises:
        FileNotFoundError: where there is none.
        DamagedFile: where it is altered.
    """
    return _unpack(existing("exhibits", f"{checked_name(name)}.npz"))


def _pack(values: Mapping, about: Mapping) -> bytes:
    """Return a compressed npz of the values, with their kinds, origin and SHA-256 in a header."""
    kinds, arrays = {}, {}
    for name, value in values.items():
        if isinstance(value, torch.Tensor):
            kinds[name], array = "tensor", value.detach().cpu().numpy()
        else:
            kinds[name], array = "array" if np.ndim(value) else "number", np.asarray(value)
        if array.dtype.kind not in "biufcU":
            raise TypeError(
                f"only numeric arrays are stored; {name!r} is {array.dtype}, from "
                f"{type(value).__name__}."
            )
        arrays[name] = array
    header = {"kinds": kinds, "about": dict(about), "sha256": content_sha256(arrays)}
    header["checksum"] = key(**header)
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays, **{_PROVENANCE: np.array(canonical(header).decode())})
    return stream.getvalue()


def _unpack(path: Path) -> tuple[dict[str, object], dict]:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = dict(file)
        header = json.loads(str(arrays.pop(_PROVENANCE)))
        if header.pop("checksum") != key(**header) or header["sha256"] != content_sha256(arrays):
            raise ValueError("its checksum does not match its content")
    except DAMAGES as reason:
        raise DamagedFile(f"{path} is damaged and not read: {reason}.") from reason
    values = {name: KINDS[header["kinds"][name]](array) for name, array in arrays.items()}
    return values, header["about"]


def content_sha256(arrays: Mapping) -> str:
    """Return the SHA-256 over names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, values in sorted(arrays.items()):
        kind = "tensor" if isinstance(values, torch.Tensor) else "array"
        raw = np.ascontiguousarray(values)
        sha256 = hashlib.sha256(raw.tobytes()).hexdigest()
        digest.update(f"{name} {[kind, str(raw.dtype), list(values.shape), sha256]}\n".encode())
    return digest.hexdigest()
