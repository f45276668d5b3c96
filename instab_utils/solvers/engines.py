"""One call for every method and every library that has it: our own code, ASTRA, TomoPy's ASTRA
wrapper.
"""

import torch

from ..operators import FourierSlice, Radon
from .base import Solution, norm, tiny
from .iterative import cgls, em, fbp, sart, sirt
from .reweighted import shearlet
from .tgv import tgv
from .tv import tv
from .wavelets import wavelet

METHODS = {
    "fbp": fbp,
    "cgls": cgls,
    "sirt": sirt,
    "sart": sart,
    "em": em,
    "tv": tv,
    "tgv": tgv,
    "wavelet": wavelet,
    "shearlet": shearlet,
}
ENGINES = ("auto", "own", "astra", "tomopy")
# ASTRA's algorithms for the CPU
_ASTRA_NAMES = {"fbp": "FBP", "cgls": "CGLS", "sirt": "SIRT", "sart": "SART"}
_DEFAULT_ITERATIONS = {"fbp": 1, "cgls": 20, "sirt": 100, "sart": 10}


def reconstruct(method: str, A, y: torch.Tensor, engine: str = "auto", **options) -> Solution:
    """x from y by a named method, through a named library.

    Args:
        method: "fbp", "cgls", "sirt", "sart", "em", "tv", "tgv", "wavelet" or "shearlet".
        A, y: operator and measurements, batched. ASTRA and TomoPy take a `Radon` operator, whose
            Joseph matrix is ASTRA's projector "linear", run in float32 on the CPU, image by image,
            and give no gradients.
        engine: "own", "astra", "tomopy", or "auto", which is our own code: the fastest in
            benchmarks/bench_solvers.py but for SART on a single image, where ASTRA takes half the
            time, and the only one with gradients, batches, complex data, residuals of every
            iteration and CUDA.
        **options: those of the solver of that name. ASTRA and TomoPy know n_iter, x0, bounds (SIRT,
            SART) and relaxation (SART); SART runs view by view in stored order, n_iter passes.

    Returns:
        `Solution`.

    Raises:
        ValueError: unknown method, engine or option, or an engine that does not have the method.
        ImportError: an engine that is not installed, with the way to get it.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; expected one of {', '.join(METHODS)}.")
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}; expected one of {', '.join(ENGINES)}.")
    if engine in ("auto", "own"):
        return METHODS[method](A, y, **options)
    if method not in _ASTRA_NAMES:
        raise ValueError(
            f"engine {engine!r} has {', '.join(_ASTRA_NAMES)} on the CPU, not {method!r}. Use engine='own'."
        )
    if not isinstance(A, Radon) or isinstance(A, FourierSlice) or y.is_complex():
        raise ValueError(
            f"engine {engine!r} needs a Radon operator and real data; got {A}. Use engine='own'."
        )
    return _by_slices({"astra": _astra, "tomopy": _tomopy}[engine], method, A, y, **options)


def _by_slices(run, method, A, y, n_iter=None, x0=None, bounds=None, relaxation=None) -> Solution:
    """Hand the images of a batch over as a numpy stack (slices, views, bins) and take (slices, n,
    n) back.
    """
    import numpy as np

    n_iter = _DEFAULT_ITERATIONS[method] if n_iter is None else n_iter
    option = dict(zip(("MinConstraint", "MaxConstraint"), bounds or ()))
    option = {name: float(value) for name, value in option.items() if value is not None}
    if option and method not in ("sirt", "sart"):
        raise ValueError(f"bounds are an option of sirt and sart, not of {method}.")
    if relaxation is not None:
        if method != "sart":
            raise ValueError(
                f"relaxation is an option of ASTRA's SART only, not of {method}. Use engine='own'."
            )
        option["Relaxation"] = float(relaxation)
    updates = n_iter
    if method == "sart":
        option["ProjectionOrder"] = "sequential"
        updates = n_iter * A.n_views  # ASTRA counts single views
    sinograms = y.detach().reshape(-1, *y.shape[-2:]).cpu().numpy().astype(np.float32)
    images = np.zeros((len(sinograms), *A.image_shape), np.float32)
    if x0 is not None:
        images[:] = x0.detach().cpu().expand(*y.shape[:2], -1, -1).reshape(images.shape).numpy()
    images = run(_ASTRA_NAMES[method], A, sinograms, images, updates, option)
    x = torch.from_numpy(images).to(y.device, y.dtype).view(*y.shape[:2], *A.image_shape)
    with torch.no_grad():
        residual = norm(A(x) - y.detach()) / norm(y.detach()).clamp_min(tiny(y))
    return Solution(x, 0 if method == "fbp" else n_iter, residual.view(1, -1))


def _astra(name, A, sinograms, images, n_iter, option):
    try:
        import astra
    except ImportError as error:
        raise ImportError(
            "engine 'astra' needs the ASTRA toolbox: pip install astra-toolbox."
        ) from error
    volume = astra.create_vol_geom(A.image_size, A.image_size)
    rays = astra.create_proj_geom(
        "parallel", 1.0, A.n_detectors, torch.deg2rad(A.angles_deg).numpy()
    )
    projector = astra.create_projector("linear", rays, volume)
    try:
        for sinogram, image in zip(sinograms, images):
            ids = (
                astra.data2d.link("-sino", rays, sinogram),
                astra.data2d.link("-vol", volume, image),
            )
            config = astra.astra_dict(name)
            config.update(
                ProjectorId=projector,
                ProjectionDataId=ids[0],
                ReconstructionDataId=ids[1],
                option=option,
            )
            algorithm = astra.algorithm.create(config)
            astra.algorithm.run(algorithm, n_iter)
            astra.algorithm.delete(algorithm)
            astra.data2d.delete(ids)
    finally:
        astra.projector.delete(projector)
    return images


def _tomopy(name, A, sinograms, images, n_iter, option):
    """TomoPy takes (views, slices, bins) and angles in radians, and starts from 1e-6 unless told
    where.
    """
    try:
        import tomopy
    except ImportError as error:
        raise ImportError(
            "engine 'tomopy' needs TomoPy, which is on conda-forge only: conda env create -f environment.yml, "
            "or conda install -c conda-forge tomopy. Without it use engine='astra' or 'own'."
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
