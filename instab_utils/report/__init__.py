"""From results to sentences: claims that fail when they stop being true, and the stability card."""

from . import card, card_comparison
from .chapter_claims import ClaimError, claims, differs
