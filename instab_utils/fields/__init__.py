"""Implicit fields fitted to one scan: the scans, the fit, its linearisation and its posterior."""

from .fitting import Fitting, fit_fields, samples
from .scans import (
    FREE,
    TEST,
    VALIDATION,
    Scan,
    aapm_scan,
    interior,
    phantom_scan,
    residual,
    tooth_scan,
)
from .stacks import field_bytes, stack_size

__all__ = [
    "FREE",
    "TEST",
    "VALIDATION",
    "Fitting",
    "Scan",
    "aapm_scan",
    "field_bytes",
    "fit_fields",
    "interior",
    "phantom_scan",
    "residual",
    "samples",
    "stack_size",
    "tooth_scan",
]
