"""Worst cases from calls alone, beside the gradient's: how much of a known optimum, and of the
attack, each method reaches.

    python benchmarks/bench_blackbox.py [--calls 300 1500] [--full]     default 300; --full: "ranks"
    as well

Linear: f(y) = M y, M Gaussian 256 x 256, 16 x 16 pixels; the yardstick is M's largest singular
value, mean of three M.
DnCNN: the denoiser that ships, 32 x 32 pixels of a noisy image; Ell-50's network behind the Radon
transform of 64 x 64 pixels and
its 12 views, on a phantom. Yardstick: `attacks.worst_case`. Transfer starts from what the gradient
finds on a stand-in, through
which a gradient is to be had: a moving average for the denoiser, filtered back-projection for CT.
"""

import time

import torch
from common import Report, arguments

from instab_utils import attacks, profiles, training
from instab_utils.audit import blackbox
from instab_utils.networks import Reconstructor
from instab_utils.operators import Identity, Radon

STRENGTH = 0.02


def identity(x):
    return x


def linear(report, methods):
    shares = {(method, n): [] for method in methods if method != "transfer" for n in (400, 2000)}
    for seed in range(3):
        draw = profiles.generator(seed, "bench matrix")
        matrix, x = (
            torch.randn(256, 256, generator=draw) / 16,
            torch.rand(1, 1, 16, 16, generator=draw),
        )
        top = float(torch.linalg.svdvals(matrix)[0]) * STRENGTH * float(x.norm())
        for method, n in shares:
            found = blackbox.search(
                lambda y, m=matrix: (y.flatten(1) @ m.T).reshape(y.shape),
                identity,
                x,
                x,
                strengths=(STRENGTH,),
                generator=profiles.generator(seed, "bench search"),
                n_calls=n,
                method=method,
            )
            shares[method, n].append(float(found.reach[STRENGTH][0]) / top)
    for (method, n), values in shares.items():
        mean = sum(values) / len(values)
        print(
            f"  linear, {method:10s} {n:5d} calls   {mean:.3f} of the largest singular value",
            flush=True,
        )
        if method == "evolution":
            report.row(f"linear, evolution, {n} calls: share", mean, 0.9, 0.85)


def cases():
    """(name, f, A, image, y, a stand-in for f with a gradient)."""
    case = training.case("dncnn", n_images=1, tv=False)
    y = case.y[..., 60:92, 60:92].contiguous()
    yield (
        "DnCNN, 32 x 32",
        case.f,
        Identity(32),
        y,
        y,
        lambda v: torch.nn.functional.avg_pool2d(v, 3, 1, 1),
    )
    case = training.case("ell-50", n_images=1, tv=False)
    A = Radon(64, case.A.angles_deg)
    x = torch.nn.functional.avg_pool2d(case.x, case.x.shape[-1] // 64)
    yield "Ell-50's network, 64 x 64", Reconstructor(case.network, A), A, x, A(x), A.pinv


def networks(report, methods, calls):
    for name, f, A, image, y, stand_in in cases():
        start = time.perf_counter()
        gradient = attacks.worst_case(
            f,
            A,
            image,
            strengths=(STRENGTH,),
            generator=profiles.generator(0, "bench attack"),
            n_iter=40,
        )
        best, size = float(gradient.amplification[STRENGTH][0]), STRENGTH * float(image.norm())
        twin = attacks.amplification(
            f,
            A,
            image,
            attacks.random_twin(gradient.r[STRENGTH], profiles.generator(0, "bench twin")),
        )
        print(
            f"  {name}: random twin {float(twin[0]):.2f}, gradient {best:.2f} ({int(gradient.n_evaluations[0])} evaluations, "
            f"{time.perf_counter() - start:.1f} s)",
            flush=True,
        )
        other = attacks.worst_case(
            stand_in,
            A,
            image,
            strengths=(STRENGTH,),
            generator=profiles.generator(0, "bench stand-in"),
            n_iter=40,
        )
        for method in methods:
            for n in calls:
                start = time.perf_counter()
                found = blackbox.search(
                    f,
                    A,
                    image,
                    y,
                    strengths=(STRENGTH,),
                    generator=profiles.generator(0, "bench search"),
                    n_calls=n,
                    starts=[other.r[STRENGTH]] if method == "transfer" else (),
                    method=method,
                )
                reached = float(found.reach[STRENGTH][0]) / size
                first = (
                    f", its start {float(found.history[0, 0]) / size:.2f}"
                    if method == "transfer"
                    else ""
                )
                print(
                    f"    {method:10s} {n:5d} calls   amplification {reached:5.2f}{first}   {reached / best:.2f} of the gradient's   "
                    f"{time.perf_counter() - start:.1f} s",
                    flush=True,
                )
                if method == "evolution":
                    report.row(f"{name}, {n} calls: of the gradient's", reached / best, 0.6, 0.3)
                    report.row(
                        f"{name}, {n} calls: of the random twin's",
                        reached / float(twin[0]),
                        1.5,
                        1.2,
                    )


def main():
    options = arguments(__doc__, calls=[300], full=False)
    methods = (
        blackbox.METHODS if options.full else tuple(m for m in blackbox.METHODS if m != "ranks")
    )
    report = Report(f"worst cases without gradients, ||r||/||x|| = {100 * STRENGTH:g} %")
    linear(report, methods)
    networks(report, methods, options.calls)
    report.finish()


if __name__ == "__main__":
    main()
