"""Chapters in a simulated Colab, at smoke: an environment with the packages of Colab's image and
another PyTorch, to which the first cell, with its git and its pip, brings the rest.

    python tests/colab.py --python python3.13 [--torch torch==2.14.1] [--only 02,07] [--env FOLDER]

The cell gets the last commit of this checkout in place of the published one. The environment (2 to
6 GB, in build/colab by default) is kept and used again. The status is 1 where a chapter fails.
"""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from instab_utils import book
from instab_utils.book import colab
from instab_utils.book.execution import in_fresh_process

# What chapters, kernel and cell use of it: github.com/googlecolab/backend-info, pip-freeze.txt of
# 2026-08-14 (Python 3.12) and 2026-08-19 (3.13)
IMAGE = """
    dask==2026.7.1 filelock==3.32.3 fsspec==2025.3.0 h5py==3.16.0 ipykernel==6.17.1 ipython==7.34.0
    ipywidgets==7.7.1 Jinja2==3.1.6 jupyter_client==7.4.9 matplotlib==3.10.0 nbformat==5.11.0
    nibabel==5.4.2 pandas==2.2.3 pillow==11.3.0 plotly==5.24.1 pooch==1.9.0 PyWavelets==1.9.0
    pyzmq==26.2.1 safetensors==0.8.0 scikit-image==0.25.2 scipy==1.16.3
    threadpoolctl==3.6.0 tornado==6.5.7 tqdm==4.67.3 traitlets==5.7.1
    numpy==2.0.2;python_version<"3.13" numpy==2.1.3;python_version>="3.13"
"""
TIMEOUT_S = 600  # of a cell


def call(python: Path, *arguments: str) -> str:
    """Return what Python prints; its errors go to ours."""
    return subprocess.run(
        [str(python), *arguments], stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def installed(python: Path) -> set[str]:
    return set(call(python, "-m", "pip", "freeze", "--exclude", "instab-utils").split("\n"))


def fake_colab(site: Path) -> None:
    """Write google.colab, by which the cell believes that it is there."""
    (site / "google" / "colab").mkdir(parents=True, exist_ok=True)
    (site / "google" / "colab" / "__init__.py").write_text("")


def git_from(origin: Path) -> dict[str, str]:
    """Return variables by which git takes a repository of this disk for the published one."""
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{origin.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": colab.ADDRESS,
    }


def bare(folder: Path, interpreter: str, torch: str) -> Path:
    """Return the Python of the environment as Colab starts it, made where it is not there."""
    python, image = folder / "bin" / "python", folder / "image.txt"
    if not image.exists():
        subprocess.run([interpreter, "-m", "venv", str(folder)], check=True)
        call(python, "-m", "pip", "install", "--quiet", torch, *IMAGE.split())
        site = call(python, "-c", "import site; print(site.getsitepackages()[0])")
        fake_colab(Path(site.strip()))
        image.write_text("\n".join(installed(python)))
    brought = installed(python) - set(image.read_text().split("\n"))
    names = [line.partition("==")[0] for line in brought]
    call(python, "-m", "pip", "uninstall", "--quiet", "--yes", "instab-utils", *names)
    return python


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", default=sys.executable, help="the interpreter of the runtime")
    parser.add_argument("--torch", default="torch", help="a requirement, or a wheel")
    parser.add_argument("--env", type=Path, default=book.ROOT / "build" / "colab")
    parser.add_argument("--only", default="", help="beginnings of names: 07, or 01,02")
    given = parser.parse_args()
    folder = given.env.resolve()
    python = bare(folder, given.python, given.torch)
    before = installed(python)

    origin, content, kernel = (
        folder / name for name in ("origin", "content", "jupyter/kernels/python3")
    )
    for place in (origin, content):
        shutil.rmtree(place, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", "--bare", str(book.ROOT), str(origin)], check=True)
    content.mkdir()
    kernel.mkdir(parents=True, exist_ok=True)
    start = f'["{python}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"]'
    (kernel / "kernel.json").write_text(
        f'{{"argv": {start}, "display_name": "", "language": "python"}}'
    )
    environment = git_from(origin) | {"JUPYTER_PATH": str(folder / "jupyter")}
    for name in ("INSTAB_BOOK", "INSTAB_RESULTS", "PYTHONPATH"):
        environment[name] = ""

    failed = 0
    for script in book.scripts():
        if script.name.startswith(tuple(given.only.split(","))):
            source, target = script.with_suffix(".ipynb"), content / f"{script.stem}.ipynb"
            started = time.monotonic()
            _, problem = in_fresh_process(
                source, target, {"profile": "smoke"}, TIMEOUT_S, content, environment
            )
            failed += bool(problem)
            seconds = time.monotonic() - started
            print(f"{script.stem:<45}{seconds:5.0f} s  {problem or 'ran'}", flush=True)
    after = installed(python)
    print(f"{call(python, '-V').strip()}; the cell brought: {', '.join(sorted(after - before))}")
    print(f"replaced or removed: {', '.join(sorted(before - after)) or 'nothing'}")
    return bool(failed or before - after)


if __name__ == "__main__":
    sys.exit(main())
