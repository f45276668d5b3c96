"""Stable reconstruction: the classical solvers and total variation, for every operator."""

from .base import Solution
from .choosing import add_noise, choose_weight
from .engines import METHODS, reconstruct
from .iterative import cgls, em, fbp, sart, sirt
from .reweighted import DEFAULTS, PUBLISHED, shearlet
from .shearlets import Shearlets
from .tv import total_variation, tv

__all__ = [
    "Shearlets",
    "METHODS", "Solution", "add_noise", "cgls", "choose_weight", "em", "fbp", "reconstruct", "sart", "sirt",
    "total_variation", "tv",
]
