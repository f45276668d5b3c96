"""Arrays on disk: results looked up instead of recomputed, and exhibits of the book."""

import hashlib
import io
import json
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import avg_pool2d

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
KINDS = {
    "tensor": torch.from_numpy,
    "array": np.asarray,
    "number": np.ndarray.item,
    "json": lambda array: json.loads(str(array)),
}
LEVELS = 255


def cached_arrays(
    name: str, parameters: Mapping, compute: Callable[..., Mapping], *, version: int
) -> dict[str, object]:
    """Return compute(**parameters), computed once and then read from arrays/<name>-<key>.npz.

    Args:
        name: of the result, such as "inr-passes".
        parameters: everything that the result depends on, as JSON values. Build operators and
            networks inside `compute`.
        compute: returns a dictionary of tensors, arrays, numbers and dictionaries of JSON values.
            Tensors come back as tensors (on the CPU), arrays as arrays, numbers as Python numbers.
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
    pictures: Mapping[str, torch.Tensor] | None = None,
    data: Iterable[str],
    profile: str,
    seed: int,
    version: int = 1,
    note: str = "",
) -> str:
    """Write exhibits/<name>.npz, small lossless arrays for pages where the data are not at hand.

    Args:
        name: letters, digits, hyphens, underscores.
        arrays: name -> tensor, array or number.
        pictures: name -> finite images (..., n, n), floating or uint8, stored beside the arrays as
            finely as 300 kB allow: in half precision; else in 256 levels from their least to their
            largest value; else these, averaged over 2 x 2, 4 x 4, ... pixels, which the note says.
        data: registry paths or names of what the arrays were made from, e.g.
            "vs-seg-001/1-061.dcm", "phantom".
        profile, seed, version: as for a record.
        note: a sentence for the page.

    Returns:
        The exhibit's name.

    Raises:
        ValueError: for AAPM data, which must not be passed on in lossless form, and for arrays
            that have more than 300 kB compressed, whatever becomes of the pictures.
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
    for content in _finest_first(arrays, pictures or {}, about):
        if len(content) <= EXHIBIT_BYTES:
            break
    else:
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


def _finest_first(arrays: Mapping, pictures: Mapping, about: dict) -> Iterator[bytes]:
    """Yield an exhibit's content with ever coarser pictures."""
    half = {k: p if p.dtype == torch.uint8 else p.half() for k, p in pictures.items()}
    yield _pack({**arrays, **half}, about)
    factor = 1
    while factor <= min((p.shape[-1] for p in pictures.values()), default=0):
        coarse = {name: _coarse(picture, factor) for name, picture in pictures.items()}
        note = f"Averaged over {factor} x {factor} pixels." if factor > 1 else ""
        yield _pack({**arrays, **coarse}, {**about, "note": f"{about['note']} {note}".strip()})
        factor *= 2


def _coarse(picture: torch.Tensor, factor: int) -> "torch.Tensor | _Levels":
    """Return a picture averaged over squares of pixels, in 256 levels."""
    n = picture.shape[-1]
    x = avg_pool2d(picture.float().reshape(1, -1, n, n), factor)
    x = x.reshape(*picture.shape[:-2], *x.shape[-2:])
    if picture.dtype == torch.uint8:
        return x.round().byte()
    low, high = float(x.min()), float(x.max())
    return _Levels((LEVELS * (x - low) / (high - low or 1.0)).round().byte(), low, high)


class _Levels(NamedTuple):
    """A picture as steps from 0 to LEVELS between two values."""

    steps: torch.Tensor  # uint8
    low: float
    high: float


def _pack(values: Mapping, about: Mapping) -> bytes:
    """Return a compressed npz of the values, with their kinds, origin and SHA-256 in a header."""
    kinds, arrays = {}, {}
    for name, value in values.items():
        if isinstance(value, _Levels):
            kinds[name], array = [value.low, value.high], value.steps.numpy()
        elif isinstance(value, Mapping):
            kinds[name], array = "json", np.asarray(json.dumps(value))
        elif isinstance(value, torch.Tensor):
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
    values = {name: _value(array, header["kinds"][name]) for name, array in arrays.items()}
    return values, header["about"]


def _value(array: np.ndarray, kind: str | list[float]) -> object:
    """Return what `_pack` was given."""
    if isinstance(kind, str):
        return KINDS[kind](array)
    low, high = kind
    return low + (high - low) / LEVELS * torch.from_numpy(array).float()


def content_sha256(arrays: Mapping) -> str:
    """Return the SHA-256 over names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, values in sorted(arrays.items()):
        kind = "tensor" if isinstance(values, torch.Tensor) else "array"
        raw = np.ascontiguousarray(values)
        sha256 = hashlib.sha256(raw.tobytes()).hexdigest()
        digest.update(f"{name} {[kind, str(raw.dtype), list(values.shape), sha256]}\n".encode())
    return digest.hexdigest()
