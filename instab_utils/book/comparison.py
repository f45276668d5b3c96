"""Compare the printed results of two executed books: every number, every table cell, every label.

Each output is turned into lines of text: a printed line, a row of a table ("column: cell | ..."),
a curve of a figure, a text beside an image. Lines are aligned within a chapter by their text with
the numbers masked, so that cells may be renumbered, split or merged.
"""

import ast
import base64
import json
import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple

NUMBER = re.compile(r"[-−+]?\d+(?:[.,]\d+)*(?:[eE][-+]?\d+|·10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)?")
# What differs between two runs of the same code: dates, durations, memory, objects, paths, digests.
VOLATILE = re.compile(
    r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d\S*)?|\b0x[0-9a-f]+"
    r"|[\d.,]*\d *(?:ns|µs|ms|s|min|h|seconds?|minutes?|hours?|[kMG]i?B|cores?)\b"
    r"|(?:(?<=\s)|^)[~.]{0,2}/[\w./+-]+|[\w.+-]*/[\w./+-]+\.\w+"
    r"|\b(?=[0-9a-f]*[a-f])(?=[a-f]*\d)[0-9a-f]{8,}\b"
)
VOLATILE_COLUMN = re.compile(
    r"\b(?:seconds|minutes|hours|duration|memory|created|finished|started)\b|\b(?:time|date)$"
    r"|(?:^|[,(] *)(?:s|ms|min|h|[kMG]i?B)\)?$"
)
SIMILAR = 0.6  # least `SequenceMatcher.ratio` of two texts that are one line, reworded
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
    new: str


class ChapterComparison(NamedTuple):
    """Two runs of one chapter: how many lines are equal, and every difference."""

    chapter: str
    n_equal: int
    differences: list[Difference]


def compare_books(
    old: Path, new: Path, *, tolerance: float = 0.0, only: str = ""
) -> list[ChapterComparison]:
    """Return the comparison of every chapter of two executed books.

    Args:
        old, new: folders of executed notebooks (a build/executed too), or two notebooks.
        tolerance: relative difference up to which two numbers are equal; 0 compares printed digits.
        only: beginning of the chapters' names, several separated by commas.

    Raises:
        FileNotFoundError: a path holds no executed notebook.
    """
    before, after = _chapters(old), _chapters(new)
    if Path(old).is_file() and Path(new).is_file():
        after = dict(zip(before, after.values()))
    names = [n for n in sorted({*before, *after}) if n.startswith(tuple(only.split(",")))]
    comparisons = []
    for name in names:
        if name in before and name in after:
            n_equal, differences = compare_lines(
                result_lines(before[name]), result_lines(after[name]), tolerance
            )
        else:
            n_equal, differences = 0, [_one_sided("the whole chapter", name in before)]
        comparisons.append(ChapterComparison(name, n_equal, differences))
    return comparisons


def comparison_text(comparisons: list[ChapterComparison]) -> str:
    """Return the comparison as text: a line of counts a chapter, below it what differs."""
    lines = []
    for chapter, n_equal, differences in comparisons:
        counts = Counter(difference.kind for difference in differences)
        told = ", ".join(f"{n} {kind}" for kind, n in counts.items())
        lines.append(f"{chapter}: {n_equal} lines equal" + (f", {told}" if told else ""))
        for kind, context, before, after in differences:
            place = f"[{textwrap.shorten(context, 90)}] " if context else ""
            arrow = " -> " if before and after else ""
            lines.append(f"  {kind:<8} {place}{before}{arrow}{after}")
    return "\n".join(lines)


def _chapters(path: Path) -> dict[str, Path]:
    """Executed notebooks by their number, or by their name where they have none."""
    path = Path(path)
    files = [path] if path.is_file() else sorted(path.glob("*.ipynb"))
    files = files or sorted((path / "notebooks").glob("*.ipynb"))
    files = [file for file in files if not file.name.endswith(".partial.ipynb")]
    if not files:
        raise FileNotFoundError(f"no executed notebook in {path}.")
    numbered = {file: re.match(r"\d+", file.stem) for file in files}
    return {number.group() if number else file.stem: file for file, number in numbered.items()}


# --- from outputs to lines


def result_lines(notebook: Path) -> list[Line]:
    """Return the lines of results of one executed notebook, in order."""
    content = json.loads(Path(notebook).read_text("utf-8"))
    widgets = content["metadata"].get("widgets", {})
    models = widgets.get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    lines = []
    for cell in content["cells"]:
        for output in cell.get("outputs", ()):
            lines += _output_lines(output, models)
    stable = (Line(_steady(line.context), _steady(line.text)) for line in lines)
    return [line for line in stable if line.text]


