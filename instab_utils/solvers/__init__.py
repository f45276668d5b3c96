"""Stable reconstruction: the classical solvers, total variation and shearlets, for every operator."""

from .base import Solution
from .choosing import add_noise, choose_weight
from .engines import METHODS, reconstruct
from .iterative import cgls, em, fbp, sart, sirt
from .reweighted import DEFAULTS, PUBLISHED, shearlet
from .shearlets import Shearlets
from .tv import total_variation, tv

__all__ = [
    "DEFAULTS", "METHODS", "PUBLISHED", "Shearlets", "Solution", "add_noise", "cgls", "choose_weight", "em", "fbp",
    "reconstruct", "sart", "shearlet", "sirt", "total_variation", "tv",
]
