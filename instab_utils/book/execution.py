"""Run each notebook in a fresh kernel; take none for a result that did not finish."""

import functools
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from .. import profiles
from .notebooks import ROOT, BookError, scripts, sync

# a paper-scale cell may train for hours
CELL_TIMEOUT_S = {"smoke": 300, "standard": 1800, "paper": None}

ONE_NOTEBOOK = Path(__file__).with_name("one_notebook.py")  # run by path: it needs no torch
# Without these, glibc returns every large temporary to the system and faults it in again at the
# next step.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(4 << 30), "MALLOC_TRIM_THRESHOLD_": str(8 << 30)}
# figures for pages, no progress bars
KERNEL_ENVIRONMENT = {"INSTAB_BOOK": "1", **MALLOC}

_print = functools.partial(print, flush=True)


def execute(
    profile: str = "standard",
    only: str = "",
    parameters: dict | None = None,
    *,
    root: Path = ROOT,
    into: Path | None = None,
    timeout_s: float | None = None,
    n_jobs: int = 1,
    say: Callable[[str], None] = _print,
) -> None:
    """Run the notebooks by papermill, each in a process and a kernel of its own.

    Args:
        profile: smoke, standard or paper.
        only: beginning of the names to run, such as "07"; several separated by commas; empty runs
            all.
        parameters: papermill parameters besides the profile, given to every notebook run.
        root: the project.
        into: folder of the executed copies; default build/executed under root.
        timeout_s: longest time for one cell; default `CELL_TIMEOUT_S[profile]`.
        n_jobs: notebooks at a time. More than 1 is for tests: the minutes that the status page
            shows are then of a shared machine.
        say: receives one line a notebook; default prints it.

    Raises:
        BookError: naming the notebooks that failed, after all have had their turn.
    """
    profiles.get(profile)
    into = into or root / "build" / "executed"
    parameters = {"profile": profile, **(parameters or {})}
    timeout_s = timeout_s or CELL_TIMEOUT_S[profile]
    sync(root, check=True)
    chosen = [s for s in scripts(root) if s.name.startswith(tuple(only.split(",")))]
    if not chosen:
        names = ", ".join(script.stem for script in scripts(root))
        raise BookError(f"no notebook begins with {only!r}; expected one of {names}.")

    facts = {**_facts(root), "parameters": parameters}
    failures = {}
    (into / "notebooks").mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(n_jobs) as pool:
        runs = {}
        for script in chosen:
            source = script.with_suffix(".ipynb")
            target = into / "notebooks" / source.name
            key = _digest([source], [facts])
            if provenance(target).get("key") == key:
                say(f"{script.stem:<32} up to date")
                continue
            target.unlink(missing_ok=True)  # whatever happens now, the old copy is outdated
            run = pool.submit(_timed, source, target, parameters, timeout_s, root)
            runs[run] = target, key
        for run in as_completed(runs):
            target, key = runs[run]
            measured, problem = run.result()
            line = f"{target.stem:<32} {measured['minutes']:6.2f} min"
            if problem:
                failures[target.stem] = problem
                say(f"{line}  FAILED  {problem}")
            else:
                _finish(target, {"key": key, **measured, **facts})
                say(f"{line}  {measured['peak_gb']:5.2f} GB")
            _write_status(root, into, failures)
    _write_status(root, into, failures)
    if failures:
        problems = "\n".join(f"  {name}: {problem}" for name, problem in failures.items())
        raise BookError(
            f"{len(failures)} of {len(chosen)} notebooks failed:\n{problems}\n"
            f"Their partial copies: {into}/notebooks/*.partial.ipynb"
        )


def _timed(*run) -> tuple[dict, str]:
    started = time.monotonic()
    measured, problem = in_fresh_process(*run)
    return measured | {"minutes": round((time.monotonic() - started) / 60, 2)}, problem


def provenance(executed: Path) -> dict:
    """Return what an executed copy records of its run: key, profile, device, ...

    Empty if there is no finished copy.
    """
    try:
        return json.loads(executed.read_text("utf-8"))["metadata"]["instab"]
    except (FileNotFoundError, KeyError, json.JSONDecodeError):
        return {}


def in_fresh_process(
    source: Path,
    target: Path,
    parameters: dict,
    timeout_s: float | None,
    root: Path,
    environment: dict | None = None,
) -> tuple[dict, str]:
    """Return what `one_notebook` measured in a process of its own, and what went wrong.

    `environment` holds variables of that process beside this one's.
    """
    task = json.dumps([str(source), str(target), parameters, timeout_s, str(root)])
    run = subprocess.run(
        [sys.executable, "-P", str(ONE_NOTEBOOK), task],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **KERNEL_ENVIRONMENT, **(environment or {})},
        check=False,
    )
    try:
        measured, problem = json.loads(run.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {}, f"its process ended with status {run.returncode} (out of memory?)"
    return measured, problem


def _finish(target: Path, facts: dict) -> None:
    partial = target.with_suffix(".partial.ipynb")
    notebook = json.loads(partial.read_text("utf-8"))
    notebook["metadata"]["instab"] = facts
    partial.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")
    os.replace(partial, target)


def _facts(root: Path) -> dict:
    """Return what every notebook of a run has in common, and its results depend on."""
    import torch

    from .. import data, profiles

    here = Path(__file__).parent
    package = [p for p in _files(here.parent) if "__pycache__" not in p.parts]
    # Results that a run writes itself (make results) are not what it depends on.
    shipped = [] if os.environ.get("INSTAB_RESULTS") else _files(root / "results")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    device = profiles.device_name()
    return {
        "device": f"CPU, {cores} cores" if device == "cpu" else device,
        # files at hand and files downloaded are the same bytes
        "data": "phantoms" if data.situation() == "phantoms" else "original files",
        "torch": torch.__version__,
        "code": _digest([p for p in package if here not in p.parents] + shipped, []),
    }


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _digest(paths: list[Path], values: list) -> str:
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for path in paths:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _write_status(root: Path, into: Path, failures: dict[str, str]) -> None:
    """Write status.csv from the executed copies themselves; the status page shows it."""
    import pandas

    rows = []
    for script in scripts(root):
        facts = provenance(into / "notebooks" / f"{script.stem}.ipynb")
        problem = failures.get(script.stem)
        result = f"failed: {problem}" if problem else "not run"
        rows.append(
            {
                "chapter": f"[](/notebooks/{script.stem})",
                "result": "ran" if facts else result,
                "profile": facts.get("parameters", {}).get("profile", ""),
                "minutes": facts.get("minutes", ""),
                "GB": facts.get("peak_gb", ""),
                "device": facts.get("device", ""),
                "data": facts.get("data", ""),
                "finished, UTC": facts.get("finished", "")[:16].replace("T", " "),
            }
        )
    pandas.DataFrame(rows).to_csv(into / "status.csv", index=False)
