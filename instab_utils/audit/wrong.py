"""The error of a file that cannot be used."""

from pathlib import Path


class WrongFile(ValueError):
    """A file that is not what it should be: `path`, `expected`, `got`, `cure` are kept for the
    card.
    """

    def __init__(self, path, expected: str, got: str, cure: str):
        super().__init__(f"{Path(str(path)).name}: expected {expected}; got {got}. {cure}")
        self.path, self.expected, self.got, self.cure = str(path), expected, got, cure
