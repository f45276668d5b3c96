"""Estimators: a trained network, and how much to believe each of its pixels.

An estimator answers `predict(x_in)` with a `Prediction`: intervals (`IntervalNetwork`), dropout
(`mc_dropout`), a variance that the network predicts (`MeanVariance`), or a detector that knows
nothing (`null`). `fit(...)` says how the first and the third are fitted to a trained network,
`store.load_or_train(fit(...)).network` gives them. `study` puts all of them to the test.

A field (networks.Fields) is one scan's image itself: its samples come from dropout,
`BayesByBackprop`, a pool of several fields (`ensemble`) or `hmc`; the room `fields` has the scans
and the fit.
"""

from . import ensemble, hmc
from .bbb import BayesByBackprop
from .detection import alarm, averaged, calibration, lone_scores, threshold, twin_scores
from .dropout import MCDropout
from .fits import Fit, fit
from .interval import IntervalNetwork
from .null_detectors import NULL_DETECTORS, NullDetector
from .prediction import Estimator, Prediction
from .probout import MeanVariance

__all__ = [
    "NULL_DETECTORS",
    "BayesByBackprop",
    "Estimator",
    "Fit",
    "IntervalNetwork",
    "MCDropout",
    "MeanVariance",
    "NullDetector",
    "Prediction",
    "alarm",
    "averaged",
    "calibration",
    "ensemble",
    "fit",
    "hmc",
    "lone_scores",
    "threshold",
    "twin_scores",
]
