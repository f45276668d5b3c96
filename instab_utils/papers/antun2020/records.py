"""The three tests of every case, as records: what is stored is returned, what is missing is run."""

import logging
from collections.abc import Mapping

from ... import profiles, store, training
from ...data import DataUnavailable
from ...networks import Case
from ...stability import more_samples, structure, worst_case
from ...training.cases import CASES, SOLVERS
from . import sampling

log = logging.getLogger(__name__)

ATTACKS = (("prediction", "image"), ("truth", "image"), ("prediction", "measurement"))
"""(target, domain) of test 1; shearlets are put to the first alone."""


def stored(experiment: str, name: str, profile: str, **parameters: object) -> list[dict]:
    """Return the records of a case that have these parameters, oldest first."""
    method = name.removesuffix("-published")
    rows = store.records(experiment=experiment, network=name, profile=profile, method=method)
    return [row for row in rows if parameters.items() <= row["parameters"].items()]


def save(experiment: str, case: Case, profile: str, parameters: Mapping, metrics: Mapping) -> dict:
    """Save and return one record of a case."""
    record = store.record(
        experiment=experiment,
        task=case.task,
        network=case.name,
        method=case.name.removesuffix("-published"),
        seed=0,
        profile=profile,
        parameters=parameters,
        inputs=[case.source],
        metrics={**metrics, "n_images": len(case.x)},
    )
    store.save_record(record)
    return record


def worst_cases(
    name: str, profile: str = "standard", target: str = "prediction", domain: str = "image"
) -> list[dict]:
    """Return the records of test 1 of one case, one for each strength."""
    size = profiles.stage("stability", profile)
    rows = stored("worst_case", name, profile, target=target, domain=domain)
    if len(rows) == len(size.strengths):
        return rows
    case = training.case(name, profile)
    about = {
        "target": target,
        "domain": domain,
        "tv_weight": case.tv_weight,
        "restarts": size.restarts,
    }
    return [
        save("worst_case", case, profile, {"strength": strength, **about}, metrics)
        for strength, metrics in worst_case.measure(case, size, target, domain).items()
    ]


def neighbourhoods(name: str, profile: str = "standard") -> list[dict]:
    """Return the records of noise around r, at the profile's middle strength."""
    size = profiles.stage("stability", profile)
    strength = size.strengths[min(2, len(size.strengths) - 1)]
    rows = stored("neighbourhood", name, profile, strength=strength)
    if len(rows) == len(worst_case.FRACTIONS):
        return rows
    case = training.case(name, profile)
    return [
        save("neighbourhood", case, profile, {"strength": strength, "fraction": fraction}, metrics)
        for fraction, metrics in worst_case.neighbourhood(case, size, strength).items()
    ]


def details(name: str, profile: str = "standard") -> list[dict]:
    """Return the records of test 2 of one case, one for each detail and contrast."""
    rows = stored("structure", name, profile)
    if rows:
        return rows
    case = training.case(name, profile)
    n_draws = profiles.stage("stability", profile).n_draws
    side = structure.side(min(case.A.image_shape))
    about = {"side": side, "tv_weight": case.tv_weight}
    return [
        save("structure", case, profile, {"detail": detail, "contrast": contrast, **about}, metrics)
        for (detail, contrast), metrics in structure.structure(case, n_draws).items()
    ]


def samples(name: str, profile: str = "standard") -> list[dict]:
    """Return the record of test 3 of one case; none for `sampling.EXCLUDED`."""
    if name in sampling.EXCLUDED:
        return []
    beyond = sampling.BEYOND_WEDGE if name == "unet-limited" else more_samples.BEYOND
    rows = stored("more_samples", name, profile, beyond=beyond)
    if rows:
        return rows[-1:]
    case = training.case(name, profile)
    rates = sampling.rates(case)
    metrics = more_samples.more_samples(case, rates, beyond)
    parameters = {
        "tv_weight": case.tv_weight,
        "beyond": beyond,
        "margin_db": more_samples.MARGIN_DB,
    }
    return [save("more_samples", case, profile, parameters, metrics)]


def every_attack(name: str, profile: str = "standard") -> list[dict]:
    """Return the records of test 1 for every target and domain."""
    attacks = ATTACKS[:1] if name in SOLVERS else ATTACKS
    return [row for attack in attacks for row in worst_cases(name, profile, *attack)]


def run(test, profile: str, only: list[str] | None = None) -> list[dict]:
    """Return the records of one test of many cases, those without weights or data left out.

    Raises:
        ValueError: for a name in `only` that is not in `training.CASES`.
    """
    unknown = sorted(set(only or ()) - set(CASES))
    if unknown:
        raise ValueError(f"no case is called {', '.join(unknown)}; there are {', '.join(CASES)}.")
    records = []
    for name in only or CASES:
        try:
            rows = test(name, profile)
        except DataUnavailable as missing:
            log.info("%s: not run. %s", name, missing)
            continue
        log.info("%s: %d records", name, len(rows))
        records += rows
    return records
