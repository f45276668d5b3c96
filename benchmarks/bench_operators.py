"""Operators beside their peers, interleaved in one process: python benchmarks/bench_operators.py
[--quick | --slow]

Forward + VJP of the Radon transform against ASTRA (line and linear projector, each in an autograd
function of its own), a SciPy CSR matrix and deepinv's Tomography; filtered back-projection against
ASTRA and scikit-image; sampled Fourier transforms against deepinv's MRI. Ratios are the peer's time
over ours: larger is better.
"""

import argparse
import math
from functools import partial

import astra
import numpy as np
import torch
from skimage.transform import iradon

from instab_utils import profiles
from instab_utils.data import phantoms
from instab_utils.operators import FourierSlice, MaskedFourier, MultiCoilFourier, Radon, masks
from instab_utils.operators.joseph import bins, joseph
from instab_utils.operators.radon import ramp_filter

try:
    from benchmarks.common import (
        Report,
        deepinv_physics,
        interleave,
        memory_bandwidth,
        milliseconds,
        ratio,
    )
except ImportError:  # run as a script
    from common import Report, deepinv_physics, interleave, memory_bandwidth, milliseconds, ratio

CASES = [(128, 20), (256, 50), (512, 150)]
# (image size, batch) -> target and limit, against ASTRA's faster projector; batch 8 against deepinv
# too
TARGETS = {
    (128, 1): (7, 5),
    (256, 1): (14, 10),
    (512, 1): (14, 12),
    (128, 8): (30, 20),
    (256, 8): (30, 20),
    (512, 8): (30, 20),
}


class AstraProjector:
    """ASTRA's CPU projector as a user of PyTorch would wrap it: one image at a time, memory shared
    where it can be.
    """

    def __init__(self, n, angles_deg, n_detectors, kind):
        geometry = astra.create_proj_geom("parallel", 1.0, n_detectors, np.deg2rad(angles_deg))
        self.tomo = astra.OpTomo(
            astra.create_projector(kind, geometry, astra.create_vol_geom(n, n))
        )
        self.image_shape, self.sinogram_shape = (n, n), (len(angles_deg), n_detectors)

    def forward(self, x):
        out = np.empty((len(x), 1, *self.sinogram_shape), np.float32)
        for one, y in zip(x.detach().numpy(), out, strict=True):
            self.tomo.FP(one[0], out=y[0])
        return torch.from_numpy(out)

    def adjoint(self, y):
        out = np.empty((len(y), 1, *self.image_shape), np.float32)
        for one, x in zip(y.detach().numpy(), out, strict=True):
            self.tomo.BP(np.ascontiguousarray(one[0]), out=x[0])
        return torch.from_numpy(out)


class SciPyMatrix:
    """Our matrix as a SciPy CSR array and its transpose, float32: what a careful user without this
    package has.
    """

    def __init__(self, n, angles_deg, n_detectors):
        matrix = joseph(n, torch.as_tensor(angles_deg), bins(n_detectors)).astype(np.float32)
        self.matrix, self.transpose = matrix, matrix.T.tocsr()
        self.image_shape, self.sinogram_shape = (n, n), (len(angles_deg), n_detectors)

    def forward(self, x):
        return self._product(self.matrix, x, self.sinogram_shape)

    def adjoint(self, y):
        return self._product(self.transpose, y, self.image_shape)

    @staticmethod
    def _product(matrix, z, shape):
        columns = matrix @ np.ascontiguousarray(z.detach().flatten(1).numpy().T)
        return torch.from_numpy(columns.T.reshape(len(z), 1, *shape))


class PeerFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, peer):
        ctx.peer = peer
        return peer.forward(x)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.peer.adjoint(gradient), None


def forward_and_vjp(function, x, y):
    x = x.clone().requires_grad_()

    def run():
        x.grad = None
        function(x).backward(y)

    return run


