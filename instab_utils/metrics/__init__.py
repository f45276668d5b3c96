"""Image quality, intervals, alarms, means and slopes: the numbers of every record."""

from .alarms import auroc, rate_above
from .images import pearson, psnr_db, relative_error, ssim
from .intervals import (
    DELTAS,
    Coverage,
    Reliability,
    calibration_error,
    coverage,
    gaussian_nll,
    interval_score,
    reliability,
    tuned_calibration_error,
)
from .means import Mean, bootstrap_ci, mean_ci, slope_loglog
