"""Published networks: time of f and of its gradient to y at 256 x 256, what the fast paths gain,
BSD68 in full.

    python benchmarks/bench_networks.py [--quick]     --quick leaves out BSD68 (3 minutes on 2 free
    cores)
"""

import argparse
import statistics
from functools import partial

import torch
from common import Report, interleave, ratio, show
from torch.nn import functional as F

from instab_utils import data, profiles
from instab_utils.networks import RBFActivation, Reconstructor, pretrained, variational
from instab_utils.operators import Identity, MaskedFourier, MultiCoilFourier
from instab_utils.operators.masks import variable_density_lines

N = 256


def reconstructors():
    """(name, f, y) of the three networks at 256 x 256, batch 1."""
    x = data.dicom_series("vs-seg-001", N, n=1)
    rows = MaskedFourier(variable_density_lines(N, 3, generator=profiles.generator(0, "mask")))
    every_fourth = torch.zeros(N, dtype=torch.bool)
    every_fourth[::4] = every_fourth[N // 2 - 12 : N // 2 + 12] = True
    parallel = MultiCoilFourier(every_fourth.expand(N, N), data.simulated_coils(15, N))
    yield "dncnn-25", pretrained.reconstructor("dncnn-25", Identity()), x
    yield "deep-mri", pretrained.reconstructor("deep-mri", rows), rows(x)
    yield "mri-vn", pretrained.reconstructor("mri-vn", parallel), parallel(x)


def forward(f, y):
    with torch.no_grad():
        return f(y)


def gradient(f, y):
    y = y.clone().requires_grad_()
    return torch.autograd.grad(f(y).abs().square().sum(), y)[0]


def bench_reconstructors(report):
    for name, f, y in reconstructors():
        runs = {"forward": partial(forward, f, y), "gradient": partial(gradient, f, y)}
        plain = {}
        if name != "mri-vn":
            network = pretrained.network(name).to(memory_format=torch.contiguous_format)
            nchw = Reconstructor(network, f.operator)
            plain = {
                "forward NCHW": partial(forward, nchw, y),
                "gradient NCHW": partial(gradient, nchw, y),
            }
        times = interleave(runs | plain, rounds=5)
        show(times, f"{name}, ")
        for kind in runs:
            if plain:
                # a complex image is channels-last by nature, whatever the weights: no gain to
                # expect for deep-mri
                target = 1.0 if name == "deep-mri" else 1.05
                gain = ratio(times, f"{kind} NCHW", kind)
                report.row(f"{name} {kind}: channels last over NCHW", gain, target, 0.85)
        print()


def bench_activation(report):
    """One activation layer of MRI-VN, 48 channels of 266 x 266."""
    activation = RBFActivation(48).requires_grad_(False)
    z = 0.3 * torch.randn(1, 48, N + 10, N + 10, generator=profiles.generator(0, "z"))
    z_grad = z.clone().requires_grad_()
    difference = (
        activation(z) - activation.formula(z.double())
    ).abs().max() / activation.weight.abs().max()
    print(f"table against formula in float64: {difference:.1e} of the largest weight")
    times = interleave(
        {
            "table": lambda: activation(z),
            "formula": lambda: activation.formula(z),
            "table, gradient": lambda: torch.autograd.grad(activation(z_grad).sum(), z_grad),
            "formula, gradient": lambda: torch.autograd.grad(
                activation.formula(z_grad).sum(), z_grad
            ),
        },
        rounds=5,
    )
    show(times, "activation, ")
    report.row("activation: table over formula", ratio(times, "formula", "table"), 25, 12)
    report.row(
        "activation gradient: table over formula",
        ratio(times, "formula, gradient", "table, gradient"),
        20,
        10,
    )


def bench_filters(report):
    """K^T of MRI-VN: rows as channels against conv_transpose2d."""
    filters = torch.randn(48, 2, 11, 11, generator=profiles.generator(0, "filters"))
    z = torch.randn(1, 48, N + 10, N + 10, generator=profiles.generator(0, "z"))
    times = interleave(
        {
            "rows": lambda: variational._Filtering.apply(z, filters, 10, True),
            "conv_transpose2d": lambda: F.conv_transpose2d(z, filters, padding=10),
        },
        rounds=5,
    )
    show(times, "K^T, ")
    report.row(
        "K^T: rows as channels over conv_transpose2d",
        ratio(times, "conv_transpose2d", "rows"),
        2.0,
        1.2,
    )


@torch.no_grad()
def bsd68():
    """Mean PSNR over the 68 images, sigma 25/255: 29.23 dB is published (Zhang et al. 2017, Table
    II).
    """
    generator, f = profiles.generator(0, "noise"), pretrained.reconstructor("dncnn-25", Identity())
    noisy, denoised = [], []
    for x in data.bsd("set68"):
        y = x + 25 / 255 * torch.randn(x.shape, generator=generator)
        noisy.append(float(-10 * torch.log10((y - x).square().mean())))
        denoised.append(float(-10 * torch.log10((f(y).clamp(0, 1) - x).square().mean())))
    mean, gains = statistics.mean(denoised), [d - n for d, n in zip(denoised, noisy)]
    print(
        f"\nBSD68: {len(denoised)} images, noisy {statistics.mean(noisy):.3f} dB, denoised "
        f"{mean:.3f} dB (sd {statistics.stdev(denoised):.2f}), "
        f"gain {statistics.mean(gains):.3f} dB; published 29.23"
    )
    if abs(mean - 29.23) > 0.05:
        raise SystemExit(f"BSD68: {mean:.3f} dB is more than 0.05 dB from the published 29.23")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="leave out BSD68")
    quick = parser.parse_args().quick
    report = Report("Published networks, 256 x 256, batch 1, float32")
    bench_reconstructors(report)
    bench_activation(report)
    bench_filters(report)
    if not quick:
        bsd68()
    report.finish()
