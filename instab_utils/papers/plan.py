"""Everything that a profile computes: what it costs, in which order it pays, and running it.

A job is a training, a fit, or a part of an artefact of `papers.ARTEFACTS`; its results are looked
up, so that a second run goes on where the first one stopped.
"""

import contextlib
import functools
import gc
import logging
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch

from .. import profiles, store, training
from ..stability import worst_case
from ..training.__main__ import SHIPPED
from ..training.cases import CASES, PUBLISHED, SOLVERS
from . import artefacts, drivers, findings, ledger, oala2021
from .antun2020 import ladder, records, sampling
from .cost import DEVICES, hours
from .oala2021.changes import NETWORKS
from .oala2021.detectors import BETAS
from .vasconcelos2021 import posterior_chains, published, table1
from .work import training_work

log = logging.getLogger(__name__)
LEFT_OUT = {
    "antun2020 fig1": "records of worst-cases",
    "antun2020 fig3": "records of worst-cases",
    "antun2020 fig4": "records of worst-cases",
    "chapters": "python -m instab_utils.book execute, minutes each from these results",
    "audits": "chapter 13, of a reader's network",
}
"""What a profile computes that is no job, and where it is."""


class Job(NamedTuple):
    """One resumable piece of work."""

    name: str
    run: Callable[[], object]
    work: Callable[[], drivers.Work]
    stages: tuple[str, ...]  # of `profiles.STAGES`: its sizes
    unit: str  # that a stop loses at most
    needs: tuple[str, ...] = ()  # names of jobs
    feeds: str = ""  # regular expression of published numbers and statements
    there: Callable[[], float] = lambda: 0.0  # share of its results that is stored


def jobs(profile: str) -> dict[str, Job]:
    """Return every job of a profile by name."""
    found = [*_trainings(profile), *_antun(profile), *_oala(profile), *_vasconcelos(profile)]
    return {job.name: job for job in found}


def _trainings(profile: str) -> Iterator[Job]:
    for name, seed in SHIPPED:
        yield _training(training.recipe(name, profile, seed), (f"train {name}",))
    for spec in oala2021.shipped_fits(profile):
        ct = "" if spec.base.name == "dncnn" else "_ct"
        yield _training(spec, (f"{spec.method}_fit{ct}",), (spec.base.weights,))


def _training(spec: store.weights.Spec, stages: tuple[str, ...], needs: tuple[str, ...] = ()) -> Job:
    return Job(
        spec.weights,
        functools.partial(store.load_or_train, spec),
        functools.partial(training_work, spec),
        stages,
        "a minute",
        needs,
        there=lambda: float(store.is_trained(spec)),
    )


def _part(paper: str, name: str, part: str, profile: str, **fields) -> Job:
    """Return the job of one part of an artefact, or of a whole one ("")."""
    artefact = artefacts(paper)[name]
    only = {"only": [part]} if part else {}
    run = functools.partial(artefact.run, profile, **only)
    return Job(f"{paper} {name} {part}".strip(), run, **fields)


def _share(n: int, keep=lambda about: True, **query) -> Callable[[], float]:
    """Return a function for the share of n records that are stored."""

    def there() -> float:
        return min(1.0, sum(keep(r["parameters"]) for r in store.records(**query)) / n)

    return there


TESTS = {  # artefact -> experiment, its statements
    "worst-cases": ("worst_case", f"(, {findings.SAYS['worst']}:|: its perturbation)"),
    "fig2": ("neighbourhood", ": noise on top"),
    "fig5-details": ("structure", f", {findings.SAYS['details']}:"),
    "fig5-samples": ("more_samples", f", {findings.SAYS['samples']}:"),
}


def _antun(profile: str) -> Iterator[Job]:
    size = profiles.stage("stability", profile)
    for test, (experiment, says) in TESTS.items():
        for case in CASES:
            if test == "fig5-samples" and case in sampling.EXCLUDED:
                continue
            kind = SOLVERS.get(case, case)
            needs = () if kind in PUBLISHED else (training.recipe(kind, profile).weights,)
            n_attacks = 1 if case in SOLVERS else len(records.ATTACKS)
            n = {"worst-cases": len(size.strengths) * n_attacks, "fig2": len(worst_case.FRACTIONS)}
            yield _part(
                "antun2020",
                test,
                case,
                profile,
                work=functools.partial(drivers.case_work, test, case, profile),
                stages=("stability",),
                unit="a rate" if test == "fig5-samples" else "an image",
                needs=needs,
                feeds=f"^{re.escape(training.title(case))}{says}",
                there=_share(n.get(test, 1), experiment=experiment, network=case, profile=profile),
            )
    for name in ladder.NETWORKS:
        work = functools.partial(drivers.ladder_work, name, profile)
        fields = dict(work=work, stages=("budget",), unit="a network")
        yield _part("antun2020", "ladders", name, profile, **fields)