def bench_radon(report, bandwidth, rounds, cases, batches, slow):
    physics = deepinv_physics()
    for n, n_views in cases:
        angles = np.linspace(0, 180, n_views, endpoint=False)
        ours = Radon(n, angles)
        peers = {
            f"ASTRA {kind}": AstraProjector(n, angles, ours.n_detectors, kind)
            for kind in ("line", "linear")
        }
        peers["SciPy CSR"] = SciPyMatrix(n, angles, ours.n_detectors)
        tomography = physics.Tomography(
            torch.as_tensor(angles, dtype=torch.float32), n, normalize=False
        )
        for batch in batches:
            generator = profiles.generator(0, "bench")
            x = torch.rand(batch, 1, n, n, generator=generator)
            y = torch.randn(batch, 1, *ours.sinogram_shape, generator=generator)
            candidates = {"Radon": forward_and_vjp(ours, x, y)}
            if batch == 1:
                candidates["FourierSlice"] = forward_and_vjp(FourierSlice(n, angles), x, y)
            for name, peer in peers.items():
                candidates[name] = forward_and_vjp(
                    lambda z, peer=peer: PeerFunction.apply(z, peer), x, y
                )
            large = batch * n >= 4096
            if slow or not large:
                views = torch.randn(batch, *tomography.A(x[:1]).shape[1:], generator=generator)
                candidates["deepinv"] = forward_and_vjp(tomography.A, x, views)
            times = interleave(candidates, 2 if large else rounds)
            astra_best = min(("ASTRA line", "ASTRA linear"), key=lambda name: min(times[name]))
            names = [astra_best, "deepinv"] if batch > 1 and "deepinv" in times else [astra_best]
            target, limit = TARGETS[n, batch] if slow or not large else (20, 12)
            best = max(names, key=lambda name: ratio(times, name, "Radon"))
            report.row(
                f"radon {n}x{n_views} B{batch}: {best} / ours",
                ratio(times, best, "Radon"),
                target,
                limit,
            )
            for name, seconds in times.items():
                factor = ratio(times, name, "Radon")
                print(
                    f"    {name:14s} {milliseconds(seconds)} ms   {factor:6.1f} x ours", flush=True
                )
            print(
                f"    {distance_to_limits(ours, batch, min(times['Radon']), bandwidth)}", flush=True
            )


def distance_to_limits(A, batch, seconds, bandwidth):
    """How far forward + VJP is from reading the matrices that are kept once, and A itself in full
    once a direction.
    """
    kept = A._matrix(torch.empty(0, batch))
    stored = 8 * sum(half.values().numel() for half in (kept.rays, kept.rays_transpose))
    moved, full = seconds * bandwidth, 2 * A._entries
    return (
        f"{type(kept).__name__.lower()} matrices, {1e-6 * stored:.0f} MB: "
        f"{moved / stored:.1f} x the time to read them once at {1e-9 * bandwidth:.0f} GB/s "
        f"({moved / (8 * full):.2f} x that of A and A^T in full); "
        f"{2e-9 * full * batch / seconds:.0f} GFLOP/s"
    )


def filtered_by(peer, y, response):
    """Return filtered back-projection with a peer's adjoint."""
    length = 2 * (len(response) - 1)
    filtered = torch.fft.irfft(torch.fft.rfft(y, length) * response, length)[..., : y.shape[-1]]
    return peer.adjoint((filtered * (math.pi / y.shape[-2])).contiguous())


def bench_fbp(report, rounds, cases):
    for n, n_views, target, limit in cases:
        angles = np.linspace(0, 180, n_views, endpoint=False)
        A = Radon(n, angles)
        peer = AstraProjector(n, angles, A.n_detectors, "linear")
        y = phantoms.ellipse_sinogram(phantoms.SHEPP_LOGAN, angles, image_size=n)
        astra_fbp = partial(filtered_by, peer, y, ramp_filter(A.n_detectors).float())
        sinogram = np.ascontiguousarray(y[0, 0].numpy().T)
        times = interleave(
            {
                "ours": partial(A.fbp, y),
                "ASTRA": astra_fbp,
                "scikit-image": partial(iradon, sinogram, angles, output_size=n, circle=False),
            },
            rounds,
        )
        report.row(f"fbp {n}x{n_views}: ASTRA / ours", ratio(times, "ASTRA", "ours"), target, limit)
        x = phantoms.raster(phantoms.SHEPP_LOGAN, n)
        for name, result in (("ours", A.fbp(y)), ("ASTRA", astra_fbp())):
            print(
                f"    {name:14s} {milliseconds(times[name])} ms   PSNR {psnr_db(result, x):.2f} dB",
                flush=True,
            )
        factor = ratio(times, "scikit-image", "ours")
        print(
            f"    scikit-image   {milliseconds(times['scikit-image'])} ms   {factor:.1f} x ours",
            flush=True,
        )


