"""Where jobs run: here, in processes of this machine, or on the workers of a dask scheduler."""

import contextlib
import functools
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch

from .. import profiles
from ..book.execution import MALLOC
from .functions import execute
from .plan import SweepError
from .values import last_line

SETTINGS = {  # of dask
    # a worker that died starts again, slowly on a busy machine
    "distributed.deploy.lost-worker-timeout": "1 hour",
    # but where none can start, jobs fail and do not wait for ever
    "distributed.scheduler.no-workers-timeout": "10 minutes",
    # a long call that holds Python's lock is no death
    "distributed.scheduler.worker-ttl": None,
}
EARLY = "distributed.nanny.pre-spawn-environ"


@dataclass(frozen=True)
class Workers:
    """The processes that run the jobs of a sweep.

    Everything listens on `host`. Who reaches it can run code as you: keep it on loopback, or on a
    network of your own.
    """

    # processes of one thread; default: one a core, or one a GPU where `resources` asks for GPUs
    # (see also `on_devices`); 0 runs the jobs in this process, one after the other, with the same
    # results
    n: int | None = None
    # of a running dask scheduler, such as "tcp://10.0.0.1:8786", instead of processes here
    address: str | None = None
    host: str = "127.0.0.1"
    dashboard: bool = False  # serve dask's dashboard at a free port of `host` (needs bokeh)
    # what a job takes of a worker, as {"GPU": 1}
    resources: Mapping[str, float] = field(default_factory=dict)
    batch_size: int = 64  # jobs that go to a worker together, where they can (`batch_by`)

    @classmethod
    def on_devices(cls, n: int | None = None) -> "Workers":
        """Return workers for jobs that compute on `profiles.default_device`.

        On CUDA one process a GPU: this one where there is one GPU, or one is named by its number.
        Elsewhere one process a core. n: as many instead, on CUDA at most one a GPU.
        """
        device = profiles.default_device()
        if device.type != "cuda":
            return cls(n)
        if n is None:
            n = len(visible_gpus()) if device.index is None else 0
        return cls(n if n > 1 else 0, resources={"GPU": 1})

    def problems(self) -> list[str]:
        """Return what is wrong with these settings."""
        n, resources, here = self.n, self.resources, self.address is None
        n_gpus = len(visible_gpus()) if here and n != 0 and "GPU" in resources else None
        found = []
        if n is not None and n < 0:
            found.append(f"workers: expected a whole number, 0 or more; got {n}.")
        if not here and (n is not None or "://" not in self.address):
            found.append(
                "address: expected tcp://host:port and no number of workers, which the cluster "
                f"has; got {self.address!r}, workers={n}."
            )
        if min(resources.values(), default=1) <= 0:
            found.append(
                f"resources: expected positive numbers as {{'GPU': 1}}; got {dict(resources)}."
            )
        if n_gpus and n and n > n_gpus:
            found.append(f"workers: expected at most one a GPU ({n_gpus} in all); got {n}.")
        if n_gpus == 0:
            found.append(
                "resources: expected a GPU on this machine; PyTorch finds none. Leave resources "
                "out, or give an address."
            )
        if self.batch_size < 1:
            found.append(f"batch_size: expected 1 or more; got {self.batch_size}.")
        return found


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    n = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:n] if named else list(map(str, range(n)))


