"""From results to sentences: claims that fail when they stop being true, the ledger of every
published number, and the stability card.
"""

from . import card, comparison
from .claims import ClaimError, claims, differs

__all__ = ["ClaimError", "card", "claims", "comparison", "differs"]
