"""Worst cases from calls alone, beside the gradient's and random draws.

    python benchmarks/bench_blackbox.py [--calls 300 1500]     default 300

Linear: f(y) = M y, M Gaussian 256 x 256, 16 x 16 pixels; the yardstick is M's largest singular
value, mean of three M. DnCNN: the denoiser that ships, 32 x 32 pixels of a noisy image; Ell-50's
network behind the Radon transform of 64 x 64 pixels and its 12 views, on a phantom. Yardstick:
`attacks.worst_case`. "from a substitute" starts at what the gradient finds on a function that has
one: a moving average for the denoiser, filtered back-projection for CT.
"""

import time

import torch
from common import Report, arguments

from instab_utils import attacks, profiles, training
from instab_utils.audit import blackbox
from instab_utils.networks import Reconstructor
from instab_utils.operators import Identity, Radon

STRENGTH = 0.02


def search(f, A, image, y, n_calls, seed=0, starts=()):
    """Amplification of the worst case found."""
    result = blackbox.search(
        f,
        A,
        image,
        y,
        strengths=(STRENGTH,),
        generator=profiles.generator(seed, "bench search"),
        n_calls=n_calls,
        starts=starts,
    )
    return float(result.reach[STRENGTH][0]) / (STRENGTH * float(image.norm()))


def random_draws(f, A, image, y, n_calls):
    """Amplification of the largest of random perturbations."""
    generator = profiles.generator(0, "bench draws")
    draws = attacks.random_twin(STRENGTH * image, generator, n_calls - 1)
    with torch.no_grad():
        before = f(y)
        changes = [float((f(y + A(r)) - before).norm()) for r in draws]
    return max(changes) / (STRENGTH * float(image.norm()))


def linear(report):
    shares = {400: [], 2000: []}
    for seed in range(3):
        draw = profiles.generator(seed, "bench matrix")
        matrix = torch.randn(256, 256, generator=draw) / 16
        x = torch.rand(1, 1, 16, 16, generator=draw)
        top = float(torch.linalg.svdvals(matrix)[0])

        def f(y, matrix=matrix):
            return (y.flatten(1) @ matrix.T).reshape(y.shape)

        for n_calls, values in shares.items():
            values.append(search(f, torch.clone, x, x, n_calls, seed) / top)
    for n_calls, values in shares.items():
        mean = sum(values) / len(values)
        report.row(f"linear, evolution, {n_calls} calls: share", mean, 0.9, 0.85)


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


def worst_case(f, A, image, stream):
    generator = profiles.generator(0, stream)
    return attacks.worst_case(f, A, image, strengths=(STRENGTH,), generator=generator, n_iter=40)


def networks(report, calls):
    for name, f, A, image, y, substitute in cases():
        start = time.perf_counter()
        gradient = worst_case(f, A, image, "bench attack")
        seconds = time.perf_counter() - start
        best = float(gradient.amplification[STRENGTH][0])
        twin = attacks.random_twin(gradient.r[STRENGTH], profiles.generator(0, "bench twin"))
        random = float(attacks.amplification(f, A, image, twin)[0])
        print(f"  {name}: random twin {random:.2f}, gradient {best:.2f} ({seconds:.1f} s)")
        starts = [worst_case(substitute, A, image, "bench stand-in").r[STRENGTH]]
        first = float(attacks.amplification(f, A, image, starts[0])[0])
        print(f"    worst case of the substitute alone: amplification {first:.2f}", flush=True)
        for n_calls in calls:
            start = time.perf_counter()
            searched = search(f, A, image, y, n_calls)
            seconds = time.perf_counter() - start
            drawn = random_draws(f, A, image, y, n_calls)
            started = search(f, A, image, y, n_calls, starts=starts)
            for method, reached in (
                ("random draws", drawn),
                ("search", searched),
                ("from a substitute", started),
            ):
                share = f"{reached / best:.2f} of the gradient's"
                print(
                    f"    {method:18s} {n_calls:5d} calls   amplification {reached:5.2f}   {share}"
                )
            print(f"    {seconds:.1f} s for a search", flush=True)
            report.row(f"{name}, {n_calls} calls: of the gradient's", searched / best, 0.6, 0.3)
            row = f"{name}, {n_calls} calls: of the random twin's"
            report.row(row, searched / random, 1.5, 1.2)


def main():
    options = arguments(__doc__, calls=[300])
    report = Report(f"worst cases without gradients, ||r||/||x|| = {100 * STRENGTH:g} %")
    linear(report)
    networks(report, options.calls)
    report.finish()


if __name__ == "__main__":
    main()
