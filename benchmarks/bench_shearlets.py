"""The shearlet transform against the same windows applied band by band in NumPy, and what a step of
the solver costs.

The loop is what one writes first: one FFT of the image, then for each band a product and an inverse
FFT, and back. It runs in the precision of its input, as ours does.
"""

import argparse
from functools import partial

import numpy as np
import torch
from common import Report, interleave, milliseconds, ratio

from instab_utils.solvers import Shearlets


def round_trip(transform, x):
    return transform.synthesis(transform.analysis(x))


def plain(windows, x):
    """Analysis and synthesis, one band after the other."""
    part = (lambda band: band) if np.iscomplexobj(x) else np.real
    spectrum = np.fft.fft2(x)
    coefficients = np.empty((len(windows), *x.shape), x.dtype)
    for j, window in enumerate(windows):
        coefficients[j] = part(np.fft.ifft2(window * spectrum))
    total = np.zeros_like(spectrum)
    for window, band in zip(windows, coefficients):
        total += window * np.fft.fft2(band)
    return coefficients, part(np.fft.ifft2(total))


def main(rounds: int) -> None:
    report = Report("shearlet analysis and synthesis, 33 bands, one image")
    for n in (128, 256):
        transform = Shearlets(n)
        for dtype in (torch.float32, torch.complex64):
            x = torch.randn(1, 1, n, n, dtype=dtype, generator=torch.Generator().manual_seed(0))
            windows, image = (
                transform.windows(x.to(torch.complex64)).real.contiguous().numpy(),
                x[0, 0].numpy(),
            )
            candidates = {
                "own": partial(round_trip, transform, x),
                "plain": partial(plain, windows, image),
            }
            assert np.allclose(plain(windows, image)[0], transform.analysis(x)[0, 0], atol=1e-5)
            times = interleave(candidates, rounds)
            note = ", ".join(f"{name}{milliseconds(seconds)} ms" for name, seconds in times.items())
            report.row(
                f"{n} x {n}, {dtype}",
                ratio(times, "plain", "own"),
                target=2.0,
                limit=1.3,
                note=note,
            )
    report.finish()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    main(*vars(parser.parse_args()).values())
