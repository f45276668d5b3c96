"""The house rules: imports, lengths, requirements, and what stands nowhere in the repository."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "instab_utils"
ROOMS = [  # imports go from right to left only; rooms between the same bars may know each other
    {"profiles", "store"},
    {"operators", "metrics", "data"},
    {"networks", "solvers"},
    {"training"},
    {"uncertainty", "fields", "attacks", "shifts", "stability"},
    {"figures", "widgets", "sweep", "book"},
    {"papers"},
    {"audit", "report"},
    {"__main__"},
]
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 400
BINARY = {".npz", ".safetensors", ".gz", ".png", ".lock"}

# A bare GPU machine has torch, numpy, scipy, scikit-image, pandas, safetensors, h5py, pooch, tqdm;
# and not these.
BOOK_ONLY = {
    "astra",
    "tomopy",
    "pywt",
    "spgl1",
    "matplotlib",
    "plotly",
    "ipywidgets",
    "IPython",
    "papermill",
    "jupytext",
    "bs4",
    "nbformat",
    "nbclient",
    "jupyter_book",
    "sphinx",
    "nibabel",
    "pydicom",
    "h5py",
    "dask",
    "distributed",
    "pyro",
    "deepinv",
    "playwright",
    "jaxtyping",
    "beartype",
    "jsonschema",
}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path, text: str):
    """(line, room) for every import of the package in a module, lazy ones included."""
    inside = ["instab_utils", *path.relative_to(PACKAGE).with_suffix("").parts]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = inside[: len(inside) - node.level] if node.level else []
            module = start + (node.module.split(".") if node.module else [])
            names = [module + [alias.name] for alias in node.names]
        else:
            continue
        for name in names:
            if name[0] == "instab_utils" and len(name) > 1 and name[1] in FLOOR:
                yield node.lineno, name[1]


def wrong_imports(path: Path, text: str) -> list[str]:
    own = FLOOR[room(path)]
    return [
        f"{path.relative_to(ROOT)}:{line}: {room(path)} imports {name}, which stands to its right"
        for line, name in imported_rooms(path, text)
        if FLOOR[name] > own
    ]


def test_imports_go_one_way():
    wrong = [
        line
        for path in MODULES
        if path.name != "__init__.py" or path.parent != PACKAGE
        for line in wrong_imports(path, path.read_text("utf-8"))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "text",
    [
        "from .. import attacks",
        "from ..attacks import worst_case",
        "import instab_utils.attacks",
        "def f():\n    from instab_utils import profiles, attacks",
    ],
)
def test_an_import_to_the_right_is_found(text):
    path = PACKAGE / "operators" / "radon.py"
    assert len(wrong_imports(path, text)) == 1
    assert not wrong_imports(
        path, "from .base import LinearOperator\nfrom .. import profiles\nfrom . import masks"
    )


def test_every_room_has_its_place():
    unknown = {room(path) for path in MODULES} - set(FLOOR) - {"__init__"}
    assert not unknown, f"give {unknown} a place in ROOMS"


def test_modules_are_read_in_one_sitting():
    long = {
        str(path.relative_to(ROOT)): n
        for path in MODULES
        if (n := path.read_text("utf-8").count("\n")) > LONGEST
    }
    assert not long, f"longer than {LONGEST} lines: {long}"


def test_lines_fit_a_screen():
    folders = ["tests", "benchmarks", "notebooks", "book/_ext"]
    scripts = [*MODULES, *(path for folder in folders for path in (ROOT / folder).glob("*.py"))]
    long = [
        f"{path.relative_to(ROOT)}:{i}"
        for path in scripts
        for i, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        # prose wraps on its page
        if len(line) > 100 and not (path.parent.name == "notebooks" and line.startswith("# "))
    ]
    assert not long, long


def pickles(text: str) -> list[tuple[int, str]]:
    """(line, what) wherever a source unpickles with the right to run code; torch.load stands only
    in a call with weights_only=True.
    """
    found, tree = [], ast.parse(text)
    careful = {
        id(node.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and any(
            k.arg == "weights_only" and isinstance(k.value, ast.Constant) and k.value.value is True
            for k in node.keywords
        )
    }
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        bad = {name.split(".")[0] for name in names} & {
            "pickle",
            "dill",
            "cloudpickle",
            "joblib",
            "shelve",
        }
        if (
            isinstance(node, ast.Attribute)
            and ast.unparse(node) == "torch.load"
            and id(node) not in careful
        ):
            bad.add("torch.load")
        if (
            isinstance(node, ast.ImportFrom)
            and node.module == "torch"
            and any(alias.name == "load" for alias in node.names)
        ):
            bad.add("torch.load")
        if (
            isinstance(node, ast.keyword)
            and node.arg == "allow_pickle"
            and ast.unparse(node.value) != "False"
        ):
            bad.add("allow_pickle")
        found += [(getattr(node, "lineno", 0), name) for name in sorted(bad)]
    return found


def test_no_pickle():
    """Weights and records come from strangers; unpickling runs code."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in [*MODULES, *ROOT.glob("notebooks/*.py"), *ROOT.glob("benchmarks/*.py")]
        for line, name in pickles(path.read_text("utf-8"))
    ]
    assert not found, found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("torch.load(file, weights_only=True)", []),
        ("torch.load(file)", ["torch.load"]),
        ("torch.load(file, weights_only=False)", ["torch.load"]),
        ("torch.load(file, weights_only=careful)", ["torch.load"]),
        ("torch.load(file, weights_only=1)", ["torch.load"]),
        ("torch.load(file, **options)", ["torch.load"]),
        ("read = torch.load", ["torch.load"]),
        ("call(torch.load, weights_only=True)", ["torch.load"]),
        ("from torch import load", ["torch.load"]),
        ("import pickle", ["pickle"]),
        ("from dill import loads", ["dill"]),
        ("np.load(file, allow_pickle=True)", ["allow_pickle"]),
        ("np.load(file, allow_pickle=False)", []),
    ],
)
def test_a_pickle_is_found(text, found):
    assert [name for _, name in pickles(text)] == found


def test_every_room_imports_on_a_bare_machine():
    """In a process where every package of the book refuses to be imported."""
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
        if path.name != "__main__.py"
    ]
    code = f"""
import importlib, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BOOK_ONLY!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuse())
for module in {modules!r}:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        print(module, "needs", error.name)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "", done.stdout


def test_the_package_itself_is_cheap_to_import():
    heavy = "[m for m in ('torch', 'numpy', 'scipy') if m in sys.modules]"
    code = f"import sys, instab_utils; print({heavy})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_requirements_are_pinned():
    lines = [
        line
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if line.strip() and line[0] != "#"
    ]
    loose = [line for line in lines if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][\w.]*", line)]
    assert not loose, loose
    assert "torch==2.13.0" in lines  # other versions would bring another build of it
    names = [line.split("==")[0].lower() for line in lines]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ["Makefile", "README.md", "book/how-to-run.md", ".ci/run"])
def test_every_module_that_is_run_can_be_run(name):
    modules = set(re.findall(r"-m (instab_utils[\w.]*\w)", (ROOT / name).read_text("utf-8")))
    missing = [m for m in modules if not (ROOT / m.replace(".", "/") / "__main__.py").is_file()]
    assert not missing, f"{name} runs {missing}, which cannot be run"


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        (
            "a path of somebody's machine",
            r"(?<![\w./~-])/(?:home|root|work|Users|mnt|tmp|scratch)/\w",
        ),
        (
            "the host of a package registry",
            r"(?:pypi|pythonhosted|npmjs|download[.]pytorch|anaconda)[.]org",
        ),
        ("a note to ourselves", r"\b(?:TODO|FIXME|XXX|HACK)\b"),
    ],
)
def test_nothing_stands_in_the_repository_that_is_of_no_use_to_others(what, pattern):
    found = []
    for path in tracked():
        if path == Path(__file__) or path.suffix in BINARY:
            continue
        for number, line in enumerate(path.read_text("utf-8", errors="ignore").splitlines(), 1):
            if hit := re.search(pattern, line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {hit.group()}")
    assert not found, f"{what}: {found}"


def test_nothing_heavy_and_no_data_is_tracked():
    files = tracked()
    assert sum(path.stat().st_size for path in files) < 40e6
    data = [
        p
        for p in files
        if p.suffix.lower() in {".dcm", ".ima", ".nii", ".mat", ".h5", ".npy", ".pth", ".pkl"}
    ]
    assert not data, data
