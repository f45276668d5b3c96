"""From notebooks to a book: generate them, run each in a fresh kernel, build the pages.

    python -m instab_utils.book sync [--check]     notebooks/*.py -> notebooks/*.ipynb, no outputs
    python -m instab_utils.book execute [--profile standard] [--only 07] [-p name value]
    python -m instab_utils.book build              pages from the executed notebooks
    python -m instab_utils.book compare OLD NEW    every number of two executed books
    python -m instab_utils.book archive            the pages as one file, build/instab-book.zip
    python -m instab_utils.book all                everything, ending with the page to open

Executed copies and their status.csv go to build/executed, the pages to _build/html. A notebook
whose executed copy is up to date (same cells, package, shipped results, parameters, device and
data) is not run again.
"""

from .comparison import compare_books, comparison_text
from .execution import execute, provenance
from .notebooks import ROOT, BookError, notebook_text, scripts, sync
from .offline import archive
from .pages import assets, build
