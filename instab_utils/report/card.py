"""The stability card: what a test of a network found, as one checked file for programs and people.

A card is a dictionary as `card.schema.json` beside this file describes it (JSON Schema 2020-12);
`audit.run` makes one.
"""

import base64
import hashlib
import html
import json
import re
import warnings
from pathlib import Path

from ..store import files
from .card_page import card_page
from .card_validation import SCHEMA, schema, validate

__all__ = ["SCHEMA", "CardFrame", "load", "page", "save", "schema", "show", "validate"]

_EMBEDDED = re.compile(
    r'<script type="application/json" id="card" data-sha256="([0-9a-f]{64})">(.*?)</script>',
    re.DOTALL,
)
_SCRIPT_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def save(card: dict, path: str | Path) -> Path:
    """Write a card, all or nothing: a `.html` page that contains the card, or the bare `.json`.

    Args:
        card: as `audit.run` returns it; checked first. Where jsonschema is missing it is written
            unchecked, with a warning.
        path: ends in .html or .json; missing folders are made.

    Returns:
        The path.
    """
    path = Path(path)
    if path.suffix not in (".html", ".json"):
        raise ValueError(
            f"save(card, path) expects a path that ends in .html or .json; got {str(path)!r}. "
            "The page contains the JSON, so .html is enough to read and to reload."
        )
    _validate_if_possible(card, f"{path.name} is written")
    text = page(card) if path.suffix == ".html" else _json(card) + "\n"
    return files.write(path, text.encode())


def load(path: str | Path) -> dict:
    """Return the card of a file that `save` wrote, page or JSON.

    Raises:
        DamagedFile: (a ValueError) the file is cut, was altered, or is no card; it says where.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8")  # a UnicodeDecodeError is a ValueError
        card = json.loads(_embedded_json(text) if path.suffix == ".html" else text)
        _validate_if_possible(card, f"{path.name} is read")
    except ValueError as error:
        raise files.DamagedFile(
            f"{path} is not a whole stability card: {error}. "
            "Get it again from its source, or run the audit again."
        ) from None
    return card


def page(card: dict) -> str:
    """Return the card as one HTML page, which runs no script and contains the card's JSON."""
    text = json.dumps(card, allow_nan=False, separators=(",", ":")).translate(_SCRIPT_ESCAPES)
    digest = hashlib.sha256(text.encode()).hexdigest()
    link = f"data:application/json;base64,{base64.b64encode(_json(card).encode()).decode()}"
    return card_page(card, text, digest, link)


class CardFrame:
    """A card in a notebook, in a frame of its own; prints as its summary."""

    def __init__(self, card: dict):
        title = html.escape(f"Stability card of {card['name']}")
        self.alt = f"Stability card of {card['name']}: {card['summary']}"
        self.body = (
            f'<iframe title="{title}" sandbox="allow-same-origin allow-downloads" '
            f'srcdoc="{html.escape(page(card))}" onload="{html.escape(_FIT_FRAME)}" '
            'style="width:100%;height:40rem;border:1px solid #8886;border-radius:.4rem"></iframe>'
        )

    def _repr_html_(self) -> str:
        return self.body

    def __repr__(self) -> str:
        return self.alt


def show(card: dict) -> CardFrame:
    """Return the card for a notebook's cell: no script runs in it, the notebook's style is not its.

    Show it as the last line of a cell, or by `display(...)`.
    """
    return CardFrame(card)


# The frame is as high as its page and as dark as the book around it; without this it scrolls.
_FIT_FRAME = (
    "const d=this.contentDocument,m=document.documentElement,"
    "s=()=>{this.style.height=d.body.offsetHeight+4+'px'},"
    "t=()=>{if(m.dataset.theme)d.documentElement.dataset.theme=m.dataset.theme};"
    "t();s();new ResizeObserver(s).observe(d.body);"
    "new MutationObserver(t).observe(m,{attributes:true,attributeFilter:['data-theme']})"
)


def _json(card: dict) -> str:
    return json.dumps(card, indent=1, ensure_ascii=False, allow_nan=False)


def _embedded_json(text: str) -> str:
    """Return the JSON inside a page.

    Raises:
        ValueError: it is cut or altered.
    """
    cards = _EMBEDDED.findall(text)
    if len(cards) != 1 or not text.rstrip().endswith("</html>"):
        raise ValueError(
            "expected one embedded card and the page's end; "
            f"got {len(cards)} cards in {len(text)} characters"
        )
    digest, embedded = cards[0]
    if hashlib.sha256(embedded.encode()).hexdigest() != digest:
        raise ValueError("the embedded card does not have the SHA-256 that stands beside it")
    return embedded


def _validate_if_possible(card: dict, event: str) -> None:
    try:
        validate(card)
    except ModuleNotFoundError:
        warnings.warn(
            f"{event} without a check against the schema: "
            "the package jsonschema is not installed here.",
            stacklevel=3,
        )