def bench_fourier(report, rounds):
    physics, n, generator = deepinv_physics(), 256, profiles.generator(0, "bench")
    mask = masks.variable_density_lines(n, 4, generator=generator, centred=True)
    coils = torch.randn(15, n, n, dtype=torch.complex64, generator=generator)
    x = torch.randn(1, 1, n, n, dtype=torch.complex64, generator=generator)
    channels = torch.view_as_real(x[:, 0]).movedim(-1, 1).contiguous()
    kwargs = {"img_size": (2, n, n), "mask": mask.float()[None, None]}
    pairs = {
        "1 coil": (MaskedFourier(mask, centred=True), physics.MRI(**kwargs), 1.5, 1.1),
        "15 coils": (
            MultiCoilFourier(mask, coils),
            physics.MultiCoilMRI(coil_maps=coils[None], **kwargs),
            1.2,
            1.0,
        ),
    }
    for name, (ours, theirs, target, limit) in pairs.items():
        times = interleave(
            {
                "ours": forward_and_vjp(ours, x, ours(x)),
                "deepinv": forward_and_vjp(theirs.A, channels, theirs.A(channels)),
            },
            rounds,
        )
        report.row(
            f"fourier {n}x{n}, {name}: deepinv / ours",
            ratio(times, "deepinv", "ours"),
            target,
            limit,
            f"{milliseconds(times['ours'])} ms",
        )


def report_accuracy(cases):
    print(
        "\nrelative error against the closed form (Shepp-Logan head); "
        "|<Ax,y> - <x,A*y>| / (||Ax|| ||y||)"
    )
    for n, n_views in cases:
        angles = np.linspace(0, 180, n_views, endpoint=False)
        x = phantoms.raster(phantoms.SHEPP_LOGAN, n)
        exact = phantoms.ellipse_sinogram(phantoms.SHEPP_LOGAN, angles, image_size=n)
        peer = AstraProjector(n, angles, exact.shape[-1], "linear")
        y = torch.randn(exact.shape, generator=profiles.generator(0, "gap"))
        for A, name in (
            (Radon(n, angles), "Radon"),
            (FourierSlice(n, angles), "FourierSlice"),
            (peer, "ASTRA linear"),
        ):
            Ax = A.forward(x)
            products = [float((a.double() * b).sum()) for a, b in ((Ax, y), (A.adjoint(y), x))]
            gap = abs(products[0] - products[1]) / float(Ax.norm() * y.norm())
            error = float((Ax - exact).norm() / exact.norm())
            print(
                f"    {n}x{n_views} {name:13s} error {error:.4f}   adjoint gap {gap:.1e}",
                flush=True,
            )


def psnr_db(x, reference):
    return float(10 * torch.log10(reference.max() ** 2 / (x - reference).square().mean()))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="without 512x150, fewer rounds: about a minute"
    )
    parser.add_argument(
        "--slow",
        action="store_true",
        help="deepinv at 512x150 batch 8 too: 10 to 40 seconds a call",
    )
    quick, slow = (lambda options: (options.quick, options.slow))(parser.parse_args())
    rounds, cases = (3, CASES[:2]) if quick else (5, CASES)
    report = Report("operators beside their peers: time of the peer over ours")
    bandwidth = memory_bandwidth()
    print(f"measured memory bandwidth (copy) {bandwidth / 1e9:.0f} GB/s\n", flush=True)
    bench_radon(report, bandwidth, rounds, cases, (1, 8), slow)
    bench_fbp(
        report,
        rounds,
        [(256, 50, 10, 7)] if quick else [(256, 50, 10, 7), (512, 150, 10, 7), (256, 1000, 3, 2)],
    )
    bench_fourier(report, rounds)
    report_accuracy(cases)
    report.finish()


if __name__ == "__main__":
    main()
