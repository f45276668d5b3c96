"""Training steps and attack gradients: this package's way beside a plain float32 loop with the same
network and batch.

    python benchmarks/bench_training.py [--quick]     --quick: three rounds instead of five

Ours: channels-last weights, fused optimiser, look-up tables, filters by rows, autocast where the
processor multiplies
in bfloat16. Plain: NCHW, for-loop optimiser, Gaussians as they are written, conv_transpose2d. Where
there is no bfloat16, a step is mostly convolutions that both do alike, and the target is not to be
slower.
"""

import argparse
import contextlib
import copy
import statistics

import torch
from common import Report, interleave, milliseconds, ratio
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from instab_utils import profiles, training
from instab_utils.networks import Reconstructor, variational

SIZES = {
    "dncnn": (40, 16),
    "unet-limited": (128, 4),
    "ell-50": (128, 4),
    "deep-mri": (128, 1),
    "mri-vn": (96, 1),
}
"""Image size and batch: of the standard recipes, or less."""
CPU = torch.device("cpu")


def plain(network: nn.Module) -> nn.Module:
    """The same weights in NCHW; activations by their formula."""
    network = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    for module in network.modules():
        if isinstance(module, variational.RBFActivation):
            module.forward = module.formula
    return network


@contextlib.contextmanager
def plain_filters():
    """K^T of MRI-VN by conv_transpose2d."""
    rows = variational._synthesis
    variational._synthesis = lambda z, filters, padding: F.conv_transpose2d(
        z, filters, padding=padding
    )
    try:
        yield
    finally:
        variational._synthesis = rows


def batch_of(name: str, size: int, n: int):
    """(network input or measurements, ground truth, operator) of smooth random images."""
    what, generator = training.task(name, size, CPU), profiles.generator(0, name)
    x = F.interpolate(
        torch.rand(n, 1, 8, 8, generator=generator), size=(size, size), mode="bicubic"
    ).clamp(0, 1)
    if name in ("deep-mri", "mri-vn"):
        return what.measure(torch.polar(x, x), generator)
    if name == "dncnn":
        return what.measure(x, generator)
    y = what.A(x)
    return (what.A.fbp(y), x, what.A) if name == "ell-50" else (y, x, what.A)


def loss_of(name, network, batch):
    x_in, x, A = batch
    x_rec = network(x_in) if name == "ell-50" else Reconstructor(network, A)(x_in)
    return (x_rec - x).abs().square().mean()


def training_step(name, network, batch, optimiser, low):
    def step():
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16) if low else contextlib.nullcontext():
            loss = loss_of(name, network, batch)
        loss.backward()
        optimiser.step()

    return step


def input_gradient(network, batch, name):
    x_in, _, A = batch
    f = network if name == "ell-50" else Reconstructor(network, A)

    def gradient():
        y = x_in.clone().requires_grad_()
        f(y).abs().square().sum().backward()
        return y.grad

    return gradient


def peak_flops(low: bool) -> float:
    """FLOP/s of the fastest of a large product and a large convolution, in the precision of our
    training.
    """
    dtype = torch.bfloat16 if low else torch.float32
    a = torch.ones(1024, 1024, dtype=dtype)
    image, weight = (
        torch.ones(shape, dtype=dtype).to(memory_format=torch.channels_last)
        for shape in ((4, 64, 64, 64), (64, 64, 3, 3))
    )
    work = {"product": 2 * 1024**3, "convolution": 2 * image.numel() * 64 * 9}
    times = interleave(
        {"product": lambda: a @ a, "convolution": lambda: F.conv2d(image, weight, padding=1)},
        rounds=3,
    )
    return max(work[name] / min(times[name]) for name in work)


def bench(name, report, rounds, peak, low):
    size, n = SIZES[name]
    batch = batch_of(name, size, n)
    ours = training.recipe(name).build(CPU)
    theirs = plain(ours)
    with FlopCounterMode(display=False) as counter:
        loss_of(name, ours, batch).backward()
    flops = counter.get_total_flops()
    our_optimiser = training.optimiser("adam", ours.parameters(), 1e-4)
    step = training_step(name, ours, batch, our_optimiser, low)
    their_optimiser = torch.optim.Adam(theirs.parameters(), 1e-4, foreach=False, fused=False)
    their_step = plain_filters()(training_step(name, theirs, batch, their_optimiser, False))
    frozen = training.recipe(name).build(CPU).eval().requires_grad_(False)
    # as most attack code has it: weights ask for gradients, too
    their_weights = plain(training.recipe(name).build(CPU)).eval()
    gradient, their_gradient = (
        input_gradient(frozen, batch, name),
        plain_filters()(input_gradient(their_weights, batch, name)),
    )
    with torch.no_grad():  # of images: a gradient changes where rounding flips a single ReLU
        ours_now, theirs_now = (loss_of(name, f, batch) for f in (frozen, their_weights))
    if abs(float(ours_now / theirs_now) - 1) > 1e-3:
        raise SystemExit(
            f"{name}: losses {float(ours_now):.6g} and {float(theirs_now):.6g}: the two are not "
            "the same network"
        )

    times = interleave(
        {
            "step": step,
            "plain step": their_step,
            "gradient": gradient,
            "plain gradient": their_gradient,
        },
        rounds,
    )
    seconds = statistics.median(times["step"])
    print(
        f"\n{name}, {size} x {size}, batch {n}: ms step {milliseconds(times['step'])}, "
        f"plain {milliseconds(times['plain step'])}; "
        f"gradient {milliseconds(times['gradient'])}, plain {milliseconds(times['plain gradient'])}"
    )
    share = 100 * flops / min(times["step"]) / peak
    print(
        f"{n / seconds:.1f} images/s, {flops / 1e9:.2f} GFLOP a step, "
        f"{share:.0f} % of the measured peak"
    )
    # without bfloat16 both do the same convolutions; formula against table is the gain that remains
    report.row(
        f"{name}: training step", ratio(times, "plain step", "step"), 2.0 if low else 1.0, 0.95
    )
    report.row(
        f"{name}: gradient of an attack", ratio(times, "plain gradient", "gradient"), 2.0, 1.0
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="three rounds instead of five")
    parser.add_argument("--only", choices=SIZES, help="one network")
    arguments = parser.parse_args()
    low = training.precision(CPU) == "bf16"
    report = Report(f"Training, ours in {training.precision(CPU)} against a plain loop in fp32")
    peak = peak_flops(low)
    print(f"measured peak {peak / 1e9:.1f} GFLOP/s")
    for name in [arguments.only] if arguments.only else SIZES:
        bench(name, report, 3 if arguments.quick else 5, peak, low)
    report.finish()
