"""Are the published Deep MRI filters stored for correlation (no flip) or for convolution (flip by
180 degrees)?

The file does not say. Lasagne flips filters on the CPU and does not with cuDNN; the authors' code
takes cuDNN where Theano's device is called exactly "cuda". With R the rotation of an image by 180
degrees about pixel 0,

    f_flip(x, mask) = R f(R x, R mask),

exactly but for the border, so that only asymmetries of images, phases and masks can tell the two
apart. Those of the images that trained the network are unknown. That of its masks is known: the
eight centre rows are k = -4 ... 3, so that -4 was never missing and +4 sometimes was. Therefore two
experiments, every case with both orientations:

1. `real`: MR slices, zero and random smooth phase, the authors' masks at acceleration 3. Says which
   orientation suits images that are turned as ours are. CT slices are reported apart.
2. `mask only`: every slice also rotated, conjugated, and both, so that images and phases have no
   orientation left, under masks that are symmetric but for -4 (sampled) and +4 (missing). Says
   which orientation suits the masks that the network was trained with.

Rule, fixed before the numbers: decided only if the PSNR of 2 differs by more than three standard
errors over slices.

    python benchmarks/settle_filter_flip.py            prints what was recorded
    python benchmarks/settle_filter_flip.py --again    measures it anew (10 minutes on 2 cores)
"""

import argparse
import math
import statistics
import time

import torch

from instab_utils import data, profiles, store
from instab_utils.networks import pretrained
from instab_utils.operators import MaskedFourier, fft2
from instab_utils.operators.masks import variable_density_lines

SEED, N = 0, 256
QUESTION = "deep-mri filter orientation"


def rotated(x: torch.Tensor) -> torch.Tensor:
    """x[-i mod n, -j mod m]: 180 degrees about pixel 0, so that k-space and masks turn in the same
    way.
    """
    return x.flip(-2, -1).roll((1, 1), (-2, -1))


def one_sided_mask(generator: torch.Generator) -> torch.Tensor:
    """Rows as for acceleration 3, symmetric under k -> -k except that k = -4 is sampled and k = +4
    is not.
    """
    k = torch.arange(N)
    drawn = variable_density_lines(N, 3, generator=generator)[:, 0]
    mask = drawn.clone()
    mask[N // 2 + 1 :] = mask[1 : N // 2].flip(0)  # negative rows mirror the positive ones
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


def metrics(cases: list[dict]) -> dict[str, object]:
    """Means over all cases, and flip minus no flip, averaged within each slice first: slices are
    the units.
    """
    mean = {name: statistics.mean(c[name] for c in cases) for name in cases[0] if name != "slice"}
    result = {
        "network": {"psnr_db": mean["psnr_no_flip_db"]},
        "front_end": {"psnr_db": mean["psnr_zero_filled_db"]},
        "psnr_flip_db": mean["psnr_flip_db"],
        "n_cases": len(cases),
    }
    for label, flip, no_flip in (
        ("flip_gain_db", "psnr_flip_db", "psnr_no_flip_db"),
        ("flip_row4_error", "row4_flip", "row4_no_flip"),
    ):
        units = {}
        for case in cases:
            units.setdefault(case["slice"], []).append(case[flip] - case[no_flip])
        values = [statistics.mean(unit) for unit in units.values()]
        error = statistics.stdev(values) / math.sqrt(len(values))
        result |= {
            label: statistics.mean(values),
            f"{label}_standard_error": error,
            f"{label}_ci": [
                statistics.mean(values) - 1.96 * error,
                statistics.mean(values) + 1.96 * error,
            ],
            f"{label}_by_slice": values,
        }
    return result


def save(group: str, cases: list[dict], seconds: float) -> None:
    store.save_record(
        store.record(
            experiment="reconstruct",
            task="mri_single",
            network="deep-mri-published",
            method="deep-mri",
            seed=SEED,
            profile="standard",
            metrics=metrics(cases),
            seconds=seconds,
            inputs=[pretrained.FILES["deep-mri"]],
            parameters={
                "question": QUESTION,
                "group": group,
                "slices": list(dict.fromkeys(c["slice"] for c in cases)),
            },
        )
    )


def verdict(metrics: dict) -> str:
    if abs(metrics["flip_gain_db"]) <= 3 * metrics["flip_gain_db_standard_error"]:
        return "undecided"
    return "flip" if metrics["flip_gain_db"] > 0 else "no flip"


@torch.no_grad()
def main(n_slices: int) -> None:
    nets = {
        "no_flip": pretrained.network("deep-mri"),
        "flip": pretrained.network("deep-mri", flip_filters=True),
    }
    series = {"vs-seg-001": data.dicom_series("vs-seg-001", N)}
    series |= {
        name: data.volume(name, N, n_slices)
        for name in ("chris_t1", "chris_PD", "MR_Gd", "M2208_T2w", "T2w")
    }
    ct = {"aapm": torch.cat([data.aapm(split, N) for split in ("val", "test")])}

    def real(images):
        return [
            {"slice": f"{subject}/{i}"}
            | compare(
                with_phase(x[None], strength, f"{subject}/{i}"),
                variable_density_lines(
                    N, 3, generator=profiles.generator(SEED, f"mask/{subject}/{i}")
                ),
                nets,
            )
            for subject, slices in images.items()
            for i, x in enumerate(slices)
            for strength in (0.0, 2.0)
        ]

    def mask_only(images):
        cases = []
        for subject, slices in images.items():
            for i, x in enumerate(slices):
                x = with_phase(x[None], 2.0, f"{subject}/{i}")
                mask = one_sided_mask(profiles.generator(SEED, f"one-sided/{subject}/{i}"))
                for turned in (x, rotated(x), x.conj(), rotated(x).conj()):
                    cases.append({"slice": f"{subject}/{i}"} | compare(turned, mask, nets))
        return cases

    some = {name: slices[:: max(1, len(slices) // 4)][:4] for name, slices in series.items()}
    for group, experiment, images in (
        ("real", real, series),
        ("real ct", real, ct),
        ("mask only", mask_only, some),
    ):
        started = time.time()
        save(group, experiment(images), round(time.time() - started, 1))


def recorded() -> dict[str, dict]:
    found = store.records(experiment="reconstruct", network="deep-mri-published", method="deep-mri")
    return {
        r["parameters"]["group"]: r["metrics"]
        for r in found
        if r["parameters"].get("question") == QUESTION
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--again", action="store_true", help="measure, also where records exist")
    parser.add_argument("--slices", type=int, default=4, help="slices of each MR volume")
    arguments = parser.parse_args()
    if arguments.again or not recorded():
        main(arguments.slices)
    for group, values in recorded().items():
        before, after = values["front_end"]["psnr_db"], values["network"]["psnr_db"]
        error, spread = values["flip_row4_error"], values["flip_row4_error_standard_error"]
        print(
            f"{group:10s} zero-filled {before:.2f}, no flip {after:.2f}, "
            f"flip {values['psnr_flip_db']:.2f} dB; flip - no flip {values['flip_gain_db']:+.4f} "
            f"+- {values['flip_gain_db_standard_error']:.4f} dB, row +4 error {error:+.5f} +- "
            f"{spread:.5f} ({values['n_cases']} cases)"
        )
    print("verdict:", verdict(recorded()["mask only"]))
