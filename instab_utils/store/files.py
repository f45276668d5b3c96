"""Where results lie, how they get there (all or nothing), and what names them."""

import contextlib
import datetime
import hashlib
import json
import os
import re
import secrets
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

PACKAGE = Path(__file__).parent.parent
DAMAGES = (  # what readers raise for a file that is truncated or altered
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OSError,
    EOFError,
    SafetensorError,
    zipfile.BadZipFile,
    zlib.error,
)


class DamagedFile(ValueError):
    """A stored file is truncated, altered, or not of this schema; recompute or delete it."""


def results_folder() -> Path:
    """Return the folder that results are written to."""
    given, root = os.environ.get("INSTAB_RESULTS"), checkout()
    if given:
        return Path(given).expanduser().resolve()
    if root:
        return root / "build" / "results"
    import pooch

    return Path(pooch.os_cache("instab-utils")) / "results"


def checkout() -> Path | None:
    """Return the repository this package or the working directory belongs to."""
    for place in (PACKAGE.parent, Path.cwd(), *Path.cwd().parents):
        if (place / "pyproject.toml").is_file() and (place / PACKAGE.name).is_dir():
            return place
    return None


def places(kind: str) -> list[Path]:
    """Return the folders of one kind of file: the one to write to, then the committed one.

    Caches of arrays are never committed.
    """
    root, first = checkout(), results_folder()
    if root is None:
        return [first / kind]
    committed = root / "results"
    if kind == "arrays":
        return [(root / "build" / "results" if first == committed else first) / kind]
    return list(dict.fromkeys([first / kind, committed / kind]))


def find(kind: str, name: str) -> Path | None:
    return next((place / name for place in places(kind) if (place / name).is_file()), None)


def write(path: Path, content: bytes) -> Path:
    """Write a file, all or nothing; the bytes reach the disk before they take the name."""
    with replaced(path) as partial, open(partial, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return path


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Give a partial file of this writer alone, which takes the name at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def key(**identity: object) -> str:
    """Return the SHA-256 of the canonical JSON of `identity`, whatever the order of its items."""
    return hashlib.sha256(canonical(identity)).hexdigest()


def canonical(value: object) -> bytes:
    """Return JSON with sorted names and no spaces.

    Raises:
        ValueError: for NaN and infinity; TypeError for what is not JSON.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def existing(kind: str, name: str) -> Path:
    """Return the path of a stored file; FileNotFoundError where there is none."""
    path = find(kind, name)
    if path is None:
        raise FileNotFoundError(
            f"no {kind}/{name} in {results_folder()} nor in the committed results. Run "
            "`make results`, or the chapter that makes it."
        )
    return path


def checked_name(name: str) -> str:
    """Return a name that may be that of a file."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ValueError(
            f"expected a name of letters, digits, hyphens and underscores; got {name!r}."
        )
    return name


def now() -> str:
    """Return the time, in UTC and to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
