"""What a sweep over fields would cost, from measured seconds per training step."""

import heapq
from collections.abc import Mapping, Sequence

INR_SWEEPS = {"MC dropout": 720, "Bayes by backprop": 2160}
"""Configurations per view count of Vasconcelos et al.: 5 activations, 3 depths, 4 widths, 4
frequency scales, and 3 dropout rates, or 3 prior widths times 3 factors of the divergence. Each
(width, depth) has the same number of them."""


def cost(
    step_seconds: Mapping[tuple[int, int], float],
    n_steps: int,
    n_images: int,
    workers: Sequence[int] = (1, 8, 64),
):
    """Return the hours of each of `INR_SWEEPS` on that many workers.

    A run takes n_steps * step_seconds[width, depth]; the longest runs start first.

    Args:
        step_seconds: (width, depth) -> seconds per step, measured on one worker that works as in
            the sweep (one thread).
        n_steps: steps of a run; n_images: images that every configuration is fitted to, one run
            each.
        workers: numbers of workers; each is as fast as the one that was measured.

    Returns:
        A DataFrame, one row a sweep and one for all together: configurations, runs,
        longest_run_hours, widest_share (of the hours, spent at the largest width) and
        `hours_on_<W>`, the time until the last of W workers is done when each takes the longest run
        that is left.
    """
    import pandas

    hours = {shape: n_steps * seconds / 3600 for shape, seconds in step_seconds.items()}
    widest = max(width for width, _ in hours)
    share = sum(h for (width, _), h in hours.items() if width == widest) / sum(hours.values())
    rows = []
    for name, n in {**INR_SWEEPS, "together": sum(INR_SWEEPS.values())}.items():
        n_each, rest = divmod(n, len(hours))
        if rest:
            raise ValueError(
                f"{name}: expected a multiple of the {len(hours)} shapes of step_seconds; got {n} "
                "configurations."
            )
        lengths = sorted([*hours.values()] * (n_each * n_images), reverse=True)
        row = {"sweep": name, "configurations": n, "runs": len(lengths)}
        row |= {"longest_run_hours": lengths[0], "widest_share": share}
        rows.append(row | {f"hours_on_{w}": _last_done(lengths, w) for w in workers})
    return pandas.DataFrame(rows)


def _last_done(lengths: list[float], workers: int) -> float:
    """Return when the last worker is done, each taking the next length as soon as it is free."""
    busy = [0.0] * workers
    for length in lengths:
        heapq.heapreplace(busy, busy[0] + length)
    return max(busy)
