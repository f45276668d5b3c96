"""Table 1 and Figures 2 to 4: a sweep on one phantom, its best settings in full, deep ensembles."""

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import pandas
import torch

from ... import metrics, profiles, store
from ...fields import interior
from ...sweep import Plan, halving
from ...uncertainty import ensemble
from . import published
from .settings import Setting, grid
from .trials import computed, final, passes, pooled_passes, score, trial

ENSEMBLES = (2, 5, 10)
ARCHITECTURE = ("activation", "depth", "width", "omega0", "p")
"""Two of the best settings differ in one of these."""
READ = (
    *("rung", "steps", "depth", "width", "omega0", "p", "prior_std", "xi"),
    *("image_size", "psnr_db", "training_s"),
)
"""Numbers of a sweep that its exhibit has; a whole table of the paper's grid is twice too large."""
N_BEST = 10
"""Settings with dropout that are trained on all phantoms, and of which ensembles are made."""


def best_settings(
    method: str, n_views: int, profile: str, workers: int | None = None
) -> tuple[list[Setting], object]:
    """Return the settings of the last rung, best first, and the whole table of the sweep.

    By the PSNR of validation phantom 1. With dropout, settings of the last rung are tried at the
    width "wide", too, where the profile has one; the best of these takes part.
    """
    size, plan = profiles.stage("inr", profile), sweep_plan(method, n_views, profile)
    table, names = computed(trial, plan, workers), list(plan.configs[0])
    last, n_best = _ranked(table[table.rung == table.rung.max()]), size.rungs[-1][1]
    if size.wide and method == "dropout":
        wide = last.head(n_best)[names].assign(width=size.wide, steps=plan.rungs[-1])
        tried = computed(trial, wide.drop_duplicates().to_dict("records"), workers)
        tried["rung"] = table.rung.max()
        table = pandas.concat([table, tried], ignore_index=True)
        last = _ranked(pandas.concat([last, _ranked(tried).head(1)]))
    rows = last[names].head(n_best).to_dict("records")
    return [Setting(**row, steps=size.final_steps) for row in rows], table


def _ranked(trials):
    """Return trials that did not fail, the best first, one of each architecture."""
    trials = trials[trials.status != "failed"]
    trials = trials.sort_values("psnr_db", ascending=False, kind="stable")
    return trials.drop_duplicates([name for name in ARCHITECTURE if name in trials])


