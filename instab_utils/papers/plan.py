"""The plan of a profile: what every job costs on a device, in which order it pays, running it."""

import contextlib
import gc
import json
import logging
import re
import signal
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from .. import profiles
from . import findings, ledger
from .cost import DEVICES, hours
from .jobs import LEFT_OUT, Job, jobs

log = logging.getLogger(__name__)


def evidence(found: dict[str, Job], profile: str) -> dict[str, int]:
    """Return how many published numbers and statements each job feeds, one more for an artefact.

    A training or a fit feeds what needs it.
    """
    texts = [line.what for line in ledger.lines(profile)]
    texts += [finding.says for finding in findings.findings(profile)]
    counts = {}
    for name, job in found.items():
        own = [text for text in texts if job.feeds and re.search(job.feeds, text)]
        counts[name] = len(own) + (" " in name)
    return counts


def order(needs: dict[str, Sequence[str]], gain: dict[str, float], cost: dict) -> list[str]:
    """Return all names, the largest gain an hour first, and each after what it needs.

    A job is weighed with everything that it still needs.
    """
    planned = []

    def missing(name: str) -> list[str]:
        before = [other for need in needs[name] for other in missing(need)]
        return list(dict.fromkeys([*before, *([] if name in planned else [name])]))

    while left := [name for name in needs if name not in planned]:
        groups = [missing(name) for name in left]

        def rate(group: list[str]) -> float:
            return sum(gain[name] for name in group) / (1e-6 + sum(cost[name] for name in group))

        planned += max(groups, key=rate)
    return planned


class Row(NamedTuple):
    """One line of the plan."""

    job: Job
    evidence: int
    flop: float
    memory: float  # bytes
    hours: float  # of all of it
    there: float  # share that is stored


def as_json(found: list[Row], device: str) -> str:
    """Return the plan for machines."""
    lines = []
    for row in found:
        numbers = row._asdict() | {"job": row.job.name, "needs": row.job.needs}
        lines.append(numbers | {"unit": row.job.unit, "departures": departures(row.job.stages)})
    total = sum(row.hours for row in found)
    whole = {"device": DEVICES[device].title, "hours": total, "jobs": lines, "left_out": LEFT_OUT}
    return json.dumps(whole, indent=1)


def rows(profile: str, device: str, only: Sequence[str] = ()) -> list[Row]:
    """Return the plan of a profile, best first.

    Args:
        device: one of `DEVICES`.
        only: parts of names; those jobs and what they need.

    Raises:
        ValueError: for an unknown device, or where no job has such a name.
    """
    found = jobs(profile)
    gain = evidence(found, profile)
    needs = {name: job.needs for name, job in found.items()}
    if only:
        chosen = [name for name in found if any(part in name for part in only)]
        if not chosen:
            raise ValueError(f"no job has a name with {' or '.join(only)}; see `plan`.")
        for name in chosen:
            chosen += [need for need in needs[name] if need not in chosen]
        needs = {name: needs[name] for name in found if name in chosen}
    table = {}
    for name in needs:
        job, there = found[name], found[name].there()
        work = job.work()
        spent = sum(hours(cost, precision, device) for cost, precision in work)
        flop, memory = sum(c.flop for c, _ in work), max(c.memory for c, _ in work)
        table[name] = Row(job, gain[name], flop, memory, spent, there)
    cost = {name: row.hours * (1 - row.there) for name, row in table.items()}
    return [table[name] for name in order(needs, gain, cost)]


def departures(stages: Sequence[str]) -> str:
    """Return the sizes of stages that are not the paper's, with the paper's in brackets."""
    said = []
    for stage in stages:
        for name, row in profiles.STAGES[stage].items():
            if row.published is not None and row.published != row.paper:
                said.append(f"{name} {_brief(row.paper)} ({_brief(row.published)})")
    return ", ".join(said)


def _brief(value: object) -> str:
    return "-".join(map(str, value)) if isinstance(value, tuple) else str(value)


def text(found: list[Row], device: str) -> str:
    """Return the plan as a table, with its total and what is not in it."""
    head = f"{'job':42} {'evidence':>8} {'PFLOP':>8} {'GB':>5} {'hours':>7} {'sum':>7} there "
    lines = [f"{head} a stop loses; not the paper's size (the paper's)"]
    total = 0.0
    for job, n, flop, memory, spent, there in found:
        total += spent * (1 - there)
        numbers = f"{n:8} {flop / 1e15:8.2f} {memory / 1e9:5.1f} {spent:7.2f} {total:7.2f}"
        said = f"{job.unit}; {departures(job.stages)}".removesuffix("; ")
        lines.append(f"{job.name:42} {numbers} {there:5.0%}  {said}")
    whole = sum(row.hours for row in found)
    lines.append(f"{whole:.1f} h in all on {DEVICES[device].title}, {total:.1f} h of it to do")
    too_large = [r.job.name for r in found if r.memory > 0.9 * DEVICES[device].memory]
    if too_large:
        lines.append(f"does not fit its memory: {', '.join(too_large)}")
    lines += [f"not in the plan: {name} ({where})" for name, where in LEFT_OUT.items()]
    return "\n".join(lines)


class Stopped(BaseException):
    """The time is over, or a signal asked for the end."""


@contextlib.contextmanager
def stopping(seconds: float) -> Iterator[None]:
    """Raise `Stopped` in the block after so many seconds, at SIGINT or at SIGTERM.

    Everything is written whole or not at all, so that a stop loses what is in progress. It is
    raised again every minute, should a library swallow it.
    """

    def stop(number: int, _) -> None:
        raise Stopped("time is over" if number == signal.SIGALRM else signal.Signals(number).name)

    numbers = (signal.SIGALRM, signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, stop) for number in numbers]
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3), 60)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)


def run(profile: str, device: str, only: Sequence[str], limit_h: float) -> int:
    """Run the plan, best first, for at most `limit_h` hours; return the exit status.

    A job that fails is reported, what needs it is left out, the rest is run; then the status is 1.
    """
    done, failed, now = [], [], "the plan"
    try:
        with stopping(3600 * limit_h):
            for row in rows(profile, device, only):
                now, job = row.job.name, row.job
                if wrong := [need for need in job.needs if need in failed]:
                    log.error("%s: not run, it needs %s", now, ", ".join(wrong))
                    failed.append(now)
                    continue
                log.info("%s: %.2f h, %.0f %% stored", now, row.hours, 100 * row.there)
                try:
                    job.run()
                    done.append(now)
                except Exception:
                    log.exception("%s failed", now)
                    failed.append(now)
                gc.collect()
                torch.cuda.empty_cache()
            now = "nothing"
    except Stopped as reason:
        log.info("stopped: %s", reason)
    print(f"{len(done)} jobs done, {len(failed)} failed {failed}; next: {now}", flush=True)
    return int(bool(failed))
