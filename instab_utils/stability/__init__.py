"""The stability test of Antun et al. for every network: worst cases, details, more samples; then
every alarm against every failure.
"""

from . import alarms, sampling, structure, worst

__all__ = ["alarms", "sampling", "structure", "worst"]
