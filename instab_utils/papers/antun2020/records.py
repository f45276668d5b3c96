"""The three tests of every case, as records: what is stored is returned, what is missing is run.

A test is run image by image, or rate by rate. What each took longest to find is kept as arrays: a
test that was stopped goes on, and one with more images finds only theirs.
"""

import functools
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import SimpleNamespace

from torch import Tensor, nn

from ... import profiles, store, training
from ...data import DataUnavailable
from ...networks import Case
from ...stability import more_samples, structure, worst_case
from ...training.cases import CASES, SOLVERS
from ..kept import kept
from . import sampling

log = logging.getLogger(__name__)

ATTACKS = (("prediction", "image"), ("truth", "image"), ("prediction", "measurement"))
"""(target, domain) of test 1; shearlets are put to the first alone."""


def stored(experiment: str, name: str, profile: str, **parameters: object) -> list[dict]:
    """Return the records of a case that have these parameters, oldest first."""
    method = name.removesuffix("-published")
    rows = store.records(experiment=experiment, network=name, profile=profile, method=method)
    return [row for row in rows if parameters.items() <= row["parameters"].items()]


def save(
    experiment: str,
    case: Case,
    profile: str,
    results: Iterable[tuple[Mapping, Mapping]],
    seconds: float | None = None,
) -> list[dict]:
    """Save and return the records of a case, all or none, of (parameters, metrics) of each.

    `seconds` is the time that all of them took together.
    """
    records = [
        store.record(
            experiment=experiment,
            task=case.task,
            network=case.name,
            method=case.name.removesuffix("-published"),
            seed=0,
            profile=profile,
            parameters=parameters,
            inputs=[case.source],
            metrics={**metrics, "n_images": len(case.x)},
            seconds=None if seconds is None else round(seconds, 3),
        )
        for parameters, metrics in results
    ]
    store.save_records(records)
    return records


def _kept(
    what: str, case: Case, images: slice, find: Callable[[], Mapping], **about: object
) -> dict[str, object]:
    """Return find() of some images of a case, found once for its weights, and its seconds.

    See `kept`.
    """

    def timed():
        began = time.perf_counter()
        return {**find(), "seconds": time.perf_counter() - began}

    return kept(
        f"{what}-{case.name}",
        (case.x[images], case.y[images]),
        timed,
        source=case.source,
        first=images.start,
        weights=_weights(case.network),
        tv=[case.tv_weight, case.tv_iterations, case.unrolled_iterations],
        **about,
    )


@functools.lru_cache(maxsize=1)
def _weights(network: nn.Module | None) -> str:
    state = network.state_dict() if network else {}
    return store.content_sha256({name: values.cpu() for name, values in state.items()})


def perturbations(
    case: Case, i: int, size: SimpleNamespace, target: str = "prediction", domain: str = "image"
) -> dict[float, Tensor]:
    """Return the worst perturbations of image i by strength, see `worst_case.search`."""

    def search():
        return worst_case.search(case.f, case, i, size, target, domain)

    about = dict(target=target, domain=domain, restarts=size.restarts)
    return _searched("worst-r", case, i, size, search, **about)


def _searched(what, case, i, size, search, **about):
    def find():
        return {str(strength): r for strength, r in search().items()}

    about |= dict(strengths=size.strengths, ascent=size.ascent)
    found = _kept(what, case, slice(i, i + 1), find, **about)
    del found["seconds"]
    return {float(strength): r for strength, r in found.items()}


def worst_cases(
    name: str, profile: str = "standard", target: str = "prediction", domain: str = "image"
) -> list[dict]:
    """Return the records of test 1 of one case, one for each strength."""
    size = profiles.stage("stability", profile)
    rows = stored("worst_case", name, profile, target=target, domain=domain)
    if len(rows) == len(size.strengths):
        return rows
    case = training.case(name, profile)
    effects = [_effects(case, i, size, target, domain) for i in range(len(case.x))]
    seconds = sum(found.pop("seconds") for found in effects)
    averages = worst_case.average(
        [{float(strength): row for strength, row in found.items()} for found in effects]
    )
    about = {
        "target": target,
        "domain": domain,
        "tv_weight": case.tv_weight,
        "restarts": size.restarts,
    }
    results = [({"strength": s, **about}, metrics) for s, metrics in averages.items()]
    return save("worst_case", case, profile, results, seconds)


