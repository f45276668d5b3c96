"""The audit: check, choose a weight, run the units that fit into the time, build the card."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from .build_card import build_card
from .image_files import Images
from .plan import run_units
from .problem import AuditOptions, build_problem
from .runner import Runner


def run(
    f: Callable,
    A: object,
    x: object = None,
    *,
    y: object = None,
    name: str = "my reconstruction",
    budget_s: float | None = 600.0,
    folder: str | Path | None = None,
    options: AuditOptions | None = None,
) -> dict:
    """Return the stability card of any f: y -> image, beside total variation on the same data.

    The stability test of Antun et al.: max ||f(y + A r) - f(y)|| over ||r|| = s ||x||; details
    added to the image; more samples; alarms on all that went wrong. Every number is a lower bound
    of the harm: the worst case that was found, on these images.

    Args:
        f: y -> image or (y, A) -> image, told apart by its signature; torch or NumPy, batches (n,
            1, h, w). It gets the reader's own operator, and y as that gives it.
        A: one of our operators, a deepinv physics, or `audit.operator(forward, adjoint,
            image_size)`.
        x: images (n, 1, h, w), (n, h, w) or (h, w), grey values in [0, 1] or complex; for `Radon`
            also k times as fine; or what `load_images` returns. None: ours.
        y: their measurements; default A x, and noise.
        name: title of the card.
        budget_s: the run ends within this and one unit; what did not fit is named. None: no limit.
        folder: where units, the inputs of failures and card.json are kept; a run that was killed
            goes on from there.
        options: see `AuditOptions`.

    Returns:
        The card: see report.card.

    Raises:
        AuditError: (a ValueError) what cannot be audited, what was expected, and the cure. Failures
            later on are in the card.
    """
    started, when = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    options = options or AuditOptions()
    ours = x is None
    if isinstance(x, Images):
        files = [{"name": name, "sha256": digest} for name, digest in zip(x.names, x.sha256s)]
        about = {"files": files, **options.about}
        options = replace(options, source=options.source or x.source, about=about)
        x = x.x
    p = build_problem(f, A, x, y, options)
    if ours and "AAPM" not in p.measured.source:
        p.options = replace(p.options, public=True)
    folder = None if folder is None else Path(folder)
    runner = Runner(p, folder, budget_s, started)
    try:
        run_units(p, runner)
    except KeyboardInterrupt:  # between two units
        runner.interrupted = True
    card = build_card(p, runner, name, when)
    if folder is not None:
        from ..report.card import save

        save(card, folder / "card.json")
    return card
