"""What a sweep adds to its jobs: 8 jobs of 2 s on 2 workers beside the 8 s that they must take.

    python benchmarks/bench_sweep.py [--jobs 8] [--seconds 2] [--workers 2] [--rounds 3]

The jobs sleep, so that what is measured is the sweep: looking for stored results, sending,
collecting, writing one line a job. The overhead of a job is (wall time - ideal) / (jobs per
worker); the bar is 5 % of a job of 10 s. Starting the workers, which is paid once a sweep, is timed
apart (they import PyTorch), and so are jobs that do nothing.
Measured with 2 cores: 0.04 s per job, 0.4 % of 10 s; shared by ten other busy processes 0.35 to
0.41 s, 3.8 %.
"""

import math
import os
import statistics
import tempfile
import time

from common import Report, arguments

from instab_utils import sweep

JOB_S = 10.0
BAR = 0.05


def nap(i: int, pause: float) -> dict:
    time.sleep(pause)
    return {"slept": pause}


def main():
    options = arguments(__doc__, jobs=8, seconds=2.0, workers=2, rounds=3)
    report = Report(f"{options.jobs} jobs of {options.seconds:g} s on {options.workers} workers")
    deep = math.ceil(options.jobs / options.workers)  # jobs that a worker does one after the other

    def run(n_jobs, seconds, address):
        """Seconds of a sweep without stored results, and of the same sweep with them."""
        with tempfile.TemporaryDirectory() as folder:
            os.environ |= {"INSTAB_RESULTS": folder, "INSTAB_BOOK": "1"}  # no bars
            elapsed = []
            for _ in range(2):
                start = time.perf_counter()
                table = sweep.run_plan(
                    "bench_sweep:nap",
                    sweep.grid(i=list(range(n_jobs)), pause=seconds),
                    workers=sweep.Workers(address=address),
                )
                elapsed.append(time.perf_counter() - start)
        assert list(table.status) == ["stored"] * n_jobs
        return elapsed

    start = time.perf_counter()
    with sweep.cluster(options.workers) as cluster:
        print(
            f"  {options.workers} workers start in {time.perf_counter() - start:.1f} s", flush=True
        )
        run(options.workers, 0.0, cluster.scheduler_address)  # imports what is lazy
        overheads, empty, stored = [], [], []
        for _ in range(options.rounds):
            overheads.append(
                (
                    run(options.jobs, options.seconds, cluster.scheduler_address)[0]
                    - deep * options.seconds
                )
                / deep
            )
            wall, again = run(100, 0.0, cluster.scheduler_address)
            empty.append(wall / 100)
            stored.append(again / 100)
    print(
        "  overhead per job "
        + ", ".join(f"{1e3 * s:.0f}" for s in overheads)
        + f" ms: {statistics.median(overheads) / JOB_S:.2%} of a "
        f"job of {JOB_S:g} s; jobs that do nothing {1e3 * statistics.median(empty):.1f} ms each, "
        "results that are stored "
        f"{1e3 * statistics.median(stored):.1f} ms each",
        flush=True,
    )
    report.row(
        f"a job of {JOB_S:g} s / its overhead",
        JOB_S / max(statistics.median(overheads), 1e-6),
        1 / BAR,
        1 / BAR,
    )
    report.finish()


if __name__ == "__main__":
    main()
