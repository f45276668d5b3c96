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
    workers: int | Sequence[int] = (1, 8, 64),
    sweeps: Mapping[str, int] = INR_SWEEPS,
):
    """Hours of each sweep on that many workers: runs of n_steps * step_seconds[width, depth], the
    longest first.

    Args:
        step_seconds: (width, depth) -> seconds per step, measured on one worker that works as in
            the sweep (one thread).
        n_steps: steps of a run; n_images: images that every configuration is fitted to, one run
            each.
        workers: one number or several; each is as fast as the one that was measured.
        sweeps: name -> number of configurations, the same number for every (width, depth).

    Returns:
        A DataFrame, one row a sweep and one for all together: configurations, runs,
        longest_run_hours, widest_share (of the hours, spent at the largest width) and
        `hours_on_<W>`, the time until the last of W workers is done when each takes the longest run
        that is left.
    """
    import pandas

    workers = [workers] if isinstance(workers, int) else list(workers)
    wrong = [
        f"{name}: expected positive; got {value!r}"
        for name, value in [
            ("n_steps", n_steps),
            ("n_images", n_images),
            *(("workers", w) for w in workers),
            *((f"step_seconds[{shape}]", s) for shape, s in step_seconds.items()),
        ]
        if not value > 0
    ]
    wrong += [
        f"{name}: expected a multiple of the {len(step_seconds)} shapes of step_seconds; got {n} configurations"
        for name, n in sweeps.items()
        if not step_seconds or n % len(step_seconds)
    ]
    if wrong:
        raise ValueError("; ".join(wrong) + ".")
    runs = {
        name: {shape: n // len(step_seconds) * n_images for shape in step_seconds}
        for name, n in sweeps.items()
    }
    if len(runs) > 1:
        runs["together"] = {shape: sum(r[shape] for r in runs.values()) for shape in step_seconds}
    widest = max(width for width, _ in step_seconds)
    rows = []
    for name, counts in runs.items():
        hours = {shape: n_steps * seconds / 3600 for shape, seconds in step_seconds.items()}
        total = sum(n * hours[shape] for shape, n in counts.items())
        share = sum(n * hours[shape] for shape, n in counts.items() if shape[0] == widest) / total
        lengths = sorted(
            (hours[shape] for shape, n in counts.items() for _ in range(n)), reverse=True
        )
        rows.append(
            {
                "sweep": name,
                "configurations": sum(counts.values()) // n_images,
                "runs": len(lengths),
                "longest_run_hours": lengths[0],
                "widest_share": share,
                **{f"hours_on_{w}": _last_done(lengths, w) for w in workers},
            }
        )
    return pandas.DataFrame(rows)


def _last_done(lengths: list[float], workers: int) -> float:
    """When the last worker is done, each taking the next of `lengths` as soon as it is free."""
    busy = [0.0] * workers
    for length in lengths:
        heapq.heapreplace(busy, busy[0] + length)
    return max(busy)
