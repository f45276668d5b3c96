"""Run the stability test: `python -m instab_utils.stability all --profile standard`.

    python -m instab_utils.stability worst|around|structure|sampling|all [--only
    deep-mri ell-50] [--profile smoke]

Results are records in INSTAB_RESULTS (build/results by default); what exists is left alone.
"""

import argparse
import time

from ..data import DataUnavailable
from ..training.cases import CASES, SOLVERS
from . import sampling, structure, worst


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m instab_utils.stability", description=__doc__.split("\n")[0]
    )
    parser.add_argument("what", choices=["worst", "around", "structure", "sampling", "all"])
    parser.add_argument(
        "--only", nargs="+", choices=CASES, default=CASES, help="subjects; default: all"
    )
    parser.add_argument("--profile", default="standard")
    arguments = parser.parse_args()

    def say(line):
        print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)

    tests = {
        "sampling": sampling.rows,
        "structure": structure.rows,
        "worst": _worst,
        "around": worst.rows_around,
    }
    for what, test in tests.items():
        for name in arguments.only if arguments.what in (what, "all") else ():
            try:
                say(f"{what}, {name}: {len(test(name, arguments.profile))} records")
            except DataUnavailable as missing:
                say(f"{what}, {name}: not run. {missing}")


def _worst(name, profile):
    kinds = (("prediction", "image"), ("truth", "image"), ("prediction", "measurement"))
    return [
        r
        for target, domain in (kinds[:1] if name in SOLVERS else kinds)
        for r in worst.rows(name, profile, target, domain)
    ]


if __name__ == "__main__":
    main()
