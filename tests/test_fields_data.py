"""What fields reconstruct, and the classical methods on it: data of another matrix than A, closed
forms, choices on validation.
"""

import math

import numpy as np
import pytest
import torch

from instab_utils import metrics, profiles, solvers
from instab_utils.data import phantoms
from instab_utils.fields import scans
from instab_utils.operators import Radon, measured_finely
from instab_utils.papers.vasconcelos2021 import baselines, published


def relative(a, b):
    return ((a - b).flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)).max().item()


def test_phantom_scan_is_no_inverse_crime():
    """The data agree with A x to some per cent, as two discretisations do, for several phantoms and
    the paper's angles.
    """
    scan = scans.phantom_scan((1, 6), 5, 32)
    assert scan.x.shape == (2, 1, 32, 32) and scan.x.min() == 0 and scan.x.max() <= 1
    assert scan.y.shape == (
        2,
        1,
        *scan.A.sinogram_shape,
    ) and scan.A.angles_deg.tolist() == pytest.approx([0, 36, 72, 108, 144])
    assert 0.01 < relative(scan.y, scan.A(scan.x)) < 0.08
    assert relative(scan.y.sum(3), scan.A(scan.x).sum(3)) < 5e-3  # no mass is lost
    crime = scans.phantom_scan((1, 6), 5, 32, crime=True)
    assert torch.equal(crime.y, crime.A(crime.x)) and torch.equal(crime.x, scan.x)
    assert torch.equal(scans.phantom_scan(6, 5, 32).y, scan.y[1:])


def test_the_data_are_the_closed_form_where_nothing_is_clipped():
    """Means of the exact line integrals over each bin, at even and odd sizes."""
    for n, n_detectors in ((64, None), (33, 40)):
        A = Radon(n, [0, 9, 45, 77.7, 90], n_detectors)
        fine = phantoms.raster(phantoms.SHEPP_LOGAN, 8 * n)
        exact = phantoms.ellipse_sinogram(
            phantoms.SHEPP_LOGAN, A.angles_deg, A.n_detectors, n, bin_average=True
        )
        assert relative(measured_finely(fine, A), exact) < 2e-3
        assert relative(A(scans._shrunk(fine, n)), exact) > 2e-2  # what A itself makes of the truth


def test_the_truth_is_the_clipped_raster():
    fine = phantoms.raster(phantoms.shepp_logan_family(9), 512)
    assert fine.min() < -0.5 and fine.max() > 1.005
    scan = scans.phantom_scan(9, 5, 32)
    assert torch.allclose(
        scan.x, fine.clamp(0, 1).view(1, 1, 32, 16, 32, 16).mean((3, 5)), atol=1e-6
    )
    assert scans.phantom_scan(0, 5, 30).x.shape[-1] == 30  # a raster of 540
    assert set(scans.VALIDATION).isdisjoint(scans.TEST) and scans.FREE not in (
        *scans.VALIDATION,
        *scans.TEST,
    )
    assert torch.equal(
        scans.interior(torch.tensor([0.0, 1e-30, 0.5, 1.0])),
        torch.tensor([False, True, True, False]),
    )
    assert 0.3 < scans.interior(scan.x).float().mean() < 0.7


def test_a_slice_with_noise_of_that_strength():
    """The files where they are, an ellipse phantom where not."""
    clean, noisy = (
        scans.aapm_scan(1, 12, 32, 40.0, generator)
        for generator in (None, profiles.generator(0, "noise"))
    )
    noise = noisy.y - clean.y
    assert (
        20 * math.log10(clean.y.norm() / noise.norm()) == pytest.approx(40, abs=0.5)
        and abs(noise.mean()) < 0.2 * noise.std()
    )
    assert (
        torch.equal(clean.x, noisy.x)
        and relative(clean.y, clean.A(clean.x)) < 0.08
        and clean.x.shape == (1, 1, 32, 32)
    )
    assert torch.equal(noisy.y, scans.aapm_scan(1, 12, 32, 40.0, profiles.generator(0, "noise")).y)


