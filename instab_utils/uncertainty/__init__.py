"""Estimators: a trained network, and how much to believe each of its pixels."""

from .prediction import Estimator, Prediction

__all__ = ["Estimator", "Prediction"]
