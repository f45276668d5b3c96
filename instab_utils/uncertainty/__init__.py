"""Estimators: the uncertainty of a reconstruction, pixel by pixel.

An estimator answers `predict(x_in)` with a `Prediction`: intervals (`IntervalNetwork`), dropout
(`MCDropout`), a variance that the network predicts (`MeanVariance`), or a map without any notion of
uncertainty (`NullDetector`). `fit_recipe(...)` says how the first and the third are fitted to a
trained network, `store.load_or_train(fit_recipe(...)).network` gives them. `detection` scores their
alarms; `papers.oala2021` has the experiment.

Samples of a field (networks.Fields, one scan's image itself) come from dropout, `BayesByBackprop`,
a pool of several fields (`ensemble`) or `hmc`; see `fields`.
"""

from . import detection, ensemble, hmc
from .bbb import BayesByBackprop
from .dropout import MCDropout
from .fits import FitRecipe, fit_recipe
from .interval import IntervalNetwork
from .null_detectors import NULL_DETECTORS, NullDetector
from .prediction import Estimator, Prediction
from .probout import MeanVariance

__all__ = [
    "NULL_DETECTORS",
    "BayesByBackprop",
    "Estimator",
    "FitRecipe",
    "IntervalNetwork",
    "MCDropout",
    "MeanVariance",
    "NullDetector",
    "Prediction",
    "detection",
    "ensemble",
    "fit_recipe",
    "hmc",
]
