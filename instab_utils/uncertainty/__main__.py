"""Fit the estimators that ship and run the detection experiment: `python -m
instab_utils.uncertainty all`.

    python -m instab_utils.uncertainty fits|study|sweep|all [--task denoising] [--seed 0] [--profile
    paper]

Results go to INSTAB_RESULTS (build/results by default). What exists is left alone; an interrupted
fit goes on.
"""

import argparse

from .. import store
from . import study
from .fits import Fit, fit


def shipped(profile: str = "standard") -> list[Fit]:
    """What is in results/weights, the most needed first."""
    three = [
        fit(method, name, seed, profile)
        for name in study.TASKS.values()
        for method in ("interval", "probout")
        for seed in (0, 1, 2)
    ]
    return [
        *three,
        *(fit("interval", "dncnn", seed, profile, n_layers=5) for seed in (0, 1, 2)),
        *(fit("interval", "dncnn", 0, profile, beta=beta) for beta in study.BETAS),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m instab_utils.uncertainty", description=__doc__.split("\n")[0]
    )
    parser.add_argument("what", choices=["fits", "study", "sweep", "all"])
    parser.add_argument("--task", choices=list(study.TASKS), help="default: both")
    parser.add_argument("--seed", type=int, help="default: 0, 1 and 2")
    parser.add_argument("--profile", default="standard")
    arguments = parser.parse_args()
    tasks = [arguments.task] if arguments.task else list(study.TASKS)
    seeds = (0, 1, 2) if arguments.seed is None else (arguments.seed,)
    if arguments.what in ("fits", "all"):
        for spec in shipped(arguments.profile):
            if spec.base.name in {study.TASKS[task] for task in tasks} and spec.seed in seeds:
                trained = store.load_or_train(spec)
                score = ", ".join(f"{k} {v:.4g}" for k, v in trained.card["validation"].items())
                print(
                    f"{trained.key}: {score}; {trained.card['seconds'] / 60:.1f} min on {trained.card['device']}",
                    flush=True,
                )
    if arguments.what in ("study", "all"):
        for task in tasks:
            for seed in seeds:
                print(
                    f"{task}, seed {seed}: {len(study.rows(task, seed, arguments.profile))} records",
                    flush=True,
                )
            if 0 in seeds:
                print(
                    f"{task}, validation: {len(study.rows(task, 0, arguments.profile, 'validate'))} records",
                    flush=True,
                )
    if arguments.what in ("sweep", "all") and 0 in seeds and "denoising" in tasks:
        print(f"sweeps: {len(study.sweep_rows(arguments.profile))} records", flush=True)


if __name__ == "__main__":
    main()
