"""Where results lie, how they get there (all or nothing), and what names them."""

import hashlib
import json
import os
import secrets
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
            place / "instab_utils" / "__init__.py"
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
