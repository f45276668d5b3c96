"""Run one notebook by papermill in a process of its own, which measures its kernel's memory."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path


def unfinished(notebook: dict) -> str:
    """Return why an executed notebook is no result; empty if every code cell ran to its end.

    papermill's own record is not enough: a dead kernel and a cell timeout leave every cell
    "completed", and sys.exit() raises nothing.
    """
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code" or not "".join(cell["source"]).strip():
            continue
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                return f"{output['ename']}: {output['evalue']}"
        if cell["execution_count"] is None:
            reason = "without an error (sys.exit, or the kernel died)"
            return f"stopped before the cell {cell['id']} {reason}"
    has_exception = notebook["metadata"].get("papermill", {}).get("exception")
    return "papermill recorded an exception" if has_exception else ""


def run(
    source: str, target: str, parameters: dict, timeout_s: float | None, root: str
) -> tuple[dict, str]:
    """Execute into X.partial.ipynb; return measurements, and what went wrong ("" for nothing)."""
    import papermill

    partial = Path(target).with_suffix(".partial.ipynb")
    problem = ""
    try:
        papermill.execute_notebook(
            source,
            str(partial),
            parameters=parameters,
            progress_bar=False,
            cwd=root,
            execution_timeout=timeout_s,
            extra_arguments=["--log-level=CRITICAL"],
        )
    except Exception as error:
        lines = [line for line in str(error).strip().splitlines() if line.strip("- ")] or [""]
        problem = f"{type(error).__name__}: {lines[-1]}"
    if partial.exists():
        problem = problem or unfinished(json.loads(partial.read_text("utf-8")))
    finished = datetime.now(UTC).isoformat(timespec="minutes")
    return {"peak_gb": round(_peak_bytes() / 2**30, 2), "finished": finished}, problem


def _peak_bytes() -> int:
    """Return the largest resident memory of a finished child process: the kernel."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit


if __name__ == "__main__":
    print(json.dumps(run(*json.loads(sys.argv[1]))))
