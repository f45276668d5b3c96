"""Run a plan: `python -m instab_utils.sweep plan.toml [--workers N] [--dry-run]`.

The plan, in TOML or JSON, names a `function` ("module:function") or a `notebook`, and `axes` or
`configs`; optionally rungs, eta, budget, metric, maximise, collect, batch_by, version, resources,
seconds_per_job.
"""

import argparse
import sys

from . import SweepError, Workers, load, preview, run_plan


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m instab_utils.sweep", description=__doc__.split("\n")[0]
    )
    add = parser.add_argument
    add("plan", help="file in JSON or TOML")
    add("--workers", type=int, help="processes; default: one a core (or GPU); 0: in this process")
    add("--address", help="of a dask scheduler, such as tcp://10.0.0.1:8786")
    add("--host", default=Workers.host, help="where the scheduler started here listens (loopback)")
    add("--dry-run", action="store_true", help="check the plan and say how much is to do")
    add("--strict", action="store_true", help="end with an error if a job failed")
    add("--csv", help="write the table to this file")
    given = parser.parse_args(arguments)
    try:
        what, plan, options = load(given.plan)
        resources = options.pop("resources")
        workers = Workers(given.workers, given.address, given.host, resources=resources)
        if given.dry_run:
            print(preview(what, plan, workers=workers, **options))
            return 0
        table = run_plan(what, plan, workers=workers, strict=given.strict, **options)
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
