"""One unit of work after the other: in time, stored at once, resumed after a kill, and past what
fails.
"""

import base64
import hashlib
import io
import json
import math
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from .. import store
from ..store import files
from .function import AuditError, Function, FunctionFailed

CURES = {
    "not finite": "Look for divisions by 0, square roots at 0, or an input outside the range of the training.",
    "memory": "Smaller images, a smaller network, or a machine with more memory.",
    "shape": "f has met a y of the same shape as before, but refused it: look for state that it keeps between calls.",
    "gradient": "Make f differentiable everywhere (an eps inside square roots), or pass access='black box'.",
}


class Runner:
    """Does units by name, `do(name, kind, compute)`, and keeps what became of each.

    Args:
        folder: where units and the inputs of failures are stored; None: nowhere.
        identity: what decides the numbers, JSON; with a unit's name it is the unit's key.
        budget_s: no unit is begun that would, as long as the last of its kind took, end after so
            many seconds; None: no limit.
        f: its calls are counted.
        say: called with a line for every unit.
    """

    def __init__(
        self,
        folder: Path | None,
        identity: dict,
        budget_s: float | None,
        f: Function,
        say: Callable,
        started: float,
    ):
        self.folder, self.identity, self.budget_s, self.f, self.say = (
            folder,
            identity,
            budget_s,
            f,
            say,
        )
        self.started = started
        self.steps, self.failures, self.results = [], [], {}
        self.took: dict[str, float] = {}
        self.seconds_before, self.n_calls, self.n_gradients, self.interrupted = 0.0, 0, 0, False

    def left(self) -> float:
        return (
            math.inf if self.budget_s is None else self.budget_s - (time.monotonic() - self.started)
        )

    def do(self, name: str, kind: str, compute: Callable[[], dict]) -> dict | None:
        """The unit's result, stored or made now; None where it failed, or there is no time for it."""
        if self.interrupted:
            return self._end(name, "no time", 0.0, "interrupted")
        key = store.key(**self.identity, unit=name)
        stored = self._stored(key)
        if stored is not None:
            self.seconds_before += stored["seconds"]
            return self._end(name, "resumed", stored["seconds"], None, stored)
        needed = self.took.get(kind, 0.0)
        if self.left() <= needed:
            why = (
                f"{max(0.0, self.left()):.0f} s were left of {self.budget_s:g}; the last one took {needed:.0f} s"
                if needed
                else f"the {self.budget_s:g} s were over"
            )
            return self._end(name, "no time", 0.0, why)
        start, before = time.monotonic(), (self.f.n_calls, self.f.n_gradients)
        try:
            result = packed(compute())
        except KeyboardInterrupt:
            self.interrupted = True
            return self._end(name, "no time", time.monotonic() - start, "interrupted")
        except Exception as error:
            self._failed(name, error)
            self.took[kind] = time.monotonic() - start
            return self._end(name, "failed", self.took[kind], str(error).split("\n")[0])
        seconds = time.monotonic() - start
        self.took[kind] = seconds
        unit = {
            "unit": name,
            "seconds": round(seconds, 3),
            "n_calls": self.f.n_calls - before[0],
            "n_gradients": self.f.n_gradients - before[1],
            "result": result,
        }
        if self.folder is not None:
            content = json.dumps({**unit, "checksum": store.key(**unit)}, allow_nan=False).encode()
            files.write(self.folder / "steps" / f"{key}.json", content)
        return self._end(name, "done", unit["seconds"], None, unit)

    def skip(self, name: str, why: str) -> None:
        """Note a test that does not apply."""
        self._end(name, "not applicable", 0.0, why)

    def _end(self, name, status, seconds, why, unit=None):
        self.steps.append(
            {"name": name, "status": status, "seconds": round(seconds, 3), "why": why}
        )
        self.say(f"{name}: {status}" + (f", {why}" if why else f", {seconds:.1f} s"))
        if unit is None:
            return None
        self.n_calls += unit["n_calls"]
        self.n_gradients += unit["n_gradients"]
        self.results[name] = unpacked(unit["result"])
        return self.results[name]

    def _stored(self, key):
        path = self.folder / "steps" / f"{key}.json" if self.folder is not None else None
        if path is None or not path.is_file():
            return None
        try:
            unit = json.loads(path.read_bytes())
            if unit.pop("checksum") == store.key(**unit):
                return unit
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        self.say(f"{path.name} is damaged: that unit is done again")
        return None

    def _failed(self, name, error):
        y, place, digest = getattr(error, "y", None), None, None
        if y is not None and self.folder is not None:
            place = self.folder / "failures" / f"{name.replace(' ', '-').replace(',', '')}.npz"
            stream = io.BytesIO()
            np.savez(stream, y=y.cpu().resolve_conj().numpy())
            files.write(place, stream.getvalue())
            digest = hashlib.sha256(stream.getvalue()).hexdigest()
        about = str(error)
        if not isinstance(error, (FunctionFailed, AuditError, ValueError)):
            last = traceback.extract_tb(error.__traceback__)[-1]
            about = f"{type(error).__name__}: {about} (line {last.lineno} of {Path(last.filename).name})"
        cure = next(
            (cure for word, cure in CURES.items() if word in about.lower()),
            "Load the input (numpy.load(...)['y']), call f with it, and repair what it says.",
        )
        self.failures.append(
            {
                "step": name,
                "error": about,
                "input": str(place) if place else None,
                "sha256": digest,
                "cure": cure
                + ("" if place or y is None else " Pass folder=..., and the input is kept."),
            }
        )


def packed(value):
    """JSON of nested dictionaries, lists, numbers and tensors; None for what is not finite."""
    if isinstance(value, torch.Tensor):
        array = value.detach().cpu().resolve_conj().contiguous().numpy()
        return {
            "array": base64.b64encode(array.tobytes()).decode(),
            "type": array.dtype.str,
            "shape": list(array.shape),
        }
    if isinstance(value, dict):
        return {str(name): packed(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [packed(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def unpacked(value):
    """The same with tensors again."""
    if isinstance(value, dict):
        if set(value) == {"array", "type", "shape"}:
            array = np.frombuffer(base64.b64decode(value["array"]), dtype=value["type"]).reshape(
                value["shape"]
            )
            return torch.from_numpy(array.copy())
        return {name: unpacked(item) for name, item in value.items()}
    return [unpacked(item) for item in value] if isinstance(value, list) else value
