"""The INR paper's sweep and table, from the grid to deep ensembles: `python -m
instab_utils.papers.vasconcelos2021.table1 [--profile standard]`.

    python -m instab_utils.papers.vasconcelos2021.table1 [table|explorer|real|hmc|all] [--views 20 5] [--workers 2]
"""

import argparse

import torch

from ... import metrics, store
from ...fields import scans
from ...sweep import Workers, halving, run
from ...uncertainty import ensemble
from . import posterior_chains, real_data, study

TRIAL = "instab_utils.papers.vasconcelos2021.study:trial"
ENSEMBLES = (2, 5, 10)
SIGMAS = (0.03, 0.1)


def best_settings(
    method: str, n_views: int, profile: str, workers: int | None = None
) -> tuple[list[dict], object]:
    """(the settings of the last rung, best first by the PSNR of validation phantom 1; the whole
    table of the sweep).
    """
    size = study.SIZES[profile]
    # A fraction of 0.8 lost by 7 dB or more at 20 views, where it was tried.
    configs = [
        c
        for c in study.grid(method, n_views, profile)
        if profile != "standard" or n_views == 20 or c.get("p") != 0.8
    ]
    rungs = size.rungs if len(configs) > size.rungs[0][1] else size.rungs[-1:]
    eta = max(2, len(configs) // size.rungs[0][1])
    # stacks of small fields
    gpu = torch.cuda.is_available()
    table = run(
        TRIAL,
        halving(configs, [steps for steps, _ in rungs], eta=eta),
        workers=Workers(workers, resources={"GPU": 1} if gpu else {}),
        batch_by=study.BATCHED if gpu else (),
    )
    last = table[(table.rung == table.rung.max()) & (table.status != "failed")].sort_values(
        "psnr_db", ascending=False, kind="stable"
    )
    finals = [
        study.whole({**{name: row[name] for name in configs[0]}, "steps": size.final_steps})
        for row in last.to_dict("records")
    ]
    return study.distinct(finals, size.rungs[-1][1]), table


def table(
    n_views: int, profile: str = "standard", workers: int | None = None, n_best: int = 10
) -> list[dict]:
    """The records of Table 1's learned rows for one view count, computed where there are none yet,
    and the page's exhibits.

    n_best: settings that are trained on all phantoms, and from which ensembles are made: fewer, and
    the largest ensemble is missing.
    """
    size, found, shown = study.SIZES[profile], [], {}
    for method in ("dropout", "bbb"):
        best, sweep = best_settings(method, n_views, profile, workers)
        _sweep_exhibit(f"inr-sweep-{method}-{n_views}-{profile}", sweep, profile)
        best = best[:n_best] if method == "dropout" else best[:1]
        run(
            TRIAL,
            [{**setting, "ids": [id]} for ids in size.ids for id in ids for setting in best],
            workers=workers,
            strict=True,
        )
        on_validation = [
            study.final_row(method, [setting], "validate", profile) for setting in best
        ]
        order = sorted(range(len(best)), key=lambda i: -on_validation[i]["metrics"]["psnr_db"])
        best = [best[i] for i in order]
        found += on_validation + [
            study.final_row(method, [setting], "test", profile) for setting in best
        ]
        shown[method] = best[:1]
        if method == "dropout":
            found += [
                study.final_row(f"ensemble-{n}", best[:n], split, profile)
                for n in ENSEMBLES
                if n <= len(best)
                for split in ("validate", "test")
            ]
            shown[f"ensemble{min(5, len(best))}"] = best[:5]
    _panels(n_views, shown, profile)
    return found


def explorer(
    n_views: int,
    profile: str = "standard",
    workers: int | None = None,
    steps: int = 600,
    id: int = 6,
) -> None:
    """The exhibit `inr-explorer-<views>-<profile>`: one field for every activation and omega0,
    without dropout, on test phantom 6.
    """
    size = study.SIZES[profile]
    steps = min(steps, size.final_steps)
    fixed = dict(
        n_views=n_views,
        p=0.0,
        steps=steps,
        width=size.widths[-1],
        image_size=size.image_size,
        n_frequencies=size.n_frequencies,
    )
    settings = [
        [study.whole({**fixed, "activation": a, "omega0": o}) for o in size.omega0]
        for a in size.activations
    ]
    run(TRIAL, [{**s, "ids": [id]} for row in settings for s in row], workers=workers, strict=True)
    images = torch.stack(
        [
            torch.stack([study.cached_passes(s, id)["samples"][0, 0, 0].float() for s in row])
            for row in settings
        ]
    )
    truth = scans.phantom_scan((id,), n_views, size.image_size).x
    psnr = metrics.psnr_db(
        images.flatten(0, 1)[:, None],
        truth.expand(images.shape[0] * images.shape[1], -1, -1, -1),
        1.0,
    )
    store.save_exhibit(
        f"inr-explorer-{n_views}-{profile}",
        {
            "images": _bytes(images),
            "psnr": psnr.view(images.shape[:2]).float(),
            "truth": truth[0, 0].half(),
            "steps": steps,
            "omega0": torch.tensor(size.omega0),
            "activations": _words(size.activations),
        },
        data=["phantoms"],
        profile=profile,
        seed=0,
        note=f"Phantom {id}, {steps} steps, no dropout.",
    )


def _panels(n_views, shown, profile):
    """Figure 2's panels and the reliability curves behind them, on the first test phantom; curves
    of all five.
    """
    ids, arrays = study.SIZES[profile].ids[1], {}
    for name, settings in shown.items():
        members = [
            torch.cat([study.cached_passes(s, id)["samples"].float() for id in ids], 1)
            for s in settings
        ]
        drawn = members[0] if len(members) == 1 else ensemble.pooled(members, study.N_SAMPLES)
        scan = study.scan_of(study.Setting(**settings[0]), ids)
        prediction, inside = ensemble.from_samples(drawn), scans.interior(scan.x)
        arrays |= {
            f"mean_{name}": prediction.mean[0, 0].half(),
            f"std_{name}": prediction.spread[0, 0].sqrt().half(),
            f"coverage_{name}": metrics.reliability(drawn, scan.x).coverage.float(),
            f"coverage_interior_{name}": metrics.reliability(
                drawn, scan.x, where=inside
            ).coverage.float(),
        }
    store.save_exhibit(
        f"inr-panels-{n_views}-{profile}",
        {**arrays, "truth": scan.x[0, 0].half()},
        data=["phantoms"],
        profile=profile,
        seed=0,
        note=f"Phantom {ids[0]}, {n_views} views.",
    )


def _sweep_exhibit(name, sweep, profile):
    """The sweep's table: what the chapter's box plots draw."""
    numbers = sweep.select_dtypes("number").fillna(-1.0)
    store.save_exhibit(
        name,
        {
            **{column: numbers[column].to_numpy("float32") for column in numbers},
            **{
                column: _words(sweep[column].astype(str))
                for column in ("activation", "method", "status")
            },
        },
        data=["phantoms"],
        profile=profile,
        seed=0,
        note="Sweep over settings, validation phantom 1.",
    )


def _words(values):
    import numpy as np

    return np.array(list(values), dtype=str)


def _bytes(images):
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m instab_utils.papers.vasconcelos2021.table1", description=__doc__.split(":")[0]
    )
    parser.add_argument(
        "what", nargs="?", default="all", choices=["table", "explorer", "real", "hmc", "all"]
    )
    parser.add_argument("--profile", default="standard")
    parser.add_argument("--views", type=int, nargs="+", default=[20, 5])
    parser.add_argument("--workers", type=int, help="processes; default: one a core, or a GPU each")
    parser.add_argument(
        "--best", type=int, default=10, help="settings that go from the sweep to all phantoms"
    )
    arguments = parser.parse_args()
    asked = lambda what: arguments.what in (what, "all")
    found = []
    for n_views in arguments.views:
        found += (
            table(n_views, arguments.profile, arguments.workers, arguments.best)
            if asked("table")
            else []
        )
        if asked("explorer"):
            explorer(n_views, arguments.profile, arguments.workers)
        if asked("hmc"):
            chains = {**posterior_chains.SIZES[arguments.profile], "n_views": n_views}
            runs = [{"sigma": sigma} for sigma in SIGMAS] + [{"start": "map"}] * (n_views == 20)
            for changes in runs:
                found += posterior_chains.run(
                    posterior_chains.Chains(**chains, **changes),
                    profile=arguments.profile,
                    folder=store.folder() / "checkpoints",
                )
    if asked("real"):
        found += real_data.rows(arguments.profile)
        real_data.exhibit(arguments.profile)
    for r in found:
        m, p = r["metrics"], r["parameters"]
        numbers = ", ".join(
            f"{name} {m[name]:.3f}" for name in ("psnr_db", "nll", "ece", "ece_tuned") if name in m
        )
        print(
            f"{r['method']}, {p.get('data', '%s views' % p.get('n_views'))}, {p.get('split', '')}: {numbers}",
            flush=True,
        )


if __name__ == "__main__":
    main()
