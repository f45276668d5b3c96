"""Train the networks that ship: `python -m instab_utils.training all`, or one by name.

    python -m instab_utils.training ell-50 --seed 0 [--profile paper] [--device cuda] [--set
    steps=2000 --set lr=5e-4]

Weights go to INSTAB_RESULTS (build/results by default), beside a checkpoint from which an
interrupted run goes on.
"""

import argparse
import ast

from .. import store
from . import NAMES, recipe

SHIPPED = [
    (name, seed)
    for name in NAMES
    for seed in ((0, 1, 2) if name in ("dncnn", "unet-limited") else (0,))
]
"""What is in results/weights."""


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m instab_utils.training", description=__doc__.split("\n")[0]
    )
    parser.add_argument("name", choices=[*NAMES, "all"])
    parser.add_argument("--seed", type=int, help="default: the seeds that ship")
    parser.add_argument("--profile", default="standard")
    parser.add_argument("--device", help="default: INSTAB_DEVICE, or CUDA where there is one")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a field of the recipe",
    )
    arguments = parser.parse_args()
    changes = {
        field: ast.literal_eval(value)
        for field, _, value in (item.partition("=") for item in arguments.set)
    }
    chosen = [(name, seed) for name, seed in SHIPPED if arguments.name in (name, "all")]
    if arguments.seed is not None:
        chosen = [(name, arguments.seed) for name in dict(chosen)]
    for name, seed in chosen:
        trained = store.load_or_train(
            recipe(name, arguments.profile, seed, **changes), device=arguments.device
        )
        card = trained.card
        print(
            f"{trained.key}: {card['architecture']}; "
            f"validation {card['validation']['psnr_db']:.2f} dB after step {card['steps']}, "
            f"{card['seconds'] / 60:.1f} min on {card['device']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
