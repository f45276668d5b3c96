"""Run each notebook in a fresh kernel, and believe none that did not finish."""

import csv
import functools
import hashlib
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from .. import profiles
from .notebooks import ROOT, BookError, scripts, sync

# a paper-scale cell may train for hours
CELL_TIMEOUT_S = {"smoke": 300, "standard": 1800, "paper": None}

KERNEL_ENVIRONMENT = {
    "INSTAB_BOOK": "1",  # figures for pages, no progress bars
    # Without these, glibc returns every large temporary to the system and faults it in again at the
    # next step.
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
}


def execute(
    profile: str = "standard",
    only: str = "",
    parameters: dict | None = None,
    *,
    root: Path = ROOT,
    into: Path | None = None,
    timeout_s: float | None = None,
    n_jobs: int = 1,
    say=functools.partial(print, flush=True),
) -> None:
    """Run the notebooks by papermill, each in a process and a kernel of its own.

    Args:
        profile: smoke, standard or paper.
        only: beginning of the names to run, such as "07"; several separated by commas; empty runs
            all.
        parameters: papermill parameters besides the profile, given to every notebook run.
        root: the project; `into`: folder of the executed copies (default build/executed under
            root).
        timeout_s: longest time for one cell; default `CELL_TIMEOUT_S[profile]`.
        n_jobs: notebooks at a time. More than 1 is for tests: the minutes that the status page
            shows are then of a shared machine.
        say: receives one line a notebook.

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
        raise BookError(
            f"no notebook begins with {only!r}; expected one of {', '.join(s.stem for s in scripts(root))}."
        )

    facts = _facts(root)
    failed = {}
    (into / "notebooks").mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(n_jobs) as pool:
        runs = {}
        for script in chosen:
            source, target = (
                script.with_suffix(".ipynb"),
                into / "notebooks" / f"{script.stem}.ipynb",
            )
            key = _digest([source], [parameters, facts])
            if provenance(target).get("key") == key:
                say(f"{script.stem:<32} up to date")
                continue
            target.unlink(missing_ok=True)  # whatever happens now, the old copy is no longer true
            runs[pool.submit(_timed, source, target, parameters, timeout_s, root)] = (
                script.stem,
                target,
                key,
            )
        for run in as_completed(runs):
            (name, target, key), (record, problem, minutes) = runs[run], run.result()
            if problem:
                failed[name] = problem
                say(f"{name:<32} {minutes:6.2f} min  FAILED  {problem}")
            else:
                _finish(
                    target,
                    {
                        "key": key,
                        "minutes": round(minutes, 2),
                        **record,
                        **facts,
                        "parameters": parameters,
                    },
                )
                say(f"{name:<32} {minutes:6.2f} min  {record['peak_gb']:5.2f} GB")
            _write_status(root, into, failed)
    _write_status(root, into, failed)
    if failed:
        what = "\n".join(f"  {name}: {problem}" for name, problem in failed.items())
        raise BookError(
            f"{len(failed)} of {len(chosen)} notebooks failed:\n{what}\nWhat they did: {into}/notebooks/*.partial.ipynb"
        )


def _timed(*run) -> tuple[dict, str, float]:
    started = time.monotonic()
    record, problem = _in_fresh_process(*run)
    return record, problem, (time.monotonic() - started) / 60


def provenance(executed: Path) -> dict:
    """What an executed copy says about its run (key, profile, device, ...); empty if there is no
    finished copy.
    """
    try:
        return json.loads(executed.read_text("utf-8"))["metadata"]["instab"]
    except (FileNotFoundError, KeyError, json.JSONDecodeError):
        return {}


def _in_fresh_process(
    source: Path, target: Path, parameters: dict, timeout_s: float | None, root: Path
) -> tuple[dict, str]:
    """What `one_notebook` measured and what went wrong, if anything did; it runs in a process of
    its own.
    """
    task = json.dumps([str(source), str(target), parameters, timeout_s, str(root)])
    done = subprocess.run(
        [sys.executable, "-m", "instab_utils.book.one_notebook", task],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **KERNEL_ENVIRONMENT},
        check=False,
    )
    try:
        record, problem = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {}, f"its process ended with status {done.returncode} (out of memory?)"
    return record, problem


def _finish(target: Path, facts: dict) -> None:
    partial = target.with_suffix(".partial.ipynb")
    notebook = json.loads(partial.read_text("utf-8"))
    notebook["metadata"]["instab"] = facts
    partial.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")
    os.replace(partial, target)


def _facts(root: Path) -> dict:
    """What every notebook of a run has in common, and what its results depend on beside its own
    cells.
    """
    import torch

    from .. import data

    here = Path(__file__).parent
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    package = [p for p in here.parent.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    # Results that a run writes itself (make results) are not what it depends on.
    shipped = [
        p
        for p in (root / "results").rglob("*")
        if p.is_file() and not os.environ.get("INSTAB_RESULTS")
    ]
    return {
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU, {cores} cores",
        # files at hand and files downloaded are the same bytes, so this is all that the data can
        # change
        "data": "phantoms" if data.situation() == "phantoms" else "original files",
        "torch": torch.__version__,
        "code": _digest(sorted(p for p in package if here not in p.parents) + sorted(shipped), []),
    }


def _digest(paths: list[Path], values: list) -> str:
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for path in paths:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _write_status(root: Path, into: Path, failed: dict[str, str]) -> None:
    """status.csv: one line a chapter, from the executed copies themselves; the status page shows
    it.
    """
    with open(into / "status.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(
            ["chapter", "result", "profile", "minutes", "GB", "device", "data", "finished, UTC"]
        )
        for script in scripts(root):
            facts = provenance(into / "notebooks" / f"{script.stem}.ipynb")
            result = (
                "ran"
                if facts
                else f"failed: {failed[script.stem]}"
                if script.stem in failed
                else "not run"
            )
            table.writerow(
                [
                    f"[](/notebooks/{script.stem})",
                    result,
                    facts.get("parameters", {}).get("profile", ""),
                    facts.get("minutes", ""),
                    facts.get("peak_gb", ""),
                    facts.get("device", ""),
                    facts.get("data", ""),
                    facts.get("finished", "")[:16].replace("T", " "),
                ]
            )
