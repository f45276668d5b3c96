"""Names of `more_samples`."""

from .more_samples import BEYOND, MARGIN_DB, Rate, verdict

__all__ = ["BEYOND", "MARGIN_DB", "Rate", "verdict"]
