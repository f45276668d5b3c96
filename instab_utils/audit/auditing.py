"""The audit: check, choose TV's weight, do the units that fit into the time, and make the card of
what there is.
"""

import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from . import card_of, problem, steps
from .running import Runner


def run(
    f: Callable,
    A,
    x=None,
    *,
    y=None,
    name: str = "my reconstruction",
    network=None,
    rates=None,
    alarms=None,
    access: str = "auto",
    task: str | None = None,
    profile: str = "standard",
    seed: int = 0,
    budget_s: float | None = 600.0,
    noise: float = 0.0,
    folder=None,
    source: str = "",
    public: bool = False,
    allow_random: bool = False,
    about: dict | None = None,
    say: Callable[[str], None] = print,
) -> dict:
    """The stability test of Antun et al. for any f: y -> image, beside total variation on the same
    data: a stability card.

    max ||f(y + A r) - f(y)|| over ||r|| = s ||x||; details added to the image; more samples; alarms
    on all that went wrong. Every
    number is a lower bound of the harm: the worst case that was found, on these images.

    Args:
        f: y -> image or (y, A) -> image, told apart by its signature; torch or NumPy, batches (n,
            1, h, w). It gets the reader's own operator, y as that gives it.
        A: one of our operators, a deepinv physics, or `audit.operator(forward, adjoint,
            image_size)`.
        x: images (n, 1, h, w), (n, h, w) or (h, w), grey values in [0, 1] or complex; for `Radon`
            also k times as fine. None: ours.
        y: their measurements; default A x, and noise.
        name: title of the card.
        network: the torch module in f, where f does not show it: its weights name stored units, its
            dropout layers are an alarm.
        rates: [(share, operator) or (share, operator, y), ...] for more samples; None: made for
            `Radon` and `MaskedFourier` if f takes (y, A).
        alarms: {"name": y -> map}, tested beside ours.
        access: "auto", "gradients" or "black box".
        task: a word for the card.
        profile: "smoke", "standard" or "paper": sizes of the searches, as in
            `profiles.STAGES["stability"]`.
        budget_s: the run ends within this and one unit; what did not fit is named. None: no limit.
        noise: ||e|| / ||y|| of white noise in y.
        folder: where units, the inputs of failures and card.json are kept; a run that was killed
            goes on from there.
        source, public: what the images are, and whether the card may show them without loss.
        allow_random: go on with an f that answers differently each time, or is in training mode.
        about: {"file", "sha256", "files"} for the card.
        say: called with a line for every unit.

    Returns:
        The card: see report.card.

    Raises:
        AuditError: (a ValueError) what cannot be audited, what was expected, and the cure. Failures
            later on are in the card.
    """
    started, when = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        p = problem.problem(
            f,
            A,
            x,
            y,
            network=network,
            rates_given=rates,
            alarms=alarms,
            access=access,
            profile=profile,
            seed=seed,
            noise=noise,
            source=source,
            allow_random=allow_random,
        )
    for warning in caught:
        if "batch together" in str(warning.message):
            notes.append(str(warning.message))
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    calls = p.f.n_calls, p.f.n_gradients
    folder = None if folder is None else Path(folder)
    runner = Runner(folder, problem.identity(p), budget_s, p.f, say, started)
    runner.n_calls, runner.n_gradients = calls
    try:
        _units(p, runner)
    except KeyboardInterrupt:  # between two units
        runner.interrupted = True
    card = card_of.card(
        p,
        runner,
        name=name,
        task=task,
        budget_s=budget_s,
        noise=noise,
        public=public or _ours_are_public(x, p),
        about=about or {},
        notes=notes,
        when=when,
    )
    if folder is not None:
        from ..report import card as cards

        cards.save(card, folder / "card.json")
    return card


def _units(p, runner) -> None:
    chosen = runner.do("weight of total variation", "weight", lambda: problem.choose_weight(p))
    if chosen is None:  # no time, or no solution: the smallest of the grid would be a guess
        chosen = {"weight": 1e-3, "chosen_on": "nothing: there was no time to choose it"}
    problem.with_weight(p, chosen["weight"])
    p.chosen_on = chosen["chosen_on"]
    runner.identity = {**runner.identity, "weight": chosen["weight"]}
    done = runner.results
    for test, kind, i in steps.plan(p):
        name = f"{test}, image {i + 1}"
        if test == "clean":
            runner.do(name, kind, lambda: steps.clean(p, i))
        elif test == "TV's own worst case":
            runner.do(name, kind, lambda: steps.own(p, i))
        elif test == "worst case":
            own = done.get(f"TV's own worst case, image {i + 1}")
            runner.do(name, kind, lambda: steps.worst_case(p, i, own["r"] if own else None))
        elif test == "details":
            runner.skip(name, p.why_no_details) if p.why_no_details else runner.do(
                name, kind, lambda: steps.details(p, i)
            )
        elif test == "more samples":
            runner.skip(name, p.why_no_rates) if p.why_no_rates else runner.do(
                name, kind, lambda: steps.more_samples(p, i)
            )
        elif test == "alarms":
            _alarms(p, runner, i, name, kind)
        elif test == "pictures":
            worst = done.get("worst case, image 1")
            runner.do(
                name,
                kind,
                lambda: card_of.pictures(p, worst["r"][str(p.strength)] if worst else None),
            )
        else:
            runner.do(name, kind, lambda: steps.bracket(p, i))


def _alarms(p, runner, i, name, kind) -> None:
    """Thresholds before the first image; an alarm that has none is not asked."""
    if "alarm thresholds" not in {step["name"] for step in runner.steps}:
        runner.do("alarm thresholds", "alarm thresholds", lambda: steps.thresholds(p))
    usual = runner.results.get("alarm thresholds")
    if usual is None:
        runner.skip(name, "there are no thresholds")
        return
    worst = runner.results.get(f"worst case, image {i + 1}")
    r = worst["r"][str(p.alarm_strength)] if worst else None
    if r is None and p.why_no_details:
        runner.skip(name, "nothing has gone wrong: neither a worst case nor details")
        return
    runner.do(name, kind, lambda: steps.alarms(p, i, r, usual))


def _ours_are_public(x, p) -> bool:
    """Our own test images, but for the slices that may not be passed on."""
    return x is None and "AAPM" not in p.measured.source