def _output_lines(output: dict, models: dict) -> Iterator[Line]:
    data = {kind: _joined(value) for kind, value in output.get("data", {}).items()}
    widget = data.get("application/vnd.jupyter.widget-view+json")
    figure = data.get("application/vnd.plotly.v1+json")
    if output["output_type"] == "stream":
        if output["name"] == "stdout":
            yield from _printed_lines(_joined(output["text"]))
    elif widget:
        yield from _widget_lines(widget["model_id"], models)
    elif figure:
        yield from _plotly_lines(figure["data"], figure["layout"], "")
    elif "text/html" in data:
        yield from html_lines(data["text/html"])
    else:
        yield from _printed_lines(data.get("text/markdown") or data.get("text/plain", ""))


def _joined(value: object) -> object:
    return "".join(value) if isinstance(value, list) else value


def _printed_lines(text: str) -> Iterator[Line]:
    if not _is_source(text):
        yield from (Line("", line) for line in text.splitlines())


def _is_source(text: str) -> bool:
    """True for printed source code: it is no result."""
    try:
        tree = ast.parse(textwrap.dedent(text))
    except SyntaxError:
        return False
    return any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in tree.body)


def _widget_lines(model: str, models: dict) -> Iterator[Line]:
    state = models.get(model, {}).get("state", {})
    if state.get("_model_name") == "HTMLModel":
        yield from html_lines(state["value"])
    labels = state.get("_options_labels")
    if labels:
        yield Line(state.get("description", ""), " | ".join(labels))
    for child in state.get("children", ()):
        yield from _widget_lines(child.removeprefix("IPY_MODEL_"), models)


def html_lines(text: str) -> Iterator[Line]:
    """Yield the lines of a piece of HTML: texts, rows of tables, curves, pages in frames."""
    from bs4 import BeautifulSoup

    page = BeautifulSoup(re.sub(r"base64,[\w+/=]+", "", text), "html.parser")
    figure = page.find("figure", attrs={"aria-label": True})
    context = figure["aria-label"] if figure else ""
    if context:
        yield Line("", context)
    for script in page.find_all("script"):
        position = script.text.find("Plotly.newPlot(")
        if position >= 0:
            yield from _plotly_call(text, context)
    for frame in page.find_all("iframe", srcdoc=True):
        yield from html_lines(frame["srcdoc"])
    for table in page.find_all("table"):
        yield from _table_lines(table, context)
    for element in page.find_all(["script", "style", "title", "table", "iframe"]):
        element.extract()
    for string in page.stripped_strings:
        yield Line(context, " ".join(string.split()))


def _table_lines(table, context: str) -> Iterator[Line]:
    caption = table.find("caption")
    if caption and caption.get_text(" ", strip=True) != context:
        context = caption.get_text(" ", strip=True)
        yield Line("", context)
    rows = [
        [cell.get_text(" ", strip=True) for cell in row.find_all(["th", "td"])]
        for row in table.find_all("tr")
    ]
    heads = rows[0] if rows else []
    for row in rows[1:]:
        heads = heads if len(heads) == len(row) else [""] * len(row)
        cells = [
            f"{head}: {'·' if VOLATILE_COLUMN.search(head) else cell}"
            for head, cell in zip(heads, row)
        ]
        yield Line(context, " | ".join(cells))


def _plotly_call(text: str, context: str) -> Iterator[Line]:
    """Yield the curves of `Plotly.newPlot("id", data, layout, ...)`."""
    decoder = json.JSONDecoder()
    start = text.index("[", text.index("Plotly.newPlot("))
    data, end = decoder.raw_decode(text, start)
    layout, _ = decoder.raw_decode(text, text.index("{", end))
    yield from _plotly_lines(data, layout, context)


def _plotly_lines(data: list[dict], layout: dict, context: str) -> Iterator[Line]:
    axes = {name: (layout.get(f"{name}axis") or {}).get("title") or {} for name in "xy"}
    titles = {name: title.get("text", "") for name, title in axes.items()}
    for trace in data:
        parts = [f"curve: {trace.get('name', '')}"]
        for key in ("x", "y", "z", "text", "customdata"):
            if key in trace and not VOLATILE_COLUMN.search(titles.get(key, "")):
                parts.append(f"{key}: {' '.join(_values(trace[key]))}")
        errors = trace.get("error_y") or {}
        for key in ("array", "arrayminus"):
            if key in errors:
                parts.append(f"{key}: {' '.join(_values(errors[key]))}")
        yield Line(context, " | ".join(parts))
    for title in titles.values():
        yield Line(context, title)
    for annotation in layout.get("annotations", ()):
        yield Line(context, annotation.get("text", ""))


def _values(values: object) -> Iterator[str]:
    """Yield plotly's numbers as text of six digits; figures show four. Typed arrays are decoded."""
    if isinstance(values, dict) and "bdata" in values:
        import numpy as np

        values = np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]).tolist()
    if isinstance(values, list):
        for value in values:
            yield from _values(value)
    else:
        yield f"{values:.6g}" if isinstance(values, float) else str(values)


