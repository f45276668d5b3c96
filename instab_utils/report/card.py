"""The stability card: what a test of somebody's network found, as one checked file that a program
and a person can read.

A card is a dictionary as `card.schema.json` beside this file describes it (JSON Schema 2020-12);
`audit.run` makes one.
"""

import base64
import difflib
import hashlib
import html
import json
import math
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from ..store import files
from . import card_page

SCHEMA = Path(__file__).with_name("card.schema.json")
PARTS = ("worst_case", "structure", "more_samples", "alarms")  # those with a verdict
_EMBEDDED = re.compile(
    r'<script type="application/json" id="card" data-sha256="([0-9a-f]{64})">(.*?)</script>',
    re.DOTALL,
)


def schema() -> dict:
    """The published JSON Schema (draft 2020-12) of a card."""
    return json.loads(SCHEMA.read_text("utf-8"))


def validate(card: dict) -> None:
    """Accept a card, or say the first place where it is wrong.

    Its form is checked against the schema; beyond that every number is finite, intervals run
    upwards, a mean is the mean of its values, lists that belong together are as long as each other,
    and what was not tested has that verdict.

    Raises:
        ValueError: the path of the first wrong entry, what was expected, what was found, and the
            cure.
        ModuleNotFoundError: the package jsonschema is not there (`save` then writes without this
            check, and says so).
    """
    try:
        from jsonschema import Draft202012Validator
    except ImportError:
        raise ModuleNotFoundError(
            "validate(card) needs the package jsonschema, which is not installed here. "
            "Install it (pip install jsonschema), or check the card on another machine."
        ) from None
    for path, value in _leaves(card):
        if not isinstance(value, str | int | float | None):
            _wrong(path, "a plain JSON value", value, "Use float(...), list(...), str(...) or None")
        if isinstance(value, float) and not math.isfinite(value):
            _wrong(
                path, "a finite number or null", value, "Write None where a number does not exist"
            )
    for error in Draft202012Validator(schema()).iter_errors(card):
        _wrong(_path(error.absolute_path), *_form(error))
    _meaning(card)


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
    _checked(card, f"{path.name} is written")
    text = (
        page(card)
        if path.suffix == ".html"
        else json.dumps(card, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    )
    return files.write(path, text.encode())


def load(path: str | Path) -> dict:
    """The card of a file that `save` wrote, page or JSON.

    Raises:
        DamagedFile: (a ValueError) the file is cut, was altered, or is no card; it says where.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise _damaged(path, f"it is not UTF-8 text ({error})") from None
    if path.suffix == ".html":
        found = _EMBEDDED.findall(text)
        if len(found) != 1 or not text.rstrip().endswith("</html>"):
            raise _damaged(
                path,
                f"expected one embedded card and the page's end; got {len(found)} cards in {len(text)} characters",
            )
        digest, text = found[0]
        if hashlib.sha256(text.encode()).hexdigest() != digest:
            raise _damaged(
                path, "the embedded card does not have the SHA-256 that stands beside it"
            )
    try:
        card = json.loads(text)
    except json.JSONDecodeError as error:
        raise _damaged(path, f"it is not JSON ({error})") from None
    try:
        _checked(card, f"{path.name} is read")
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    return card


def page(card: dict) -> str:
    """The card as one HTML page that asks for nothing from elsewhere, runs no script, prints, and
    contains the card's JSON.
    """
    text = json.dumps(card, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    # nothing in a name may end the script element
    text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    digest = hashlib.sha256(text.encode()).hexdigest()
    link = (
        "data:application/json;base64,"
        + base64.b64encode(json.dumps(card, indent=1, allow_nan=False).encode()).decode()
    )
    return card_page.document(
        card,
        f'<script type="application/json" id="card" data-sha256="{digest}">{text}</script>',
        link,
    )


class Shown:
    """A card in a notebook: as a cell's last line or by `display(...)`; prints as its summary."""

    def __init__(self, card: dict):
        self.card, self.alt = card, f"Stability card of {card['name']}: {card['summary']}"
        self.body = (
            f'<iframe title="{html.escape("Stability card of " + card["name"])}" sandbox="allow-same-origin allow-downloads" '
            f'srcdoc="{html.escape(page(card))}" onload="{html.escape(_FITTED)}" '
            'style="width:100%;height:40rem;border:1px solid #8886;border-radius:.4rem"></iframe>'
        )

    def _repr_html_(self) -> str:
        return self.body

    def __repr__(self) -> str:
        return self.alt


def show(card: dict) -> Shown:
    """The card for a notebook's cell, in a frame of its own: no script runs in it and the
    notebook's style stays outside.
    """
    return Shown(card)


# The frame is as high as its page and as dark as the book around it; without this it scrolls.
_FITTED = (
    "const d=this.contentDocument,s=()=>{this.style.height=d.body.offsetHeight+4+'px'},t=()=>{const m=document.documentElement"
    ".dataset.theme;if(m)d.documentElement.dataset.theme=m};t();s();new ResizeObserver(s).observe(d.body);"
    "new MutationObserver(t).observe(document.documentElement,{attributes:true,attributeFilter:['data-theme']})"
)


def _checked(card, what) -> None:
    try:
        validate(card)
    except ModuleNotFoundError:
        warnings.warn(
            f"{what} without a check against the schema: the package jsonschema is not installed here.",
            stacklevel=3,
        )


def _damaged(path, why) -> files.DamagedFile:
    return files.DamagedFile(
        f"{path} is not a whole stability card: {why}. Get it again from who made it, or run the audit again."
    )


def _wrong(path, expected, got, cure) -> None:
    raise ValueError(f"card{path}: expected {expected}; got {_short(got)}. {cure}.")


def _short(value) -> str:
    text = repr(value)
    return text if len(text) <= 90 else text[:87] + "..."


def _path(parts) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


def _leaves(value, path="") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, path + _path([name]))
    else:
        yield path, value


