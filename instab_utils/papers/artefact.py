"""One figure, table or claim of a paper, and the function that recomputes it."""

from collections.abc import Callable
from typing import NamedTuple


class Artefact(NamedTuple):
    """One figure, table or claim of a paper.

    `run(profile)` returns its records, computed or already stored; where it covers several
    networks or methods it also takes `only`, a list of their names.
    """

    where: str  # in the paper: "Fig. 5", "Table 1"
    claim: str  # of the paper, in one sentence
    run: Callable[..., list[dict]]
    chapter: str  # of the book: "07"
