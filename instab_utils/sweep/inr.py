"""The INR paper's sweep and table, from the grid to deep ensembles: `python -m instab_utils.sweep.inr [--profile standard]`."""

import argparse

from .. import store
from ..uncertainty.fields import study
from .plan import halving
from .running import run

TRIAL = "instab_utils.uncertainty.fields.study:trial"
ENSEMBLES = (2, 5, 10)


def best_settings(method: str, n_views: int, profile: str, workers: int | None = None) -> tuple[list[dict], object]:
    """(the settings of the last rung, best first by the PSNR of validation phantom 1; the whole table of the sweep)."""
    size = study.SIZES[profile]
    configs = study.grid(method, n_views, profile)
    rungs = size.rungs if len(configs) > size.rungs[0][1] else size.rungs[-1:]
    eta = max(2, len(configs) // size.rungs[0][1])
    table = run(TRIAL, halving(configs, [steps for steps, _ in rungs], eta=eta), workers=workers)
    last = table[(table.rung == table.rung.max()) & (table.status != "failed")].sort_values("psnr_db", ascending=False, kind="stable")
    finals = [{**{name: row[name] for name in configs[0]}, "steps": size.final_steps} for row in last.to_dict("records")]
    return study.distinct(finals, size.rungs[-1][1]), table


def table(n_views: int, profile: str = "standard", workers: int | None = None) -> list[dict]:
    """The records of Table 1's learned rows for one view count, computed where there are none yet."""
    size, found = study.SIZES[profile], []
    for method in ("dropout", "bbb"):
        best, sweep = best_settings(method, n_views, profile, workers)
        _exhibit(f"inr-sweep-{method}-{n_views}-{profile}", sweep, profile)
        best = best if method == "dropout" else best[:1]
        run(TRIAL, [{**setting, "ids": [id]} for ids in size.ids for id in ids for setting in best], workers=workers, strict=True)
        on_validation = [study.final_row(method, [setting], "validate", profile) for setting in best]
        order = sorted(range(len(best)), key=lambda i: -on_validation[i]["metrics"]["psnr_db"])
        best = [best[i] for i in order]
        found += on_validation + [study.final_row(method, [setting], "test", profile) for setting in best]
        if method == "dropout":
            found += [study.final_row(f"ensemble-{n}", best[:n], split, profile)
                      for n in ENSEMBLES if n <= len(best) for split in ("validate", "test")]
    return found


def _exhibit(name, sweep, profile):
    """The sweep's table as an exhibit: what the chapter's explorer draws."""
    numbers = sweep.select_dtypes("number").fillna(-1.0)
    words = {column: sweep[column].astype(str).to_numpy(dtype=str) for column in ("activation", "method", "status")}
    store.save_exhibit(name, {**{column: numbers[column].to_numpy("float32") for column in numbers}, **words}, data=["phantoms"],
                       profile=profile, seed=0, code=[study.trial], note="Sweep over settings, validation phantom 1.")


def main() -> None:
    parser = argparse.ArgumentParser("python -m instab_utils.sweep.inr", description=__doc__.split("\n")[0])
    parser.add_argument("--profile", default="standard")
    parser.add_argument("--views", type=int, nargs="+", default=[20, 5])
    parser.add_argument("--workers", type=int, help="processes; default: one a core, or a GPU each")
    arguments = parser.parse_args()
    for n_views in arguments.views:
        for r in table(n_views, arguments.profile, arguments.workers):
            m = r["metrics"]
            print(f"{n_views} views, {r['method']}, {r['parameters']['split']}: PSNR {m['psnr_db']:.2f} dB, NLL {m['nll']:.3f}, "
                  f"ECE {m['ece']:.3f}, tuned {m['ece_tuned']:.3f}", flush=True)


if __name__ == "__main__":
    main()
