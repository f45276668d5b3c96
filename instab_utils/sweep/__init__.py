"""Many configurations of one function or notebook, checked first and never run twice.

    from instab_utils import sweep

    table = sweep.run_plan("my_module:fit", sweep.grid(width=[16, 64], seed=[0, 1, 2]))

Every result is a line of sweeps/<function>.jsonl in the store, keyed by the function, its version
and its parameters: a sweep that was stopped, or is given more configurations, runs only what is
missing. From the command line: `python -m instab_utils.sweep plan.toml`; see the page on sweeps.
"""

from .cost_estimate import cost
from .jobs import preview, run_plan
from .plan import Plan, SweepError, grid, halving, load
from .workers import Workers, cluster

__all__ = [
    "Plan",
    "SweepError",
    "Workers",
    "cluster",
    "cost",
    "grid",
    "halving",
    "load",
    "preview",
    "run_plan",
]
