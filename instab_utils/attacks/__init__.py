"""Attacks on any reconstruction f: y -> x behind any operator A, and their controls."""

from .ascent import Ascent, measurement_attack, worst_case
from .controls import amplification, gaussian_plus, random_twin
from .patch import patch_target
from .result import WorstCase
from .targeted_attack import Targeted, targeted
