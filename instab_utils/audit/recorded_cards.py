"""Cards of the book's own examples: looked up, or computed and kept."""

from collections.abc import Callable
from pathlib import Path

from ..report import card as cards
from ..store.files import places
from .runner import VERSION


def recorded_card(name: str, profile: str, compute: Callable[[], dict]) -> dict:
    """Return the card stored as cards/<name>-<profile>.json; else compute() and store it.

    A stored card has no pictures; one of another `VERSION` of the tests is computed again. A
    damaged file is an error that names it.
    """
    file = f"{name}-{profile}.json"
    folders = places("cards")
    for folder in folders:
        if (folder / file).is_file():
            card = cards.load(folder / file)
            if card["versions"]["code"] == str(VERSION):
                return card
    card = {**compute(), "pictures": []}
    cards.save(card, Path(folders[0]) / file)
    return card
