"""Compare the printed results of two executed books: every number, every table cell, every label.

Each output becomes lines of text: a printed line, a row of a table ("column: cell | ..."), a curve
of a figure, a text beside an image. Lines are aligned within a chapter by their text with the
numbers masked, so that cells may be renumbered, split or merged.
"""

import ast
import base64
import difflib
import itertools
import json
import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

NUMBER = re.compile(r"[-−+]?\d+(?:[.,]\d+)*(?:[eE][-+]?\d+|·10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)?")
# What differs between two runs of the same code: dates, durations, memory, objects, paths, digests.
VOLATILE = re.compile(
    r"^(?:seconds|minutes)\b[^:]*:.*|\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d\S*)?|\b0x[0-9a-f]+"
    r"|[\d.,]*\d *(?:ns|µs|ms|s|min|h|seconds?|minutes?|hours?|[kMG]i?B|cores?)\b"
    r"|(?:(?<=\s)|^)[~.]{0,2}/[\w./+-]+|[\w.+-]*/[\w./+-]+\.\w+"
    r"|\b(?=[0-9a-f]*[a-f])(?=[a-f]*\d)[0-9a-f]{8,}\b"
)
VOLATILE_COLUMN = re.compile(
    r"\b(?:seconds|minutes|hours|duration|memory|created|finished|started)\b|\b(?:time|date)$"
    r"|(?:^|[,(] *)(?:s|ms|min|h|[kMG]i?B)\)?$"
)
CURVE_DATA = ("x", "y", "z", "text", "customdata", "array", "arrayminus")
LONGEST_REPORT = 8  # moved numbers named of one line


class Line(NamedTuple):
    """One line of results: its table or figure, and its text."""

    context: str
    text: str


class Difference(NamedTuple):
    """What differs between two books at one place.

    `kind` is "moved" (a number), "reworded" (a label or a text cell), "order" (the same line at
    another place), "gone" or "new".
    """

    kind: str
    context: str
    old: str
    new: str = ""


class ChapterComparison(NamedTuple):
    """Two runs of one chapter: how many lines are equal, and every difference."""

    chapter: str
    n_equal: int
    differences: list[Difference]


def compare_books(old: Path, new: Path, *, only: str = "") -> list[ChapterComparison]:
    """Return the comparison of every chapter of two executed books.

    Args:
        old, new: folders of executed notebooks (a build/executed too), or two notebooks.
        only: beginning of the chapters' names, several separated by commas.

    Raises:
        FileNotFoundError: a path holds no executed notebook.
    """
    before, after = _chapters(old), _chapters(new)
    if old.is_file() and new.is_file():
        after = dict(zip(before, after.values()))
    comparisons = []
    for name in sorted({*before, *after}):
        if not name.startswith(tuple(only.split(","))):
            continue
        if name in before and name in after:
            lines = result_lines(before[name]), result_lines(after[name])
            comparisons.append(ChapterComparison(name, *compare_lines(*lines)))
        else:
            kind = "gone" if name in before else "new"
            missing = Difference(kind, "", "the whole chapter")
            comparisons.append(ChapterComparison(name, 0, [missing]))
    return comparisons


def comparison_text(comparisons: list[ChapterComparison]) -> str:
    """Return the comparison as text: a line of counts a chapter, below it what differs."""
    lines = []
    for chapter, n_equal, differences in comparisons:
        counts = Counter(difference.kind for difference in differences)
        told = [f"{n_equal} lines equal", *(f"{n} {kind}" for kind, n in counts.items())]
        lines.append(f"{chapter}: {', '.join(told)}")
        for kind, context, before, after in differences:
            place = f"[{textwrap.shorten(context, 90)}] " if context else ""
            lines.append(f"  {kind:<8} {place}{before}{' -> ' * bool(after)}{after}")
    return "\n".join(lines)


