"""Forms of an alarm in the records of Table 1: the best one, and its gain over a null detector."""

from collections.abc import Iterable
from typing import NamedTuple

import torch

from ... import metrics, profiles
from .changes import PHANTOMS
from .table1 import VARIANTS

# parameters that tell apart records of one method
ABOUT = ("masks", "n_passes", "n_layers", "beta")


class Form(NamedTuple):
    """One way to read an alarm: a detector, variance or std, averaged or not, one- or two-sided."""

    method: str
    about: tuple[tuple[str, object], ...]
    spread: str  # "variance" or "std"
    variant: str  # one of `VARIANTS`

    def __str__(self) -> str:
        words = [self.method]
        for name, value in self.about:
            words.append(f"{value}" if name == "masks" else f"{name.removeprefix('n_')} {value}")
        if self.method in ("dropout", "probout"):
            words.append(self.spread)
        if "two_sided" in self.variant:
            words.append("two-sided")
        if "averaged" in self.variant:
            words.append("7 x 7")
        return ", ".join(words)

    def value(self, record: dict, metric: str) -> object:
        """Return a metric of a record; None where this variant does not have it."""
        found = record["metrics"]
        return found[self.variant].get(metric, found["clean"].get(metric))


def all_forms(records: Iterable[dict]) -> list[Form]:
    """Return all forms that the records hold, sorted."""
    found = {
        Form(r["method"], _about(r), r["parameters"]["spread"], variant)
        for r in records
        for variant in VARIANTS
    }
    return sorted(found, key=str)


def select(records: Iterable[dict], form: Form | None = None, **where: object) -> list[dict]:
    """Return the records of a form with these parameters, experiment, task or seed, by seed."""

    def fits(r):
        if form and (r["method"], _about(r), r["parameters"]["spread"]) != form[:3]:
            return False
        fields = r["parameters"] | r
        return all(fields.get(name) == value for name, value in where.items())

    return sorted((r for r in records if fits(r)), key=lambda r: r["seed"])


def published_form(records: Iterable[dict], method: str, **about: object) -> Form:
    """Return the paper's form: width or variance, not averaged; the one with the most layers."""
    fitting = [
        form
        for form in all_forms(records)
        if form.method == method
        and (form.spread, form.variant) == ("variance", "plain")
        and about.items() <= dict(form.about).items()
    ]
    return max(fitting, key=lambda form: dict(form.about).get("n_layers", 0))


def choose(records: Iterable[dict], metric: str) -> dict[str, tuple[Form, float]]:
    """Return each method's form with the largest mean of `metric` over all experiments; the mean.

    Use records of validation images: a choice made on test images is biased upward.
    """
    records = list(records)
    best: dict[str, tuple[Form, float]] = {}
    for form in all_forms(records):
        by_change: dict[tuple, list[float]] = {}
        for r in select(records, form):
            if (value := form.value(r, metric)) is not None:
                change = r["experiment"], r["parameters"]["amount"]
                by_change.setdefault(change, []).append(value)
        if not by_change:
            continue
        score = sum(sum(v) / len(v) for v in by_change.values()) / len(by_change)
        if form.method not in best or score > best[form.method][1]:
            best[form.method] = form, score
    return best


def best_null(chosen: dict[str, tuple[Form, float]]) -> Form:
    """Return the null detector that was best on validation images."""
    nulls = [item for name, item in chosen.items() if name.startswith("null-")]
    return max(nulls, key=lambda item: item[1])[0]


def over_seeds(
    records: Iterable[dict], form: Form, metric: str, **where: object
) -> tuple[float, float | None]:
    """Return mean and standard deviation over training seeds of the mean over images."""
    values = [form.value(r, metric) for r in select(records, form, **where)]
    means = torch.tensor(values, dtype=torch.float64)
    return means.mean().item(), means.std().item() if len(means) > 1 else None


def gain(
    records: Iterable[dict], form: Form, over: Form, metric: str, **where: object
) -> metrics.Mean:
    """Return the mean over images of score(form) - score(over), with a 95 % bootstrap interval.

    Each score is the mean over seeds; images and seeds are paired: both alarms were about the same
    changes of the same networks.
    """
    records = list(records)
    per_image = []
    for which in (form, over):
        values = [which.value(r, f"{metric}_images") for r in select(records, which, **where)]
        per_image.append(torch.tensor(values, dtype=torch.float64))
    difference = (per_image[0] - per_image[1]).mean(0)
    return metrics.bootstrap_ci(difference, profiles.generator(0, "bootstrap over images"))


def columns(records: Iterable[dict]) -> dict[str, dict[str, object]]:
    """Return the columns of a table: head -> the `where` of `select` that it stands for."""
    found = {}
    for r in records:
        about = r["parameters"]
        head = {"patch": "Adv", "dove": "Art"}.get(about["change"], f"Art {about['amount']:g}")
        if r["task"] != "denoising":
            head += ", phantoms" if about["images"] == PHANTOMS else ", slices"
        where = {name: about[name] for name in ("images", "amount")}
        found[head] = {"experiment": r["experiment"], **where}
    return dict(sorted(found.items()))


def _about(record: dict) -> tuple[tuple[str, object], ...]:
    about = record["parameters"]
    return tuple((name, about[name]) for name in ABOUT if name in about)
