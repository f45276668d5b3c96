"""Records, arrays, weights and exhibits on disk, each with a checksum and written atomically.

    records/<experiment>.jsonl   a line a result        `cached`, `record`, `records`, `table`
    sweeps/<function>.jsonl      a line a job           the results of `sweep.run_plan`
    arrays/<name>-<key>.npz      tensors and numbers    `cached_arrays`; never committed
    weights/<name>.safetensors   with a card beside it  `load_or_train`
    exhibits/<name>.npz          small, for pages       `save_exhibit`, `load_exhibit`

Everything is looked up by what was asked for (parameters, inputs) and by an explicit `version` of
the function that computes it. What is damaged is named in a warning, never read, and computed again
where it can be; weights and exhibits raise `DamagedFile`.

The folder is `INSTAB_RESULTS` if set; else build/results of the checkout (ignored by git); else the
platform's cache folder. Reading looks there first and then in the checkout's committed results/,
which `make results` writes by setting INSTAB_RESULTS=results. Nothing is ever pickled.
"""

from .arrays import cached_arrays, content_sha256, load_exhibit, save_exhibit
from .files import DamagedFile, key, results_folder
from .rows import EXPERIMENTS, TASKS, cached, record, records, save_record, save_records, table
from .weights import Trained, is_trained, load_or_train, load_weights, save_weights, weights_key

__all__ = [
    "EXPERIMENTS",
    "TASKS",
    "DamagedFile",
    "Trained",
    "cached",
    "cached_arrays",
    "content_sha256",
    "results_folder",
    "is_trained",
    "key",
    "load_exhibit",
    "load_or_train",
    "load_weights",
    "record",
    "records",
    "save_exhibit",
    "save_record",
    "save_records",
    "save_weights",
    "table",
    "weights_key",
]
