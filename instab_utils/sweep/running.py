"""Check a plan, run what is missing of it, and store each result as it comes."""

import contextlib
import datetime
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm import tqdm

from .. import store
from ..store.files import canonical, places, write
from .plan import Plan, SweepError, did_you_mean
from .pool import pool
from .subject import Function, Notebook
from .values import RESERVED, is_json


class Job(NamedTuple):
    """One configuration: its place in the plan, all its parameters, the hash of the code, and the
    name of its result.
    """

    position: int
    parameters: dict
    code: str
    key: str


def run(
    what: Callable | str | Path,
    plan: Plan | Iterable[Mapping],
    *,
    workers: int | None = None,
    address: str | None = None,
    host: str = "127.0.0.1",
    dashboard: bool = False,
    resources: Mapping[str, float] | None = None,
    collect: str = "",
    batch_by: Sequence[str] = (),
    batch_size: int = 64,
    strict: bool = False,
    progress: bool | None = None,
):
    """Run every configuration that has no stored result yet; the table of all.

    Args:
        what: a function of named parameters that returns a dictionary of numbers, itself or as
            "module:function"; or the path of a notebook (.py with `# %%` cells, or .ipynb). Its
            results may depend on its parameters only, seeds included.
        plan: configurations, from `grid` for instance, or successive halving, from `halving`.
        workers: processes of one thread each; default: a core each, or a GPU each where `resources`
            asks for GPUs. 0 runs the jobs here, one after the other, with the same results.
        address: of a running dask scheduler, such as "tcp://10.0.0.1:8786", instead of processes on
            this machine.
        host, dashboard: see `cluster`.
        resources: what a job takes of a worker, as {"GPU": 1}.
        collect: for a notebook: an expression in its names, evaluated at its end, that is a
            dictionary of numbers.
        batch_by: parameters that decide the shape of a job. Configurations that agree in them go
            together, at most `batch_size`, to what.batched(list of dictionaries) -> list of
            dictionaries.
        strict: raise SweepError at the end if a job failed; its `table` has the rest.
        progress: show a bar; None does, except while a book is built.

    Returns:
        A DataFrame in the plan's order, one row a job: key, rung (of halving), parameters, metrics,
        status ("done", "stored" from before, "failed"), seconds (of a batch: divided among its
        jobs) and error, a traceback's last line.

    Raises:
        SweepError: listing everything that is wrong with the plan; then nothing has run.
    """
    import pandas

    subject, plan = _checked(what, plan, collect, workers, address, resources, batch_by, batch_size)
    shown = not os.environ.get("INSTAB_BOOK") if progress is None else progress
    rows, positions = [], range(len(plan.configs))
    with contextlib.ExitStack() as stack:
        send = None
        for rung in range(len(plan.rungs) or 1):
            jobs = _jobs(subject, plan.at(rung, positions), positions)
            found = {job.key: result for job in jobs if (result := _load(job.key))}
            missing = [job for job in jobs if job.key not in found]
            if missing and send is None:
                send = stack.enter_context(
                    pool(subject, workers, address, host, dashboard, resources)
                )
            batches = _batches(missing, batch_by, batch_size)
            done = _finish(subject, batches, send, bool(batch_by), shown) if missing else {}
            for job in jobs:
                result, status = (
                    (found[job.key], "stored") if job.key in found else (done[job.key], "done")
                )
                status = "failed" if result["error"] else status
                rows.append(
                    {
                        "key": job.key,
                        **({"rung": rung} if plan.rungs else {}),
                        **job.parameters,
                        **(result["metrics"] or {}),
                        "status": status,
                        "seconds": result["seconds"],
                        "error": result["error"],
                    }
                )
            if plan.rungs[rung + 1 :]:
                positions = _next(plan, jobs, {**found, **done})
                if not positions:
                    break
    table = pandas.DataFrame(rows)
    failed = [row for row in rows if row["status"] == "failed"]
    if strict and failed:
        error = SweepError(
            f"{len(failed)} of {len(rows)} jobs failed; the rest is done and stored. "
            f"Run the sweep again to repeat only these. First: {failed[0]['error']}"
        )
        error.table = table
        raise error
    return table


