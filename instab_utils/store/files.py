"""Where results lie, how they get there (all or nothing), and what names them."""

import ast
import functools
import hashlib
import inspect
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path

PACKAGE = Path(__file__).parent.parent


class DamagedFile(ValueError):
    """A stored file is truncated, altered, or not of this schema. It is never read; recompute or
    delete it.
    """


def folder() -> Path:
    """The folder that results are written to (see the package's first lines)."""
    given, root = os.environ.get("INSTAB_RESULTS"), checkout()
    if given:
        return Path(given).expanduser().resolve()
    if root:
        return root / "build" / "results"
    import pooch

    return Path(pooch.os_cache("instab-utils")) / "results"


def checkout() -> Path | None:
    """The repository this package or the working directory belongs to."""
    for place in (PACKAGE.parent, Path.cwd(), *Path.cwd().parents):
        if (place / "pyproject.toml").is_file() and (
            place / "instab_utils" / "profiles.py"
        ).is_file():
            return place
    return None


def places(kind: str) -> list[Path]:
    """Folders of one kind of file: the one to write to first, then the committed one. Caches are
    never committed.
    """
    root, first = checkout(), folder()
    if root is None:
        return [first / kind]
    committed = root / "results"
    if kind == "arrays":
        return [(root / "build" / "results" if first == committed else first) / kind]
    return list(dict.fromkeys([first / kind, committed / kind]))


def find(kind: str, name: str) -> Path | None:
    return next((place / name for place in places(kind) if (place / name).is_file()), None)


def write(path: Path, content: bytes) -> Path:
    """All or nothing: the bytes go to a partial file of this writer alone, reach the disk, then
    take the name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def key(**identity: object) -> str:
    """SHA-256 of the canonical JSON of `identity`: the same for any order of the dictionaries'
    items.
    """
    return hashlib.sha256(canonical(identity)).hexdigest()


def canonical(value: object) -> bytes:
    """JSON with sorted names and no spaces; ValueError for NaN and infinity, TypeError for what is
    not JSON.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def code_hash(*functions: Callable) -> str:
    """Sixteen hex digits of the source that `functions` depend on.

    For a function or class of this package: the text of its module and of every module of the
    package that it imports, directly or not, so that no change can go unnoticed; a comment counts
    as a change. For one of a notebook: its own text, and the same for the functions, classes and
    modules that it names. Other packages are not hashed: a record names torch's version.
    """
    modules, texts, done, todo = set(), set(), set(), list(functions)
    while todo:
        item = todo.pop()
        name = item.__name__ if inspect.ismodule(item) else getattr(item, "__module__", None) or ""
        if name.partition(".")[0] == PACKAGE.name:
            modules |= imported(name)
        elif (
            (inspect.isfunction(item) or inspect.isclass(item))
            and id(item) not in done
            and (item in functions or name == "__main__")
        ):
            done.add(id(item))
            texts.add(inspect.getsource(item))
            if inspect.isfunction(item):
                names = inspect.getclosurevars(item)
                todo += [*names.globals.values(), *names.nonlocals.values()]
    texts |= {f"{name}\n{_source(name)}" for name in modules}
    return hashlib.sha256("\0".join(sorted(texts)).encode()).hexdigest()[:16]


def _path(module: str) -> Path | None:
    base = PACKAGE.parent.joinpath(*module.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


def _source(module: str) -> str:
    path = _path(module)
    return _read(path, path.stat().st_mtime_ns)


@functools.cache
def _read(path: Path, changed: int) -> str:
    return path.read_text(encoding="utf-8").replace("\r\n", "\n")


def imported(module: str) -> set[str]:
    """`module` and every module of the package that it imports, transitively, also inside
    functions.
    """
    seen, todo = set(), [module]
    while todo:
        name = todo.pop()
        if name in seen or name == PACKAGE.name or _path(name) is None:
            continue
        seen.add(name)
        package = name.split(".") if _path(name).name == "__init__.py" else name.split(".")[:-1]
        todo += _imports(_source(name), tuple(package))
    return seen


@functools.cache
def _imports(source: str, package: tuple[str, ...]) -> list[str]:
    """Names that a module of this package imports from it; a key takes a fifth of a second where
    sources are parsed anew each time.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [
                alias.name for alias in node.names if alias.name.startswith(f"{PACKAGE.name}.")
            ]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*base, *([node.module] if node.module else [])])
            if base.partition(".")[0] == PACKAGE.name:
                found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return found