def sweep_plan(method: str, n_views: int, profile: str) -> Plan:
    """Return the settings that a sweep tries, and the steps of its rungs."""
    rungs, configs = profiles.stage("inr", profile).rungs, grid(method, n_views, profile)
    # A fraction of 0.8 lost by 7 dB or more at 20 views, where it was tried.
    if profile == "standard" and n_views != 20:
        configs = [config for config in configs if config.get("p") != 0.8]
    n_first = rungs[0][1]
    rungs = rungs if len(configs) > n_first else rungs[-1:]
    return halving(configs, [steps for steps, _ in rungs], eta=max(2, len(configs) // n_first))


def run(profile: str, only: Sequence[str] | None = None) -> list[dict]:
    """Return the records of Table 1's learned rows; only: numbers of views, such as "20"."""
    views = map(int, only or published.VIEWS)
    return [record for n_views in views for record in table(n_views, profile)]


def table(n_views: int, profile: str = "standard", workers: int | None = None) -> list[dict]:
    """Return the records for one number of views, and write the exhibits of chapter 10.

    Validation phantoms choose, test phantoms give the result.
    """
    size = profiles.stage("inr", profile)
    records, shown, sweeps = [], {}, {}
    for method in ("dropout", "bbb"):
        best, sweeps[method] = best_settings(method, n_views, profile, workers)
        best = best[: N_BEST if method == "dropout" else 1]
        jobs = [(s, id) for id in (*size.validation, *size.test) for s in best]
        run_trials(jobs, workers)
        rows = [_record(method, [s], "validate", profile) for s in best]
        order = sorted(range(len(best)), key=lambda i: -rows[i]["metrics"]["psnr_db"])
        best = [best[i] for i in order]
        records += rows + [_record(method, [s], "test", profile) for s in best]
        shown[method] = best[:1]
        if method == "dropout":
            shown[f"ensemble{min(5, len(best))}"] = best[:5]
            records += [
                _record(f"ensemble-{n}", best[:n], split, profile)
                for n in ENSEMBLES
                if n <= len(best)
                for split in ("validate", "test")
            ]
    for method, sweep in sweeps.items():
        _sweep_exhibit(f"inr-sweep-{method}-{n_views}-{profile}", sweep, profile)
    _panels(n_views, shown, profile)
    return records


def run_trials(jobs: Sequence[tuple[Setting, int]], workers: int | None = None) -> None:
    """Train fields of settings on phantoms, on every GPU or core; `passes` then reads them."""
    configs = [{**asdict(setting), "ids": [id]} for setting, id in jobs]
    computed(final, configs, workers, strict=True)


def explorer(
    profile: str, only: Sequence[str] | None = None, workers: int | None = None
) -> list[dict]:
    """Write `inr-explorer-<views>-<profile>`: a field for each activation and omega0.

    Without dropout, on test phantom 6; only: numbers of views.
    """
    for n_views in map(int, only or published.VIEWS):
        _explorer_exhibit(n_views, profile, workers)
    return []


def _explorer_exhibit(n_views, profile, workers):
    size, id = profiles.stage("inr", profile), 6
    steps = min(600, size.final_steps)
    base = Setting(
        n_views=n_views,
        p=0.0,
        steps=steps,
        width=size.widths[-1],
        image_size=size.image_size,
        n_frequencies=size.n_frequencies,
    )
    settings = [
        replace(base, activation=activation, omega0=omega0)
        for activation in size.activations
        for omega0 in size.omega0
    ]
    run_trials([(s, id) for s in settings], workers)
    images = torch.cat([passes(s, id)[0][0] for s in settings])
    truth = base.scan(id).x
    psnr = metrics.psnr_db(images, truth.expand_as(images), 1.0)
    shape = (len(size.activations), len(size.omega0))
    store.save_exhibit(
        f"inr-explorer-{n_views}-{profile}",
        {
            "psnr": psnr.view(shape).float(),
            "steps": steps,
            "omega0": torch.tensor(size.omega0),
            "activations": np.array(size.activations, dtype=str),
        },
        pictures={
            "images": (images[:, 0].clamp(0, 1) * 255).round().to(torch.uint8).unflatten(0, shape),
            "truth": truth[0, 0],
        },
        data=["phantoms"],
        profile=profile,
        seed=0,
        note=f"Phantom {id}, {steps} steps, no dropout.",
    )


def _record(method, settings, split, profile):
    """Return the record of one setting, or of several pooled to a deep ensemble, on one split."""
    first, size = settings[0], profiles.stage("inr", profile)
    ids = size.test if split == "test" else size.validation
    scan = first.scan(ids)

    def compute():
        result = {}
        for name, values in score(pooled_passes(settings, ids), scan).items():
            result[name] = metrics.bootstrap_ci(values, profiles.generator(0, f"field {name}"))
            result[f"{name}_each"] = values.tolist()
        return result

    about = first.parameters()
    if len(settings) > 1:
        members = [setting.parameters() for setting in settings]
        about = {"n_views": first.n_views, "image_size": first.image_size, "members": members}
    return store.cached(
        compute,
        experiment="inr",
        task="inr_ct",
        network="inr",
        method=method,
        seed=first.seed,
        profile=profile,
        parameters={"split": split, **about},
        inputs=[scan.name],
        paper=published.of_record(method, first.n_views, split),
    )


def _panels(n_views, shown, profile):
    """Write Figure 2's panels, of the first test phantom, and reliability curves of all."""
    ids = profiles.stage("inr", profile).test
    curves, pictures = {}, {}
    scan = next(iter(shown.values()))[0].scan(ids)
    for name, settings in shown.items():
        drawn = pooled_passes(settings, ids)
        prediction = ensemble.from_samples(drawn)
        within = metrics.reliability(drawn, scan.x, where=interior(scan.x))
        pictures[f"mean_{name}"] = prediction.mean[0, 0]
        pictures[f"std_{name}"] = prediction.spread[0, 0].sqrt()
        curves[f"coverage_{name}"] = metrics.reliability(drawn, scan.x).coverage.float()
        curves[f"coverage_interior_{name}"] = within.coverage.float()
    store.save_exhibit(
        f"inr-panels-{n_views}-{profile}",
        curves,
        pictures={**pictures, "truth": scan.x[0, 0]},
        data=["phantoms"],
        profile=profile,
        seed=0,
        note=f"Phantom {ids[0]}, {n_views} views.",
    )


def _sweep_exhibit(name, sweep, profile):
    """Write what the chapter's box plots and tables read of the sweep's table."""
    numbers = sweep[[column for column in READ if column in sweep]].fillna(-1.0)
    words = {column: np.array(sweep[column], dtype=str) for column in ("activation", "status")}
    store.save_exhibit(
        name,
        {**{column: numbers[column].to_numpy("float32") for column in numbers}, **words},
        data=["phantoms"],
        profile=profile,
        seed=0,
        note="Sweep over settings, validation phantom 1.",
    )
