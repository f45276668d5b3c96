"""One unit of work after the other: timed, stored at once, resumed after a kill, past failures."""

import base64
import hashlib
import io
import math
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from .. import store
from ..store import files, lines
from .errors import FunctionFailed
from .problem import Problem

VERSION = 2
"""Of the units' functions; raised by hand when their meaning changes."""
CURES = {
    "not finite": "Look for divisions by 0, square roots at 0, or an input outside the range of "
    "the training.",
    "memory": "Smaller images, a smaller network, or a machine with more memory.",
    "shape": "f accepted a y of this shape before, but refused it: look for state that it keeps "
    "between calls.",
    "gradient": "Make f differentiable everywhere (an eps inside square roots), or pass "
    "access='black box'.",
}
CURE = "Load the input (numpy.load(...)['y']), call f with it, and repair what it says."


class Runner:
    """Compute units by name and keep their results, states and failures.

    Args:
        p: calls of its f are counted; its identity and a unit's name are the unit's key.
        folder: where units (units.jsonl) and the inputs of failures are stored; None: nowhere.
        budget_s: no unit is begun that would, if it took as long as the last of its kind, end after
            so many seconds; None: no limit.
        started: when, by time.monotonic().
    """

    def __init__(self, p: Problem, folder: Path | None, budget_s: float | None, started: float):
        self.f, self.say = p.f, p.options.say
        self.folder, self.budget_s, self.started = folder, budget_s, started
        self.n_calls, self.n_gradients = p.f.n_calls, p.f.n_gradients
        self.identity = p.identity()
        self.steps, self.failures, self.results = [], [], {}
        self.durations: dict[str, float] = {}
        self.seconds_before, self.interrupted = 0.0, False

    def do(self, name: str, kind: str, compute: Callable[[], dict]) -> dict | None:
        """Return the result of a unit, stored or computed; None if it failed or had no time."""
        if self.interrupted:
            return self.note(name, "no time", "interrupted")
        key = store.key(**self.identity, unit=name, version=VERSION)
        unit = self._stored(key)
        if unit is not None:
            self.seconds_before += unit["seconds"]
            return self._finish(name, "resumed", unit)
        why = self._why_no_time(kind)
        if why:
            return self.note(name, "no time", why)
        start, calls, gradients = time.monotonic(), self.f.n_calls, self.f.n_gradients
        try:
            result = packed(compute())
        except KeyboardInterrupt:
            self.interrupted = True
            return self.note(name, "no time", "interrupted", time.monotonic() - start)
        except Exception as error:
            self.durations[kind] = time.monotonic() - start
            self._fail(name, error)
            return self.note(name, "failed", str(error).split("\n")[0], self.durations[kind])
        self.durations[kind] = time.monotonic() - start
        unit = {
            "key": key,
            "unit": name,
            "seconds": round(self.durations[kind], 3),
            "n_calls": self.f.n_calls - calls,
            "n_gradients": self.f.n_gradients - gradients,
            "result": result,
        }
        if self.folder is not None:
            lines.add(self.folder / "units.jsonl", unit)
        return self._finish(name, "done", unit)

    def note(self, name: str, status: str, why: str | None, seconds: float = 0.0) -> None:
        """Note the state of a unit: done, resumed, no time, failed, not applicable."""
        step = {"name": name, "status": status, "seconds": round(seconds, 3), "why": why}
        self.steps.append(step)
        if self.say is not None:
            self.say(f"{name}: {status}, {why or f'{seconds:.1f} s'}")

    def _why_no_time(self, kind: str) -> str | None:
        if self.budget_s is None:
            return None
        left = self.budget_s - (time.monotonic() - self.started)
        needed = self.durations.get(kind, 0.0)
        if left > needed:
            return None
        if not needed:
            return f"the {self.budget_s:g} s were over"
        left = max(0.0, left)
        return f"{left:.0f} s were left of {self.budget_s:g}; the last one took {needed:.0f} s"

    def _finish(self, name: str, status: str, unit: dict) -> dict:
        self.note(name, status, None, unit["seconds"])
        self.n_calls += unit["n_calls"]
        self.n_gradients += unit["n_gradients"]
        self.results[name] = unpacked(unit["result"])
        return self.results[name]

    def _stored(self, key: str) -> dict | None:
        if self.folder is None:
            return None
        return lines.read(self.folder / "units.jsonl").get(key)

    def _fail(self, name: str, error: Exception) -> None:
        about = str(error)
        if not isinstance(error, FunctionFailed | ValueError):
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"line {last.lineno} of {Path(last.filename).name}"
            about = f"{type(error).__name__}: {about} ({place})"
        failure = {"step": name, "error": about, "input": None, "sha256": None}
        failure["cure"] = next((CURES[word] for word in CURES if word in about.lower()), CURE)
        y = getattr(error, "y", None)
        if y is not None and self.folder is None:
            failure["cure"] += " Pass folder=..., and the input is kept."
        elif y is not None:
            stream = io.BytesIO()
            np.savez(stream, y=y.cpu().resolve_conj().numpy())
            file = f"{name.replace(' ', '-').replace(',', '')}.npz"
            path = files.write(self.folder / "failures" / file, stream.getvalue())
            failure["input"] = str(path)
            failure["sha256"] = hashlib.sha256(stream.getvalue()).hexdigest()
        self.failures.append(failure)


def packed(value):
    """Return JSON of nested dictionaries, lists, numbers and tensors; None for not finite."""
    if isinstance(value, torch.Tensor):
        array = value.detach().cpu().resolve_conj().contiguous().numpy()
        content = base64.b64encode(array.tobytes()).decode()
        return {"array": content, "type": array.dtype.str, "shape": list(array.shape)}
    if isinstance(value, dict):
        return {str(name): packed(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [packed(item) for item in value]
    return finite(value)


def unpacked(value):
    """Return the same with tensors again."""
    if isinstance(value, list):
        return [unpacked(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) != {"array", "type", "shape"}:
        return {name: unpacked(item) for name, item in value.items()}
    array = np.frombuffer(base64.b64decode(value["array"]), dtype=value["type"])
    return torch.from_numpy(array.reshape(value["shape"]).copy())


def finite(value):
    """Return None for a float that is not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
