"""Images to test on: public files found or downloaded, phantoms made here, and one rule of who trains on what."""

from .registry import (
    DamagedFile,
    DataUnavailable,
    available,
    fetch,
    fetch_group,
    files,
    folder,
    licence,
    online,
    situation,
)
