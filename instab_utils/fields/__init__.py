"""One scan, one field: what is reconstructed, and the classical methods that a field has to beat."""

from .fitting import Fitting, fit, samples
from .scans import FREE, TEST, VALIDATION, Scan, aapm_scan, interior, phantom_scan, tooth_scan

__all__ = [
    "FREE",
    "TEST",
    "VALIDATION",
    "Fitting",
    "Scan",
    "aapm_scan",
    "fit",
    "interior",
    "phantom_scan",
    "samples",
    "tooth_scan",
]
