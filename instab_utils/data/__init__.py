"""Images to test on: public files found or downloaded, phantoms, and the splits by subject.

`demo("ct", n=4, image_size=256)` gives images and their name for the page in any situation; the
loaders give one data set each; `phantoms` needs no files.
"""

from . import phantoms
from .augmentation import Patches, augment
from .coils import estimate_coil_maps, simulated_coils, smooth_phase, with_smooth_phase
from .generated import ellipse_scans
from .image_pools import LOCAL_KINDS, pool
from .images import aapm, bsd, dicom_series, framed, volume
from .local_copies import (
    aapm_series,
    aapm_slices,
    fastmri_coils,
    fastmri_scans,
    fastmri_slice,
    split_subjects,
)
from .measured import KSpace, Sinogram, kspace, tooth
from .registry import (
    ChecksumMismatch,
    DataUnavailable,
    available,
    fetch,
    fetch_group,
    files,
    folder,
    online,
    situation,
)
from .splits import SPLITS, demo
from .textures import dead_leaves, mr_like
