"""The three tests of Antun et al. as functions of a `Case`: worst cases, details, more samples."""

from . import alarms, comparison, more_samples, structure, verdicts, worst_case
