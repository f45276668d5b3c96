"""Records, arrays, weights and exhibits on disk: named by content, written atomically, checked
before they are read.

Where: `INSTAB_RESULTS` if set; else build/results of the checkout (ignored by git, so that a run
never dirties the tree); else the platform's cache folder. Reading looks there first and then in the
checkout's committed results/, which `make results` writes by setting INSTAB_RESULTS=results.
Nothing is ever pickled.
"""

from .arrays import cached_arrays, load_exhibit, load_weights, save_exhibit, save_weights
from .files import DamagedFile, folder, key
from .rows import EXPERIMENTS, TASKS, cached, record, records, save_record, table
from .trained import Trained, is_trained, load_or_train

__all__ = [
    "EXPERIMENTS",
    "TASKS",
    "DamagedFile",
    "Trained",
    "cached",
    "cached_arrays",
    "folder",
    "is_trained",
    "key",
    "load_exhibit",
    "load_or_train",
    "load_weights",
    "record",
    "records",
    "save_exhibit",
    "save_record",
    "save_weights",
    "table",
]
