"""The stability test for the reader's own network: `run(f, A, x)` gives a card; the others help to
get there.
"""

from .auditing import run
from .certificates import Certificate, certificate
from .files import Loaded, load_images, load_network
from .function import AuditError, FunctionFailed, PostProcessor, post_processor
from .operators import operator

__all__ = [
    "AuditError",
    "Certificate",
    "FunctionFailed",
    "Loaded",
    "PostProcessor",
    "certificate",
    "load_images",
    "load_network",
    "operator",
    "post_processor",
    "run",
]
