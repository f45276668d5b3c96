"""Share between all figures of a page: the look, the description, numbers as text, tables."""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

# Captions follow the page's light or dark text; images are never filtered, padded or tinted.
STYLE = f"<style>\n{Path(__file__).with_name('figures.css').read_text('utf-8')}</style>"
_INTERVAL = re.compile(r"\[[^\[\]]*\]")  # stays on one line


class Html:
    """A figure made of HTML, shown as a cell's last line; prints as its description."""

    def __init__(self, body: str, alt: str):
        self.body, self.alt = body, alt

    def _repr_html_(self) -> str:
        return STYLE + self.body

    def __repr__(self) -> str:
        return self.alt


def figure(body: str, alt: str, caption: str = "", style: str = "") -> Html:
    """Return the body as an HTML figure with its description and, below, its caption."""
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    style = f' style="{style}"' if style else ""
    opening = f'<figure class="instab" role="group" aria-label="{html.escape(alt)}"{style}>'
    return Html(f"{opening}{body}{below}</figure>", alt)


def table(rows: Iterable[Mapping[str, object]], *, caption: str, digits: int = 3) -> Html:
    """Return an HTML table with a caption and column headings, numbers right-aligned.

    Args:
        rows: mappings of heading to value, or a pandas DataFrame; a missing value or None is shown
            as a dash.
        caption: what the table says; mandatory.
        digits: significant digits of the numbers.
    """
    described("table", caption, "caption")
    rows = rows.to_dict("records") if hasattr(rows, "to_dict") else list(rows)
    heads = list(dict.fromkeys(head for row in rows for head in row))
    values = {head: [row.get(head) for row in rows] for head in heads}
    numbers = (int, float, np.number, type(None))
    is_text = [not all(isinstance(v, numbers) for v in values[head]) for head in heads]
    body = [[number(row.get(head), digits) for head in heads] for row in rows]
    head = _row("th", ' scope="col"', map(str, heads), is_text)
    label = html.escape(caption)
    return figure(
        f'<div class="instab-table" role="region" aria-label="{label}" tabindex="0"><table>'
        f"<caption>{label}</caption>"
        f"<thead>{head}</thead>"
        f"<tbody>{''.join(_row('td', '', cells, is_text) for cells in body)}</tbody></table></div>",
        caption,
    )


def _row(tag: str, attributes: str, cells: Iterable[str], is_text: Sequence[bool]) -> str:
    row = ""
    for cell, left in zip(cells, is_text):
        text = html.escape(cell).replace(" %", "\u00a0%")  # a number keeps its unit
        text = _INTERVAL.sub(r"<span>\g<0></span>", text)
        row += f"<{tag}{attributes}{' class=instab-text' * left}>{text}</{tag}>"
    return f"<tr>{row}</tr>"


def number(value: object, digits: int) -> str:
    """Return a number to `digits` significant digits with a true minus sign; None as a dash."""
    if isinstance(value, (float, np.floating)):
        value = f"{value:.0f}" if 10**digits <= abs(value) < 1e7 else f"{value:.{digits}g}"
        return f"−{value[1:]}" if value.startswith("-") else value
    return "–" if value is None else str(value)


def described(function: str, text: object, argument: str = "alt") -> str:
    """Return the text; refuse a figure without a description by a TypeError."""
    if not isinstance(text, str) or not text.strip():
        raise TypeError(
            f"{function} needs {argument}: one sentence that says what is to be seen, "
            f"for readers who cannot see it; got {text!r}."
        )
    return text
