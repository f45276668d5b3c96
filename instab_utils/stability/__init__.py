"""The stability test of Antun et al. for every network: worst cases, details, more samples; then
every alarm against every failure.
"""

from . import alarms, sampling, structure, subjects, worst
from .subjects import NAMES, Subject, subject

__all__ = [
    "NAMES",
    "Subject",
    "alarms",
    "sampling",
    "structure",
    "subject",
    "subjects",
    "worst",
]