def _form(error) -> tuple[str, object, str]:
    """Expected, got, cure of what the schema refuses."""
    rule, got = error.validator_value, error.instance
    known = list(error.schema.get("properties", {}))
    if error.validator == "required":
        missing = next(name for name in rule if name not in got)
        return f"an entry {missing!r}", sorted(got), "Add it; write None if it was not measured"
    if error.validator == "additionalProperties":
        extra = next(name for name in got if name not in known)
        near = difflib.get_close_matches(str(extra), known, 1)
        cure = (
            f"Write {near[0]!r} if that is meant"
            if near
            else "Leave it out, or put it into settings"
        )
        return f"only the entries {', '.join(known)}", extra, cure
    if error.validator == "type":
        words = [rule] if isinstance(rule, str) else rule
        return " or ".join(words), got, "See card.schema.json; write None for what was not measured"
    if error.validator == "enum":
        return (
            "one of " + ", ".join("null" if word is None else str(word) for word in rule),
            got,
            "Use one of these words",
        )
    if error.validator == "const":
        return repr(rule), got, "This package reads that version of the card"
    if error.validator == "oneOf":
        return "either png or jpeg, and not both", sorted(got), "Keep one of the two"
    if error.validator == "pattern":
        return "64 hexadecimal digits", got, "Give the whole SHA-256"
    if error.validator in ("minItems", "maxItems", "minLength", "minimum"):
        word = {
            "minItems": "at least {} entries",
            "maxItems": "at most {} entries",
            "minLength": "at least {} character",
            "minimum": "a number of at least {}",
        }[error.validator]
        return word.format(rule), got, "See card.schema.json"
    return f"{error.validator} {rule}", got, "See card.schema.json"


def _meaning(card) -> None:
    """What a schema cannot say."""
    for path, item in _dicts(card):
        ci, values = item.get("ci"), item.get("values")
        if ci is not None and ci[0] > ci[1]:
            _wrong(path + ".ci", "an interval [low, high] with low <= high", ci, "Swap its ends")
        if values and None not in values and item.get("mean") is not None:
            mean, size = sum(values) / len(values), max(abs(value) for value in values)
            if abs(mean - item["mean"]) > 1e-3 * size + 1e-9:
                _wrong(
                    path + ".mean",
                    f"the mean of its values, {mean:.6g}",
                    item["mean"],
                    "Compute it from the values",
                )
    _same_length(card, "clean", ("psnr_db", "psnr_stable_db", "psnr_front_end_db"))
    if (more := card["more_samples"]) is not None:
        _same_length(
            card,
            "more_samples",
            ("share", "n_samples", "psnr_db", "psnr_stable_db", "psnr_front_end_db"),
        )
        for name in ("verdict", "stable_verdict"):
            said = card["verdicts"]["more_samples"][
                "stable_word" if name == "stable_verdict" else "word"
            ]
            if more[name] != said:
                _wrong(
                    f".more_samples.{name}",
                    f"what verdicts.more_samples says, {said!r}",
                    more[name],
                    "Let both say the same",
                )
    if (worst := card["worst_case"]) is not None:
        strengths = [row["strength"] for row in worst["rows"]]
        if strengths != sorted(set(strengths)):
            _wrong(
                ".worst_case.rows",
                "strengths that grow from row to row",
                strengths,
                "Sort the rows; one row a strength",
            )
    for part in PARTS:
        word = card["verdicts"][part]["word"]
        if card[part] is None and word != "not tested":
            _wrong(
                f".verdicts.{part}.word",
                f"'not tested', as {part} is null",
                word,
                "Fill the part, or withdraw the verdict",
            )
    for i, picture in enumerate(card["pictures"]):
        for kind, start in (("png", b"\x89PNG\r\n\x1a\n"), ("jpeg", b"\xff\xd8\xff")):
            if kind in picture and not _decoded(picture[kind]).startswith(start):
                _wrong(
                    f".pictures[{i}].{kind}",
                    f"a {kind.upper()} file in base64",
                    picture[kind],
                    "Encode the file's bytes by base64",
                )
        if "png" in picture and not card["data"]["public"] and picture["kind"] == "image":
            _wrong(
                f".pictures[{i}]",
                "jpeg, as the data are not public",
                "png",
                "Encode images of data that may not be given away as JPEG",
            )


def _dicts(value, path="") -> Iterator[tuple[str, dict]]:
    if isinstance(value, dict):
        yield path, value
    if isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _dicts(item, path + _path([name]))


def _same_length(card, part, names) -> None:
    lengths = {
        name: len(item["values"] if isinstance(item := card[part][name], dict) else item)
        for name in names
    }
    for name, length in lengths.items():
        if length != lengths[names[0]]:
            _wrong(
                f".{part}.{name}",
                f"as many values as {names[0]}, {lengths[names[0]]}",
                length,
                "Give every list the same length",
            )


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""
