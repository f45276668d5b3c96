"""What moved between two executed books is found and named: `instab_utils.book compare`."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from instab_utils import book, figures
from instab_utils.book import comparison
from instab_utils.book.__main__ import main

ROWS = [
    {"network": "A", "dB": 31.25, "seconds": 1.5},
    {"network": "B", "dB": 28.75, "seconds": 2.5},
]


def printed(text: str) -> dict:
    return {"output_type": "stream", "name": "stdout", "text": [text]}


def shown(html: str) -> dict:
    return {"output_type": "display_data", "data": {"text/html": html, "text/plain": "a figure"}}


def table(rows: list[dict], caption: str = "PSNR at 2 %") -> dict:
    return shown(figures.table(rows, caption=caption)._repr_html_())


def plot(y: list[float]) -> dict:
    packed = base64.b64encode(np.array(y).tobytes()).decode()
    trace = {"name": "network", "x": [1, 2, 3], "y": {"dtype": "f8", "bdata": packed}}
    layout = {"xaxis": {"title": {"text": "strength"}}, "annotations": [{"text": "limit 0.3"}]}
    call = f'Plotly.newPlot("plot-0-{id(y)}", {json.dumps([trace])}, {json.dumps(layout)}, {{}})'
    return shown(f'<figure aria-label="Curves"><script>{call}</script></figure>')


def notebook(path: Path, *cells: list[dict], models: dict | None = None) -> Path:
    """An executed notebook with these outputs, a list a cell."""
    widgets = {"application/vnd.jupyter.widget-state+json": {"state": models or {}}}
    content = {
        "cells": [{"cell_type": "markdown", "source": ["3 words"]}]
        + [{"cell_type": "code", "source": [], "outputs": outputs} for outputs in cells],
        "metadata": {"widgets": widgets},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")
    return path


def differences(tmp_path: Path, old: list[list], new: list[list], **options) -> list[tuple]:
    """(kind, old, new) of all that differs between two notebooks with these outputs."""
    before = notebook(tmp_path / "old.ipynb", *old)
    after = notebook(tmp_path / "new.ipynb", *new)
    (chapter,) = book.compare_books(before, after, **options)
    return [(found.kind, found.old, found.new) for found in chapter.differences]


CHAPTER = [
    [printed("weight 0.003: 34.2 dB\n"), table(ROWS)],
    [printed("✓  the worst change is found\nMRI-VN needs 21 gradients\n")],
    [plot([0.1, 0.2, 0.3])],
]


def test_a_book_equals_itself(tmp_path):
    assert not differences(tmp_path, CHAPTER, CHAPTER)


def test_cells_may_be_split_and_renumbered(tmp_path):
    split = [
        [printed("weight 0.003: 34.2 dB\n")],
        [],
        [table(ROWS)],
        [printed("✓  the worst change is found\n")],
        [printed("MRI-VN needs 21 gradients\n"), plot([0.1, 0.2, 0.3])],
    ]
    assert not differences(tmp_path, CHAPTER, split)


def test_a_moved_digit_is_found(tmp_path):
    new = [[printed("weight 0.003: 34.3 dB\n"), table(ROWS)], *CHAPTER[1:]]
    assert differences(tmp_path, CHAPTER, new) == [("moved", "weight 0.003: 34.2", "34.3")]


def test_a_moved_table_cell_is_found_with_its_row_and_column(tmp_path):
    rows = [ROWS[0], ROWS[1] | {"dB": 28.74}]
    new = [[CHAPTER[0][0], table(rows)], *CHAPTER[1:]]
    ((kind, old, now),) = differences(tmp_path, CHAPTER, new)
    assert (kind, now) == ("moved", "28.7") or old.endswith("28.8")
    assert old.startswith("network: B | dB: ")


def test_a_renamed_label_is_found(tmp_path):
    rows = [ROWS[0], ROWS[1] | {"network": "C"}]
    new = [[CHAPTER[0][0], table(rows)], *CHAPTER[1:]]
    ((kind, old, now),) = differences(tmp_path, CHAPTER, new)
    assert kind == "reworded" and "network: B" in old and "network: C" in now


def test_a_dropped_and_an_added_line_are_found(tmp_path):
    new = [CHAPTER[0], [printed("MRI-VN needs 21 gradients\n")], CHAPTER[2], [printed("12345\n")]]
    assert differences(tmp_path, CHAPTER, new) == [
        ("gone", "✓ the worst change is found", ""),
        ("new", "12345", ""),
    ]


def test_a_moved_point_of_a_curve_and_an_annotation_are_found(tmp_path):
    new = [*CHAPTER[:2], [plot([0.1, 0.25, 0.3])]]
    ((kind, old, now),) = differences(tmp_path, CHAPTER, new)
    assert (kind, old, now) == ("moved", "curve: network | y: 0.1 0.2", "0.25")


def test_values_that_change_their_tables_are_not_equal(tmp_path):
    """Two tables with rows of the same text: each is compared with its own."""
    one, two = [{"network": "A", "dB": 1.0}], [{"network": "A", "dB": 2.0}]
    old = [[table(one, "first"), table(two, "second")]]
    new = [[table(two, "first"), table(one, "second")]]
    assert [found[0] for found in differences(tmp_path, old, new)] == ["moved", "moved"]


def test_lines_that_change_places_are_named(tmp_path):
    found = differences(tmp_path, [[printed("a 1\na 2\n")]], [[printed("a 2\na 1\n")]])
    assert [kind for kind, *_ in found] == ["order"]


def test_times_dates_memory_objects_and_paths_do_not_count(tmp_path):
    old = "trained in 12.3 s, 1.2 GB, 2026-11-25, <A at 0x7f01>, /data/a.npz, key 9f31c2d0\n"
    new = "trained in 14 s, 1.31 GB, 2026-12-01, <A at 0x7e22>, /other/b.npz, key 0a1b2c3d\n"
    old += "seconds per step at (width, depth): (16, 3) 0.0156\n"
    new += "seconds per step at (width, depth): (16, 3) 0.0163\n"
    slower = [row | {"seconds": 99.5} for row in ROWS]
    assert not differences(tmp_path, [[printed(old), table(ROWS)]], [[printed(new), table(slower)]])


def test_printed_source_is_no_result(tmp_path):
    old, new = "def f(x):\n    return 2 * x\n", "def f(x):\n    return x + x + 0\n"
    assert not differences(tmp_path, [[printed(old)]], [[printed(new)]])


def test_frames_of_a_slider_and_pages_in_frames_are_compared(tmp_path):
    def models(value: str) -> dict:
        frame = {"_model_name": "HTMLModel", "value": f"<p>size {value}</p>"}
        return {"box": {"state": {"children": ["IPY_MODEL_f"]}}, "f": {"state": frame}}

    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "box"}}
    slider = {"output_type": "execute_result", "data": view}
    card = shown('<iframe srcdoc="&lt;p&gt;PSNR 30 dB&lt;/p&gt;"></iframe>')
    old = notebook(tmp_path / "1" / "07_a.ipynb", [slider, card], models=models("1.00"))
    new = notebook(tmp_path / "2" / "07_b.ipynb", [slider, card], models=models("1.01"))
    (chapter,) = book.compare_books(old.parent, new.parent)
    assert chapter.n_equal == 1
    assert [found.old for found in chapter.differences] == ["size 1.00"]


def test_the_command_names_what_moved_and_says_so_by_its_status(tmp_path, capsys):
    old = notebook(tmp_path / "old" / "notebooks" / "07_a.ipynb", *CHAPTER)
    notebook(tmp_path / "old" / "notebooks" / "08_b.ipynb", *CHAPTER)
    new = notebook(tmp_path / "new" / "07_a.ipynb", [printed("weight 0.003: 34.3 dB\n")])
    folders = [str(tmp_path / "old"), str(tmp_path / "new")]
    assert main(["compare", str(old), str(old)]) == 0
    assert main(["compare", *folders]) == 1
    out = capsys.readouterr().out
    assert "07: " in out and "34.2 -> 34.3" in out and "gone     the whole chapter" in out
    assert main(["compare", *folders, "--only", "08"]) == 1
    for wrong in (["compare", str(new)], ["compare", str(tmp_path / "none"), str(new)]):
        with pytest.raises(SystemExit) as stopped:
            main(wrong)
        assert stopped.value.code == 2


def test_numbers_as_printed():
    found = comparison.NUMBER.findall("−1.5, 1,946 of 2·10⁻⁵ and 3e-4 at 2.11.0")
    assert found == ["−1.5", "1,946", "2·10⁻⁵", "3e-4", "2.11.0"]
