"""Attacks on any reconstruction f: y -> x behind any operator A, and what they are compared with."""

from .ascent import measurement_attack, worst_case
from .controls import amplification, gaussian_plus, random_twin
from .result import WorstCase
from .targeted import Targeted, patch_target, targeted

__all__ = [
    "Targeted",
    "WorstCase",
    "amplification",
    "gaussian_plus",
    "measurement_attack",
    "patch_target",
    "random_twin",
    "targeted",
    "worst_case",
]
