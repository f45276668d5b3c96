"""Records of results: checked rows, looked up by what was asked for.

The records of an experiment are the lines of records/<experiment>.jsonl. A record is keyed by what
was asked (experiment, task, network, method, seed, profile, parameters, inputs); it answers a
question asked again while its `version` is still that of the function that computes.
"""

import copy
import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch

from .. import profiles
from . import lines
from .files import DamagedFile, canonical, key, now, results_folder

SCHEMA = 2
DIGITS = 8  # of a metric: more than single precision resolves
KEY_DIGITS = 16
EXPERIMENTS = (
    "reconstruct",
    "worst_case",
    "neighbourhood",
    "structure",
    "more_samples",
    "adv_detect",
    "art_detect",
    "alarm",
    "adaptive",
    "inr",
    "hmc",
    "baseline",
    "bracket",
    "tv_weight",
    "solver",
    "solver_worst_case",
)
TASKS = ("denoising", "ct_limited", "ct_sparse", "mri_single", "mri_parallel", "inr_ct", "ct_field")
CHOICES = {
    "schema": (SCHEMA,),
    "experiment": EXPERIMENTS,
    "task": TASKS,
    "profile": profiles.NAMES,
}
QUESTION = ("experiment", "task", "network", "method", "seed", "profile", "parameters")
FIELDS = {
    "experiment": str,
    "task": str,
    "network": str,
    "method": str,
    "seed": int,
    "profile": str,
    "parameters": dict,
    "inputs": list,
    "version": int,
    "metrics": dict,
    "paper": dict | None,
    "device": str,
    "torch": str,
    "seconds": int | float | None,
    "created": str,
    "schema": int,
    "key": str,
}


def record(  # noqa: PLR0913 the fields of a record
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
    version: int = 1,
    paper: Mapping | None = None,
    seconds: float | None = None,
) -> dict:
    """Return a checked record, ready for `save_record`.

    Args:
        experiment, task: one of `EXPERIMENTS`, `TASKS`.
        network: the subject, e.g. "deep-mri"; method: estimator, solver, or the network's own name.
        metrics: name -> number, list of numbers, or None for a value that does not exist; or
            name of a method -> such metrics of that method. A value with `.mean` and `.ci`
            (metrics.mean_ci) becomes `<name>` and `<name>_ci`, which every mean over images has.
        parameters: whatever else decides the result (strength, acceleration, ...).
        inputs: keys of inputs: "weights:dncnn17-s0@9f31c2d0", registry paths of data files.
        version: of the function that made the result; raised by hand when its meaning changes.
        paper: {"source", "where", "value"} of the published number, optionally "spread".

    Raises:
        ValueError: naming the first field that is not as the schema says, non-finite numbers
            included.
    """
    result = {
        "experiment": experiment,
        "task": task,
        "network": network,
        "method": method,
        "seed": seed,
        "profile": profile,
        "parameters": dict(parameters or {}),
        "inputs": sorted(inputs),
        "version": version,
        "metrics": _plain(metrics),
        "paper": dict(paper) if paper else None,
        "device": profiles.device_name(),
        "torch": torch.__version__,
        "seconds": seconds,
        "created": now(),
        "schema": SCHEMA,
    }
    result["key"] = _key(result)
    _check(result)
    return result


def save_record(record: Mapping) -> Path:
    """Write a record into its experiment's file, in place of the one with the same key."""
    return save_records([record])[0]


def save_records(records: Iterable[Mapping]) -> list[Path]:
    """Write records, those of one experiment all or none; return the files of the experiments."""
    by_experiment: dict[str, list[dict]] = {}
    for record in records:
        _check(record)
        by_experiment.setdefault(record["experiment"], []).append(dict(record))
    folder = results_folder() / "records"
    return [
        lines.add(folder / f"{experiment}.jsonl", *rows, check=_check)
        for experiment, rows in by_experiment.items()
    ]


def cached(compute: Callable[[], Mapping], *, version: int = 1, **identity: object) -> dict:
    """Return the record with this identity and version; where there is none, compute and save it.

    Args:
        compute: () -> metrics, run and timed where no such record is stored.
        version: see `record`.
        identity: `record`'s other arguments, without metrics and seconds.
    """
    asked = record(metrics={}, version=version, **identity)
    stored = _stored(asked)
    if stored is None:
        start = time.perf_counter()
        metrics = compute()
        seconds = round(time.perf_counter() - start, 3)
        save_record(record(metrics=metrics, version=version, seconds=seconds, **identity))
        stored = _stored(asked)
    return stored