def preview(
    what: Callable | str | Path,
    plan: Plan | Iterable[Mapping],
    *,
    workers: int | None = None,
    address: str | None = None,
    resources: Mapping[str, float] | None = None,
    collect: str = "",
    batch_by: Sequence[str] = (),
    batch_size: int = 64,
) -> str:
    """What `run` would do: jobs, results that are there, and hours if the plan says
    seconds_per_job. Checks, runs nothing.
    """
    subject, plan = _checked(what, plan, collect, workers, address, resources, batch_by, batch_size)
    lines, positions, seconds, sizes = [], range(len(plan.configs)), 0.0, plan.sizes()
    for rung in range(len(plan.rungs) or 1):
        name = f"rung {rung} ({plan.budget} = {plan.rungs[rung]})" if plan.rungs else subject.name
        share = plan.rungs[rung] / plan.rungs[-1] if plan.rungs else 1.0
        n_missing = sizes[rung]
        if positions is None:
            lines.append(f"{name}: at most {sizes[rung]} jobs; which ones is not known yet")
        else:
            jobs = _jobs(subject, plan.at(rung, positions), positions)
            found = {job.key: result for job in jobs if (result := _load(job.key))}
            n_missing = len(jobs) - len(found)
            lines.append(
                f"{name}: {len(jobs)} jobs, {len(found)} already there, {n_missing} to run"
            )
            positions = (
                _next(plan, jobs, found) if plan.rungs[rung + 1 :] and not n_missing else None
            )
        seconds += n_missing * share * (plan.seconds_per_job or 0.0)
    if plan.seconds_per_job:
        n = f" on {workers} workers {seconds / workers / 3600:.3g}" if workers else ""
        lines.append(f"estimated hours on one worker {seconds / 3600:.3g}{',' if n else ''}{n}")
    return "\n".join(lines)


def _checked(
    what, plan, collect, workers, address, resources, batch_by, batch_size
) -> tuple[Function | Notebook, Plan]:
    """The subject and the plan, or SweepError with everything that is wrong."""
    plan = plan if isinstance(plan, Plan) else Plan(tuple(plan))
    found = plan.problems()
    subject = None
    if isinstance(what, Path) or isinstance(what, str) and what.endswith((".py", ".ipynb")):
        try:
            subject = Notebook.of(what, collect)
        except (OSError, ValueError) as reason:
            found.append(
                f"notebook: expected a file in .py or .ipynb; got {str(what)!r} ({reason})."
            )
        try:
            compile(collect or "{}", "collect", "eval")
        except SyntaxError as reason:
            found.append(f"collect: expected a Python expression; got {collect!r} ({reason.msg}).")
    else:
        subject = Function.of(what)
        found += (
            ["collect: expected a notebook; a function returns its metrics itself."]
            if collect
            else []
        )
    if workers is not None and not (isinstance(workers, int) and workers >= 0):
        found.append(f"workers: expected a whole number, 0 or more; got {workers!r}.")
    if address is not None and (workers is not None or "://" not in address):
        found.append(
            f"address: expected tcp://host:port and no workers, which the cluster has; got {address!r}, workers={workers}."
        )
    if any(not isinstance(n, (int, float)) or n <= 0 for n in (resources or {}).values()):
        found.append(
            f"resources: expected positive numbers as {{'GPU': 1}}; got {dict(resources)}."
        )
    if address is None and workers != 0 and set(resources or {}) - {"GPU"}:
        found.append(
            f"resources: processes on this machine offer GPU only; got {dict(resources)}. Give the address of a cluster."
        )
    if (
        address is None
        and workers is None
        and "GPU" in (resources or {})
        and not torch.cuda.is_available()
    ):
        found.append(
            "resources: expected a GPU on this machine; PyTorch finds none. Leave resources out, or give an address."
        )
    if not (isinstance(batch_size, int) and batch_size >= 1):
        found.append(f"batch_size: expected a whole number of 1 or more; got {batch_size!r}.")
    broken = subject.problems(workers == 0) if subject else []
    found += broken
    if subject and not broken:
        if batch_by and not subject.batches:
            found.append(
                f"batch_by: expected {subject.name}.batched(list of dictionaries) -> list of dictionaries; there is none."
            )
        found += _refused(subject, plan, batch_by)
    if found:
        raise SweepError(
            f"nothing was run; the sweep has {len(found)} problem{'s' * (len(found) > 1)}:\n  "
            + "\n  ".join(found)
        )
    return subject, plan


def _refused(subject, plan: Plan, batch_by: Sequence[str]) -> list[str]:
    """What is wrong with the configurations, equal problems named once."""
    by_problem, seen = {}, {}
    for i, config in enumerate(
        plan.at(0, [i for i, c in enumerate(plan.configs) if isinstance(c, Mapping)])
    ):
        found = subject.refused(config)
        plain = [name for name, value in config.items() if not is_json(value)]
        found += [
            f"{name} expects a JSON value (number, text, true, null, list, dictionary); got {config[name]!r} of type "
            f"{type(config[name]).__name__}"
            for name in plain
        ]
        found += [
            f"parameter {name!r} has the name of a column of the table; rename it"
            for name in config
            if name in RESERVED
        ]
        found += [
            f"batch_by: there is no parameter {name!r}{did_you_mean(name, subject.complete(config))}"
            for name in batch_by
            if not found and name not in subject.complete(config)
        ]
        if not found:
            first = seen.setdefault(canonical(subject.complete(config)), i)
            found = (
                [f"the same as configuration {first} once defaults are filled in; leave it out"]
                if first != i
                else []
            )
        for problem in found:
            by_problem.setdefault(problem, []).append(i)
    return [
        f"configuration{'s' * (len(which) > 1)} {_some(which)}: {problem}."
        for problem, which in by_problem.items()
    ]