def _steady(text: str) -> str:
    return " ".join(VOLATILE.sub("·", text).split())


# --- from lines to differences


def compare_lines(
    old: list[Line], new: list[Line], tolerance: float = 0.0
) -> tuple[int, list[Difference]]:
    """Return how many lines are equal, and every difference, in the order of `old`.

    Lines are paired by the strictest rule that holds: same text at the same place of the order,
    same text but for its numbers, then the same within another table or figure, at last the most
    similar text.
    """
    keys: list[Callable[[Line], object]] = [
        lambda line: (_masked(line.context), _masked(line.text)),
        lambda line: line.text,
        lambda line: _masked(line.text),
    ]
    left, right = set(range(len(old))), set(range(len(new)))
    pairs = dict(_in_order(old, new, left, right, lambda line: line))
    in_place = set(pairs)
    for key in keys:
        for find in (_in_order, _any_order):
            pairs |= find(old, new, left - set(pairs), right - set(pairs.values()), key)
    pairs |= _most_similar(old, new, left - set(pairs), right - set(pairs.values()))

    n_equal, differences = 0, []
    for i, line in enumerate(old):
        j = pairs.get(i)
        if j is None:
            differences.append(_one_sided(line.text, True, line.context))
        elif line == new[j] and i not in in_place:
            follows = i - 1 in pairs and i - 1 not in in_place and pairs[i - 1] == j - 1
            if not follows:  # one report for a whole block
                differences.append(Difference("order", line.context, line.text, ""))
        else:
            found = _pair_differences(line, new[j], tolerance)
            n_equal += not found
            differences += found
    unpaired = sorted(right - set(pairs.values()))
    differences += [_one_sided(new[j].text, False, new[j].context) for j in unpaired]
    return n_equal, differences


def _masked(text: str) -> str:
    return NUMBER.sub("#", text)


def _in_order(old, new, left: set[int], right: set[int], key) -> dict[int, int]:
    before, after = sorted(left), sorted(right)
    matcher = SequenceMatcher(
        None, [key(old[i]) for i in before], [key(new[j]) for j in after], autojunk=False
    )
    return {
        before[block.a + k]: after[block.b + k]
        for block in matcher.get_matching_blocks()
        for k in range(block.size)
    }


def _any_order(old, new, left: set[int], right: set[int], key) -> dict[int, int]:
    waiting = defaultdict(list)
    for j in sorted(right, reverse=True):
        waiting[key(new[j])].append(j)
    return {i: waiting[key(old[i])].pop() for i in sorted(left) if waiting[key(old[i])]}


def _most_similar(old, new, left: set[int], right: set[int]) -> dict[int, int]:
    scores = []
    for i in left:
        matcher = SequenceMatcher(None, "", old[i].text[:400], autojunk=False)
        for j in right:
            matcher.set_seq1(new[j].text[:400])
            if matcher.quick_ratio() >= SIMILAR and matcher.ratio() >= SIMILAR:
                scores.append((-matcher.ratio(), i, j))
    pairs, taken = {}, set()
    for _, i, j in sorted(scores):
        if i not in pairs and j not in taken:
            pairs[i] = j
            taken.add(j)
    return pairs


def _pair_differences(old: Line, new: Line, tolerance: float) -> list[Difference]:
    if _masked(old.text) != _masked(new.text):
        return [Difference("reworded", old.context, old.text, new.text)]
    starts = [match.start() for match in NUMBER.finditer(old.text)]
    values = zip(starts, NUMBER.findall(old.text), NUMBER.findall(new.text))
    head = old.text.split(" | ")[0] if " | " in old.text else ""
    moved = [
        Difference("moved", old.context, _label(old.text, start, head) + before, after)
        for start, before, after in values
        if not _equal(before, after, tolerance)
    ]
    rest = len(moved) - LONGEST_REPORT
    if rest > 0:
        more = Difference("moved", old.context, f"{head}: and {rest} more numbers", "")
        return [*moved[:LONGEST_REPORT], more]
    return moved


def _label(text: str, start: int, head: str) -> str:
    """The words before a number: of its table cell, or of its printed line."""
    words = text[:start].rpartition(" | ")[2]
    words = words if len(words) <= 70 else "…" + words[-70:]
    return f"{head} | {words}" if head and not text.startswith(words) else words


def _equal(old: str, new: str, tolerance: float) -> bool:
    if old == new or not tolerance:
        return old == new
    a, b = _value(old), _value(new)
    return abs(a - b) <= tolerance * max(abs(a), abs(b))


def _value(text: str) -> float:
    powers = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹−", "-0123456789-")
    plain = text.translate(powers).replace("·10", "e").replace(",", "")
    try:
        return float(plain)
    except ValueError:  # such as the version 2.11.0
        return float("nan")


def _one_sided(text: str, is_old: bool, context: str = "") -> Difference:
    return Difference("gone", context, text, "") if is_old else Difference("new", context, "", text)
