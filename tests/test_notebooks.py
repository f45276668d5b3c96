"""Scripts and notebooks agree, every chapter runs, and a failed run is never taken for a result."""

import contextlib
import csv
import json
import os
from pathlib import Path

import pytest
from book_site import HEADER, WITH_FILES, WITHOUT_FILES, executed

from instab_utils import book, data

pytestmark = pytest.mark.notebooks
SCRIPTS = book.scripts()
CHAPTERS = [pytest.param(script, id=script.stem) for script in SCRIPTS]


@pytest.mark.parametrize("script", CHAPTERS)
def test_the_notebook_is_its_script(script):
    jupytext = pytest.importorskip("jupytext")
    notebook = json.loads(script.with_suffix(".ipynb").read_text("utf-8"))

    def cells(cells):
        return [
            (c["cell_type"], "".join(c["source"]), tags)
            for c in cells
            if "colab" not in (tags := c["metadata"].get("tags", []))
        ]

    assert cells(notebook["cells"]) == cells(jupytext.read(script).cells), (
        "run: python -m instab_utils.book sync"
    )
    assert all(
        not c["outputs"] and c["execution_count"] is None
        for c in notebook["cells"]
        if c["cell_type"] == "code"
    )
    assert script.with_suffix(".ipynb").read_text("utf-8") == book.notebook_text(script)