@contextlib.contextmanager
def cluster(
    workers: int | None = None, host: str = "127.0.0.1", dashboard: bool = False, gpus: bool = False
):
    """Start a scheduler with worker processes of one thread on this machine.

    `Workers(address=made.scheduler_address)` uses it for several sweeps.

    Args:
        workers, host, dashboard: see `Workers`.
        gpus: each worker sees one GPU only (CUDA_VISIBLE_DEVICES) and offers it as {"GPU": 1}.

    Raises:
        SweepError: for more workers than GPUs, or no GPU.
    """
    import dask
    from dask.system import CPU_COUNT
    from distributed import Nanny, Scheduler, SpecCluster

    devices = visible_gpus() if gpus else []
    workers = workers or len(devices) or CPU_COUNT
    if gpus and workers > len(devices):
        raise SweepError(
            f"cluster expects at most one worker a GPU, of which there are {len(devices)}; got "
            f"workers={workers}. Leave gpus out for jobs that need none."
        )
    common = {"host": host, "nthreads": 1, "memory_limit": 0, "dashboard": False}
    common |= {"silence_logs": logging.CRITICAL, "resources": {"GPU": 1} if gpus else {}}
    spec = {}
    for i in range(workers):
        environment = {"INSTAB_BOOK": "1"}  # no bars of their own
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = devices[i]
        spec[i] = {"cls": Nanny, "options": {**common, "env": environment}}
    options = {"host": host, "port": 0, "allowed_failures": 1}
    options |= {"dashboard": dashboard, "dashboard_address": f"{host}:0"}
    scheduler = {"cls": Scheduler, "options": options}
    early = {**dask.config.get(EARLY), **MALLOC}
    before = {name: os.environ.get(name) for name in ("PYTHONHASHSEED", *early)}
    try:
        with (
            dask.config.set({**SETTINGS, EARLY: early}),
            SpecCluster(spec, scheduler=scheduler, silence_logs=logging.CRITICAL) as made,
        ):
            yield made
    finally:  # what a worker is to find when it starts, its nanny sets in this process
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextlib.contextmanager
def opened(subject, workers: Workers):
    """Open the workers: a function batches -> (batch, `execute`'s results), as jobs end."""
    if workers.n == 0:
        yield functools.partial(_here, subject)
        return
    from distributed import Client

    with contextlib.ExitStack() as stack:
        address = workers.address
        if address is None:
            gpus = "GPU" in workers.resources
            made = stack.enter_context(cluster(workers.n, workers.host, workers.dashboard, gpus))
            address = made.scheduler_address
            if workers.dashboard:
                print(f"dashboard: {made.dashboard_link}", file=sys.stderr)
        try:
            client = stack.enter_context(Client(address, set_as_default=False))
            client.wait_for_workers(1, timeout=30)
        except (OSError, TimeoutError) as reason:
            raise SweepError(
                f"address: expected a dask scheduler with workers; none at {address} "
                f"({last_line(reason)}). Start them with `dask scheduler` and `dask worker`, or "
                "leave the address out."
            ) from reason
        problems = client.run(subject.missing_here, subject.source(), on_error="return")
        lacking = [f"{worker}: {problem}" for worker, problem in problems.items() if problem]
        if not _room(client, workers.resources):
            lacking.append(f"no worker offers {dict(workers.resources)}")
        if lacking:
            raise SweepError(
                "nothing was run; workers cannot do these jobs:\n  "
                + "\n  ".join(lacking)
                + "\nGive them the same code, packages and resources."
            )
        yield functools.partial(_on_workers, subject, client, workers.resources)


def _here(subject, batches: Iterable[list]) -> Iterator[tuple]:
    threads = torch.get_num_threads()
    try:
        for batch in batches:
            yield batch, execute(subject, [job.parameters for job in batch])
    finally:
        torch.set_num_threads(threads)


def _on_workers(subject, client, resources, batches: Iterable[list]) -> Iterator[tuple]:
    """Yield (batch, `execute`'s results) as batches end.

    No more are sent than run at once: dask counts a worker's death against every task that it
    holds, and gives a task up after more deaths than the scheduler allows.
    """
    from distributed import KilledWorker, as_completed

    waiting, sent = iter(batches), {}
    queue = as_completed(loop=client.loop)

    def send(batch: list) -> None:
        many = [job.parameters for job in batch]
        future = client.submit(execute, subject, many, pure=False, resources=resources)
        sent[future] = batch
        queue.add(future)

    def fill() -> None:
        room = _room(client, resources) or 1  # none while a dead worker starts again
        while len(sent) < room and (batch := next(waiting, None)):
            send(batch)

    fill()
    for future in queue:
        batch = sent.pop(future)
        error = future.exception()
        killed = isinstance(error, KilledWorker)
        if killed and len(batch) > 1:
            for job in batch:
                send([job])
        fill()  # first: no worker waits for a file to be written
        if error is None:
            yield batch, future.result()
        elif not killed or len(batch) == 1:
            why = last_line(error)
            if killed:
                why = "KilledWorker: every worker that took it died (killed, or out of memory?)"
            yield batch, ([{"metrics": None, "seconds": None, "error": why}] * len(batch), "")


def _room(client, resources: Mapping[str, float]) -> int:
    """Return how many jobs the workers can run at once."""
    room = 0
    for worker in client.scheduler_info(n_workers=-1)["workers"].values():
        offered = [worker["resources"].get(name, 0) // n for name, n in resources.items()]
        room += int(min(offered, default=worker["nthreads"]))
    return room
