"""The house rules: imports, sizes, names, formats, and what stands nowhere in the repository."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
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
    {"papers"},
    {"audit", "report"},
    {"figures", "widgets", "sweep", "book", "__main__"},
]
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 400
COLUMNS = 88  # of code that fit a cell of a page at 1300 pixels

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
    heavy = ("torch", "numpy", "scipy")
    code = f"import sys, instab_utils; print([m for m in {heavy} if m in sys.modules])"
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
        if path == Path(__file__) or path.suffix in {".npz", ".safetensors", ".png", ".lock"}:
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


def ruff(*arguments: str) -> str:
    """Return what ruff prints about the project's Python files; empty where all is well."""
    folders = ["instab_utils", "tests", "benchmarks", "book", "notebooks"]
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments, *folders],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr if done.returncode else ""


def test_ruff_has_nothing_to_say():
    assert not ruff("check", "--output-format", "concise", "--no-cache")
    assert not ruff("format", "--check", "--no-cache")


# --- no file imports a file that imports it


def exported(folder: Path) -> dict[str, Path]:
    """Return name -> file of everything that a package's __init__ imports from its own files."""
    found = {}
    for node in ast.parse((folder / "__init__.py").read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            for alias in node.names:
                target = located(folder, node.module or alias.name)
                found[alias.asname or alias.name] = (
                    target if node.module else located(folder, alias.name)
                )
    return {name: file for name, file in found.items() if file}


def located(folder: Path, dotted: str) -> Path | None:
    """Return the file of a module below a folder, or None."""
    path = folder.joinpath(*dotted.split("."))
    if path.with_suffix(".py").is_file():
        return path.with_suffix(".py")
    return path / "__init__.py" if (path / "__init__.py").is_file() else None


def imported_files(path: Path) -> set[Path]:
    """Return the package's files that a file imports, lazily too; names lead to their file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        folder = path.parents[node.level - 1]
        base = folder.joinpath(*(node.module or "").split("."))
        for alias in node.names:
            if base.is_dir():
                inside = exported(base) if (base / "__init__.py").is_file() else {}
                found.add(
                    inside.get(alias.name) or located(base, alias.name) or base / "__init__.py"
                )
            else:
                found.add(base.with_suffix(".py"))
    return found - {path}


def circles(graph: dict) -> list[list]:
    """Return the groups of nodes that can reach each other (Tarjan's strongly connected parts)."""
    index, low, stack, result = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            part = [stack.pop()]
            while part[-1] != node:
                part.append(stack.pop())
            if len(part) > 1:
                result.append(sorted(part))

    for node in graph:
        if node not in index:
            visit(node)
    return result


def test_no_files_import_each_other():
    graph = {path: imported_files(path) for path in MODULES if path.name != "__init__.py"}
    found = [[str(path.relative_to(PACKAGE)) for path in part] for part in circles(graph)]
    assert not found, found


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


# --- names: each public thing has one, and each is reached by a reader


def definitions(path: Path) -> dict[str, ast.AST]:
    """Return the functions, classes and constants at the top level of a file."""
    found = {}
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id: node for target in targets if isinstance(target, ast.Name)}
    return found


def words(node: ast.AST) -> set[str]:
    """Return every identifier and attribute that a piece of code mentions."""
    found = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            found.add(part.id)
        elif isinstance(part, ast.Attribute):
            found.add(part.attr)
        elif isinstance(part, ast.alias):
            found.update(part.name.split("."))
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            found.add(part.value)  # getattr(case, "front_end")
    return found


def reached(defined: dict[str, set[str]], start: set[str]) -> set[str]:
    """Return the names that can be come to from `start`, through what each definition mentions."""
    known, todo = set(), [name for name in start if name in defined]
    while todo:
        name = todo.pop()
        if name not in known:
            known.add(name)
            todo += [word for word in defined[name] if word in defined and word not in known]
    return known


def test_every_public_name_is_reached_by_a_reader():
    """From a chapter, a command, a page or an example: what only tests use is dead."""
    defined, start = defaultdict(set), set()
    places = {}
    for path in MODULES:
        tree = ast.parse(path.read_text("utf-8"))
        named = definitions(path)
        for name, node in named.items():
            defined[name] |= words(node) - {name}
            places.setdefault(name, path)
        if path.name in ("__main__.py", "one_notebook.py"):
            start |= words(tree) | set(named)
        elif path.name != "__init__.py":
            inside = list(named.values())
            start |= {
                w
                for n in tree.body
                if n not in inside and not isinstance(n, ast.Import | ast.ImportFrom)
                for w in words(n)
            }
    for page in [*ROOT.glob("notebooks/*.py"), *(ROOT / "book").rglob("*.py")]:
        start |= words(ast.parse(page.read_text("utf-8")))
    for page in [ROOT / "README.md", ROOT / "Makefile", *ROOT.glob("book/*.md")]:
        code = re.findall(r"```.*?```|`[^`\n]+`|^\t.*$", page.read_text("utf-8"), flags=re.M | re.S)
        start |= {word for text in code for word in re.findall(r"\w+", text)}
    public = {name for name in defined if not name.startswith("_")}
    dead = sorted(
        f"{places[n].relative_to(PACKAGE)}: {n}" for n in public - reached(defined, start)
    )
    assert not dead, dead


def test_no_two_public_things_share_a_name():
    rooms = [
        path.parent for path in MODULES if path.name == "__init__.py" and path.parent != PACKAGE
    ]
    owners = defaultdict(set)
    shadowed = []
    for folder in rooms:
        for name, file in exported(folder).items():
            if name in definitions(file):
                owners[name].add(str(file.relative_to(PACKAGE)))
                if located(folder, name):
                    shadowed.append(f"{folder.name}.{name} hides the module of that name")
    twice = {name: sorted(files) for name, files in owners.items() if len(files) > 1}
    assert not twice, twice
    assert not shadowed, shadowed


# --- chapters


def visible_cells(script: Path) -> list[list[str]]:
    """Return the lines of every code cell that the page shows."""
    cells = re.split(r"^# %%", script.read_text("utf-8"), flags=re.M)[1:]
    found = []
    for cell in cells:
        head, _, body = cell.partition("\n")
        hidden = ("markdown", "remove-cell", "remove-input", "hide-input", "hide-cell")
        if not any(word in head for word in hidden):
            found.append(body.strip().splitlines())
    return found


@pytest.mark.parametrize("script", sorted((ROOT / "notebooks").glob("*.py")), ids=lambda p: p.stem)
def test_cells_are_short_and_narrow(script):
    long = [cell[0] for cell in visible_cells(script) if len(cell) > 15]
    assert not long, f"more than 15 lines: {long}"
    wide = [line for cell in visible_cells(script) for line in cell if len(line) > COLUMNS]
    assert not wide, wide
