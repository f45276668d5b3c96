"""The same classical methods by other libraries: ASTRA, and TomoPy's wrapper of it."""

import numpy as np
import torch
from torch import Tensor

from ..operators import FourierSlice, Radon
from .driver import Solution, norm, tiny
from .iterative import Bounds, golden_order

ASTRA_NAMES = {"fbp": "FBP", "cgls": "CGLS", "sirt": "SIRT", "sart": "SART"}  # for the CPU


def external(
    library: str,
    method: str,
    A: Radon,
    y: Tensor,
    n_iter: int = 1,
    bounds: Bounds | None = None,
) -> Solution:
    """Return the reconstruction of another library, by the method that is ours under that name.

    The libraries use the projector "linear", which is `Radon`'s Joseph matrix, run in float32 on
    the CPU, image by image from zero, and give no gradients.

    Args:
        library: "astra" or "tomopy".
        method: "fbp", "cgls", "sirt" or "sart", which visits the views in the order of ours.
        A, y: operator and real measurements, batched.
        n_iter: iterations, of SART passes over all views; FBP has one.
        bounds: as in `sirt` and `sart`.

    Raises:
        ValueError: for a method, an operator or an option that the library does not have.
        ImportError: where it is not installed, with the way to get it.
    """
    if library not in LIBRARIES:
        raise ValueError(f"unknown library {library!r}; expected {' or '.join(LIBRARIES)}.")
    if method not in ASTRA_NAMES:
        raise ValueError(
            f"{library} has {', '.join(ASTRA_NAMES)} on the CPU, not {method!r}: use ours."
        )
    if not isinstance(A, Radon) or isinstance(A, FourierSlice) or y.is_complex():
        raise ValueError(f"{library} needs a Radon operator and real data; got {A}.")
    if bounds and method not in ("sirt", "sart"):
        raise ValueError(f"bounds are an option of sirt and sart, not of {method}.")
    limits = dict(zip(("MinConstraint", "MaxConstraint"), bounds or ()))
    option = {name: float(value) for name, value in limits.items() if value is not None}
    updates = n_iter
    if method == "sart":
        order = golden_order(A.n_views)
        option |= {"ProjectionOrder": "custom", "ProjectionOrderList": np.array(order)}
        option["Relaxation"] = 1.0
        updates = n_iter * A.n_views  # ASTRA counts single views
    sinograms = y.detach().reshape(-1, *y.shape[-2:]).cpu().numpy().astype(np.float32)
    images = np.zeros((len(sinograms), *A.image_shape), np.float32)
    images = LIBRARIES[library](ASTRA_NAMES[method], A, sinograms, images, updates, option)
    x = torch.from_numpy(images).to(y.device, y.dtype).view(*y.shape[:2], *A.image_shape)
    with torch.no_grad():
        residual = norm(A(x) - y.detach()) / norm(y.detach()).clamp_min(tiny(y))
    return Solution(x, 0 if method == "fbp" else n_iter, residual.view(1, -1))


def _astra(
    name: str, A: Radon, sinograms: np.ndarray, images: np.ndarray, n_iter: int, option: dict
) -> np.ndarray:
    try:
        import astra
    except ImportError as error:
        raise ImportError("the ASTRA toolbox is missing: pip install astra-toolbox.") from error
    angles = torch.deg2rad(A.angles_deg).numpy()
    volume = astra.create_vol_geom(A.image_size, A.image_size)
    rays = astra.create_proj_geom("parallel", 1.0, A.n_detectors, angles)
    projector = astra.create_projector("linear", rays, volume)
    try:
        for sinogram, image in zip(sinograms, images):
            y_id = astra.data2d.link("-sino", rays, sinogram)
            x_id = astra.data2d.link("-vol", volume, image)
            config = astra.astra_dict(name)
            config["ProjectorId"] = projector
            config["ProjectionDataId"] = y_id
            config["ReconstructionDataId"] = x_id
            config["option"] = option
            algorithm = astra.algorithm.create(config)
            astra.algorithm.run(algorithm, n_iter)
            astra.algorithm.delete(algorithm)
            astra.data2d.delete([y_id, x_id])
    finally:
        astra.projector.delete(projector)
    return images


def _tomopy(
    name: str, A: Radon, sinograms: np.ndarray, images: np.ndarray, n_iter: int, option: dict
) -> np.ndarray:
    """Call TomoPy with (views, slices, bins), radians and a start, which is 1e-6 by default."""
    try:
        import tomopy
    except ImportError as error:
        raise ImportError(
            "TomoPy is missing, which is on conda-forge only: conda env create -f environment.yml, "
            "or conda install -c conda-forge tomopy."
        ) from error
    return tomopy.recon(
        sinograms.swapaxes(0, 1),
        torch.deg2rad(A.angles_deg).numpy(),
        algorithm=tomopy.astra,
        init_recon=images,
        num_gridx=A.image_size,
        num_gridy=A.image_size,
        ncore=1,
        options={
            "proj_type": "linear",
            "method": name,
            "num_iter": n_iter,
            "extra_options": option,
        },
    )


LIBRARIES = {"astra": _astra, "tomopy": _tomopy}
