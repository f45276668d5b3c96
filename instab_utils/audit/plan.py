"""The table of an audit's units, and their order."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from . import card_images, units
from .problem import Problem
from .runner import Runner


class Unit(NamedTuple):
    """One test of one image."""

    test: str
    compute: Callable[[Problem, int, dict], dict]
    """(problem, image, results so far) -> result."""
    why_not: Callable[[Problem, int, dict], str | None] = lambda *_: None
    """Why the test does not apply."""
    first_only: bool = False
    """Of the first image only."""


UNITS = (
    Unit("clean", units.clean),
    Unit("TV's own worst case", units.own_worst_case),
    Unit("worst case", units.worst_case),
    Unit("details", units.details, lambda p, *_: p.why_no_details),
    Unit("more samples", units.more_samples, lambda p, *_: p.why_no_rates),
    Unit("alarm thresholds", units.thresholds, first_only=True),
    Unit("alarms", units.alarms, units.why_no_alarms),
    Unit("pictures", card_images.pictures, first_only=True),
    Unit("bracket", units.bracket, first_only=True),
)
"""TV's own worst case precedes the worst case: it is a start for black boxes."""


def unit_name(test: str, image: int) -> str:
    return test if test == "alarm thresholds" else f"{test}, image {image + 1}"


def run_units(p: Problem, runner: Runner) -> None:
    """Choose total variation's weight, then run every test on one image before any on two."""
    p.set_weight(runner.do("weight of total variation", "weight", p.choose_weight))
    runner.identity["weight"] = p.case.tv_weight
    for i in range(len(p.case.x)):
        for unit in UNITS:
            if i and unit.first_only:
                continue
            name = unit_name(unit.test, i)
            why_not = unit.why_not(p, i, runner.results)
            if why_not:
                runner.note(name, "not applicable", why_not)
            else:
                runner.do(name, unit.test, partial(unit.compute, p, i, runner.results))
