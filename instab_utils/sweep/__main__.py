"""Run a plan: `python -m instab_utils.sweep plan.toml [--workers N | --address tcp://...]
[--dry-run]`.

The plan, in TOML or JSON, names a `function` ("module:function") or a `notebook`, and `axes` or
`configs`; optionally rungs, eta, budget, metric, maximise, collect, batch_by, batch_size,
resources, seconds_per_job.
"""

import argparse
import sys

from . import SweepError, load, preview, run


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m instab_utils.sweep", description=__doc__.split("\n")[0]
    )
    parser.add_argument("plan", help="file in JSON or TOML")
    parser.add_argument(
        "--workers", type=int, help="processes; default: one a core (or GPU); 0: in this process"
    )
    parser.add_argument("--address", help="of a dask scheduler, such as tcp://10.0.0.1:8786")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="where the scheduler started here listens (default: loopback)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check the plan and say how much is to do"
    )
    parser.add_argument("--strict", action="store_true", help="end with an error if a job failed")
    parser.add_argument("--csv", help="write the table to this file")
    given = parser.parse_args(arguments)
    try:
        what, plan, options = load(given.plan)
        if given.dry_run:
            print(preview(what, plan, workers=given.workers, address=given.address, **options))
            return 0
        table = run(
            what,
            plan,
            workers=given.workers,
            address=given.address,
            host=given.host,
            strict=given.strict,
            **options,
        )
    except SweepError as error:
        print(error, file=sys.stderr)
        if error.table is None:
            return 1
        table = error.table
    print(table.drop(columns="key").to_string(max_colwidth=60))
    if given.csv:
        table.to_csv(given.csv, index=False)
    return 1 if given.strict and (table["status"] == "failed").any() else 0


if __name__ == "__main__":
    sys.exit(main())
