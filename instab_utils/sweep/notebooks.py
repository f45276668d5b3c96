"""A notebook that a sweep runs, by papermill and in a kernel of its own."""

import ast
import contextlib
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .. import profiles
from ..book import ROOT, notebook_text
from ..book.execution import CELL_TIMEOUT_S, in_fresh_process
from .values import is_json

_LAST_CELL = """import json, pathlib
_text = json.dumps(dict({collect}), default=lambda v: v.tolist())
pathlib.Path({path!r}).write_text(_text)"""


@dataclass(frozen=True)
class Notebook:
    """A notebook with a cell tagged `parameters`.

    `collect` is an expression in the notebook's names, evaluated at its end: a dictionary of
    numbers.
    """

    name: str
    text: str = field(repr=False)
    collect: str = ""
    batches = False

    @classmethod
    def of(cls, path: str | Path, collect: str = "") -> "Notebook":
        path = Path(path)
        path = path if path.is_file() else ROOT / path
        text = notebook_text(path) if path.suffix == ".py" else path.read_text("utf-8")
        return cls(path.stem, text, collect)

    def _cells(self, tag: str = "") -> list[str]:
        """Return the sources of the code cells, or of those with a tag."""
        sources = []
        for cell in json.loads(self.text)["cells"]:
            if cell["cell_type"] == "code" and tag in ["", *cell["metadata"].get("tags", [])]:
                sources.append("".join(cell["source"]))
        return sources

    def problems(self, in_this_process: bool) -> list[str]:
        if self._cells("parameters"):
            return []
        return [f"notebook {self.name}: expected a code cell tagged 'parameters'; found none."]

    def complete(self, config: Mapping) -> dict:
        """Return the parameters with the defaults of the notebook."""
        defaults = profiles.assigned(self._cells("parameters")[0])
        return json.loads(json.dumps({**defaults, **config}))

    def refused(self, config: Mapping) -> list[str]:
        """Return what is wrong with one configuration, in the words of `check_parameters`."""
        if not is_json(config):
            return []
        given = "\n".join(["# Parameters", *(f"{k} = {v!r}" for k, v in config.items())])
        try:
            profiles.check_parameters([*self._cells("parameters"), given, ""], self._choices())
        except (SyntaxError, ValueError) as reason:
            return [str(reason).rstrip(".")]
        return []

    def _choices(self) -> dict:
        """Return the literal `choices` that the notebook itself gives to `check_parameters`."""
        for source in self._cells():
            try:
                nodes = list(ast.walk(ast.parse(source)))
            except SyntaxError:  # IPython's magics
                continue
            for node in nodes:
                if isinstance(node, ast.Call) and "check_parameters" in ast.unparse(node.func):
                    arguments = [*node.args[1:], *(k.value for k in node.keywords)]
                    with contextlib.suppress(IndexError, ValueError):
                        return ast.literal_eval(arguments[0])
        return {}

    def call(self, parameters: dict) -> dict:
        notebook = json.loads(self.text)
        last = {"cell_type": "code", "id": "metrics", "metadata": {}, "execution_count": None}
        with tempfile.TemporaryDirectory(prefix="sweep-") as place:
            path, result = Path(place, "in.ipynb"), Path(place, "metrics.json")
            source = _LAST_CELL.format(collect=self.collect or "{}", path=str(result))
            notebook["cells"].append({**last, "source": source, "outputs": []})
            path.write_text(json.dumps(notebook), "utf-8")
            timeout_s = CELL_TIMEOUT_S.get(parameters.get("profile"))
            folders = os.pathsep.join(filter(None, sys.path))
            environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": folders}
            task = path, Path(place, "out.ipynb"), parameters, timeout_s, Path.cwd()
            measured, problem = in_fresh_process(*task, environment=environment)
            if problem:
                raise RuntimeError(f"{self.name}: {problem}")
            return {**json.loads(result.read_text()), "peak_gb": measured["peak_gb"]}

    def source(self) -> str:
        return self.text

    def missing_here(self, source: str) -> str:
        """Return why this process, a worker, cannot run notebooks; empty if it can."""
        if importlib.util.find_spec("papermill"):
            return ""
        return "it has no papermill (pip install papermill ipykernel)"
