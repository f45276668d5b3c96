"""Errors of the audit, and what names a Python object for it."""

import contextlib
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch


class AuditError(ValueError):
    """Something that cannot be audited as it is: `what`, `expected`, `got`, `cure`."""

    def __init__(self, what: str, expected: str, got: object, cure: str):
        super().__init__(what, expected, got, cure)
        self.what, self.expected, self.got, self.cure = what, expected, got, cure

    def __str__(self) -> str:
        return f"{self.what}: expected {self.expected}; got {self.got}. {self.cure}"


class WrongFile(AuditError):
    """A file that cannot be used; `naming` fills in its name."""

    def __init__(self, expected: str, got: object, cure: str):
        super().__init__("", expected, got, cure)


class FunctionFailed(RuntimeError):
    """f raised an exception or returned values that are not finite; `y` is its argument."""

    def __init__(self, y: torch.Tensor, why: str):
        super().__init__(why)
        self.y = y.detach()


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Give a `WrongFile` raised inside the name of the file."""
    try:
        yield
    except WrongFile as error:
        error.what = error.what or Path(str(path)).name
        raise


def import_object(text: str) -> Callable:
    """Return what "module:name" names.

    Raises:
        ValueError: where there is no such module or name.
    """
    module, _, name = text.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"expected 'module:name' that Python can import from here; got {text!r} ({error}). "
            "Install its package, or start Python in its folder."
        ) from None
