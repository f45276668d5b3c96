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
from .cost import DEVICES, STREAM, TENSOR, VECTOR, hours, known
from .jobs import LEFT_OUT, Job, jobs

log = logging.getLogger(__name__)
ASSUMED = (
    f"assumed: a GPU reaches {TENSOR:.0%} of its tensor cores' peak, {VECTOR:.0%} of that of fp32 "
    f"without them, {STREAM:.0%} of its memory's, one after the other; eager calls; attacks and "
    "solvers go to their last iteration; batches are drawn meanwhile; CPU cores do nothing else"
)


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


def rows(profile: str, device: str, only: Sequence[str] = ()) -> list[Row]:
    """Return the plan of a profile, best first.

    Args:
        device: one of `DEVICES`.
        only: parts of names; those jobs and what they need.

    Raises:
        ValueError: for an unknown device, or where no job has such a name.
    """
    known(device)
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


def departures(stage: str) -> list[str]:
    """Return the sizes of a stage that are not the paper's, with the paper's in brackets."""
    pairs = profiles.STAGES[stage].items()
    changed = [(name, row) for name, row in pairs if row.published not in (None, row.paper)]
    return [f"{name} {_brief(row.paper)} ({_brief(row.published)})" for name, row in changed]


def _brief(value: object) -> str:
    return "-".join(map(str, value)) if isinstance(value, tuple) else str(value)


def text(found: list[Row], device: str) -> str:
    """Return the plan as a table, with its total, the sizes, and what is not in it."""
    head = f"{'job':42} {'evidence':>8} {'PFLOP':>8} {'GB':>5} {'hours':>7} {'sum':>7} there"
    lines, total = [f"{head}  a stop loses; sizes"], 0.0
    for job, n, flop, memory, spent, there in found:
        total += spent * (1 - there)
        numbers = f"{n:8} {flop / 1e15:8.2f} {memory / 1e9:5.1f} {spent:7.2f} {total:7.2f}"
        lines.append(f"{job.name:42} {numbers} {there:5.0%}  {job.unit}; {', '.join(job.stages)}")
    whole = sum(row.hours for row in found)
    lines.append(f"{whole:.1f} h in all on {DEVICES[device].title}, {total:.1f} h of it to do")
    if large := [row.job.name for row in found if row.memory > 0.9 * DEVICES[device].memory]:
        lines.append(f"too large for its memory: {', '.join(large)}")
    lines.append(ASSUMED)
    lines.append("sizes that are not the paper's (the paper's):")
    for stage in dict.fromkeys(stage for row in found for stage in row.job.stages):
        lines.append(f"  {stage}: {', '.join(departures(stage)) or 'none, where it gives one'}")
    lines += [f"not in the plan: {name} ({where})" for name, where in LEFT_OUT.items()]
    return "\n".join(lines)


def as_json(found: list[Row], device: str) -> str:
    """Return the plan for machines."""
    lines = []
    for row in found:
        fields = {"job": row.job.name, "needs": row.job.needs, "stop_loses": row.job.unit}
        lines.append({**row._asdict(), **fields, "stages": row.job.stages})
    sizes = {stage: departures(stage) for row in found for stage in row.job.stages}
    total = sum(row.hours for row in found)
    whole = {"device": DEVICES[device].title, "hours": total, "jobs": lines}
    whole |= {"departures": sizes, "left_out": LEFT_OUT, "assumed": ASSUMED}
    return json.dumps(whole, indent=1)


class Stopped(BaseException):
    """The time is over, or a signal asked for the end."""


@contextlib.contextmanager
def stopping(seconds: float) -> Iterator[None]:
    """Raise `Stopped` in the block after so many seconds, at SIGINT or at SIGTERM.

    Everything is written whole or not at all, so that a stop loses what is in progress. It is
    raised again every ten seconds, should a library swallow it.
    """

    def stop(number: int, _) -> None:
        raise Stopped("time is over" if number == signal.SIGALRM else signal.Signals(number).name)

    numbers = (signal.SIGALRM, signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, stop) for number in numbers]
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3), 10)
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
    left, done, failed = ["everything"], [], []
    try:
        with stopping(3600 * limit_h):
            planned = rows(profile, device, only)
            left = [row.job.name for row in planned]
            for row in planned:
                name, wrong = row.job.name, [need for need in row.job.needs if need in failed]
                log.info("%s: %.2f h, %.0f %% stored", name, row.hours, 100 * row.there)
                try:
                    if wrong:
                        raise RuntimeError(f"{name} needs {', '.join(wrong)}")
                    row.job.run()
                    done.append(name)
                except Exception:
                    log.exception("%s failed", name)
                    failed.append(name)
                left.remove(name)
                gc.collect()
                torch.cuda.empty_cache()
    except Stopped as reason:
        log.info("stopped: %s", reason)
    following = left[0] if left else "nothing"
    print(f"{len(done)} jobs done, {len(failed)} failed {failed}; next: {following}", flush=True)
    return int(bool(failed))
