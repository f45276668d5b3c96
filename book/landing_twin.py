"""Record the exhibit 07-deep_mri-twin: the scan of 07-deep_mri with a random change as large as the
worst one, for the first page.
"""

import numpy as np
import torch

from instab_utils import attacks, data, metrics, profiles, store, training

kept, about = store.load_exhibit("07-deep_mri")
seed, strength = about["seed"], float(kept["strengths"][-1])
try:
    size = profiles.get(about["profile"]).image_size
    case = training.case("deep-mri-published", n_images=1, seed=seed, image_size=size, tv=False)
except data.DataUnavailable as missing:
    print(f"07-deep_mri-twin stays as it is. {missing}")
    raise SystemExit(0) from None
twin = attacks.random_twin(
    torch.ones_like(case.x), profiles.generator(seed, "twin of the first page")
)
twin *= strength * case.x.norm() / twin.norm()
before, after = case.f(case.y), case.f(case.y + case.A(twin))

cut = slice(case.x.shape[-1] // 10, -(case.x.shape[-1] // 10))


def grey(image):
    return (
        (255 * (image.abs()[0, 0, cut, cut] / case.x.abs().max()).clamp(0, 1))
        .round()
        .byte()
        .numpy()
    )


if np.abs(grey(case.x).astype(int) - np.asarray(kept["x"])).max() > 1:
    raise SystemExit(
        "the scan is not that of the exhibit 07-deep_mri: run chapter 07 first (make results)"
    )
store.save_exhibit(
    "07-deep_mri-twin",
    {
        "pictures": grey(case.x + twin),
        "network": grey(after),
        "dB network": metrics.psnr_db(after, case.x).item(),
        "gain": ((after - before).norm() / twin.norm()).item(),
        "strength": (twin.norm() / case.x.norm()).item(),
    },
    data=about["data"],
    profile=about["profile"],
    seed=seed,
    note=about["note"],
)
print("07-deep_mri-twin: written")
