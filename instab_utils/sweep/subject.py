"""What a sweep runs: a function or a notebook, what it accepts, and what its results are called."""

import ast
import importlib.util
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from .. import profiles, store
from ..book import ROOT, notebook_text
from ..book.execution import CELL_TIMEOUT_S, KERNEL_ENVIRONMENT
from .plan import did_you_mean
from .values import annotations, fits, is_json, last_line, metrics

_MIME = "application/vnd.instab-utils.metrics"
# in a worker that serves several sweeps: function -> hash of the source when it was first asked for
_loaded: dict[str, str] = {}


@dataclass(frozen=True)
class Function:
    """fn(**parameters) -> dictionary of numbers, by its import path; the object itself stays in
    this process.
    """

    name: str  # "module:function"
    _fn: Callable | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, what: Callable | str) -> "Function":
        if callable(what):
            return cls(
                f"{getattr(what, '__module__', '?')}:{getattr(what, '__qualname__', type(what).__name__)}",
                what,
            )
        return cls(what if ":" in what else ":".join(what.rpartition(".")[::2]))

    def __reduce__(self):
        return Function, (self.name,)

    def fn(self) -> Callable:
        return self._fn or self._imported()

    def _imported(self) -> Callable:
        module, _, name = self.name.partition(":")
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        return found

    def problems(self, in_this_process: bool) -> list[str]:
        """Why it cannot be run by a worker, or at all."""
        cure = "Define it at the top level of a module that the workers can import."
        try:
            module, _, name = self.name.partition(":")
            if "<" in name:
                return [f"function: expected one that has an import path; got {self.name}. {cure}"]
            if not (in_this_process and self._fn is not None):
                if module == "__main__":
                    return [
                        f"function: {self.name} belongs to the running script or notebook, which no worker can import. {cure} "
                        "Or run it in this process with workers=0."
                    ]
                if self._fn not in (None, self._imported()):
                    return [
                        f"function: {self.name} is not what is imported under this name. {cure}"
                    ]
            if not inspect.isfunction(self.fn()):
                return [
                    f"function: expected a function; {self.name} is of type {type(self.fn()).__name__}. {cure}"
                ]
            if any(
                p.kind is p.POSITIONAL_ONLY
                for p in inspect.signature(self.fn()).parameters.values()
            ):
                return [
                    f"function: expected parameters that can be given by name; got {self.name}{inspect.signature(self.fn())}."
                ]
        except Exception as reason:
            return [
                f"function: {self.name!r} cannot be imported: {type(reason).__name__}: {reason}. Expected 'module:function'."
            ]
        return []

    @property
    def batches(self) -> bool:
        return callable(getattr(self.fn(), "batched", None))

    def code(self) -> str:
        """Hash of the source, that of `.batched` included whether it is used or not."""
        parts = [self.fn(), getattr(self.fn(), "batched", None)]
        return store.key(source=[inspect.getsource(part) for part in parts if part])[:16]

    def defaults(self) -> dict:
        return {
            p.name: p.default
            for p in inspect.signature(self.fn()).parameters.values()
            if p.default is not p.empty
        }

    def complete(self, config: Mapping) -> dict:
        """The parameters with their defaults, as JSON has them: tuples are lists, a whole number
        for a real one is real.
        """
        kinds = annotations(self.fn())
        full = {**{k: v for k, v in self.defaults().items() if is_json(v)}, **config}
        order = [name for name in inspect.signature(self.fn()).parameters if name in full]
        full = {name: full[name] for name in [*order, *full]}
        full = {
            k: float(v) if kinds.get(k) is float and isinstance(v, int) else v
            for k, v in full.items()
        }
        return json.loads(json.dumps(full))

    def refused(self, config: Mapping) -> list[str]:
        """What is wrong with one configuration."""
        parameters, kinds = inspect.signature(self.fn()).parameters, annotations(self.fn())
        named = {
            k: p for k, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        }
        open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        signature = f"{self.name.partition(':')[2]}{inspect.signature(self.fn())}"
        found = [
            f"there is no parameter {name!r}{did_you_mean(name, named)}; expected {signature}"
            for name in config
            if name not in named and not open_ended
        ]
        found += [
            f"parameter {name!r} is missing; expected {signature}"
            for name, p in named.items()
            if p.default is p.empty and name not in config
        ]
        for name, value in config.items():
            wanted = kinds.get(name, type(self.defaults().get(name)))
            if (
                name in named
                and is_json(value)
                and wanted is not type(None)
                and not fits(value, wanted)
            ):
                found.append(f"{name} expects {getattr(wanted, '__name__', wanted)}; got {value!r}")
        return found

    def call(self, parameters: dict) -> dict:
        return self.fn()(**parameters)

    def call_batched(self, many: list[dict]) -> list[dict]:
        return self.fn().batched(many)

    def missing_here(self, code: str) -> str:
        """Asked of a worker: why it cannot run the same function; empty if it can."""
        try:
            if self.code() != code:
                return f"it has another version of {self.name}"
            if _loaded.setdefault(self.name, code) != code:
                return f"it has loaded {self.name} before the source was changed; restart it"
            return ""
        except Exception as reason:
            return f"it cannot import {self.name}: {type(reason).__name__}: {reason}"


