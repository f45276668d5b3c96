"""What is recorded of the INR paper's experiments, for the chapters and the ledger."""

import numpy as np
import pandas
import torch

from ... import metrics, store
from . import baselines
from .published import VIEWS


def exhibit(name: str) -> tuple[dict, dict] | None:
    """Return arrays and origin of an exhibit; None where there is none."""
    try:
        return store.load_exhibit(name)
    except FileNotFoundError:
        return None


def best_records(n_views: int, profile: str) -> dict[tuple[str, str], dict]:
    """Return Table 1 from records: {(method, "validate" or "test"): record}.

    Of a method's settings the one that is best on validation phantoms.
    """
    by_method, best = {}, {}
    for row in store.records(experiment="inr", task="inr_ct", network="inr", profile=profile):
        about = dict(row["parameters"])
        split = about.pop("split", None)
        if about.get("n_views") == n_views and split and "data" not in about:
            settings = by_method.setdefault(row["method"], {})
            settings.setdefault(store.key(**about), {})[split] = row
    for method, settings in by_method.items():
        whole = [rows for rows in settings.values() if {"validate", "test"} <= set(rows)]
        if whole:
            rows = max(whole, key=lambda rows: rows["validate"]["metrics"]["psnr_db"])
            best |= {(method, split): row for split, row in rows.items()}
    return best


class Results:
    """Records and exhibits of one profile; `missing` names what was asked for and is not there."""

    def __init__(self, profile: str):
        self.profile, self.missing = profile, []
        self.table1 = {v: best_records(v, profile) for v in VIEWS}
        self.classical = baselines.run(profile)
        self.image_size = self.classical[0]["parameters"]["image_size"]

    def exhibit(self, name: str) -> tuple[dict, dict] | None:
        """Return arrays and origin of an exhibit; None where there is none."""
        found = exhibit(f"{name}-{self.profile}")
        if found is None:
            self.missing.append(name)
        return found

    def exhibits(self, name: str) -> dict[int, tuple[dict, dict]]:
        """Return the exhibits <name>-<views> that there are, by number of views."""
        both = {v: self.exhibit(f"{name}-{v}") for v in VIEWS}
        return {v: found for v, found in both.items() if found}

    def baseline(
        self,
        method: str,
        constraint: str,
        n_views: int,
        split: str = "test",
        crime: bool = False,
    ) -> dict:
        """Return the record of a classical method."""
        about = {
            "constraint": constraint,
            "n_views": n_views,
            "image_size": self.image_size,
            "split": split,
            "crime": crime,
        }.items()
        rows = (r for r in self.classical if r["method"] == method)
        return next(r for r in rows if about <= r["parameters"].items())

    def level(self, method: str, constraint: str, n_views: int, **about) -> float:
        """Return the mean PSNR of a classical method, clipped to [0, 1], in dB."""
        return self.baseline(method, constraint, n_views, **about)["metrics"]["psnr_clipped_db"]

    def difference(self, n_views: int, a: str, b, metric: str = "psnr_db") -> metrics.Mean:
        """Return method a minus method b, paired over test phantoms, with a Student-t interval.

        b may be a classical method and its constraint.
        """
        first = torch.tensor(self.table1[n_views][a, "test"]["metrics"][f"{metric}_each"])
        if isinstance(b, tuple):
            row, metric = self.baseline(*b, n_views), "psnr_clipped_db_images"
        else:
            row, metric = self.table1[n_views][b, "test"], f"{metric}_each"
        return metrics.mean_ci(first - torch.tensor(row["metrics"][metric]))

    def best(self, n_views: int) -> str:
        """Return the learned method that is best on validation phantoms."""
        psnr = {
            method: row["metrics"]["psnr_db"]
            for (method, split), row in self.table1[n_views].items()
            if split == "validate"
        }
        return max(psnr, key=psnr.get)


def ladder(arrays: dict) -> dict[str, dict[str, float]]:
    """Return numbers of a sweep for each activation.

    Median and quartile range of the first rung, the best PSNR of the first and of the last.
    """
    finished, numbers = arrays["status"] != "failed", {}
    for value in np.unique(arrays["activation"]).tolist():
        these = finished & (arrays["activation"] == value)
        first, last = (
            arrays["psnr_db"][these & (arrays["rung"] == k)] for k in (0, arrays["rung"].max())
        )
        if len(first):
            low, middle, high = np.quantile(first, [0.25, 0.5, 0.75])
            numbers[value] = {
                "median": middle,
                "quartile range": high - low,
                "best": first.max(),
                "best of the last rung": max(last, default=np.nan),
            }
    return numbers


def favourite_omega0(arrays: dict) -> dict[str, float]:
    """Return the omega0 of the best median PSNR over a sweep's first rung, by activation."""
    columns = pandas.DataFrame({name: arrays[name] for name in ("activation", "omega0", "psnr_db")})
    first = columns[arrays["rung"] == 0]
    median = first.groupby(["activation", "omega0"])["psnr_db"].median()
    return median.unstack().idxmax(axis="columns").astype(float).to_dict()
