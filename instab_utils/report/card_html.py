"""Pieces of the card's pages: the shell, verdict chips, numbers with their intervals, tables,
sections.
"""

import html
from collections.abc import Callable, Sequence

from .card_plots import number
from .card_style import STYLE

TESTS = {
    "worst_case": "Tiny changes, chosen to do harm",
    "structure": "Small details that no training had",
    "more_samples": "More measurements than in training",
    "alarms": "Would anything have warned?",
}
LOOKS = {
    "stable": ("good", "✓"),
    "preserves": ("good", "✓"),
    "improves": ("good", "✓"),
    "rings": ("good", "✓"),
    "between": ("mid", "◐"),
    "blurs": ("mid", "◐"),
    "stagnates": ("mid", "◐"),
    "unstable": ("bad", "✗"),
    "erases": ("bad", "✗"),
    "degrades": ("bad", "✗"),
    "silent": ("bad", "✗"),
}
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def shell(title: str, body: str, embedded: str = "") -> str:
    """A whole page that may ask for nothing and run nothing: its own policy says so to the browser."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><main>{body}</main>{embedded}</body></html>\n"
    )


def escape(text: object) -> str:
    """As text of a page, whatever stands in it; a number stays beside its per cent."""
    return html.escape(str(text)).replace(" %", "\u00a0%")


def section(heading: str, body: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>{body}</section>"


def facts(pairs: Sequence[tuple[str, str]], kind: str = "") -> str:
    """Names and values; values are HTML."""
    body = "".join(f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for name, value in pairs)
    return f'<dl class="facts {kind}">{body}</dl>'


def chip(word: str | None) -> str:
    """A verdict as symbol and word; the colour only repeats them."""
    look, symbol = LOOKS.get(word, ("none", "–"))
    return f'<span class="chip {look}"><span aria-hidden="true">{symbol}</span> {escape(word or "no verdict")}</span>'


def table(
    caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]], n_text: int = 1
) -> str:
    """A table in its own scrolling box. Cells are HTML; the first is the row's heading, the first
    `n_text` are words.
    """
    kind = [' class="text"' if i < n_text else "" for i in range(len(heads))]
    head = "".join(f'<th scope="col"{k}>{escape(h)}</th>' for k, h in zip(kind, heads))
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>'
        + "".join(f"<td{k}>{c}</td>" for k, c in zip(kind[1:], row[1:]))
        + "</tr>"
        for row in rows
    )
    caption = escape(caption)
    return (
        f'<div class="table" role="region" aria-label="{caption}" tabindex="0"><table><caption><span>{caption}</span></caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def mean(m: dict | None, form: Callable[[float], str], unit: str = "") -> str:
    """A mean and its interval in one form, as HTML; a dash where there is none."""
    if m is None or m["mean"] is None:
        return "–"
    interval = (
        f' <span class="ci">[{form(m["ci"][0])}, {form(m["ci"][1])}]</span>' if m["ci"] else ""
    )
    return f"<span>{form(m['mean'])}{unit}{interval}</span>"


def middle(m: dict | None) -> float | None:
    """The mean alone, None where there is none."""
    return None if m is None else m["mean"]


def db(value: float | None) -> str:
    """Decibels, to one decimal."""
    return _signed(value, "{:.1f}")


def change(value: float | None) -> str:
    """A difference of decibels, with its sign."""
    return _signed(value, "{:+.1f}")


def share(value: float | None) -> str:
    """A share or an area under a curve, to two decimals."""
    return _signed(value, "{:.2f}")


def times(value: float | None) -> str:
    """A factor, to three significant digits."""
    if value is None or not 0.01 <= abs(value) < 1000:
        return number(value)
    return _signed(value, "{:#.3g}").rstrip(".")


def percent(value: float | None) -> str:
    """A share as per cent, to three significant digits."""
    return "–" if value is None else f"{number(100 * value)}\u00a0%"


def size(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def count(n: int, what: str) -> str:
    return f"one {what}" if n == 1 else f"{n:,} {what}s"


def _signed(value, form):
    return "–" if value is None else form.format(value).replace("-", "−")
