"""The stability test for the reader's own network: `run(f, A, x)` returns a card."""

from .certificates import Certificate, certificate
from .errors import AuditError, FunctionFailed, WrongFile
from .function import PostProcessor, post_processor
from .image_files import Images, load_images
from .network_files import Loaded, load_network
from .operators import operator
from .problem import AuditOptions
from .run_audit import run

__all__ = [
    "AuditError",
    "AuditOptions",
    "Certificate",
    "FunctionFailed",
    "Images",
    "Loaded",
    "PostProcessor",
    "WrongFile",
    "certificate",
    "load_images",
    "load_network",
    "operator",
    "post_processor",
    "run",
]
