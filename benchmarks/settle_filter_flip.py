"""Are the published Deep MRI filters stored for correlation (no flip) or for convolution (flip by 180 degrees)?

The file does not say. Lasagne flips filters on the CPU and does not with cuDNN; the authors' code takes cuDNN exactly when
Theano's device is called "cuda". With R the rotation of an image by 180 degrees about pixel 0,

    f_flip(x, mask) = R f(R x, R mask),

exactly but for the border, so that only asymmetries of images, phases and masks can tell the two apart. The asymmetries of
the images that trained the network are unknown. That of its masks is known: the eight centre rows are k = -4 ... 3, so
that -4 was never missing and +4 sometimes was. Therefore two experiments, every case with both orientations:

1. `real`: MR slices, zero and random smooth phase, the authors' masks at acceleration 3. Says which orientation suits
   images that are turned as ours are. CT slices are reported apart.
2. `mask only`: every slice also rotated, conjugated, and both, so that images and phases have no orientation left, under
   masks that are symmetric but for -4 (sampled) and +4 (missing). Says which orientation suits the training masks.

Rule, fixed before the numbers: decided only if 2 differs from 0 by more than three standard errors over slices.

    python benchmarks/settle_filter_flip.py            prints what was recorded
    python benchmarks/settle_filter_flip.py --again    measures it anew (10 minutes on 2 cores)
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

import torch

from instab_utils import data, profiles
from instab_utils.networks import pretrained
from instab_utils.operators import MaskedFourier, fft2
from instab_utils.operators.masks import variable_density_lines

SEED, N = 0, 256
RECORD = Path(__file__).resolve().parents[1] / "results" / "records" / "settle_filter_flip.json"


def rotated(x: torch.Tensor) -> torch.Tensor:
    """x[-i mod n, -j mod m]: 180 degrees about pixel 0, so that k-space and masks turn in the same way."""
    return x.flip(-2, -1).roll((1, 1), (-2, -1))


def one_sided_mask(generator: torch.Generator) -> torch.Tensor:
    """Rows as for acceleration 3, symmetric under k -> -k except that k = -4 is sampled and k = +4 is not."""
    k = torch.arange(N)
    drawn = variable_density_lines(N, 3, generator=generator)[:, 0]
    mask = drawn.clone()
    mask[N // 2 + 1:] = mask[1:N // 2].flip(0)  # negative rows mirror the positive ones
    mask[(k < 4) | (k >= N - 4)] = True
    mask[N // 2] = False
    return mask[:, None].expand(N, N)


def psnr_db(x: torch.Tensor, truth: torch.Tensor) -> float:
    return float(-10 * torch.log10((x.abs() - truth.abs()).square().mean()))


def with_phase(x: torch.Tensor, strength_rad: float, stream: str) -> torch.Tensor:
    if strength_rad == 0:
        return x.to(torch.complex64)
    phase = data.smooth_phase(N, profiles.generator(SEED, stream), strength_rad=strength_rad)
    return torch.polar(x, phase.expand_as(x))


def compare(x: torch.Tensor, mask: torch.Tensor, nets) -> dict[str, float]:
    """PSNR of both orientations, and the error of row +4 relative to its energy."""
    operator = MaskedFourier(mask)
    y, row, result = operator(x), fft2(x)[..., 4, :], {}
    for name, net in nets.items():
        out = net(y, operator)
        result[f"psnr_{name}_db"] = psnr_db(out, x)
        result[f"row4_{name}"] = float((fft2(out)[..., 4, :] - row).norm() / row.norm())
    result["psnr_zero_filled_db"] = psnr_db(operator.adjoint(y), x)
    return result


def summary(differences: list[float]) -> dict[str, float]:
    d = torch.tensor(differences, dtype=torch.float64)
    return {"mean": float(d.mean()), "standard_error": float(d.std() / math.sqrt(len(d))), "n": len(d)}


def summaries(cases: list[dict], group: str = "slice") -> dict[str, dict]:
    """Flip minus no flip, averaged within each slice (or subject) first: those are the independent units."""
    units = {}
    for case in cases:
        units.setdefault(case[group], []).append(case)
    mean = lambda key: [sum(c[key.format("flip")] - c[key.format("no_flip")] for c in u) / len(u) for u in units.values()]
    return {"psnr_db": summary(mean("psnr_{}_db")), "row4_error": summary(mean("row4_{}"))}


@torch.no_grad()
def main(n_slices: int) -> dict:
    started = time.time()
    nets = {"no_flip": pretrained.network("deep-mri"), "flip": pretrained.network("deep-mri", flip_filters=True)}
    series = {"vs-seg-001": data.dicom_series("vs-seg-001", N)}
    series |= {name: data.volume(name, N, n_slices) for name in ("chris_t1", "chris_PD", "MR_Gd", "M2208_T2w", "T2w")}
    ct = {"aapm": torch.cat([data.aapm(split, N) for split in ("val", "test")])}

    def real(images):
        return [
            {"subject": subject, "slice": f"{subject}/{i}", "phase_rad": strength}
            | compare(with_phase(x[None], strength, f"{subject}/{i}"),
                      variable_density_lines(N, 3, generator=profiles.generator(SEED, f"mask/{subject}/{i}")), nets)
            for subject, slices in images.items() for i, x in enumerate(slices) for strength in (0.0, 2.0)
        ]

    def mask_only(images):
        cases = []
        for subject, slices in images.items():
            for i, x in enumerate(slices):
                x = with_phase(x[None], 2.0, f"{subject}/{i}")
                mask = one_sided_mask(profiles.generator(SEED, f"one-sided/{subject}/{i}"))
                for turned in (x, rotated(x), x.conj(), rotated(x).conj()):
                    cases.append({"subject": subject, "slice": f"{subject}/{i}"} | compare(turned, mask, nets))
        return cases

    some = {name: slices[:: max(1, len(slices) // 4)][:4] for name, slices in series.items()}
    cases = {"real": real(series), "real_ct": real(ct), "mask_only": mask_only(some)}
    results = {name: summaries(c) | {"by_subject": summaries(c, "subject")} for name, c in cases.items()}
    decisive = results["mask_only"]["psnr_db"]
    decided = abs(decisive["mean"]) > 3 * decisive["standard_error"]
    verdict = ("flip" if decisive["mean"] > 0 else "no flip") if decided else "undecided"
    return {
        "schema": 1, "experiment": "settle_filter_flip", "task": "mri_single", "network": "deep-mri-published", "seed": SEED,
        "verdict": verdict, "difference": "flip minus no flip", "results": results, "cases": cases,
        "data": {name: len(slices) for name, slices in (series | ct).items()},
        "device": f"CPU, {torch.get_num_threads()} threads", "torch": torch.__version__,
        "seconds": round(time.time() - started, 1), "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def save(record: dict) -> None:
    partial = RECORD.with_suffix(".partial.json")
    partial.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(partial, RECORD)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--again", action="store_true", help="measure, also where a record exists")
    parser.add_argument("--slices", type=int, default=4, help="slices of each MR volume")
    arguments = parser.parse_args()
    if arguments.again or not RECORD.exists():
        save(main(arguments.slices))
    record = json.loads(RECORD.read_text())
    print(json.dumps({key: record[key] for key in ("verdict", "results", "seconds")}, indent=1))
