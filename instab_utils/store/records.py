"""One JSON file a result: checked against the schema, named by its key, with a checksum inside."""

import datetime
import json
import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch

from .. import profiles
from .files import DamagedFile, canonical, code_hash, folder, key, places, write

SCHEMA = 1
DIGITS = 8  # of a metric: more than single precision knows
EXPERIMENTS = (
    "reconstruct",
    "worst_case",
    "structure",
    "more_samples",
    "adv_detect",
    "art_detect",
    "adaptive",
    "inr",
    "hmc",
    "baseline",
    "bracket",
)
TASKS = ("denoising", "ct_limited", "ct_sparse", "mri_single", "mri_parallel", "inr_ct", "ct_field")
# -> key
IDENTITY = (
    "experiment",
    "task",
    "network",
    "method",
    "seed",
    "profile",
    "parameters",
    "inputs",
    "code",
)
FIELDS = {
    "schema": int,
    "key": str,
    "experiment": str,
    "task": str,
    "network": str,
    "method": str,
    "seed": int,
    "profile": str,
    "parameters": dict,
    "metrics": dict,
    "paper": (dict, type(None)),
    "inputs": list,
    "code": str,
    "device": str,
    "torch": str,
    "seconds": (int, float, type(None)),
    "created": str,
    "checksum": str,
}


