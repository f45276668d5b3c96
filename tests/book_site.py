"""The book at smoke, executed and built once for the tests that look at it: every chapter, and one
page of controls.

Everything lies in build/test and is kept between runs; `book.execute` runs again only what changed.
"""

import contextlib
import functools
import http.server
import os
import shutil
import threading
from pathlib import Path
from unittest import mock

import pytest
import yaml

from instab_utils import book

ROOT = book.ROOT
PROJECT = ROOT / "build" / "test" / "project"
WITH_FILES = ("03", "04", "07", "08", "10")  # chapters that show published weights, measured data
WITHOUT_FILES = ("01", "02", "05", "06", "09", "11", "12", "13", "90")
# every kind of figure and control that the package offers, on one page
CONTROLS = "notebooks/90_controls"

HEADER = """\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A toy

# %% tags=["parameters"]
profile = "standard"
seed = 0
"""

CONTROLS_SCRIPT = (
    HEADER
    + """
# %% [markdown]
# Inline $x^2$, and displayed:
#
# $$ y = A x + \\eta . $$

# %%
import numpy as np
import torch
import matplotlib.pyplot as plt
from instab_utils import figures, widgets

generators = [torch.Generator().manual_seed(i) for i in range(4)]
images = [torch.rand(1, 1, 32, 32, generator=generator) for generator in generators]
figures.panels(images[:2], ["a", "b"], alt="Two fields of random pixels.", window=(0, 1))

# %%
lines = {"ours": [1, 2, 3], "theirs": [3, 2, 1]}
figures.curves([1, 2, 3], lines, x_label="x", y_label="y", alt="Two crossing lines.")

# %%
alt = "A field of random pixels."
frames = [figures.panels([image], ["a"], alt=alt, window=(0, 1)) for image in images]
widgets.explore(frames, [1, 2, 3, 4], name="field")

# %%
lines = {k: {"curve": [k, 2 * k, 3 * k]} for k in (1, 2, 3)}
widgets.curves_slider([1, 2, 3], lines, name="slope", x_label="x", y_label="y",
                      y_range=(0, 10), alt="A line that gets steeper with the slider.")

# %%
alt = "Two fields of random pixels, one wiped over the other."
widgets.compare(images[0], images[1], alt=alt)

# %%
_ = plt.plot([1, 2, 3])
"""
)


@functools.cache
def project() -> Path:
    """A copy of the book's sources with the page of controls added to its table of contents."""
    book.assets(ROOT)
    PROJECT.mkdir(parents=True, exist_ok=True)
    for folder in ("book", "notebooks"):
        shutil.rmtree(PROJECT / folder, ignore_errors=True)
        shutil.copytree(ROOT / folder, PROJECT / folder)
    shutil.copy(ROOT / "_config.yml", PROJECT)
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    toc["parts"][-1]["chapters"].append({"file": CONTROLS})
    (PROJECT / "_toc.yml").write_text(yaml.safe_dump(toc), "utf-8")
    (PROJECT / f"{CONTROLS}.py").write_text(CONTROLS_SCRIPT, "utf-8")
    for folder in ("results", "instab_utils"):  # pages link to files of the package
        if not (PROJECT / folder).is_symlink():
            (PROJECT / folder).symlink_to(ROOT / folder, target_is_directory=True)
    book.sync(PROJECT)
    return PROJECT


def at_smoke(**where) -> None:
    """Execute chapters, two at a time, each on one core, without a network."""
    offline = {"OMP_NUM_THREADS": "1", "INSTAB_OFFLINE": "1"}
    with mock.patch.dict(os.environ, offline):
        book.execute("smoke", n_jobs=2, **where)


@functools.cache
def executed() -> tuple[Path, str]:
    """Return the executed copies of every chapter at smoke, and what went wrong, if anything.

    Offline; chapters that show published weights or measured data have the files, where they are
    at hand, the others have none.
    """
    root = project()
    problems = []
    nothing = mock.patch.dict(os.environ, INSTAB_DATA=str(root / "build" / "no-data"))
    for chapters, files in ((WITH_FILES, contextlib.nullcontext()), (WITHOUT_FILES, nothing)):
        try:
            with files:
                at_smoke(root=root, only=",".join(chapters))
        except book.BookError as error:
            problems.append(str(error))
    return root / "build" / "executed", "\n".join(problems)


@functools.cache
def built() -> tuple[Path, str]:
    """The first built page, and what went wrong (empty: nothing; every warning is wrong)."""
    folder, problem = executed()
    try:
        return (Path(), problem) if problem else (book.build(project(), folder), "")
    except book.BookError as error:
        return Path(), str(error)


@functools.cache
def site() -> str:
    """Address of the built book on this machine."""
    page, problem = built()
    if problem:
        pytest.skip("the book was not built; test_the_book_builds_without_a_warning says why")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(page.parent))

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def pages() -> list[str]:
    """Every page of _toc.yml, and the page of controls."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    return [
        toc["root"],
        *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"]),
        CONTROLS,
    ]
