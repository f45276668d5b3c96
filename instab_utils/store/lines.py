"""JSON lines: one row a line, with its key and its checksum; one file for each experiment."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from .files import DAMAGES, DamagedFile, key, places, write

CHECKSUM_DIGITS = 16


class _Content(NamedTuple):
    stamp: tuple  # what changes with the file
    rows: dict[str, dict]
    problems: list[str]


_contents: dict[Path, _Content] = {}


def stored(kind: str, name: str, check: Callable[[dict], None] | None = None) -> list[dict]:
    """Return the rows of <kind>/<name>.jsonl: the committed ones, then those written here."""
    found = []
    for place in reversed(places(kind)):
        found += read(place / f"{name}.jsonl", check).values()
    return found


def read(path: Path, check: Callable[[dict], None] | None = None) -> dict[str, dict]:
    """Return key -> row of a file; nothing where there is no file.

    A file is parsed again only after it has changed. A damaged line (half-written, altered, or
    refused by `check`) is named in a RuntimeWarning and left out, so that its row is computed
    again. The rows are shared by all readers: copy what you change.

    Args:
        path: of the file.
        check: raises ValueError for a row that is not of the schema.
    """
    content = _content(path, check)
    for problem in content.problems:
        warnings.warn(problem, RuntimeWarning, stacklevel=3)
    return content.rows


def add(path: Path, *added: dict, check: Callable[[dict], None] | None = None) -> Path:
    """Add rows to a file, all or none, each in place of the one with its key.

    The file is written anew under a lock, its lines in alphabetical order, and takes its name by
    an atomic rename: a reader sees the old file or the new one, and a writer that is killed leaves
    the old one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = {row["key"]: _row(_line(row)) for row in added}
    with FileLock(path.with_suffix(".lock")):
        rows = {**_content(path, check).rows, **new}
        write(path, "".join(sorted(map(_line, rows.values()))).encode())
        _contents[path] = _Content(_stamp(path), rows, [])
    return path


def _content(path: Path, check: Callable[[dict], None] | None) -> _Content:
    if not path.is_file():
        return _Content((), {}, [])
    stamp = _stamp(path)
    known = _contents.get(path)
    if known and known.stamp == stamp:
        return known
    rows, problems = {}, []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            row = _row(line)
            if check:
                check(row)
            rows[row["key"]] = row
        except DAMAGES as reason:
            problems.append(
                f"{path}, line {number} is damaged and not read: {reason}. Its row is computed "
                "again when next needed."
            )
    _contents[path] = _Content(stamp, rows, problems)
    return _contents[path]


def _row(line: str | bytes) -> dict:
    row = json.loads(line)
    checksum = row.pop("checksum")
    if checksum != key(**row)[:CHECKSUM_DIGITS]:
        raise DamagedFile("its checksum does not match its content")
    return row


def _line(row: dict) -> str:
    checked = {**row, "checksum": key(**row)[:CHECKSUM_DIGITS]}
    return json.dumps(checked, allow_nan=False, separators=(",", ":"), ensure_ascii=False) + "\n"


def _stamp(path: Path) -> tuple:
    about = path.stat()
    return about.st_ino, about.st_mtime_ns, about.st_size
