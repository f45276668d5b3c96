"""A notebook opened in Colab, simulated: its first code cell brings the package and leaves the
torch that is there alone. `tests/colab.py` runs whole chapters in a fuller simulation.

Simulated: a fresh environment with another torch (this one's files under the metadata of version
2.9.0+cu128), with google.colab, without pooch, safetensors, pydicom and spgl1; the cell itself
runs, its git and its pip included. git's address leads to this checkout and pip's index to a folder
that also offers a newer torch to be tempted by. Not simulated: Colab's own image, its GPU, the
network.
"""

import ast
import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from colab import fake_colab, git_from

from instab_utils.book import ROOT, colab, scripts

HERE, NEWER = "2.9.0+cu128", "2.99.0"
# what Colab may lack; repacked from this environment for pip to find
MISSING = ("pooch", "safetensors", "pydicom", "spgl1")
HIDDEN = ("torch", "instab_utils", "instab-utils", "_instab", "__editable__", *MISSING)


def wheel(folder: Path, name: str, version: str, files: dict[str, bytes]) -> None:
    """A wheel that installs these files, each with its hash in RECORD."""
    info = f"{name}-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        b"Tag: py3-none-any\n",
    }
    rows = []
    for path, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(data)}")
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        for path, data in {
            **files,
            f"{info}/RECORD": "\n".join([*rows, f"{info}/RECORD,,"]).encode(),
        }.items():
            file.writestr(path, data)


def repack(folder: Path, name: str) -> None:
    """A wheel of what is installed here."""
    distribution = metadata.distribution(name)
    files = {
        str(path): path.locate().read_bytes()
        for path in distribution.files
        if ".." not in path.parts
        and ".dist-info" not in str(path)
        and "__pycache__" not in path.parts
        and path.locate().is_file()
    }
    wheel(folder, name, distribution.version, files)


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """(python, environment, folder to run in) of the simulated Colab."""
    root = tmp_path_factory.mktemp("colab")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root / "venv")], check=True)
    python = root / "venv" / "bin" / "python"
    site = next((root / "venv" / "lib").glob("python*")) / "site-packages"
    ours = Path(metadata.distribution("torch").locate_file(""))
    for path in ours.iterdir():
        if not path.name.lower().startswith(HIDDEN) and path.name != "google":
            (site / path.name).symlink_to(path)
    (site / "torch").symlink_to(ours / "torch")
    if (ours / "torchgen").exists():
        (site / "torchgen").symlink_to(ours / "torchgen")
    other = site / f"torch-{HERE}.dist-info"
    other.mkdir()
    (other / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {HERE}\n")
    (other / "INSTALLER").write_text("pip\n")
    (other / "RECORD").write_text(f"torch-{HERE}.dist-info/METADATA,,\n")
    fake_colab(site)

    index = root / "index"
    index.mkdir()
    for name in MISSING:
        repack(index, name)
    wheel(index, "torch", NEWER, {"torch/stub.py": b""})
    wheel(index, "torch", metadata.version("torch").partition("+")[0], {"torch/stub.py": b""})

    origin = root / "origin"  # the tracked and untracked files as they are now, without the results
    origin.mkdir()
    shutil.copytree(
        ROOT / "instab_utils", origin / "instab_utils", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, origin)
    (origin / "results").mkdir()
    (origin / "results" / "here.txt").write_text("committed results\n")
    git = [
        "git",
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.invalid",
        "-c",
        "init.defaultBranch=main",
    ]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], cwd=origin, check=True)

    environment = {
        **os.environ,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(index),
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_NO_INPUT": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "INSTAB_OFFLINE": "1",
        **git_from(origin),
    }
    for name in (
        "PYTHONPATH",
        "INSTAB_RESULTS",
        "PIP_EXTRA_INDEX_URL",
        "PIP_INDEX_URL",
        "PIP_CONSTRAINT",
    ):
        environment.pop(name, None)
    content = root / "content"
    content.mkdir()
    return python, environment, content


def run(room, code: str) -> str:
    python, environment, content = room
    done = subprocess.run(
        [str(python), "-c", code],
        cwd=content,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def would_install(room, *what: str) -> str:
    return run(
        room,
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-m', 'pip', 'install', '--dry-run', "
        f"*{what!r}], check=True)",
    )


def test_the_cell_keeps_the_torch_that_is_there(room):
    assert f"Would install torch-{NEWER}" in would_install(room, "--upgrade", "torch"), (
        "else nothing here could replace it"
    )
    pinned = next(
        line
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if line.startswith("torch==")
    )
    assert "Would install torch-" in would_install(room, pinned), "what requirements.txt would do"

    printed = run(
        room,
        colab.CELL
        + """
import importlib.metadata as m
from instab_utils import attacks, data, operators, solvers
from instab_utils.store.files import places
names = ("pooch", "safetensors", "pydicom", "spgl1")
print(m.version("torch"), places("records")[-1], *(m.version(name) for name in names))
""",
    ).split()
    assert printed[0] == HERE
    assert printed[1] == str(room[2] / "instab-utils" / "results" / "records"), (
        "the committed results are found"
    )
    assert printed[2:] == [metadata.version(name) for name in MISSING]
    # In a new process, and when the cell is run again, the same; and pip has nothing left to ask
    # for.
    assert run(room, colab.CELL + "\nprint(version('torch'))").split() == [HERE]
    assert (
        run(room, "import instab_utils; print(instab_utils.__file__)")
        .strip()
        .startswith(str(room[2]))
    )
    after = would_install(room, "--editable", "./instab-utils[chapters]")
    assert [line for line in after.splitlines() if line.startswith("Would install")] in (
        [],
        ["Would install instab-utils-0.1.0"],
    )


def test_elsewhere_the_cell_does_nothing(tmp_path):
    code = colab.CELL + "\nprint(sorted(n for n in ('os', 'subprocess', 'sys') if n in globals()))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]" and not list(tmp_path.iterdir())


def undeclared(extra: str = "chapters") -> set[str]:
    """Return what chapters import, through the package too, and an install with `extra` lacks."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = project["dependencies"] + project["optional-dependencies"].get(extra, [])
    names = {re.split(r"[<>=~\[]", line)[0].lower() for line in declared} | KERNEL
    rooms = [p for p in (ROOT / "instab_utils").rglob("*.py") if p.parent.name not in ASIDE]
    found = set()
    for path in [*scripts(), *rooms]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.partition(".")[0])
    found -= {*sys.stdlib_module_names, *OPTIONAL, "instab_utils"}
    owners = metadata.packages_distributions()
    return {name for name in found if not {o.lower() for o in owners.get(name, [name])} & names}


ASIDE = ("book", "sweep")  # rooms that no chapter needs
KERNEL = {
    "ipython",
    "markupsafe",
    "pillow",
    "requests",
}  # with the kernel, jinja2, matplotlib, pooch
OPTIONAL = ("astra", "jsonschema", "tomopy")  # what needs them says so where they are missing


def test_the_cell_installs_what_chapters_import():
    assert undeclared() == set()
    assert {"spgl1", "pywt", "pydicom"} <= undeclared(extra="none"), "what would then be missing"


@pytest.mark.parametrize("script", scripts(), ids=lambda script: script.stem)
def test_every_notebook_begins_with_the_cell(script):
    cells = json.loads(script.with_suffix(".ipynb").read_text("utf-8"))["cells"]
    first = next(cell for cell in cells if cell["cell_type"] == "code")
    assert "".join(first["source"]) == colab.CELL and "remove-cell" in first["metadata"]["tags"]
    assert sum("colab" in cell["metadata"].get("tags", []) for cell in cells) == 1