def records(**query: object) -> list[dict]:
    """Return the records whose fields equal the query's, oldest first.

    A list, tuple or set in the query means any of its values. Of several records with the same
    question (`QUESTION`: all that was asked for but the inputs) only the newest is returned.
    """
    unknown = set(query) - set(FIELDS)
    if unknown:
        raise ValueError(
            f"records have no field {', '.join(sorted(unknown))}; they have {', '.join(FIELDS)}."
        )
    wanted = {}
    for name, value in query.items():
        wanted[name] = value if isinstance(value, (list, tuple, set)) else (value,)
    found = []
    for experiment in wanted.get("experiment", EXPERIMENTS):
        for row in lines.stored("records", experiment, _check):
            if all(row[name] in wanted[name] for name in wanted):
                found.append(row)
    found.sort(key=lambda row: row["created"])
    newest = {canonical([row[name] for name in QUESTION]): row for row in found}
    return copy.deepcopy(sorted(newest.values(), key=lambda row: row["created"]))


def table(**query: object):
    """Return `records` as a pandas DataFrame: one row a record, one column a field or parameter.

    A metric of a method has the column "<method>.<metric>".
    """
    import pandas

    rows = []
    for row in records(**query):
        fields = {k: v for k, v in row.items() if k not in ("parameters", "metrics")}
        rows.append({**fields, **row["parameters"], **_flat(row["metrics"])})
    return pandas.DataFrame(rows)


def _stored(asked: Mapping) -> dict | None:
    """Return the record with the key and version of `asked`."""
    for row in reversed(lines.stored("records", asked["experiment"], _check)):
        if (row["key"], row["version"]) == (asked["key"], asked["version"]):
            return copy.deepcopy(row)
    return None


def _key(record: Mapping) -> str:
    return key(**{name: record[name] for name in (*QUESTION, "inputs")})[:KEY_DIGITS]


def _flat(metrics: Mapping) -> dict:
    """Return metrics without nesting: those of a method as "<method>.<metric>"."""
    flat = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": v for inner, v in value.items()}
        else:
            flat[name] = value
    return flat


def _check(record: Mapping) -> None:
    """Raise ValueError naming the first field that is not as the schema says."""
    if record.keys() != FIELDS.keys():
        raise ValueError(f"a record has the fields {', '.join(FIELDS)}; got {', '.join(record)}")
    for name, kind in FIELDS.items():
        value = record[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"a record's {name!r} must be {kind}; got {value!r}")
    for name, allowed in CHOICES.items():
        if record[name] not in allowed:
            raise ValueError(f"a record's {name!r} must be one of {allowed}; got {record[name]!r}")
    flat = _flat(record["metrics"])
    for name, value in flat.items():
        _check_metric(name, value, flat)
    paper = record["paper"]
    if paper is not None and not {"source", "where", "value"} <= set(paper):
        raise ValueError(f"a record's 'paper' must have source, where and value; got {paper!r}")
    canonical(dict(record))  # JSON types only, finite numbers only
    if record["key"] != _key(record):
        raise DamagedFile("its key and its content disagree")


def _check_metric(name: str, value: object, metrics: Mapping) -> None:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(v, int | float | None) and math.isfinite(v or 0) for v in values):
        raise ValueError(
            f"metric {name!r} must be finite numbers; got {value!r}. None says that there is no "
            "value"
        )
    if not name.endswith("_ci"):
        return
    mean = name.removesuffix("_ci")
    if mean not in metrics or (value is not None and len(values) != 2):
        raise ValueError(f"metric {name!r} must be [low, high] of a metric {mean!r}; got {value!r}")


def _plain(metrics: Mapping) -> dict:
    """Return metrics as JSON: a mean with an interval as two values, numbers at `DIGITS`."""
    plain = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            plain[name] = _plain(value)
        elif hasattr(value, "ci"):
            plain[name] = _number(value.mean)
            plain[f"{name}_ci"] = _interval(value.ci)
        else:
            plain[name] = _number(value)
    return plain


def _number(value: object) -> object:
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_number(v) for v in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _interval(ci: Iterable[float]) -> list[float] | None:
    ends = [_number(float(end)) for end in ci]
    return None if any(math.isnan(end) for end in ends) else ends  # one image has no interval
