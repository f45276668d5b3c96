"""Many configurations of one function or notebook: checked first, run on many processes, never run
twice.

    from instab_utils import sweep

    table = sweep.run("my_module:fit", sweep.grid(width=[16, 64], depth=[3, 6], seed=[0, 1, 2]))

Every result is a small file named by the function, its code and its parameters, in the folder
`sweeps` of the store: a sweep that was stopped, or is given more configurations, runs only what is
missing. From the command line: `python -m instab_utils.sweep plan.toml`. The page on sweeps tells
the rest.
"""

from .cost import INR_SWEEPS, cost
from .plan import Plan, SweepError, grid, halving, load
from .pool import cluster
from .running import preview, run

__all__ = [
    "INR_SWEEPS",
    "Plan",
    "SweepError",
    "cluster",
    "cost",
    "grid",
    "halving",
    "load",
    "preview",
    "run",
]
