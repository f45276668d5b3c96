"""Check a stability card: its form against the JSON Schema, then what a schema cannot say."""

import base64
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

SCHEMA = Path(__file__).with_name("card.schema.json")
PARTS = ("worst_case", "structure", "more_samples", "alarms")  # those with a verdict
SAMPLES = ("share", "n_samples", "psnr_db", "psnr_stable_db", "psnr_front_end_db")
LONGEST_MESSAGE = 300
FIRST_BYTES = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff"}


def schema() -> dict:
    """Return the published JSON Schema (draft 2020-12) of a card."""
    return json.loads(SCHEMA.read_text("utf-8"))


def validate(card: dict) -> None:
    """Accept a card, or name the first entry that is wrong.

    Beyond the schema every number is finite, intervals run upwards, a mean is the mean of its
    values, lists that belong together are of one length, and a part without a test has that
    verdict.

    Raises:
        ValueError: the path of the wrong entry, and what is wrong with it.
        ModuleNotFoundError: the package jsonschema is not installed.
    """
    try:
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import best_match
    except ImportError:
        raise ModuleNotFoundError(
            "validate(card) needs the package jsonschema, which is not installed here. "
            "Install it (pip install jsonschema), or check the card on another machine."
        ) from None
    for path, value in _entries(card):
        if not isinstance(value, str | int | float | dict | list | None):
            _refuse(path, f"{value!r} is not a plain JSON value; use float(...) or list(...)")
        if isinstance(value, float) and not math.isfinite(value):
            _refuse(path, f"{value} is not a finite number; write None where there is none")
    error = best_match(Draft202012Validator(schema()).iter_errors(card))
    if error:
        _refuse(error.json_path[1:], error.message)
    for path, value in _entries(card):
        if isinstance(value, dict):
            _check_mean(path, value)
    _check_lengths(card["clean"], ".clean", ("psnr_db", "psnr_stable_db", "psnr_front_end_db"))
    _check_parts(card)
    for i, picture in enumerate(card["pictures"]):
        _check_picture(f".pictures[{i}]", picture, card["data"]["public"])


def _refuse(path: str, problem: str) -> NoReturn:
    if len(problem) > LONGEST_MESSAGE:  # jsonschema quotes the whole entry, pictures included
        problem = f"{problem[:100]} ... {problem[100 - LONGEST_MESSAGE :]}"
    raise ValueError(f"card{path}: {problem}.")


def _entries(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield every dictionary, list and plain value inside, each with its path."""
    yield path, value
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _entries(item, f"{path}.{name}")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _entries(item, f"{path}[{i}]")


def _check_mean(path: str, entry: dict) -> None:
    interval, values, mean = entry.get("ci"), entry.get("values"), entry.get("mean")
    if interval and interval[0] > interval[1]:
        _refuse(f"{path}.ci", f"{interval} is not an interval [low, high] with low <= high")
    if values and None not in values and mean is not None:
        expected = sum(values) / len(values)
        if abs(expected - mean) > 1e-3 * max(map(abs, values)) + 1e-9:
            _refuse(f"{path}.mean", f"{mean} is not the mean of its values, {expected:.6g}")


def _check_lengths(part: dict, path: str, names: tuple[str, ...]) -> None:
    lists = [part[name] for name in names]
    lengths = [len(item["values"] if isinstance(item, dict) else item) for item in lists]
    for name, length in zip(names, lengths):
        if length != lengths[0]:
            message = f"{length} values; expected as many as {names[0]}, {lengths[0]}"
            _refuse(f"{path}.{name}", message)


def _check_parts(card: dict) -> None:
    samples, worst = card["more_samples"], card["worst_case"]
    if samples is not None:
        _check_lengths(samples, ".more_samples", SAMPLES)
        verdict = card["verdicts"]["more_samples"]
        for name, word in (("verdict", "word"), ("stable_verdict", "stable_word")):
            if samples[name] != verdict[word]:
                message = f"{samples[name]!r} is not verdicts.more_samples.{word}"
                _refuse(f".more_samples.{name}", f"{message}, {verdict[word]!r}")
    if worst is not None:
        strengths = [row["strength"] for row in worst["rows"]]
        if strengths != sorted(set(strengths)):
            _refuse(".worst_case.rows", f"strengths do not grow from row to row: {strengths}")
    for part in PARTS:
        word = card["verdicts"][part]["word"]
        if card[part] is None and word != "not tested":
            _refuse(f".verdicts.{part}.word", f"{word!r} is not 'not tested', but {part} is null")


def _check_picture(path: str, picture: dict, is_public: bool) -> None:
    for kind, first in FIRST_BYTES.items():
        if kind in picture and not _decoded(picture[kind]).startswith(first):
            _refuse(f"{path}.{kind}", f"not a {kind.upper()} file in base64")
    if "png" in picture and picture["kind"] == "image" and not is_public:
        _refuse(path, "png is lossless, but the data are not public; encode it as JPEG")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""
