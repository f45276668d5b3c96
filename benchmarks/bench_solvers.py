"""Stable solvers against the same loops on ASTRA's projector, and beside ASTRA's own
solvers.

Suite 8 (pdhg-tv): one iteration of `tv` at 256 x 50, batch 1, the identical loop with ASTRA's
projector "linear" inside.
"""

import argparse
from functools import partial

import torch
from common import Report, interleave, milliseconds, ratio

from instab_utils import solvers
from instab_utils.operators import Radon


class AstraRadon(Radon):
    """Our Radon operator with ASTRA's projector in place of the sparse matrix: what a user of ASTRA
    would write.
    """

    def __init__(self, image_size, angles_deg):
        import astra

        super().__init__(image_size, angles_deg)
        volume = astra.create_vol_geom(image_size, image_size)
        rays = astra.create_proj_geom(
            "parallel", 1.0, self.n_detectors, torch.deg2rad(self.angles_deg).numpy()
        )
        self.map = astra.OpTomo(astra.create_projector("linear", rays, volume))

    def forward(self, x):
        return torch.from_numpy(self.map.FP(x[0, 0].numpy()))[None, None]

    def adjoint(self, y):
        return torch.from_numpy(self.map.BP(y[0, 0].contiguous().numpy()))[None, None]


def main(rounds: int, n_iter: int) -> None:
    report = Report("pdhg-tv, 256 x 50, batch 1")
    angles = torch.arange(50) * 3.6
    ours, peer = Radon(256, angles), AstraRadon(256, angles)
    x = torch.zeros(1, 1, 256, 256)
    x[..., 60:180, 80:200] = 1
    y = ours(x)

    def run(A):
        return lambda: solvers.tv(A, y, 1e-4, n_iter=n_iter, tol=0)

    times = interleave({"astra": run(peer), "own": run(ours)}, rounds)
    for name, seconds in times.items():
        print(f"{name:6} {milliseconds([s / n_iter for s in seconds])} ms an iteration")
    report.row(
        "tv against the same loop on ASTRA", ratio(times, "astra", "own"), target=15, limit=10
    )

    print("\nours and ASTRA's own, 256 x 50, one image; ours also have batches and gradients")
    for method, options in {
        "fbp": {},
        "cgls": {"n_iter": 10},
        "sirt": {"n_iter": 10},
        "sart": {"n_iter": 2},
    }.items():
        candidates = {
            "astra": partial(solvers.external, "astra", method, ours, y, **options),
            "own": partial(getattr(solvers, method), ours, y, **options),
        }
        times = interleave(candidates, rounds)
        note = ", ".join(f"{name}{milliseconds(seconds)} ms" for name, seconds in times.items())
        report.row(
            f"{method}, own against astra",
            ratio(times, "astra", "own"),
            target=1.0,
            limit=0.4,
            note=note,
        )
    report.finish()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=100)
    main(*vars(parser.parse_args()).values())
