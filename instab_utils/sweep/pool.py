"""Where jobs run: in this process, in processes of this machine, or on the workers of a dask
scheduler.
"""

import contextlib
import functools
import logging
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping

import torch

from ..book.execution import KERNEL_ENVIRONMENT
from .plan import SweepError
from .subject import execute
from .values import last_line


@contextlib.contextmanager
def cluster(
    workers: int | None = None, host: str = "127.0.0.1", dashboard: bool = False, gpus: bool = False
):
    """A scheduler with worker processes of one thread on this machine; `.scheduler_address` serves
    several sweeps.

    Everything listens on `host`. Who reaches it can run code as you: keep it on loopback, or on a
    network of your own.

    Args:
        workers: processes; default: one a core, or with `gpus` one a GPU.
        dashboard: serve dask's dashboard at `.dashboard_link`, a free port of `host` (needs bokeh).
        gpus: each worker sees one GPU only (CUDA_VISIBLE_DEVICES) and offers it as {"GPU": 1}.
    """
    import dask
    from distributed import Nanny, Scheduler, SpecCluster

    given = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    workers = workers or (torch.cuda.device_count() if gpus else _cores())
    devices = given or [str(i) for i in range(torch.cuda.device_count() or workers)]
    options = {
        "host": host,
        "nthreads": 1,
        "memory_limit": 0,
        "silence_logs": logging.CRITICAL,
        "dashboard": False,
    }
    # no bars of their own
    spec = {
        i: {"cls": Nanny, "options": {**options, "env": {"INSTAB_BOOK": "1"}}}
        for i in range(workers)
    }
    for i in spec if gpus else ():
        spec[i]["options"] |= {
            "resources": {"GPU": 1},
            "env": {"INSTAB_BOOK": "1", "CUDA_VISIBLE_DEVICES": devices[i % len(devices)]},
        }
    scheduler = {
        "cls": Scheduler,
        "options": {
            "host": host,
            "port": 0,
            "allowed_failures": 0,
            "dashboard": dashboard,
            "dashboard_address": f"{host}:0",
        },
    }
    early = {name: value for name, value in KERNEL_ENVIRONMENT.items() if name.startswith("MALLOC")}
    early |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    before = {name: os.environ.get(name) for name in [*early, "PYTHONHASHSEED"]}
    settings = {
        "distributed.nanny.pre-spawn-environ": early,
        # a worker that died starts again, slowly on a busy machine
        "distributed.deploy.lost-worker-timeout": "1 hour",
        # but where none can start, jobs fail and do not wait for ever
        "distributed.scheduler.no-workers-timeout": "10 minutes",
        # a long call that holds Python's lock is no death
        "distributed.scheduler.worker-ttl": None,
    }
    try:
        with (
            dask.config.set(settings),
            SpecCluster(spec, scheduler=scheduler, silence_logs=logging.CRITICAL) as made,
        ):
            yield made
    finally:  # what a worker is to find when it starts, its nanny sets in this process
        os.environ.update({name: value for name, value in before.items() if value is not None})
        for name in [name for name, value in before.items() if value is None]:
            os.environ.pop(name, None)


@contextlib.contextmanager
def pool(
    subject,
    workers: int | None,
    address: str | None,
    host: str,
    dashboard: bool,
    resources: Mapping[str, float] | None,
):
    """A function send(batches, batched) that yields (batch, what `execute` returned) as jobs end."""
    if workers == 0:
        yield functools.partial(_here, subject)
        return
    with contextlib.ExitStack() as stack:
        from distributed import Client

        if address is None:
            made = stack.enter_context(
                cluster(workers, host, dashboard, gpus="GPU" in (resources or {}))
            )
            address = made.scheduler_address
            if dashboard:
                print(f"dashboard: {made.dashboard_link}", file=sys.stderr)
        try:
            client = stack.enter_context(Client(address, set_as_default=False))
            client.wait_for_workers(1, timeout=30)
        except (OSError, TimeoutError) as reason:
            raise SweepError(
                f"address: expected a dask scheduler with workers; none at {address} ({last_line(reason)}). Start "
                "them with `dask scheduler` and `dask worker`, or leave the address out."
            ) from reason
        problems = client.run(subject.missing_here, subject.code(), on_error="return")
        lacking = [f"{worker}: {problem}" for worker, problem in problems.items() if problem]
        lacking += [] if _room(client, resources) else [f"no worker offers {dict(resources)}"]
        if lacking:
            raise SweepError(
                "nothing was run; workers cannot do these jobs:\n  "
                + "\n  ".join(lacking)
                + "\nGive them the same code, packages and resources."
            )
        yield functools.partial(_on_workers, subject, client, resources)


def _here(subject, batches: Iterable[list], batched: bool) -> Iterator[tuple]:
    threads = torch.get_num_threads()
    try:
        for batch in batches:
            yield batch, execute(subject, [job.parameters for job in batch], batched)
    finally:
        torch.set_num_threads(threads)


def _on_workers(
    subject, client, resources, batches: Iterable[list], batched: bool
) -> Iterator[tuple]:
    """No more tasks are sent than run at once: the scheduler blames a worker's death on every task
    that it holds.

    Jobs whose worker died (more often than the scheduler allows: here once) wait until all others
    are done, and then run again, each alone, so that only those fail that kill their worker by
    themselves.
    """
    from distributed import KilledWorker, as_completed

    waiting, set_aside, flight, queue = iter(batches), deque(), {}, as_completed(loop=client.loop)

    def submit(batch, alone):
        future = client.submit(
            execute,
            subject,
            [job.parameters for job in batch],
            batched,
            pure=False,
            resources=resources,
        )
        flight[future] = batch, alone
        queue.add(future)

    def fill():
        room = _room(client, resources) or 1  # none while a dead worker starts again
        while len(flight) < room and (batch := next(waiting, None)):
            submit(batch, False)
        if not flight and set_aside:
            submit(set_aside.popleft(), True)

    fill()
    for future in queue:
        batch, alone = flight.pop(future)
        error = future.exception()
        died = isinstance(error, KilledWorker)
        if died and not alone:
            set_aside.extend([job] for job in batch)
        fill()  # first: no worker waits for a file to be written
        if error is None:
            yield batch, future.result()
        elif alone or not died:
            why = (
                "KilledWorker: every worker that took it died (killed, or out of memory?)"
                if died
                else last_line(error)
            )
            yield batch, ([(None, None, why)] * len(batch), "")


def _room(client, resources: Mapping[str, float] | None) -> int:
    """How many jobs the workers can run at once."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if resources:
        return sum(
            min(int(w["resources"].get(name, 0) // n) for name, n in resources.items())
            for w in workers
        )
    return sum(w["nthreads"] for w in workers)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
