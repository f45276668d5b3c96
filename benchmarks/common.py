"""What every benchmark shares: interleaved timing, the memory bandwidth of this machine, printing,
peers.

Run benchmarks with MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592, so that
glibc keeps large temporaries instead of handing them back to the kernel each call; `make bench`
does.
"""

import argparse
import os
import statistics
import sys
import time

import torch


def arguments(doc: str, **defaults: object) -> argparse.Namespace:
    """What the command line says of these, --name value: a default that is a list takes several
    values, False is a switch.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in defaults.items():
        if value is False:
            parser.add_argument(f"--{name}", action="store_true")
        else:
            several = isinstance(value, list)
            parser.add_argument(
                f"--{name}",
                type=type(value[0] if several else value),
                nargs="*" if several else None,
                default=value,
            )
    return parser.parse_args()


def interleave(candidates: dict, rounds: int = 7, block_s: float = 0.05) -> dict[str, list[float]]:
    """Seconds per call of each callable, one value a round, all candidates taking turns in every
    round.

    In a round each candidate runs for about `block_s` (at least once), after one untimed call if
    that is short, and
    its fastest call counts: what neighbours on the machine do hits all candidates alike, so ratios
    can be trusted.
    """
    times, last = {name: [] for name in candidates}, {}
    for run in candidates.values():
        run()  # builds what is lazy
    for _ in range(rounds):
        for name, run in candidates.items():
            if last.get(name, 0) < 1:  # a call of seconds needs no warming
                run()
            best, spent = float("inf"), 0.0
            while spent < block_s:
                start = time.perf_counter()
                run()
                elapsed = time.perf_counter() - start
                best, spent = min(best, elapsed), spent + elapsed
            times[name].append(best)
            last[name] = best
    return times


def ratio(times: dict[str, list[float]], peer: str, ours: str) -> float:
    """How many times faster `ours` is than `peer`: the median over rounds of the ratio within a
    round.
    """
    return statistics.median(p / o for p, o in zip(times[peer], times[ours], strict=True))


def milliseconds(times: list[float]) -> str:
    """Median and, in brackets, the fastest round."""
    return f"{1e3 * statistics.median(times):8.2f} ({1e3 * min(times):.2f})"


def show(times: dict[str, list[float]], indent: str = "  ") -> None:
    """A line for each candidate."""
    width = max(map(len, times))
    for name, seconds in times.items():
        print(f"{indent}{name:{width}s} {milliseconds(seconds)} ms", flush=True)


def memory_bandwidth(megabytes: int = 256, rounds: int = 5) -> float:
    """Bytes per second that a copy moves (reads and writes), with torch's threads, beyond the
    caches.
    """
    source = torch.ones(megabytes * 2**18)
    target = torch.empty_like(source)
    best = min(interleave({"copy": lambda: target.copy_(source)}, rounds, block_s=0.1)["copy"])
    return 2 * source.numel() * 4 / best


class Report:
    """Rows of (what, measured ratio, target, limit); prints as it goes and exits non-zero below a
    limit.
    """

    def __init__(self, title: str):
        load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
        print(
            f"{title}\ntorch {torch.__version__}, {torch.get_num_threads()} threads{load}\n",
            flush=True,
        )
        self.rows = []

    def row(self, what: str, measured: float, target: float, limit: float, note: str = "") -> None:
        verdict = (
            "ok" if measured >= target else "below target" if measured >= limit else "BELOW LIMIT"
        )
        self.rows.append((what, measured, target, limit, verdict))
        bars = f"target {target:5.1f}x   limit {limit:5.1f}x"
        line = f"{what:44s} {measured:7.1f}x   {bars}   {verdict:12s} {note}"
        print(line.rstrip(), flush=True)

    def finish(self) -> None:
        failed = [what for what, *_, verdict in self.rows if verdict == "BELOW LIMIT"]
        print(
            f"\n{len(self.rows) - len(failed)} of {len(self.rows)} ratios above their limit",
            flush=True,
        )
        if failed:
            sys.exit("below the limit: " + ", ".join(failed))


def deepinv_physics():
    """The module deepinv.physics, imported so that it works beside a PyTorch without CUDA.

    deepinv imports torchvision first, and torchvision's wheel on PyPI expects the CUDA build of
    torch: its compiled operators cannot load beside the CPU build, and the import stops at the two
    it describes by name. Declaring those two (nothing here calls them) lets everything that needs
    no compiled operator work.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:  # operator torchvision::nms does not exist
        # lives as long as the process
        _declared.append(torch.library.Library("torchvision", "FRAGMENT"))
        for name in ("nms", "qnms"):
            _declared[0].define(
                f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
    import deepinv.physics

    return deepinv.physics


_declared: list = []
