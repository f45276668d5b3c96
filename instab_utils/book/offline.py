"""Pack the built pages into one file that opens, and searches, without a network."""

import re
import zipfile
from pathlib import Path

from .notebooks import ROOT, BookError

FOLDER = "instab-book"
# Browsers refuse to preload fonts of a page opened by a double click, and say so; the icons are
# drawn without them.
PRELOAD = re.compile(rb'<link[^>]*rel="preload"[^>]*as="font"[^>]*>')
BEGINNING = (1980, 1, 1, 0, 0, 0)  # of a zip file's time: the same pages give the same bytes


def archive(
    pages: Path = ROOT / "_build" / "html", into: Path = ROOT / "build" / "instab-book.zip"
) -> Path:
    """Pack the built pages, every file under instab-book/, index.html first; return the zip file.

    Args:
        pages: folder of the built pages, with index.html at its top.
        into: the file to write; the same pages always give the same bytes.

    Raises:
        BookError: there are no pages.
    """
    first = pages / "index.html"
    if not first.is_file():
        raise BookError(f"no pages to pack: no {first}. Run: python -m instab_utils.book all")
    files = [path for path in pages.rglob("*") if path.is_file() and path.name != ".buildinfo"]
    files.sort(key=lambda path: (path != first, path.relative_to(pages).as_posix()))
    into.parent.mkdir(parents=True, exist_ok=True)
    partial = into.with_suffix(".partial.zip")
    with zipfile.ZipFile(partial, "w") as file:
        for path in files:
            entry = zipfile.ZipInfo(f"{FOLDER}/{path.relative_to(pages).as_posix()}", BEGINNING)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            content = path.read_bytes()
            if path.suffix == ".html":
                content = PRELOAD.sub(b"", content)
            file.writestr(entry, content, zipfile.ZIP_DEFLATED, 9)
    return partial.replace(into)