def _jobs(subject, configs: list[dict], positions: Iterable[int]) -> list[Job]:
    code, jobs = subject.code(), []
    for position, config in zip(positions, configs, strict=True):
        parameters = subject.complete(config)
        jobs.append(
            Job(
                position,
                parameters,
                code,
                store.key(function=subject.name, code=code, parameters=parameters),
            )
        )
    return jobs


def _next(plan: Plan, jobs: list[Job], results: Mapping[str, dict]) -> list[int]:
    """Positions that go on to the next rung."""
    done = [(job.position, results[job.key]["metrics"]) for job in jobs]
    lacking = [metrics for _, metrics in done if metrics is not None and plan.metric not in metrics]
    if lacking:
        raise SweepError(
            f"metric: expected {plan.metric!r} among the metrics to decide who goes on; got {', '.join(lacking[0])}"
            f"{did_you_mean(plan.metric, lacking[0])}. What has run is stored."
        )
    return plan.survivors(done)


def _batches(jobs: list[Job], batch_by: Sequence[str], batch_size: int) -> list[list[Job]]:
    if not batch_by:
        return [[job] for job in jobs]
    shapes = {}
    for job in jobs:
        shapes.setdefault(canonical([job.parameters[name] for name in batch_by]), []).append(job)
    return [
        group[i : i + batch_size]
        for group in shapes.values()
        for i in range(0, len(group), batch_size)
    ]


def _finish(subject, batches: list[list[Job]], send, batched: bool, shown: bool) -> dict[str, dict]:
    """Results by key, each stored when it arrives; failures are said at once and not stored."""
    results = {}
    with tqdm(
        total=sum(map(len, batches)),
        desc=subject.name,
        disable=not shown,
        unit="job",
        dynamic_ncols=True,
    ) as bar:

        def still_missing():
            for batch in batches:
                # by another sweep meanwhile
                found = {job.key: result for job in batch if (result := _load(job.key))}
                results.update(found)
                bar.update(len(found))
                if left := [job for job in batch if job.key not in found]:
                    yield left

        for batch, (outcomes, note) in send(still_missing(), batched):
            if note:
                tqdm.write(note, file=sys.stderr)
            for job, (metrics, seconds, error) in zip(batch, outcomes, strict=True):
                results[job.key] = {"metrics": metrics, "seconds": seconds, "error": error}
                if error:
                    given = ", ".join(f"{name}={value!r}" for name, value in job.parameters.items())
                    tqdm.write(f"failed: {subject.name}({given}): {error}", file=sys.stderr)
                else:
                    _save(subject, job, metrics, seconds)
            bar.update(len(batch))
    return results


def _save(subject, job: Job, metrics: Mapping, seconds: float) -> None:
    body = {
        "function": subject.name,
        "code": job.code,
        "parameters": job.parameters,
        "metrics": metrics,
        "seconds": seconds,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    body["checksum"] = store.key(**body)
    write(
        places("sweeps")[0] / f"{job.key}.json",
        json.dumps(body, indent=1, allow_nan=False).encode(),
    )


def _load(key: str) -> dict | None:
    """The stored result of a job; None where there is none, or only a damaged one (then with a
    warning that names it).
    """
    for place in places("sweeps"):
        path = place / f"{key}.json"
        try:
            body = json.loads(path.read_bytes())
            if body.pop("checksum") != store.key(**body):
                raise ValueError("its checksum does not match its content")
            if (
                store.key(**{name: body[name] for name in ("function", "code", "parameters")})
                != key
            ):
                raise ValueError("its name and its content disagree")
            return {"metrics": body["metrics"], "seconds": body["seconds"], "error": ""}
        except FileNotFoundError:
            continue
        except (ValueError, KeyError, TypeError, AttributeError) as reason:
            warnings.warn(
                f"{path} is damaged and not read: {reason}. It is computed again and overwritten.",
                RuntimeWarning,
                stacklevel=3,
            )
    return None


def _some(which: list[int]) -> str:
    return ", ".join(map(str, which[:8])) + (
        f" and {len(which) - 8} more" if len(which) > 8 else ""
    )
