"""The three tests of Antun et al. as functions of a `Case`: worst cases, details, more samples."""

from . import alarms, comparison, more_samples, sampling, structure, verdicts, worst, worst_case

__all__ = [
    "alarms",
    "comparison",
    "more_samples",
    "sampling",
    "structure",
    "verdicts",
    "worst",
    "worst_case",
]
