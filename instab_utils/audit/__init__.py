"""The stability test for the reader's own network: `run(f, A, x)` gives a card, `operator` and `post_processor` help to get there."""

from .auditing import run
from .function import AuditError, FunctionFailed, PostProcessor, post_processor
from .operators import operator

__all__ = ["AuditError", "FunctionFailed", "PostProcessor", "operator", "post_processor", "run"]
