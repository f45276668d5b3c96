"""Everything that a profile computes: trainings, fits, and the parts of the papers' artefacts."""

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from .. import profiles, store, training
from ..stability import worst_case
from ..training.__main__ import SHIPPED
from ..training.cases import CASES, PUBLISHED, SOLVERS
from . import artefacts, drivers, findings, ledger, oala2021
from .antun2020 import ladder, records, sampling
from .oala2021.changes import NETWORKS
from .oala2021.detectors import BETAS
from .vasconcelos2021 import posterior_chains, published, table1
from .work import training_work

LEFT_OUT = {
    "antun2020 fig1": "records of worst-cases",
    "antun2020 fig3": "records of worst-cases",
    "antun2020 fig4": "records of worst-cases",
    "oala2021 fits": "each fit is a job",
    "chapters": "python -m instab_utils.book execute, minutes each from these results",
    "audits": "chapter 13, of a reader's network",
}
"""What a profile computes that is no job, and where it is."""


class Job(NamedTuple):
    """One piece of work; its results are looked up, so that a second run goes on."""

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
        ct = "" if spec.base.denoises else "_ct"
        yield _training(spec, (f"{spec.method}_fit{ct}",), (spec.base.weights,))


def _training(spec, stages: tuple[str, ...], needs: tuple[str, ...] = ()) -> Job:
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


def _share(n: int, about: Mapping | None = None, **query) -> Callable[[], float]:
    """Return a function for the share of n records, with these parameters, that are stored."""

    def there() -> float:
        found = store.records(**query)
        asked = (about or {}).items()
        return min(1.0, sum(asked <= record["parameters"].items() for record in found) / n)

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
    tuned = [spec for spec in specs if spec.base.name == oala2021.TUNED]
    yield _part(
        "oala2021",
        "published-denoiser",
        "",
        profile,
        work=functools.partial(
            drivers.detection_work, "table1", "denoising", profile, oala2021.TUNED
        ),
        stages=("detection",),
        unit="a detector",
        needs=tuple(spec.weights for spec in (tuned[0].base, *tuned)),
        there=lambda: min(1.0, len({r["seed"] for r in oala2021.recorded_tuned(profile)}) / 3),
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
        there=_share(1, {"beta": BETAS[-1]}, experiment="adv_detect", profile=profile),
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
            there=_share(1, {"n_views": views, "split": "test"}, method="bbb", **asked),
        )
        changes = len(posterior_chains.changes([views]))
        yield part(
            "hmc",
            str(views),
            work=functools.partial(drivers.chains_work, views, profile),
            stages=("hmc",),
            unit="a minute",
            feeds=f"^{views} views, \\w+, HMC",
            there=_share(changes, {"n_views": views}, experiment="hmc", profile=profile),
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
