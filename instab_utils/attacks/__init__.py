"""Attacks on any reconstruction f: y -> x behind any operator A, and what they are compared with."""

from .ascent import measurement_attack, worst_case
from .controls import amplification, gaussian_plus, random_twin
from .result import WorstCase

__all__ = ["WorstCase", "amplification", "gaussian_plus", "measurement_attack", "random_twin", "worst_case"]
