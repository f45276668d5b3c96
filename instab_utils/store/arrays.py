"""Arrays on disk: results looked up instead of recomputed, and exhibits of the book."""

import dataclasses
import hashlib
import io
import json
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch

from .. import profiles
from .files import (
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
from .rows import device_name

EXHIBIT_BYTES = 300_000
# data whose terms forbid to pass it on, in any lossless form
NOT_REDISTRIBUTABLE = ("aapm", "l067")
_PROVENANCE = "provenance"


def cached_arrays(
    name: str, parameters: Mapping, compute: Callable[..., Mapping], *, version: int
) -> dict[str, object]:
    """Return compute(**parameters), computed once and then read from arrays/<name>-<key>.npz.

    Args:
        name: of the result, such as "inr-passes".
        parameters: everything that the result depends on: numbers, strings, None, lists,
            dictionaries, dataclasses, arrays, tensors, generators (by their state; a look-up
            leaves the generator where it is). Build operators and networks inside `compute`.
        compute: returns a dictionary of tensors, arrays and numbers. Tensors come back as tensors
            (on the CPU), arrays as arrays, numbers as Python numbers.
        version: of `compute`; raised by hand when its meaning changes.

    A damaged file is named in a RuntimeWarning and recomputed.
    """
    digest = key(name=checked_name(name), version=version, parameters=_digest(parameters))
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
    if not isinstance(result, Mapping):
        raise TypeError(
            f"cached_arrays expects a dictionary of arrays from {name!r}; got "
            f"{type(result).__name__}."
        )
    about = {
        "name": name,
        "version": version,
        "seconds": time.perf_counter() - start,
        "device": device_name(),
    }
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
    closed = [
        source for source in data if any(word in source.lower() for word in NOT_REDISTRIBUTABLE)
    ]
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
        "device": device_name(),
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
        if array.dtype.kind not in "biufcU" or name == _PROVENANCE:
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
    damages = (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error)
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = dict(file)
        header = json.loads(str(arrays.pop(_PROVENANCE)))
        if header.pop("checksum") != key(**header) or header["sha256"] != content_sha256(arrays):
            raise ValueError("its checksum does not match its content")
    except damages as reason:
        raise DamagedFile(f"{path} is damaged and not read: {reason}.") from reason
    values = {}
    for name, array in arrays.items():
        kind = header["kinds"][name]
        if kind == "tensor":
            values[name] = torch.from_numpy(array)
        else:
            values[name] = array.item() if kind == "number" else array
    return values, header["about"]


def content_sha256(arrays: Mapping) -> str:
    """Return the SHA-256 over names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {_digest(arrays[name])}\n".encode())
    return digest.hexdigest()


def _digest(value: object) -> object:
    """Return `value` as JSON, with arrays and generators replaced by their SHA-256."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(float(value)) if isinstance(value, float) else value
    if isinstance(value, torch.Generator):
        return ["generator", _digest(value.get_state())]
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.view(torch.int16) if value.dtype == torch.bfloat16 else value
        return ["tensor", *_digest(value.numpy())[1:]]
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biufcU":
        raw = np.ascontiguousarray(value)
        return [
            "array",
            str(raw.dtype),
            list(value.shape),
            hashlib.sha256(raw.tobytes()).hexdigest(),
        ]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *map(_digest, value)]
    if isinstance(value, Mapping):
        return {"mapping": sorted([repr(k), _digest(v)] for k, v in value.items())}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [type(value).__qualname__, _digest(vars(value))]
    raise TypeError(
        f"cached_arrays cannot make a key of {type(value).__name__}; pass the numbers it is made "
        "from and build it inside the function."
    )