def _effects(case, i, size, target, domain):
    """Return `worst_case.effects` of image i; TV's own worst case is that of p = f(y) in x."""

    def own_search():
        return worst_case.own_search(case, i, size)

    def find():
        worst, own = perturbations(case, i, size, target, domain), None
        if (target, domain) == ATTACKS[0]:
            own = _searched("worst-r-tv", case, i, size, own_search)
        found = worst_case.effects(case, i, size, worst, own, domain)
        return {str(strength): row for strength, row in found.items()}

    about = {name: vars(size)[name] for name in ("strengths", "ascent", "restarts", "n_twins")}
    about |= dict(target=target, domain=domain)
    return _kept("worst-case", case, slice(i, i + 1), find, **about)


def neighbourhoods(name: str, profile: str = "standard") -> list[dict]:
    """Return the records of noise around r, at the profile's middle strength."""
    size = profiles.stage("stability", profile)
    strength = size.strengths[min(2, len(size.strengths) - 1)]
    rows = stored("neighbourhood", name, profile, strength=strength)
    if len(rows) == len(worst_case.FRACTIONS):
        return rows
    case = training.case(name, profile)
    n_draws = max(2, size.n_near // len(case.x))
    images = []
    for i in range(len(case.x)):
        r = perturbations(case, i, size)[strength]
        images.append(worst_case.around(case, i, r, strength, n_draws))
    averages = worst_case.rarity(images, n_draws)
    results = [({"strength": strength, "fraction": f}, m) for f, m in averages.items()]
    return save("neighbourhood", case, profile, results)


def details(name: str, profile: str = "standard") -> list[dict]:
    """Return the records of test 2 of one case, one for each detail and contrast."""
    rows = stored("structure", name, profile)
    if rows:
        return rows
    case = training.case(name, profile)
    n_draws = profiles.stage("stability", profile).n_draws
    shown = [_shown(case, i, n_draws) for i in range(len(case.x))]
    averages = structure.average([of_image for of_image, _ in shown])
    about = {"side": structure.side(min(case.A.image_shape)), "tv_weight": case.tv_weight}
    results = [({"detail": d, "contrast": c, **about}, m) for (d, c), m in averages.items()]
    return save("structure", case, profile, results, sum(seconds for _, seconds in shown))


def _shown(case, i, n_draws):
    def find():
        found = structure.shown_details(case, i, n_draws)
        return {"/".join(map(str, key)): shown._asdict() for key, shown in found.items()}

    found = _kept("details", case, slice(i, i + 1), find, n_draws=n_draws)
    seconds, shown = found.pop("seconds"), {}
    for key, values in found.items():
        detail, contrast, method = key.split("/")
        shown[detail, float(contrast), method] = structure.Shown(**values)
    return shown, seconds


def samples(name: str, profile: str = "standard") -> list[dict]:
    """Return the record of test 3 of one case; none for `sampling.EXCLUDED`."""
    if name in sampling.EXCLUDED:
        return []
    beyond = sampling.BEYOND_WEDGE if name == "unet-limited" else more_samples.BEYOND
    rows = stored("more_samples", name, profile, beyond=beyond)
    if rows:
        return rows[-1:]
    case = training.case(name, profile)
    rates, found = [], []
    for k, rate in enumerate(sampling.rates(case)):
        rates.append((rate.share, rate.n_samples))
        found.append(_at_rate(case, k, rate))
    metrics = more_samples.trend(rates, [each["psnr"] for each in found], beyond)
    parameters = {
        "tv_weight": case.tv_weight,
        "beyond": beyond,
        "margin_db": more_samples.MARGIN_DB,
    }
    seconds = sum(each["seconds"] for each in found)
    return save("more_samples", case, profile, [(parameters, metrics)], seconds)


def _at_rate(case, k, rate):
    def find():
        return {"psnr": more_samples.at_rate(case, rate)}

    about = dict(rate=k, share=rate.share, n_samples=rate.n_samples)
    return _kept("samples", replace(case, y=rate.y), slice(0, None), find, **about)


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
