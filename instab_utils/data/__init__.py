"""Images to test on: public files found or downloaded, phantoms made here, and one rule of who
trains on what.

`demo("ct", n=4, image_size=256)` gives images and their name for the page in any situation; the
loaders give one data set each; `phantoms` needs no files.
"""

from . import phantoms
from .coils import estimate_coil_maps, simulated_coils, smooth_phase
from .demo import SPLITS, demo
from .images import CT_VOLUMES, MR_VOLUMES, aapm, bsd, dicom_series, volume
from .measured import KSpace, Sinogram, kspace, mr_reference, poisson_mask, tooth
from .own import aapm_series, aapm_slices, fastmri_scans, fastmri_slice
from .pools import own_subjects, pool
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
from .textures import dead_leaves, mr_like
from .training import Patches, augment, ellipse_scans, mr_training