def record(
    *,
    experiment: str,
    task: str,
    network: str,
    method: str,
    seed: int,
    profile: str,
    metrics: Mapping,
    parameters: Mapping | None = None,
    inputs: Iterable[str] = (),
    code: Iterable[Callable] = (),
    paper: Mapping | None = None,
    seconds: float | None = None,
    device: str | None = None,
) -> dict:
    """A checked record, ready for `save_record`; its key is the SHA-256 of everything that decides
    the result.

    Args:
        experiment, task: one of `EXPERIMENTS`, `TASKS`.
        network: the subject, e.g. "deep-mri"; method: estimator, solver, or the network's own name.
        metrics: name -> number, list of numbers, or None for a value that does not exist. A value
            with `.mean` and `.ci` (metrics.mean_ci) becomes `<name>` and `<name>_ci`, which every
            mean over images has.
        parameters: whatever else decides the result (strength, acceleration, ...).
        inputs: keys of inputs: "weights:dncnn17-s0@9f31c2d0", registry paths of data files.
        code: the functions that made the result.
        paper: {"source", "where", "value"} of the published number, optionally "spread".

    Raises:
        ValueError: naming the first field that is not as the schema says, non-finite numbers
            included.
    """
    identity = _identity(experiment, task, network, method, seed, profile, parameters, inputs, code)
    flat = {}
    for name, value in metrics.items():
        if hasattr(value, "ci"):
            flat[name], flat[f"{name}_ci"] = _number(value.mean), _ci(value)
        else:
            flat[name] = _number(value)
    result = {
        "schema": SCHEMA,
        "key": key(**identity),
        **identity,
        "metrics": flat,
        "paper": dict(paper) if paper else None,
        "device": device or device_name(),
        "torch": torch.__version__,
        "seconds": seconds,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    _check({**result, "checksum": ""})
    return result


def save_record(record: Mapping) -> Path:
    """Write a record to records/<key>.json, atomically, with its checksum inside."""
    body = {name: value for name, value in record.items() if name != "checksum"}
    _check({**body, "checksum": ""})
    body["checksum"] = key(**body)
    return write(
        folder() / "records" / f"{body['key']}.json",
        json.dumps(body, allow_nan=False, separators=(",", ":")).encode(),
    )


def load_record(key: str) -> dict | None:
    """The record called `key`; None where there is none, or only a damaged one (then with a warning
    that names it).
    """
    for place in places("records"):
        found = _read_record(place / f"{key}.json")
        if found:
            return found
    return None


def recorded(compute: Callable[[], Mapping], **fields: object) -> dict:
    """The record with these `fields` if it is stored; else compute() -> metrics is run, timed,
    recorded and saved.

    `fields` are `record`'s arguments without metrics and seconds.
    """
    identity = _identity(
        **{name: value for name, value in fields.items() if name not in ("paper", "device")}
    )
    found = load_record(key(**identity))
    if found is None:
        start = time.perf_counter()
        metrics = compute()
        seconds = round(time.perf_counter() - start, 3)
        found = load_record(save_record(record(metrics=metrics, seconds=seconds, **fields)).stem)
    return found


def records(**query: object) -> list[dict]:
    """All readable records whose fields equal the query's; a list, tuple or set means any of its
    values.
    """
    unknown = set(query) - set(FIELDS)
    if unknown:
        raise ValueError(
            f"records have no field {', '.join(sorted(unknown))}; they have {', '.join(FIELDS)}."
        )
    wanted = {
        name: set(v) if isinstance(v, (list, tuple, set)) else {v} for name, v in query.items()
    }
    found = {}
    for place in places("records"):
        for path in sorted(place.glob("*.json")):
            if path.stem not in found and (value := _read_record(path)):
                found[path.stem] = value
    return [
        r
        for _, r in sorted(found.items())
        if all(r[name] in allowed for name, allowed in wanted.items())
    ]


def latest(
    records: Iterable[Mapping], by: Callable[[Mapping], object] | None = None
) -> list[Mapping]:
    """Of each result the record that was made last, oldest first: one made again after a change of
    the code has another key.

    Args:
        by: record -> what makes two records the same result; by default all that was asked for,
            which is `IDENTITY` without the inputs and the code.
    """
    asked = by or (
        lambda r: key(**{name: r[name] for name in IDENTITY if name not in ("inputs", "code")})
    )
    by_age = sorted(records, key=lambda r: r["created"])
    return sorted({asked(r): r for r in by_age}.values(), key=lambda r: r["created"])


def table(**query: object):
    """`records` as a pandas DataFrame: one row a record, one column a field, parameter and metric."""
    import pandas

    return pandas.DataFrame(
        [
            {
                **{k: v for k, v in r.items() if k not in ("parameters", "metrics")},
                **r["parameters"],
                **r["metrics"],
            }
            for r in records(**query)
        ]
    )


def device_name() -> str:
    """The GPU's name, or "cpu"."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _identity(
    experiment, task, network, method, seed, profile, parameters=None, inputs=(), code=()
) -> dict:
    return {
        "experiment": experiment,
        "task": task,
        "network": network,
        "method": method,
        "seed": seed,
        "profile": profile,
        "parameters": dict(parameters or {}),
        "inputs": sorted(inputs),
        "code": code_hash(*code),
    }


# files whose checksum and fields were found right, by what changes with their content
_sound: set[tuple] = set()


def _read_record(path: Path) -> dict | None:
    try:
        about = path.stat()
        seen = str(path), about.st_mtime_ns, about.st_size
        value = json.loads(path.read_bytes())
        checksum = value.pop("checksum")
        if seen in _sound:
            return value
        if checksum != key(**value):
            raise DamagedFile("its checksum does not match its content")
        _check({**value, "checksum": checksum})
        if not path.stem == value["key"] == key(**{name: value[name] for name in IDENTITY}):
            raise DamagedFile("its name, its key and its content disagree")
        _sound.add(seen)
        return value
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as reason:
        warnings.warn(
            f"{path} is damaged and not read: {reason}. It is recomputed and overwritten when next needed.",
            RuntimeWarning,
            stacklevel=3,
        )
        return None


def _check(record: Mapping) -> None:
    """ValueError naming the first field that is not as the schema says."""
    for name, kind in FIELDS.items():
        if (
            name not in record
            or not isinstance(record[name], kind)
            or isinstance(record[name], bool)
        ):
            raise ValueError(f"a record's {name!r} must be {kind}; got {record.get(name)!r}")
    if set(record) - set(FIELDS):
        raise ValueError(
            f"a record has no field {sorted(set(record) - set(FIELDS))}; use parameters or metrics"
        )
    choices = {
        "schema": (SCHEMA,),
        "experiment": EXPERIMENTS,
        "task": TASKS,
        "profile": profiles.NAMES,
    }
    for name, allowed in choices.items():
        if record[name] not in allowed:
            raise ValueError(f"a record's {name!r} must be one of {allowed}; got {record[name]!r}")
    for name, value in record["metrics"].items():
        values = value if isinstance(value, list) else [value]
        if not all(v is None or (isinstance(v, (int, float)) and math.isfinite(v)) for v in values):
            raise ValueError(
                f"metric {name!r} must be finite numbers; got {value!r}. None says that there is no value"
            )
        if name.endswith("_ci") and (
            name[:-3] not in record["metrics"] or value is not None and len(values) != 2
        ):
            raise ValueError(
                f"metric {name!r} must be [low, high] of a metric {name[:-3]!r}; got {value!r}"
            )
    if record["paper"] is not None and not {"source", "where", "value"} <= set(record["paper"]):
        raise ValueError(
            f"a record's 'paper' must have source, where and value; got {record['paper']!r}"
        )
    canonical(dict(record))  # JSON types only, finite numbers only


def _number(value):
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_number(v) for v in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _ci(value):
    ends = [_number(float(end)) for end in value.ci]
    return None if any(math.isnan(end) for end in ends) else ends  # one image has no interval