@pytest.mark.parametrize("script", CHAPTERS)
def test_a_chapter_has_the_parts_of_a_chapter(script):
    cells = json.loads(script.with_suffix(".ipynb").read_text("utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    parameters = [
        s for s, c in zip(sources, cells) if "parameters" in c["metadata"].get("tags", [])
    ]
    assert len(parameters) == 1
    assert 'profile = "standard"' in parameters[0] and "\nseed = " in parameters[0]
    assert cells[0]["cell_type"] == "markdown" and sources[0].startswith("# ")
    assert "**What you will see**" in sources[0] and "**Needs**" in sources[0]
    assert any("profiles.check_parameters(" in s for s in sources), (
        "unknown parameters would be ignored"
    )
    headings = [
        line
        for s, c in zip(sources, cells)
        if c["cell_type"] == "markdown"
        for line in s.splitlines()
    ]
    assert "## Claims" in headings and "## References" in headings
    assert sum(line.startswith("# ") for line in headings) == 1, "one title a chapter"


@pytest.mark.parametrize("script", CHAPTERS)
def test_every_chapter_runs_at_smoke_without_a_network(script):
    """A plane, a hospital, a closed build machine: without files on phantoms, as the page says."""
    folder, problem = executed()
    facts = book.provenance(folder / "notebooks" / f"{script.stem}.ipynb")
    assert facts, problem
    assert facts["parameters"] == {"profile": "smoke"}
    assert facts["peak_gb"] > 0.1 and facts["minutes"] > 0
    with_files = script.name.startswith(WITH_FILES) and data.available()
    assert facts["data"] == ("original files" if with_files else "phantoms")


def test_every_chapter_is_run_with_files_or_without():
    chapters = [script.name[:2] for script in SCRIPTS]
    assert sorted({*WITH_FILES, *WITHOUT_FILES} - {"90"}) == chapters


# --- on toy notebooks

FAILURES = {  # cell -> what the report must say
    "error": ("1 / 0", "ZeroDivisionError"),
    "killed": ("import os; os._exit(1)", "DeadKernelError"),
    "timeout": ("import time; time.sleep(60)", "CellTimeoutError"),
    "exit": ("import sys; sys.exit(0)", "SystemExit"),
}


def toy(root: Path, cells: dict[str, str]) -> Path:
    (root / "notebooks").mkdir(parents=True, exist_ok=True)
    for name, code in cells.items():
        (root / "notebooks" / f"{name}.py").write_text(
            f"{HEADER}\n# %%\n{code}\n\n# %%\nprint(profile, seed)\n", "utf-8"
        )
    book.sync(root)
    return root


def ran(root: Path, *arguments, **options) -> dict[str, str]:
    """Execute; returns the reported line of each notebook, whether or not all succeeded."""
    lines = []
    with contextlib.suppress(book.BookError):
        book.execute("smoke", *arguments, root=root, say=lines.append, **options)
    return {line.split()[0]: line for line in lines}


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """Toy notebooks that fail in every way there is, between two that do not; executed once."""
    root = tmp_path_factory.mktemp("broken")
    failing = {f"{i:02d}_{name}": code for i, (name, (code, _)) in enumerate(FAILURES.items(), 2)}
    toy(root, {"01_good": "x = 1", **failing, "09_good": "import tqdm"})
    stale = root / "build/executed/notebooks/02_error.ipynb"
    stale.parent.mkdir(parents=True)
    stale.write_text(
        json.dumps({"metadata": {"instab": {"key": "of an earlier run"}}, "cells": []})
    )
    lines = []
    with pytest.raises(book.BookError) as failure:
        book.execute("smoke", root=root, timeout_s=3, n_jobs=3, say=lines.append)
    return root, str(failure.value), lines


@pytest.mark.parametrize("name", FAILURES)
def test_every_kind_of_failure_is_caught(broken, name):
    root, failure, _ = broken
    line = next(line for line in failure.splitlines() if f"_{name}:" in line)
    assert FAILURES[name][1] in line
    left = [path.name for path in (root / "build/executed/notebooks").glob(f"*_{name}*.ipynb")]
    assert len(left) == 1 and left[0].endswith(".partial.ipynb"), (
        "only the evidence is kept, never a result"
    )


def test_one_failure_does_not_stop_the_others(broken):
    root, failure, lines = broken
    assert failure.startswith(f"{len(FAILURES)} of {len(FAILURES) + 2} notebooks failed")
    assert len(lines) == len(FAILURES) + 2, "one line a notebook"
    with open(root / "build/executed/status.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["result"].split(":")[0] for row in rows] == [
        "ran",
        *["failed"] * len(FAILURES),
        "ran",
    ]
    good = book.provenance(root / "build/executed/notebooks/09_good.ipynb")
    assert {"profile", "device", "data", "torch", "minutes", "peak_gb", "finished", "key"} <= {
        *good,
        *good["parameters"],
    }


def test_a_cell_that_exits_last_of_all_is_caught():
    from instab_utils.book.one_notebook import unfinished

    cell = {
        "cell_type": "code",
        "id": "c00",
        "source": "import sys; sys.exit()",
        "execution_count": 1,
        "outputs": [],
    }
    assert unfinished({"cells": [cell], "metadata": {"papermill": {"exception": True}}})
    assert not unfinished({"cells": [cell], "metadata": {"papermill": {"exception": None}}})


def test_only_what_changed_runs_again(tmp_path, monkeypatch):
    from instab_utils.book import execution

    facts = {"device": "CPU", "data": "phantoms", "torch": "2", "code": "a"}
    monkeypatch.setattr(execution, "_facts", lambda root: dict(facts))
    monkeypatch.setattr(execution, "in_fresh_process", pretend)
    root = toy(tmp_path, {"01_one": "x = 1", "02_two": "x = 2"})

    def again(*arguments):
        return [name for name, line in ran(root, *arguments).items() if "up to date" not in line]

    assert again() == ["01_one", "02_two"]
    assert again() == []
    toy(root, {"01_one": "x = 3"})
    assert again() == ["01_one"]
    assert again("02", {"seed": 1}) == ["02_two"]  # other parameters
    assert again() == ["02_two"]
    for fact in facts:
        facts[fact] += "'"
        assert again() == ["01_one", "02_two"], fact
    path = root / "build/executed/notebooks/01_one.ipynb"
    path.write_text(path.read_text()[:100])  # damaged
    assert again() == ["01_one"]


def pretend(source, target, parameters, timeout_s, root):
    """Stands for a kernel: the notebook, executed without error."""
    target.with_suffix(".partial.ipynb").write_text(source.read_text("utf-8"), "utf-8")
    return {"peak_gb": 0.1, "finished": "2020-01-01T00:00+00:00"}, ""


def test_a_failed_run_removes_the_result_it_was_to_replace(tmp_path, monkeypatch):
    from instab_utils.book import execution

    root = toy(tmp_path, {"01_one": "x = 1"})
    monkeypatch.setattr(execution, "in_fresh_process", pretend)
    ran(root)
    assert book.provenance(root / "build/executed/notebooks/01_one.ipynb")
    toy(root, {"01_one": "x = 2"})
    monkeypatch.setattr(execution, "in_fresh_process", lambda *_: ({}, "its process was killed"))
    assert "FAILED" in ran(root)["01_one"]
    assert not (root / "build/executed/notebooks/01_one.ipynb").exists()


def test_a_process_that_is_killed_is_a_failure(tmp_path, monkeypatch):
    from instab_utils.book import execution

    (tmp_path / "papermill.py").write_text(
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    record, problem = execution.in_fresh_process(
        Path("a.ipynb"), tmp_path / "b.ipynb", {}, None, tmp_path
    )
    assert record == {} and "status -9" in problem


def test_parameters_reach_the_notebook(tmp_path):
    root = toy(tmp_path, {"01_one": "assert (profile, seed) == ('smoke', 7)"})
    assert "FAILED" not in ran(root, "01", {"seed": 7})["01_one"]


def test_an_unknown_chapter_or_profile_is_refused(tmp_path):
    root = toy(tmp_path, {"01_one": "x = 1"})
    with pytest.raises(
        book.BookError, match="no notebook begins with '07'; expected one of 01_one"
    ):
        book.execute("smoke", "07", root=root)
    with pytest.raises(ValueError, match="smok"):
        book.execute("smok", root=root)


def test_notebooks_that_are_not_their_scripts_are_refused(tmp_path):
    root = toy(tmp_path, {"01_one": "x = 1"})
    assert book.sync(root, check=True) == book.sync(root) == []
    notebook = root / "notebooks/01_one.ipynb"
    before = notebook.read_bytes()
    script = root / "notebooks/01_one.py"
    script.write_text(script.read_text().replace("x = 1", "x = 2"))
    os.utime(script, (0, 0))  # older than the notebook, as after a clone: the script still wins
    with pytest.raises(book.BookError, match="01_one.ipynb"):
        book.execute("smoke", root=root)
    assert book.sync(root) == [notebook] and b"x = 2" in notebook.read_bytes()
    script.write_text(script.read_text().replace("x = 2", "x = 1"))
    book.sync(root)
    assert notebook.read_bytes() == before, "the same script gives the same bytes"
    script.unlink()
    with pytest.raises(book.BookError, match="01_one.ipynb"):
        book.sync(root, check=True)


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """(executed notebook, function): the function gives what the book would show of it, and its
    warnings (each fails a build).
    """
    from types import SimpleNamespace

    monkeypatch.syspath_prepend(str(book.ROOT / "book/_ext"))
    monkeypatch.setenv("INSTAB_EXECUTED", str(tmp_path / "build/executed"))
    import executed_notebooks

    from instab_utils.book import execution

    warnings = []
    monkeypatch.setattr(
        executed_notebooks,
        "log",
        SimpleNamespace(warning=lambda text, *a: warnings.append(text % a)),
    )
    monkeypatch.setattr(execution, "in_fresh_process", pretend)
    root = toy(tmp_path, {"01_one": "x = 1"})
    ran(root)
    env = SimpleNamespace(
        doc2path=lambda name: str(root / f"{name}.ipynb"), note_dependency=lambda path: None
    )

    def show():
        warnings.clear()
        source = ["{}"]
        executed_notebooks.read_executed(
            SimpleNamespace(env=env, srcdir=str(root)), "notebooks/01_one", source
        )
        return source[0], list(warnings)

    path = root / "build/executed/notebooks/01_one.ipynb"
    notebook = json.loads(path.read_text())
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["execution_count"] = 1
    path.write_text(json.dumps(notebook))
    return path, show


def test_a_page_shows_the_executed_copy_and_says_what_ran(shown):
    text, warnings = shown[1]()
    assert not warnings
    assert "Ran with: profile smoke" in text and "x = 1" in text


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        (lambda nb: nb["cells"][1].update(execution_count=None), "failed: stopped before the cell"),
        (
            lambda nb: nb["cells"][1]["outputs"].append(
                {"output_type": "error", "ename": "E", "evalue": "no"}
            ),
            "failed: E: no",
        ),
        (lambda nb: nb["cells"][2].update(source="x = 2"), "stale"),
        (lambda nb: nb["cells"].pop(), "stale"),
    ],
)
def test_a_failed_or_stale_copy_fails_the_build(shown, change, warning):
    path, show = shown
    notebook = json.loads(path.read_text())
    change(notebook)
    path.write_text(json.dumps(notebook))
    assert warning in "".join(show()[1])


def test_a_missing_copy_fails_the_build(shown):
    path, show = shown
    path.unlink()
    assert "no executed copy" in "".join(show()[1])