def _chapters(path: Path) -> dict[str, Path]:
    """Return executed notebooks by their number, or by their name where they have none."""
    files = [path] if path.is_file() else [*path.glob("*.ipynb"), *path.glob("notebooks/*.ipynb")]
    files = [file for file in files if not file.name.endswith(".partial.ipynb")]
    if not files:
        raise FileNotFoundError(f"no executed notebook in {path}.")
    return {re.match(r"\d+|.*", file.stem).group(): file for file in files}


# --- from outputs to lines


def result_lines(notebook: Path) -> list[Line]:
    """Return the lines of results of one executed notebook, in order."""
    content = json.loads(notebook.read_text("utf-8"))
    widgets = content["metadata"].get("widgets", {})
    models = widgets.get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    outputs = [output for cell in content["cells"] for output in cell.get("outputs", ())]
    lines = [line for output in outputs for line in _output_lines(output, models)]
    steady = [Line(*(" ".join(VOLATILE.sub("·", part).split()) for part in line)) for line in lines]
    return [line for line in steady if line.text]


def _output_lines(output: dict, models: dict) -> Iterator[Line]:
    data = output.get("data", {})
    text = "".join(output.get("text") or data.get("text/markdown") or data.get("text/plain", ""))
    if output.get("name") == "stderr":
        return
    if widget := data.get("application/vnd.jupyter.widget-view+json"):
        yield from _widget_lines(widget["model_id"], models)
    elif page := data.get("text/html"):
        yield from html_lines("".join(page))
    elif not _is_source(text):
        yield from (Line("", line) for line in text.splitlines())


def _is_source(text: str) -> bool:
    """Tell printed source code, which is no result."""
    try:
        tree = ast.parse(textwrap.dedent(text))
    except SyntaxError:
        return False
    return any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in tree.body)


def _widget_lines(model: str, models: dict) -> Iterator[Line]:
    state = models.get(model, {}).get("state", {})
    if state.get("_model_name") == "HTMLModel":
        yield from html_lines(state["value"])
    for label in state.get("_options_labels", ()):
        yield Line(state.get("description", ""), label)
    for child in state.get("children", ()):
        yield from _widget_lines(child.removeprefix("IPY_MODEL_"), models)


def html_lines(text: str) -> Iterator[Line]:
    """Yield the lines of a piece of HTML: texts, rows of tables, curves, pages in frames."""
    from bs4 import BeautifulSoup

    page = BeautifulSoup(re.sub(r"base64,[\w+/=]+", "", text), "html.parser")
    figure = page.find("figure", attrs={"aria-label": True})
    context = figure["aria-label"] if figure else ""
    yield Line("", context)
    if "Plotly.newPlot(" in text:
        yield from _curve_lines(text, context)
    for frame in page.find_all("iframe", srcdoc=True):
        yield from html_lines(frame["srcdoc"])
    for table in page.find_all("table"):
        yield from _table_lines(table, context)
    for element in page.find_all(["script", "style", "title", "table", "iframe"]):
        element.extract()
    yield from (Line(context, string) for string in page.stripped_strings)


def _table_lines(table, context: str) -> Iterator[Line]:
    if caption := table.find("caption"):
        context = caption.get_text(" ", strip=True)
        yield Line("", context)
    heads, *rows = [
        [cell.get_text(" ", strip=True) for cell in row.find_all(["th", "td"])]
        for row in table.find_all("tr")
    ]
    for row in rows:
        cells = [
            f"{head}: {'·' if VOLATILE_COLUMN.search(head) else cell}"
            for head, cell in zip(heads, row)
        ]
        yield Line(context, " | ".join(cells))


