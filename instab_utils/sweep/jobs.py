"""Check a plan, run what is missing of it, and store each result as it comes."""

import contextlib
import os
import re
import sys
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from .. import store
from ..store import files, lines
from ..store.files import canonical
from .functions import CURE, Function
from .notebooks import Notebook
from .plan import Plan, SweepError
from .values import RESERVED, did_you_mean, is_json
from .workers import Workers, opened


class Job(NamedTuple):
    """One configuration: its place in the plan, all its parameters, the name of its result."""

    position: int
    parameters: dict
    key: str


class Sweep(NamedTuple):
    """A checked sweep."""

    subject: Function | Notebook
    plan: Plan
    workers: Workers
    batch_by: Sequence[str]
    version: int

    def jobs(self, rung: int, positions: Iterable[int]) -> list[Job]:
        jobs = []
        for position, config in zip(positions, self.plan.at(rung, positions), strict=True):
            parameters = self.subject.complete(config)
            key = store.key(function=self.subject.name, version=self.version, parameters=parameters)
            jobs.append(Job(position, parameters, key[:16]))
        return jobs

    def stored(self, jobs: list[Job]) -> dict[str, dict]:
        """Return the results that are there, by key."""
        keys = {job.key for job in jobs}
        rows = lines.stored("sweeps", self._file())
        return {r["key"]: {**r, "status": "stored", "error": ""} for r in rows if r["key"] in keys}

    def save(self, job: Job, result: Mapping) -> None:
        row = {
            "function": self.subject.name,
            "version": self.version,
            "parameters": job.parameters,
            "metrics": result["metrics"],
            "seconds": result["seconds"],
            "created": files.now(),
            "key": job.key,
        }
        lines.add(store.results_folder() / "sweeps" / f"{self._file()}.jsonl", row)

    def _file(self) -> str:
        return re.sub(r"[^\w.-]+", "-", self.subject.name)


def run_plan(
    what: Callable | str | Path,
    plan: Plan | Iterable[Mapping],
    *,
    workers: int | Workers | None = None,
    collect: str = "",
    batch_by: Sequence[str] = (),
    version: int = 1,
    strict: bool = False,
):
    """Run every configuration that has no stored result yet; return the table of all.

    Args:
        what: a function of named parameters that returns a dictionary of numbers, itself or as
            "module:function"; or the path of a notebook (.py with `# %%` cells, or .ipynb). Its
            results may depend on its parameters only, seeds included.
        plan: configurations, from `grid` for instance, or successive halving, from `halving`.
        workers: where jobs run; a number stands for `Workers(n)`.
        collect: for a notebook: an expression in its names, evaluated at its end, that is a
            dictionary of numbers.
        batch_by: parameters that decide the shape of a job. Configurations that agree in them go
            together to what.batched(list of dictionaries) -> list of dictionaries.
        version: of `what`; raised by hand when its meaning changes, so that it is run again.
        strict: raise SweepError at the end if a job failed; its `table` has the rest.

    Returns:
        A DataFrame in the plan's order, one row a job: key, rung (of halving), parameters, metrics,
        status ("done", "stored" from before, "failed"), seconds (of a batch: divided among its
        jobs) and error, a traceback's last line.

    Raises:
        SweepError: listing everything that is wrong with the plan; then nothing has run.
    """
    import pandas

    sweep = _checked(what, plan, workers, collect, batch_by, version)
    plan, positions, rows = sweep.plan, range(len(sweep.plan.configs)), []
    with contextlib.ExitStack() as stack:
        send = None
        for rung in range(len(plan.rungs) or 1):
            jobs = sweep.jobs(rung, positions)
            results = sweep.stored(jobs)
            missing = [job for job in jobs if job.key not in results]
            if missing:
                send = send or stack.enter_context(opened(sweep.subject, sweep.workers))
                results |= _finish(sweep, missing, send)
            for job in jobs:
                result = results[job.key]
                row = {"key": job.key, "rung": rung, **job.parameters, **(result["metrics"] or {})}
                rows.append(row | {name: result[name] for name in ("status", "seconds", "error")})
            if rung + 1 < len(plan.rungs):
                positions = _survivors(plan, jobs, results)
    table = pandas.DataFrame(rows)
    table = table if plan.rungs else table.drop(columns="rung")
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
    workers: int | Workers | None = None,
    **options: object,
) -> str:
    """Return what `run_plan` would do: jobs, results that are there, and hours; runs nothing.

    Hours are estimated where the plan has seconds_per_job. `options`: collect, batch_by, version.
    """
    sweep = _checked(what, plan, workers, **options)
    plan, positions = sweep.plan, range(len(sweep.plan.configs))
    said, seconds = [], 0.0
    for rung, n_jobs in enumerate(plan.sizes()):
        name, share = sweep.subject.name, 1.0
        if plan.rungs:
            name = f"rung {rung} ({plan.budget} = {plan.rungs[rung]})"
            share = plan.rungs[rung] / plan.rungs[-1]
        n_missing = n_jobs
        if positions is None:
            said.append(f"{name}: at most {n_jobs} jobs; which ones is not known yet")
        else:
            jobs = sweep.jobs(rung, positions)
            found = sweep.stored(jobs)
            n_missing = len(jobs) - len(found)
            said.append(f"{name}: {len(jobs)} jobs, {len(found)} already there, {n_missing} to run")
            last = rung + 1 >= len(plan.rungs)
            positions = None if n_missing or last else _survivors(plan, jobs, found)
        seconds += n_missing * share * (plan.seconds_per_job or 0.0)
    if plan.seconds_per_job:
        said.append(f"estimated hours on one worker {seconds / 3600:.3g}")
        if n := sweep.workers.n:
            said[-1] += f", on {n} workers {seconds / n / 3600:.3g}"
    return "\n".join(said)


