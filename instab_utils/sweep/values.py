"""Which values a configuration may have, and which numbers a result is made of."""

import math
import traceback
import types
import typing
from collections.abc import Callable, Mapping, Sequence

from .. import store

RESERVED = ("key", "rung", "status", "seconds", "error")  # columns of the table


def metrics(result: object, parameters: Mapping) -> dict:
    """`result` as numbers, lists of numbers and None: what is not finite has no value, as in a
    record.
    """
    if not isinstance(result, Mapping):
        raise TypeError(f"expected a dictionary of numbers; got {type(result).__name__}")
    clean = {}
    for name, value in result.items():
        value = [_plain(v) for v in value] if isinstance(value, (list, tuple)) else _plain(value)
        if not isinstance(name, str) or name in RESERVED or name in parameters:
            raise ValueError(
                f"metric {name!r}: expected a name that is no parameter and none of {', '.join(RESERVED)}"
            )
        numbers = value if isinstance(value, list) else [value]
        if not all(v is None or isinstance(v, (bool, int, float)) for v in numbers):
            raise TypeError(
                f"metric {name!r}: expected a number, or a list of numbers; got {value!r}"
            )
        numbers = [None if v is None or not math.isfinite(v) else v for v in numbers]
        clean[name] = numbers if isinstance(value, list) else numbers[0]
    return clean


def _plain(value: object) -> object:
    """Arrays and tensors as numbers and lists."""
    return value.tolist() if hasattr(value, "tolist") else value


def is_json(value: object) -> bool:
    try:
        store.key(value=value)
        return True
    except (TypeError, ValueError):
        return False


def annotations(fn: Callable) -> dict:
    try:
        return typing.get_type_hints(fn)
    except Exception:
        return {}


def fits(value: object, wanted: object) -> bool:
    """Whether a JSON value is what the annotation says; True for annotations that JSON knows
    nothing of.
    """
    origin, inner = typing.get_origin(wanted) or wanted, typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, kind) for kind in inner)
    if origin is typing.Literal:
        return value in inner
    if isinstance(value, bool) or origin is bool:
        return isinstance(value, bool) and origin not in (
            int,
            float,
            str,
            list,
            tuple,
            dict,
            Sequence,
            Mapping,
        )
    kinds = {
        int: int,
        float: (int, float),
        str: str,
        list: (list, tuple),
        tuple: (list, tuple),
        Sequence: (list, tuple),
        dict: Mapping,
        Mapping: Mapping,
        type(None): type(None),
    }
    return isinstance(value, kinds.get(origin, object))


def last_line(error: BaseException) -> str:
    """The last line of the traceback, with the kind of error where the message has several lines."""
    line, kind = (
        "".join(traceback.format_exception_only(error)).strip().splitlines()[-1],
        type(error).__name__,
    )
    return line if kind in line else f"{kind}: {line}"
