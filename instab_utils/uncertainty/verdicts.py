"""From the records of `study` to a table and a verdict: which form of an alarm, and is it better
than a null detector?
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch

from .. import metrics, profiles

SUFFIXES = ("", "_averaged", "_two_sided", "_two_sided_averaged")
# parameters that tell apart records of one method
ABOUT = ("masks", "n_passes", "n_layers", "beta")


class Form(NamedTuple):
    """One way to read an alarm: which detector, what of its spread, averaged or not, one- or
    two-sided.
    """

    method: str
    about: tuple[tuple[str, object], ...]
    spread: str  # "variance" or "std"
    suffix: str  # of a metric's name, one of SUFFIXES

    def __str__(self) -> str:
        words = [
            f"{value}" if name == "masks" else f"{name.removeprefix('n_')} {value}"
            for name, value in self.about
        ]
        words += [self.spread] if self.method in ("dropout", "probout") else []
        return ", ".join(
            [
                self.method,
                *words,
                *(["two-sided"] if "two" in self.suffix else []),
                *(["7 x 7"] if "averaged" in self.suffix else []),
            ]
        )


def forms(records: Iterable[dict]) -> list[Form]:
    """All forms that the records hold, sorted."""
    found = {
        Form(r["method"], _about(r), r["parameters"]["spread"], suffix)
        for r in records
        for suffix in SUFFIXES
    }
    return sorted(found, key=str)


def select(records: Iterable[dict], form: Form | None = None, **where: object) -> list[dict]:
    """Records of a form whose parameters, experiment, task or seed are as `where` says, by seed."""

    def fits(r):
        same = form is None or (r["method"], _about(r), r["parameters"]["spread"]) == form[:3]
        return same and all(
            (r[k] if k in r else r["parameters"].get(k)) == v for k, v in where.items()
        )

    return sorted((r for r in records if fits(r)), key=lambda r: r["seed"])


def choose(records: Iterable[dict], metric: str) -> dict[str, tuple[Form, float]]:
    """For each method the form with the largest mean of `metric` over all experiments, and that
    mean.

    Give it the records of validation images: what is chosen on test images has won by chance as
    well.
    """
    records = list(records)
    best: dict[str, tuple[Form, float]] = {}
    for form in forms(records):
        if metric + form.suffix not in records[0]["metrics"]:
            continue
        by_change: dict[tuple, list[float]] = {}
        for r in select(records, form):
            by_change.setdefault((r["experiment"], r["parameters"]["amount"]), []).append(
                r["metrics"][metric + form.suffix]
            )
        score = sum(sum(v) / len(v) for v in by_change.values()) / len(by_change)
        if form.method not in best or score > best[form.method][1]:
            best[form.method] = form, score
    return best


def best_null(chosen: dict[str, tuple[Form, float]]) -> Form:
    """The null detector that was best on validation images."""
    return max(
        (item for name, item in chosen.items() if name.startswith("null-")),
        key=lambda item: item[1],
    )[0]


def by_image(records: Iterable[dict], form: Form, metric: str, **where: object) -> torch.Tensor:
    """(n_seeds, n_images) scores of one form."""
    return torch.tensor(
        [r["metrics"][f"{metric}{form.suffix}_images"] for r in select(records, form, **where)],
        dtype=torch.float64,
    )


def over_seeds(
    records: Iterable[dict], form: Form, metric: str, **where: object
) -> tuple[float, float | None]:
    """Mean and standard deviation over training seeds of the mean over images, as the paper's table
    has it.
    """
    means = torch.tensor(
        [r["metrics"][metric + form.suffix] for r in select(records, form, **where)],
        dtype=torch.float64,
    )
    return means.mean().item(), means.std().item() if len(means) > 1 else None


def gain(
    records: Iterable[dict], form: Form, over: Form, metric: str, **where: object
) -> metrics.Mean:
    """Mean over images of score(form) - score(over), each the mean over seeds, with its 95 %
    bootstrap interval over images.

    Images and seeds are paired: both alarms were about the same changes of the same networks.
    """
    records = list(records)
    difference = (
        by_image(records, form, metric, **where) - by_image(records, over, metric, **where)
    ).mean(0)
    return metrics.bootstrap_ci(difference, profiles.generator(0, "bootstrap over images"))


def _about(record: dict) -> tuple[tuple[str, object], ...]:
    return tuple(
        (name, record["parameters"][name]) for name in ABOUT if name in record["parameters"]
    )
