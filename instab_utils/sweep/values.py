"""Which values a configuration may have, and which numbers a result is made of."""

import difflib
import inspect
import math
import traceback
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence

from .. import store

RESERVED = ("key", "rung", "status", "seconds", "error")  # columns of the table
KINDS = {
    **{kind: kind for kind in (bool, int, str, type(None), Mapping)},
    float: (int, float),
    dict: Mapping,
    **dict.fromkeys((list, tuple, Sequence), (list, tuple)),
}


def metrics(result: object, parameters: Mapping) -> dict:
    """Return a result as numbers, lists of numbers and None.

    What is not finite has no value, as in a record.
    """
    if not isinstance(result, Mapping):
        raise TypeError(f"expected a dictionary of numbers; got {type(result).__name__}")
    for name in result:
        if not isinstance(name, str) or name in RESERVED or name in parameters:
            raise ValueError(
                f"metric {name!r}: expected a name that is no parameter and none of "
                f"{', '.join(RESERVED)}"
            )
    return {name: _number(name, value) for name, value in result.items()}


def _number(name: str, value: object) -> float | list | None:
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, (list, tuple)):
        return [_number(name, v) for v in value]
    if not isinstance(value, int | float | None):
        raise TypeError(f"metric {name!r}: expected a number, or a list of numbers; got {value!r}")
    return None if value is None or not math.isfinite(value) else value


def is_json(value: object) -> bool:
    try:
        store.key(value=value)
        return True
    except (TypeError, ValueError):
        return False


def refused(fn: Callable, config: Mapping) -> list[str]:
    """Return what is wrong with arguments of a function, by its signature and annotations."""
    signature = inspect.signature(fn)
    hints = annotations(fn)
    kinds = {p.kind for p in signature.parameters.values()}
    takes_any = inspect.Parameter.VAR_KEYWORD in kinds
    named = {n: p for n, p in signature.parameters.items() if not p.kind.name.startswith("VAR")}
    expected = f"expected {fn.__name__}{signature}"
    found = []
    for name, value in config.items():
        if name in named:
            default = named[name].default
            hint = hints.get(name, object if default is None else type(default))
            if is_json(value) and not fits(value, hint):
                found.append(f"{name} expects {getattr(hint, '__name__', hint)}; got {value!r}")
        elif not takes_any:
            found.append(f"there is no parameter {name!r}{did_you_mean(name, named)}; {expected}")
    for name, p in named.items():
        if p.default is p.empty and name not in config:
            found.append(f"parameter {name!r} is missing; {expected}")
    return found


def annotations(fn: Callable) -> dict:
    try:
        return typing.get_type_hints(fn)
    except Exception:  # names that only a type checker has
        return {}


def fits(value: object, hint: object) -> bool:
    """Return whether a JSON value is what the annotation says.

    True for annotations of kinds that JSON does not have.
    """
    origin = typing.get_origin(hint) or hint
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, inner) for inner in typing.get_args(hint))
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    kind = KINDS.get(origin, object)
    if isinstance(value, bool):
        return kind in (bool, object)
    return isinstance(value, kind)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def last_line(error: BaseException) -> str:
    """Return the last line of the traceback, with the kind of error."""
    line = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    kind = type(error).__name__
    return line if kind in line else f"{kind}: {line}"
