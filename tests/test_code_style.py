"""Formats and names: ruff, import circles, names that nobody reaches, cells of the chapters."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from test_house import MODULES, PACKAGE, ROOT, tracked

COLUMNS = 88  # of code that fit a cell of a page at 1300 pixels
FOLDERS = [path.parent for path in MODULES if path.name == "__init__.py" and path.parent != PACKAGE]
VERBS = {"build", "folder", "main", "run"}  # read with their room: audit.run, sweep.run


SOURCES = ("instab_utils", "tests", "benchmarks", "book")  # cells of chapters are set by hand


@pytest.mark.parametrize(
    "command",
    [("check", *SOURCES, "notebooks"), ("format", "--check", *SOURCES)],
    ids=lambda c: c[0],
)
def test_ruff_has_nothing_to_say(command):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache", "--quiet"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


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
    tree = ast.parse(path.read_text("utf-8"))
    guarded = [
        n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in words(n.test)
    ]
    for_types = {id(part) for block in guarded for part in ast.walk(block)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.level or id(node) in for_types:
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
    public = set(defined) - {"__all__"}
    dead = sorted(
        f"{places[n].relative_to(PACKAGE)}: {n}" for n in public - reached(defined, start)
    )
    assert not dead, dead


def test_no_two_public_things_share_a_name():
    owners = defaultdict(set)
    for folder in FOLDERS:
        for name, file in exported(folder).items():
            if name in definitions(file) and name not in VERBS and file.stem != name:
                owners[name].add(str(file.relative_to(PACKAGE)))
    twice = {name: sorted(files) for name, files in owners.items() if len(files) > 1}
    assert not twice, twice


def test_no_name_hides_the_module_of_that_name():
    hidden = []
    for folder in FOLDERS:
        for node in ast.parse((folder / "__init__.py").read_text("utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [alias.asname or alias.name for alias in node.names]
                hidden += [f"{folder.name}.{name}" for name in names if located(folder, name)]
    assert not hidden, hidden


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


def test_setting_up_a_chapter_is_short():
    for script in sorted((ROOT / "notebooks").glob("*.py")):
        imports = next(cell for cell in visible_cells(script) if any("import" in s for s in cell))
        assert len(imports) <= 10, f"{script.name}: {len(imports)} lines of setting up"


# --- what is stored


def test_records_are_few_files():
    assert 0 < len([path for path in tracked() if "records" in path.parts]) <= 40


def test_the_tracked_tree_is_small_on_disk():
    """Counted in blocks of 4 KiB, as most file systems keep it."""
    blocks = sum(-(-path.stat().st_size // 4096) for path in tracked())
    assert 4 * blocks < 38 * 1024, f"{4 * blocks} KiB"