def _oala(profile: str) -> Iterator[Job]:
    specs = oala2021.shipped_fits(profile)
    swept = [spec for spec in specs if spec.base.name == "dncnn" and spec.beta in BETAS]
    says = "|".join(ledger.EXPERIMENTS.values())
    for task, network in NETWORKS.items():
        fits = [spec for spec in specs if spec.base.name == network and spec not in swept]
        bases = [training.recipe(network, profile, seed) for seed in oala2021.table1.SEEDS]
        for name, experiment in (("table1", "adv_detect"), ("alarms", "adaptive")):
            needed = [*bases, *fits] if name == "table1" else [s for s in fits if s.seed == 0]
            yield _part(
                "oala2021",
                name,
                task,
                profile,
                work=functools.partial(drivers.detection_work, name, task, profile),
                stages=("detection",) if name == "table1" else ("detection", "alarm"),
                unit="a detector",
                needs=tuple(spec.weights for spec in needed),
                feeds=f"^{ledger.TASKS[task]}, ({says})" if name == "table1" else "",
                there=_share(1, experiment=experiment, task=task, profile=profile),
            )
    yield _part(
        "oala2021",
        "sweep",
        "",
        profile,
        work=functools.partial(drivers.detection_work, "sweep", "denoising", profile),
        stages=("detection",),
        unit="a detector",
        needs=tuple(spec.weights for spec in swept),
        there=_share(1, lambda about: "beta" in about, experiment="adv_detect", profile=profile),
    )


def _vasconcelos(profile: str) -> Iterator[Job]:
    learned = "|".join(name for key, name in ledger.LEARNED.items() if key != "hmc")
    classical = "|".join({method.upper() for _, method in published.CLASSICAL})
    part = functools.partial(_part, "vasconcelos2021", profile=profile)
    asked = {"experiment": "inr", "profile": profile}
    for views in published.VIEWS:
        sweeps = []
        for method in ("dropout", "bbb"):
            sweeps.append(f"vasconcelos2021 sweep {method} {views}")
            yield Job(
                sweeps[-1],
                functools.partial(table1.best_settings, method, views, profile),
                functools.partial(drivers.sweep_work, method, views, profile),
                ("inr",) if method == "dropout" else ("inr_bbb", "inr"),
                "a trial",
                feeds=f"^{views} views: sine|Ω" if method == "dropout" else "",
            )
        yield part(
            "table1",
            str(views),
            work=functools.partial(drivers.finals_work, views, profile),
            stages=("inr",),
            unit="a stack of fields",
            needs=tuple(sweeps),
            feeds=f"^{views} views(, \\w+, ({learned}):|: (?!sine))",
            there=_share(1, lambda about: about.get("n_views") == views, method="bbb", **asked),
        )
        changes = len(posterior_chains.changes([views]))
        yield part(
            "hmc",
            str(views),
            work=functools.partial(drivers.chains_work, views, profile),
            stages=("hmc",),
            unit="a minute",
            feeds=f"^{views} views, \\w+, HMC",
            there=_share(
                changes,
                lambda about: about["n_views"] == views,
                experiment="hmc",
                profile=profile,
            ),
        )
        yield part(
            "explorer",
            str(views),
            work=functools.partial(drivers.explorer_work, views, profile),
            stages=("inr",),
            unit="a stack of fields",
        )
    whole = {
        "baselines": (drivers.classical_work, f"views, \\w+, ({classical})$| SIRT "),
        "real_data": (drivers.real_data_work, ""),
        "field_alarms": (drivers.field_alarms_work, ""),
    }
    for name, (work, feeds) in whole.items():
        work = functools.partial(work, profile)
        yield part(name, "", work=work, stages=(name,), unit="a result", feeds=feeds)


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
    head = f"{'job':42} {'evidence':>8} {'PFLOP':>8} {'GB':>5} {'hours':>7} {'sum':>7} there  a stop"
    lines = [f"{head} loses; not the paper's size (the paper's)"]
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

    Everything is written whole or not at all: a stop loses what is in progress. It is raised again
    every minute, should a library swallow it.
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


def run(profile: str, hours: float, device: str, only: Sequence[str] = ()) -> int:
    """Run the plan, best first, for at most so many hours; return the exit status.

    A job that fails is reported, what needs it is left out, the rest is run; then the status is 1.
    """
    done, failed, now = [], [], "the plan"
    try:
        with stopping(3600 * hours):
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
