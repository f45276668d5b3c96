"""The built pages as one file: unzip it anywhere, open index.html by a double click, search without
a network.
"""

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
    """Pack the built pages into one zip file, every file under instab-book/, index.html first;
    returns its path.

    Args:
        pages: folder of the built pages, with index.html at its top.
        into: the file to write; the same pages always give the same bytes.

    Raises:
        BookError: there are no pages.
    """
    if not (pages / "index.html").is_file():
        raise BookError(
            f"no pages to pack: expected {pages / 'index.html'}. Run: python -m instab_utils.book all"
        )
    files = sorted(
        (path for path in pages.rglob("*") if path.is_file() and path.name != ".buildinfo"),
        key=lambda path: (path != pages / "index.html", path.relative_to(pages).as_posix()),
    )
    into.parent.mkdir(parents=True, exist_ok=True)
    partial = into.with_suffix(".partial.zip")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for path in files:
            entry = zipfile.ZipInfo(f"{FOLDER}/{path.relative_to(pages).as_posix()}", BEGINNING)
            entry.compress_type, entry.external_attr, entry.create_system = (
                zipfile.ZIP_DEFLATED,
                0o644 << 16,
                3,
            )
            content = path.read_bytes()
            file.writestr(
                entry,
                PRELOAD.sub(b"", content) if path.suffix == ".html" else content,
                compresslevel=9,
            )
    return partial.replace(into)