@pytest.mark.real_data
def test_tooth_and_slices(real_data):
    scan = scans.tooth_scan(20, 8)
    assert scan.x.shape == (1, 1, 45, 45) and scan.y.shape == (1, 1, 20, 45)
    steps = scan.A.angles_deg.diff()
    assert steps.min() > 8.9 and steps.max() < 9.1 and scan.A.angles_deg[0] == 0
    x = solvers.sirt(scan.A, scan.y, 100, bounds=(0, None)).x
    # what `scale` was made for
    assert x.max().item() == pytest.approx(1, abs=1e-4) and relative(scan.A(x), scan.y) < 0.05
    assert (
        0.8 < scan.x.max() < 1.2
        and relative(scan.A(scan.x), scan.y) < 0.15
        and relative(x, scan.x) < 0.3
    )
    assert scans.tooth_scan(20, 4).scale != scan.scale
    with pytest.raises(ValueError, match="9 AAPM validation slices; got index=9"):
        scans.aapm_scan(9, 12, 32, split="validate")


# -- baselines


def test_tune_takes_the_best_iterate_and_its_image():
    scan = scans.phantom_scan(1, 20, 32)
    method = baselines.Method("em", "nonnegative", 60)
    n_iter, x = baselines.tune(method, scan)
    assert torch.equal(x, baselines.solve(method, scan, n_iter))
    psnr = [
        metrics.psnr_db(baselines.solve(method, scan, k).clamp(0, 1), scan.x, peak=1).item()
        for k in range(61)
    ]
    assert n_iter == int(np.argmax(psnr)) < 60  # with another matrix EM is semi-convergent
    # with the same one it is not
    assert baselines.tune(method, scans.phantom_scan(1, 20, 32, crime=True))[0] == 60
    assert baselines.tune(baselines.Method("fbp", "none", 0), scan)[0] == 0


def test_constraints_hold():
    scan = scans.phantom_scan((6, 7), 5, 32)
    for method in baselines.METHODS:
        x = baselines.solve(method, scan, 1e-3 if method.name == "tv" else 3)
        low, high = baselines.BOUNDS[method.constraint] or (None, None)
        assert x.shape == scan.x.shape and (high is None or x.max() <= high)
        # a weight this large makes TV nearly constant
        assert method.name == "tv" or bool(x.min() >= 0) == (low == 0)


def test_run_chooses_on_validation_and_records(tmp_path, monkeypatch):
    monkeypatch.setenv("INSTAB_RESULTS", str(tmp_path))
    small = tuple(m for m in baselines.METHODS if m.name in ("fbp", "em"))
    monkeypatch.setattr(baselines, "METHODS", small)
    made = baselines.run("smoke")
    assert len(made) == 2 * 2 * len(small)
    for validate, test in zip(made[::2], made[1::2], strict=True):
        same = ("n_iter", "n_views", "constraint", "image_size")
        assert [validate["parameters"][k] for k in same] == [test["parameters"][k] for k in same]
        assert (validate["parameters"]["split"], test["parameters"]["split"]) == (
            "validate",
            "test",
        )
        assert (validate["paper"]["value"], test["paper"]["value"]) == published.CLASSICAL[
            test["parameters"]["n_views"], test["method"]
        ]
    r = made[-1]
    scan = scans.phantom_scan(6, 20, 32)
    x = baselines.solve(baselines.Method("em", "nonnegative", 20), scan, r["parameters"]["n_iter"])
    assert r["method"] == "em" and r["metrics"]["psnr_db"] == pytest.approx(
        -10 * math.log10((x - scan.x).square().mean()), abs=1e-4
    )
    # one image
    assert (
        r["metrics"]["psnr_clipped_db"] > r["metrics"]["psnr_db"]
        and r["metrics"]["psnr_db_ci"] is None
    )
    monkeypatch.setattr(baselines, "_compute", None)  # would fail if it were asked again
    assert [a["metrics"] for a in baselines.run("smoke")] == [a["metrics"] for a in made]
