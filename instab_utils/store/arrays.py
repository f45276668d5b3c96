"""Arrays and weights on disk: results looked up instead of recomputed, network weights, exhibits of
the book.
"""

import dataclasses
import datetime
import hashlib
import io
import json
import re
import time
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch

from .. import profiles
from .files import DamagedFile, canonical, find, folder, key, places, write
from .rows import device_name

CARD = ("architecture", "data", "steps", "seed", "validation", "licence")
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
    digest = key(name=_checked(name), version=version, parameters=_digest(parameters))
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
    """Write exhibits/<name>.npz: small lossless arrays that a page shows where the data are not at
    hand.

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
            f"exhibit {name!r} is made from {closed or 'unnamed data'}. Exhibits are passed on and need "
            "data whose licence allows that, by name: use vs-seg-001, volumes, bsd or a phantom."
        )
    about = {
        "data": data,
        "profile": profiles.get(profile).name,
        "seed": int(seed),
        "version": version,
        "note": note,
        "device": device_name(),
        "torch": torch.__version__,
        "created": _now(),
    }
    content = _pack(arrays, about)
    if len(content) > EXHIBIT_BYTES:
        raise ValueError(
            f"exhibit {name!r} has {len(content) / 1000:.0f} kB; at most {EXHIBIT_BYTES // 1000} kB. "
            "Store fewer frames, a crop, or uint8 / float16."
        )
    write(folder() / "exhibits" / f"{_checked(name)}.npz", content)
    return name


def load_exhibit(name: str) -> tuple[dict[str, object], dict]:
    """(arrays, provenance) of an exhibit. FileNotFoundError where there is none, DamagedFile where
    it is altered.
    """
    return _unpack(_existing("exhibits", f"{_checked(name)}.npz"))


def save_weights(
    name: str, state: Mapping[str, torch.Tensor], card: Mapping, half: bool = False
) -> str:
    """Write weights/<name>.safetensors with its card inside, and the card again as <name>.json for
    people to read.

    Args:
        name: letters, digits, hyphens, underscores, e.g. "dncnn17-s0".
        state: a module's state_dict().
        card: at least architecture, data, steps, seed, validation (score) and licence; JSON values.
        half: store floating-point tensors as float16 (where that costs less than 0.05 dB; measure
            it).

    Returns:
        The input key for records, "weights:<name>@<first 8 hex digits of the SHA-256 of the
        tensors>".
    """
    from safetensors.torch import save

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
        "name": _checked(name),
        "float16": half,
        "created": _now(),
        "sha256": _content(state),
    }
    content = save(state, {"card": canonical(card).decode()})
    write(folder() / "weights" / f"{name}.safetensors", content)
    write(
        folder() / "weights" / f"{name}.json", json.dumps(card, indent=1, allow_nan=False).encode()
    )
    return f"weights:{name}@{card['sha256'][:8]}"


def load_weights(name: str) -> tuple[dict[str, torch.Tensor], dict]:
    """(state, card); float16 tensors come back as float32. FileNotFoundError, or DamagedFile where
    it is altered.
    """
    from safetensors import SafetensorError, safe_open

    path = _existing("weights", f"{_checked(name)}.safetensors")
    try:
        with safe_open(str(path), "pt") as file:
            card = json.loads(file.metadata()["card"])
            state = {k: file.get_tensor(k) for k in file.keys()}
    except (SafetensorError, ValueError, KeyError, TypeError) as reason:
        raise DamagedFile(
            f"{path} is damaged and not read: {reason}. Delete it, or restore it from git."
        ) from reason
    if _content(state) != card["sha256"]:
        raise DamagedFile(
            f"{path} is damaged and not read: SHA-256 of the tensors is {_content(state)}, its card says "
            f"{card['sha256']}. Delete it, or restore it from git."
        )
    return {k: v.float() if v.dtype == torch.float16 else v for k, v in state.items()}, card


def _pack(values: Mapping, about: Mapping) -> bytes:
    """A compressed npz of the values, with a header that knows their kinds, where they come from
    and their SHA-256.
    """
    kinds = {
        k: "tensor" if isinstance(v, torch.Tensor) else "array" if np.ndim(v) else "number"
        for k, v in values.items()
    }
    arrays = {
        k: v.detach().cpu().numpy() if isinstance(v, torch.Tensor) else np.asarray(v)
        for k, v in values.items()
    }
    for k, a in arrays.items():
        if a.dtype.kind not in "biufcU" or k == _PROVENANCE:
            raise TypeError(
                f"only numeric arrays are stored; {k!r} is {a.dtype}, from {type(values[k]).__name__}."
            )
    header = {"kinds": kinds, "about": dict(about), "sha256": _content(arrays)}
    header["checksum"] = key(**header)
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays, **{_PROVENANCE: np.array(canonical(header).decode())})
    return stream.getvalue()


def _unpack(path) -> tuple[dict[str, object], dict]:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {k: file[k] for k in file.files}
        header = json.loads(str(arrays.pop(_PROVENANCE)))
        if header.pop("checksum") != key(**header) or header["sha256"] != _content(arrays):
            raise ValueError("its checksum does not match its content")
    except (
        ValueError,
        KeyError,
        TypeError,
        OSError,
        EOFError,
        zipfile.BadZipFile,
        zipfile.zlib.error,
    ) as reason:
        raise DamagedFile(f"{path} is damaged and not read: {reason}.") from reason
    back = {"tensor": torch.from_numpy, "array": lambda a: a, "number": lambda a: a.item()}
    return {k: back[header["kinds"][k]](a) for k, a in arrays.items()}, header["about"]


def _content(arrays: Mapping) -> str:
    """SHA-256 over names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {_digest(arrays[name])}\n".encode())
    return digest.hexdigest()


def _digest(value: object) -> object:
    """`value` as JSON, with arrays and generators replaced by their SHA-256."""
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
        f"cached_arrays cannot make a key of {type(value).__name__}; pass the numbers it is made from and "
        "build it inside the function."
    )


def _existing(kind: str, name: str):
    path = find(kind, name)
    if path is None:
        raise FileNotFoundError(
            f"no {kind}/{name} in {folder()} nor in the committed results. Run `make results`, or "
            "the chapter that makes it."
        )
    return path


def _checked(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ValueError(
            f"expected a name of letters, digits, hyphens and underscores; got {name!r}."
        )
    return name


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