def _checked(what, plan, workers, collect="", batch_by=(), version=1) -> Sweep:
    """Return the sweep; SweepError with everything that is wrong."""
    plan = plan if isinstance(plan, Plan) else Plan(tuple(plan))
    workers = workers if isinstance(workers, Workers) else Workers(workers)
    found = plan.problems() + workers.problems()
    subject = None
    if isinstance(what, Path) or (isinstance(what, str) and what.endswith((".py", ".ipynb"))):
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
        if collect:
            found.append("collect: expected a notebook; a function returns its metrics itself.")
    broken = subject.problems(workers.n == 0) if subject else []
    if callable(what) and not broken and what is not subject.fn():
        broken.append(f"function: {subject.name} is not what is imported under this name. {CURE}")
    found += broken
    if subject and not broken:
        if batch_by and not subject.batches:
            found.append(
                f"batch_by: expected {subject.name}.batched(list of dictionaries) -> list of "
                "dictionaries; there is none."
            )
        found += _refused(subject, plan, batch_by)
    if found:
        count = "1 problem" if len(found) == 1 else f"{len(found)} problems"
        raise SweepError(f"nothing was run; the sweep has {count}:\n  " + "\n  ".join(found))
    return Sweep(subject, plan, workers, batch_by, version)


def _refused(subject, plan: Plan, batch_by: Sequence[str]) -> list[str]:
    """Return what is wrong with the configurations, equal problems named once."""
    by_problem, seen = defaultdict(list), {}
    mappings = [i for i, config in enumerate(plan.configs) if isinstance(config, Mapping)]
    for i, config in zip(mappings, plan.at(0, mappings)):
        found = subject.refused(config)
        for name, value in config.items():
            if not is_json(value):
                found.append(
                    f"{name} expects a JSON value (number, text, true, null, list, dictionary); "
                    f"got {value!r} of type {type(value).__name__}"
                )
            if name in RESERVED:
                found.append(f"parameter {name!r} has the name of a column of the table; rename it")
        if not found:
            full = subject.complete(config)
            for name in set(batch_by) - set(full):
                found.append(f"batch_by: there is no parameter {name!r}{did_you_mean(name, full)}")
            first = seen.setdefault(canonical(full), i)
            if first != i:
                found.append(
                    f"the same as configuration {first} once defaults are filled in; leave it out"
                )
        for problem in found:
            by_problem[problem].append(i)
    said = []
    for problem, which in by_problem.items():
        some = textwrap.shorten(", ".join(map(str, which)), 40, placeholder=" ...")
        said.append(f"configuration{'s' * (len(which) > 1)} {some}: {problem}.")
    return said


def _survivors(plan: Plan, jobs: list[Job], results: Mapping[str, dict]) -> list[int]:
    """Return the positions that go on to the next rung."""
    done = [(job.position, results[job.key]["metrics"]) for job in jobs]
    for _, metrics in done:
        if metrics is not None and plan.metric not in metrics:
            raise SweepError(
                f"metric: expected {plan.metric!r} among the metrics to decide who goes on; got "
                f"{', '.join(metrics)}{did_you_mean(plan.metric, metrics)}. What has run is stored."
            )
    return plan.survivors(done)


def _batches(sweep: Sweep, jobs: list[Job]) -> list[list[Job]]:
    """Return the jobs that go together: those that agree in `batch_by`, or each alone."""
    if not sweep.batch_by:
        return [[job] for job in jobs]
    groups = defaultdict(list)
    for job in jobs:
        groups[canonical([job.parameters[name] for name in sweep.batch_by])].append(job)
    n = sweep.workers.batch_size
    return [group[i : i + n] for group in groups.values() for i in range(0, len(group), n)]


def _finish(sweep: Sweep, jobs: list[Job], send: Callable) -> dict[str, dict]:
    """Return results by key, each stored when it arrives; failures are printed, not stored.

    A bar shows how far it is, except while a book is built.
    """
    results = {}
    name = sweep.subject.name
    hidden = bool(os.environ.get("INSTAB_BOOK"))
    bar = tqdm(total=len(jobs), desc=name, disable=hidden, unit="job", dynamic_ncols=True)

    def still_missing():
        for batch in _batches(sweep, jobs):
            found = sweep.stored(batch)  # by another sweep meanwhile
            results.update(found)
            bar.update(len(found))
            left = [job for job in batch if job.key not in found]
            if left:
                yield left

    with bar:
        for batch, (found, note) in send(still_missing()):
            if note:
                tqdm.write(note, file=sys.stderr)
            for job, result in zip(batch, found, strict=True):
                error = result["error"]
                results[job.key] = {**result, "status": "failed" if error else "done"}
                if error:
                    given = ", ".join(f"{k}={v!r}" for k, v in job.parameters.items())
                    tqdm.write(f"failed: {name}({given}): {error}", file=sys.stderr)
                else:
                    sweep.save(job, result)
            bar.update(len(batch))
    return results