def _curve_lines(text: str, context: str) -> Iterator[Line]:
    """Yield the curves of `Plotly.newPlot("id", data, layout, ...)`, its axes and annotations."""
    decoder = json.JSONDecoder()
    traces, end = decoder.raw_decode(text, text.index("[", text.index("Plotly.newPlot(")))
    layout, _ = decoder.raw_decode(text, text.index("{", end))
    titles = {axis: layout.get(f"{axis}axis", {}).get("title", {}).get("text", "") for axis in "xy"}
    for trace in traces:
        data = trace | trace.get("error_y", {})
        values = {
            key: "·" if VOLATILE_COLUMN.search(titles.get(key, "")) else " ".join(_texts(data[key]))
            for key in CURVE_DATA
            if key in data
        }
        named = {"curve": trace.get("name", ""), **values}
        yield Line(context, " | ".join(f"{key}: {value}" for key, value in named.items()))
    notes = [note.get("text", "") for note in layout.get("annotations", ())]
    yield from (Line(context, note) for note in [*titles.values(), *notes])


def _texts(values: object) -> Iterator[str]:
    """Yield plotly's numbers as text of six digits; figures show four. Typed arrays are decoded."""
    if isinstance(values, dict) and "bdata" in values:
        values = np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]).tolist()
    if isinstance(values, list):
        for value in values:
            yield from _texts(value)
    else:
        yield f"{values:.6g}" if isinstance(values, float) else str(values)


# --- from lines to differences


def compare_lines(old: list[Line], new: list[Line]) -> tuple[int, list[Difference]]:
    """Return how many lines are equal, and every difference, in the order of `old`.

    Lines are paired by the strictest rule that holds: the same in the same order, the same
    elsewhere, the same but for numbers, the same in another table or figure, the most similar.
    """
    blocks = difflib.SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks()
    pairs = {block.a + k: block.b + k for block in blocks for k in range(block.size)}
    n_equal = len(pairs)
    differences: dict[int, list[Difference]] = {}
    for part, masked in itertools.product((slice(None), slice(1, 2)), (False, True)):
        waiting = defaultdict(list)
        for j in reversed(_others(new, pairs.values())):
            waiting[_key(new[j][part], masked)].append(j)
        for i in _others(old, pairs):
            candidates = waiting[_key(old[i][part], masked)]
            if candidates:
                pairs[i] = candidates.pop()
                differences[i] = _moved_numbers(old[i], new[pairs[i]])
                if old[i] == new[pairs[i]]:
                    differences[i] = [Difference("order", *old[i])]
                n_equal += not differences[i]

    rest = [new[j] for j in _others(new, pairs.values())]
    for i in _others(old, pairs):
        context, text = old[i]
        similar = difflib.get_close_matches(text, [line.text for line in rest], n=1)
        differences[i] = [Difference("reworded" if similar else "gone", context, text, *similar)]
        if similar:
            rest.pop([line.text for line in rest].index(similar[0]))
    listed = [difference for i in sorted(differences) for difference in differences[i]]
    return n_equal, [*listed, *(Difference("new", *line) for line in rest)]


def _others(lines: list[Line], paired: Iterable[int]) -> list[int]:
    """Return the positions of the lines that have no partner yet."""
    return sorted({*range(len(lines))} - {*paired})


def _key(parts: tuple[str, ...], masked: bool) -> tuple[str, ...]:
    """Return what two lines of one pair have in common."""
    return tuple(NUMBER.sub("#", part) for part in parts) if masked else parts


def _moved_numbers(old: Line, new: Line) -> list[Difference]:
    """Return the numbers that differ between two lines of one masked text."""
    head, separator, _ = old.text.partition(" | ")
    row = head + separator if separator else ""
    moved = []
    for match, number in zip(NUMBER.finditer(old.text), NUMBER.findall(new.text)):
        if match.group() != number:
            cell = old.text[: match.end()].rpartition(" | ")[2][-70:]
            place = "" if old.text.startswith(cell) else row
            moved.append(Difference("moved", old.context, place + cell, number))
    rest = len(moved) - LONGEST_REPORT
    if rest > 0:
        moved[LONGEST_REPORT:] = [Difference("moved", old.context, f"{row}and {rest} more numbers")]
    return moved