@dataclass(frozen=True)
class Notebook:
    """A notebook with a cell tagged `parameters`, run by papermill in a kernel of its own.

    `collect` is an expression in the notebook's names, evaluated at its end: a dictionary of
    numbers.
    """

    name: str
    text: str = field(repr=False)
    collect: str = ""

    @classmethod
    def of(cls, path: str | Path, collect: str = "") -> "Notebook":
        path = Path(path)
        path = path if path.is_file() else ROOT / path
        text = notebook_text(path) if path.suffix == ".py" else path.read_text("utf-8")
        return cls(path.stem, text, collect)

    def _cells(self) -> list[tuple[str, list[str]]]:
        """(source, tags) of every code cell."""
        return [
            ("".join(cell["source"]), cell["metadata"].get("tags", []))
            for cell in json.loads(self.text)["cells"]
            if cell["cell_type"] == "code"
        ]

    batches = False

    def problems(self, in_this_process: bool) -> list[str]:
        if any("parameters" in tags for _, tags in self._cells()):
            return []
        return [f"notebook {self.name}: expected a code cell tagged 'parameters'; found none."]

    def code(self) -> str:
        """Hash of the code cells and of `collect`."""
        return store.key(
            cells=[source for source, _ in self._cells()],
            collect=self.collect,
        )[:16]

    def _defaults_cell(self) -> str:
        return next(source for source, tags in self._cells() if "parameters" in tags)

    def defaults(self) -> dict:
        return {
            node.targets[0].id: ast.literal_eval(node.value)
            for node in ast.parse(self._defaults_cell()).body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }

    def complete(self, config: Mapping) -> dict:
        return json.loads(json.dumps({**self.defaults(), **config}))

    def _choices(self) -> dict:
        """The `choices` that the notebook itself gives to `check_parameters`, where they stand
        there literally.
        """
        for source, _ in self._cells():
            for node in ast.walk(_parsed(source)):
                if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
                    "check_parameters"
                ):
                    try:
                        return ast.literal_eval(
                            next(iter([*node.args[1:], *(k.value for k in node.keywords)]))
                        )
                    except (ValueError, StopIteration):
                        return {}
        return {}

    def refused(self, config: Mapping) -> list[str]:
        given = "# Parameters\n" + "\n".join(
            f"{name} = {value!r}" for name, value in config.items() if name.isidentifier()
        )
        found = [f"there is no parameter {name!r}" for name in config if not name.isidentifier()]
        try:
            if all(is_json(value) for value in config.values()):
                profiles.check_parameters([self._defaults_cell(), given, ""], self._choices())
        except ValueError as reason:
            found.append(str(reason).rstrip("."))
        return found

    def call(self, parameters: dict) -> dict:
        notebook = json.loads(self.text)
        last = (
            "import json\nfrom IPython.display import display\n"
            f"display({{{_MIME!r}: json.dumps(dict({self.collect or '{}'}), default=lambda v: v.tolist())}}, raw=True)"
        )
        notebook["cells"].append(
            {
                "cell_type": "code",
                "id": "metrics",
                "metadata": {},
                "source": last,
                "outputs": [],
                "execution_count": None,
            }
        )
        with tempfile.TemporaryDirectory(prefix="sweep-") as place:
            source, target = Path(place, "source.ipynb"), Path(place, "out.ipynb")
            source.write_text(json.dumps(notebook), "utf-8")
            timeout_s = CELL_TIMEOUT_S.get(parameters.get("profile"))
            task = json.dumps([str(source), str(target), parameters, timeout_s, os.getcwd()])
            done = subprocess.run(
                [sys.executable, "-m", "instab_utils.book.one_notebook", task],
                stdout=subprocess.PIPE,
                text=True,
                check=False,
                env={
                    **os.environ,
                    **KERNEL_ENVIRONMENT,
                    "OMP_NUM_THREADS": "1",
                    "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
                },
            )
            if done.returncode:
                raise RuntimeError(
                    f"{self.name}: its process ended with status {done.returncode} (out of memory?)"
                )
            measured, problem = json.loads(done.stdout.splitlines()[-1])
            if problem:
                raise RuntimeError(f"{self.name}: {problem}")
            executed = json.loads(target.with_suffix(".partial.ipynb").read_text("utf-8"))
        outputs = [
            out["data"][_MIME]
            for out in executed["cells"][-1]["outputs"]
            if _MIME in out.get("data", {})
        ]
        return {**json.loads("".join(outputs[0])), "peak_gb": measured["peak_gb"]}

    def missing_here(self, code: str) -> str:
        return (
            ""
            if importlib.util.find_spec("papermill")
            else "it has no papermill (pip install papermill ipykernel)"
        )


def execute(
    subject: Function | Notebook, many: list[dict], batched: bool = False
) -> tuple[list[tuple], str]:
    """([(metrics or None, seconds, why it failed)] for each of `many`, a note); runs in a worker
    and never raises.

    One thread for PyTorch and one for NumPy's BLAS, everywhere, so that a number does not depend on
    where it is computed.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        torch.set_num_threads(1)
        return _execute(subject, many, batched)


def _execute(
    subject: Function | Notebook, many: list[dict], batched: bool
) -> tuple[list[tuple], str]:
    note = ""
    if batched and len(many) > 1:
        start = time.perf_counter()
        try:
            results = subject.call_batched(many)
            if len(results) != len(many):
                raise ValueError(
                    f"expected {len(many)} dictionaries from .batched; got {len(results)}"
                )
            cleaned = [
                metrics(result, parameters)
                for result, parameters in zip(results, many, strict=True)
            ]
            seconds = (time.perf_counter() - start) / len(many)
            return [(result, seconds, "") for result in cleaned], ""
        except Exception as error:
            note = f"a batch of {len(many)} failed and is run one by one: {last_line(error)}"
    outcomes = []
    for parameters in many:
        start = time.perf_counter()
        try:
            result, problem = metrics(subject.call(parameters), parameters), ""
        except (Exception, SystemExit) as error:
            result, problem = None, last_line(error)
        outcomes.append((result, time.perf_counter() - start, problem))
    return outcomes, note


def _parsed(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError:  # IPython's magics
        return ast.Module([], [])
