"""A function that a sweep runs: which arguments it accepts, and what a worker does with it."""

import contextlib
import inspect
import json
import pkgutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from .values import annotations, is_json, last_line, metrics, refused

CURE = "Define it at the top level of a module that the workers can import."
# in a worker that serves several sweeps: function -> its source when it was first asked for
_loaded: dict[str, str] = {}


@dataclass(frozen=True)
class Function:
    """fn(**parameters) -> dictionary of numbers, by its import path."""

    name: str  # "module:function"

    @classmethod
    def of(cls, what: Callable | str) -> "Function":
        if callable(what):
            return cls(f"{what.__module__}:{getattr(what, '__qualname__', what)}")
        return cls(what if ":" in what else ":".join(what.rpartition(".")[::2]))

    def fn(self) -> Callable:
        return pkgutil.resolve_name(self.name)

    def problems(self, in_this_process: bool) -> list[str]:
        """Return why it cannot be run by a worker, or at all."""
        try:
            problem = self._problem(in_this_process)
        except Exception as reason:
            problem = (
                f"{self.name!r} cannot be imported: {last_line(reason)}. Expected "
                "'module:function'."
            )
        return [f"function: {problem}"] if problem else []

    def _problem(self, in_this_process: bool) -> str:
        if "<" in self.name:
            return f"expected one that has an import path; got {self.name}. {CURE}"
        if self.name.startswith("__main__:") and not in_this_process:
            return (
                f"{self.name} belongs to the running script or notebook, which no worker can "
                f"import. {CURE} Or run it in this process with workers=0."
            )
        fn = self.fn()
        if not inspect.isfunction(fn):
            return f"expected a function; {self.name} is of type {type(fn).__name__}. {CURE}"
        return ""

    @property
    def batches(self) -> bool:
        return hasattr(self.fn(), "batched")

    def complete(self, config: Mapping) -> dict:
        """Return the parameters with their defaults, as JSON has them.

        Tuples are lists, a whole number for a real one is real.
        """
        hints = annotations(self.fn())
        signature = inspect.signature(self.fn()).parameters
        full = {name: config.get(name, p.default) for name, p in signature.items()} | config
        for name, value in full.items():
            if hints.get(name) is float and isinstance(value, int):
                full[name] = float(value)
        return json.loads(json.dumps({k: v for k, v in full.items() if is_json(v)}))

    def refused(self, config: Mapping) -> list[str]:
        """Return what is wrong with one configuration."""
        return refused(self.fn(), config)

    def call(self, parameters: dict) -> dict:
        return self.fn()(**parameters)

    def call_batched(self, many: list[dict]) -> list[dict]:
        return self.fn().batched(many)

    def source(self) -> str:
        """Return the text of the function and of its `.batched`."""
        fn = self.fn()
        parts = [fn, fn.batched] if self.batches else [fn]
        return "\n".join(map(inspect.getsource, parts))

    def missing_here(self, source: str) -> str:
        """Return why this process, a worker, cannot run the same function; empty if it can."""
        try:
            if _loaded.setdefault(self.name, self.source()) != source:
                return f"it has loaded another version of {self.name}; restart it"
        except Exception as reason:
            return f"it cannot import {self.name}: {last_line(reason)}"
        return ""


def _one_thread() -> contextlib.AbstractContextManager:
    """Limit NumPy's BLAS, where threadpoolctl is installed; PyTorch has a setting of its own."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return contextlib.nullcontext()
    return threadpool_limits(1)


def execute(subject, many: list[dict]) -> tuple[list[dict], str]:
    """Run jobs in a worker, several as a batch; never raises.

    One thread for PyTorch and one for NumPy's BLAS, everywhere, so that a number does not depend on
    where it is computed.

    Returns:
        (a result for each of `many`: metrics or None, seconds, error; a note).
    """
    note = ""
    with _one_thread():
        torch.set_num_threads(1)
        if len(many) > 1:
            start = time.perf_counter()
            try:
                results = subject.call_batched(many)
                results = [metrics(r, p) for r, p in zip(results, many, strict=True)]
                seconds = (time.perf_counter() - start) / len(many)
                return [{"metrics": r, "seconds": seconds, "error": ""} for r in results], ""
            except Exception as error:
                note = f"a batch of {len(many)} failed and is run one by one: {last_line(error)}"
        return [_result(subject, parameters) for parameters in many], note


def _result(subject, parameters: dict) -> dict:
    start = time.perf_counter()
    result = {"metrics": None, "error": ""}
    try:
        result["metrics"] = metrics(subject.call(parameters), parameters)
    except (Exception, SystemExit) as error:
        result["error"] = last_line(error)
    return {**result, "seconds": time.perf_counter() - start}
