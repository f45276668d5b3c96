"""From results to sentences: claims that fail when they stop being true, and the ledger of every published number."""

from .claims import ClaimError, claims, differs

__all__ = ["ClaimError", "claims", "differs"]
