"""Alarms of fields: the attack against linear algebra and against gradient descent, norms,
thresholds, records.
"""

import pytest
import torch

from instab_utils import attacks, profiles
from instab_utils.fields import TEST, linearised_fit, phantom_scan
from instab_utils.operators import Radon
from instab_utils.papers.vasconcelos2021 import field_alarms
from instab_utils.papers.vasconcelos2021.settings import Setting
from instab_utils.papers.vasconcelos2021.trials import train
from instab_utils.uncertainty import detection

SMALL = Setting(image_size=16, n_frequencies=8, width=8, p=0.0, steps=10)


def small_field(n=8, activation="silu"):
    """A field in float64, and the views of n pixels a side."""
    setting = Setting(image_size=n, n_frequencies=4, width=6, p=0.0, activation=activation)
    return setting.field(1).double().requires_grad_(False), Radon(n, torch.arange(5) * 36.0)


# --- the attack ---


def test_the_top_direction_of_a_matrix_is_its_first_singular_vector():
    draw = torch.Generator().manual_seed(0)
    M = torch.randn(30, 20, generator=draw, dtype=torch.float64)
    start = torch.randn(20, generator=draw, dtype=torch.float64)
    r = linearised_fit.top_direction(lambda r: M @ r, lambda x: M.T @ x, start, 400)
    _, s, v = torch.linalg.svd(M)
    assert float((M @ r).norm()) == pytest.approx(float(s[0])) and abs(
        float(r @ v[0])
    ) == pytest.approx(1, abs=1e-6)
    twins = attacks.random_twin(r[None], draw, 20)[:, 0]
    assert float((twins @ M.T).norm(dim=1).max()) < float((M @ r).norm())


@pytest.mark.parametrize("activation", ["silu", "sine"])
def test_the_kernel_is_that_of_all_derivatives(activation):
    field, _ = small_field(activation=activation)
    J = torch.func.jacrev(lambda theta: field.render(8, theta).flatten())(field.flat())[:, 0]
    assert torch.allclose(linearised_fit.kernel(field, 8), J @ J.T, rtol=1e-6)
    with pytest.raises(ValueError, match="one field; got 2"):
        linearised_fit.kernel(type(field).stack([SMALL.field(1), SMALL.field(2)]), 8)


def test_the_response_is_gradient_descent_on_a_small_change():
    """7 real steps of the real field, from a scan that it fits exactly; and forward and adjoint are
    transposes.
    """
    field, A = small_field()
    n_steps, unit, theta = 7, 8, field.flat()
    linear = linearised_fit.response(field, A, n_steps)
    draw = profiles.generator(0, "change")
    e = torch.randn(1, 1, *A.sinogram_shape, generator=draw, dtype=torch.float64)
    goal, moved = A(field.render(8)) + 1e-6 * e, theta.clone()
    for _ in range(n_steps):
        moved.requires_grad_()
        loss = ((A(field.render(8, moved)) - goal) / unit).square().sum() / 2
        moved = (moved - torch.autograd.grad(loss, moved)[0] / linear.rate).detach()
    change = (field.render(8, moved) - field.render(8, theta)) / 1e-6
    assert torch.allclose(linear.image(e), change, rtol=1e-3, atol=1e-4 * float(change.abs().max()))
    x = torch.randn(1, 1, 8, 8, generator=draw, dtype=torch.float64)
    assert float((linear.image(e) * x).sum()) == pytest.approx(
        float((e * linear.adjoint(x)).sum()), rel=1e-8
    )


def test_many_steps_answer_every_change_that_the_field_can_make():
    field, A = small_field()
    back = A.adjoint(
        torch.randn(
            1, 1, *A.sinogram_shape, generator=profiles.generator(0, "views"), dtype=torch.float64
        )
    )
    # a change of the image that weights can make
    x = (linearised_fit.kernel(field, 8) @ back.flatten()).view(1, 1, 8, 8)
    answer = linearised_fit.response(field, A, 10**7).image(A(x))
    assert float((answer - x).norm() / x.norm()) < 1e-3


# --- failures ---


def test_failing_scans_are_what_they_are_called():
    scan = phantom_scan(TEST[:2], field_alarms.VIEWS, 16)
    found = {
        failure.kind: (failure, changed)
        for failure, changed in field_alarms.failures(scan, TEST[:2], SMALL)
    }
    assert set(found) == {"worst case", "random twin", "details", "fewer views"}
    for kind in ("worst case", "random twin"):
        failure, changed = found[kind]
        assert failure.mask is None and torch.equal(failure.x, scan.x)
        # A is injective here
        r = torch.linalg.lstsq(
            scan.A(torch.eye(256).view(256, 1, 16, 16)).flatten(1).T.double(),
            (changed.y - scan.y).flatten(1).T.double(),
        ).solution
        assert (r.norm(dim=0) / scan.x.flatten(1).norm(dim=1)).tolist() == pytest.approx(
            [field_alarms.STRENGTH] * 2, rel=2e-3
        )
    details, changed = found["details"]
    drawn = details.x - scan.x
    assert (
        drawn.min() >= 0
        and drawn.max() <= field_alarms.CONTRAST + 1e-5
        and changed.y.shape == scan.y.shape
    )
    # less where there is no room below 1
    assert drawn[~details.mask].max() < 0.16 and (drawn[details.mask] > 0.15).float().mean() > 0.5
    # mass
    assert (changed.y - scan.y)[:, :, 0].sum((1, 2)).tolist() == pytest.approx(
        drawn.sum((1, 2, 3)).tolist(), rel=0.02
    )
    fewer, changed = found["fewer views"]
    assert (
        changed.y.shape[2] == field_alarms.FEWER_VIEWS
        and torch.equal(fewer.x, scan.x)
        and fewer.mask is None
    )


def test_a_worst_case_is_repeated_and_beats_its_twins():
    """After fitting anew, not in the linear stand-in."""
    setting = Setting(image_size=16, n_frequencies=16, width=16, p=0.0, steps=150)
    scan = phantom_scan(TEST[:1], field_alarms.VIEWS, 16)
    r = field_alarms.worst_case(setting, scan, TEST[0])
    assert torch.equal(r, field_alarms.worst_case(setting, scan, TEST[0]))
    tried = torch.cat(
        [0 * r, r, attacks.random_twin(r, profiles.generator(0, "twins"), 8).flatten(0, 1)]
    )
    changed = scan._replace(y=scan.y + scan.A(tried))
    images = train([setting] * 10, changed, TEST[:1] * 10, n_samples=1)[0][0]
    change = (images - images[:1]).flatten(1).norm(dim=1)
    assert change[1] > change[2:].max()


# --- alarms and records ---


def test_alarms_are_repeated_and_of_different_fields(monkeypatch):
    monkeypatch.setattr(field_alarms, "N_SAMPLES", 5)
    members = field_alarms.settings("de-5", "smoke")
    assert len({s.seed for s in members}) == field_alarms.N_MEMBERS
    scan = phantom_scan(TEST[:2], field_alarms.VIEWS, 32)
    for alarm in field_alarms.ALARMS:
        first, again = (field_alarms.predict(alarm, scan, TEST[:2], "smoke") for _ in range(2))
        assert torch.equal(first.mean, again.mean) and torch.equal(first.spread, again.spread)
        assert first.spread.shape == scan.x.shape and first.spread.mean() > 0


def test_a_threshold_is_exceeded_by_a_twentieth_of_what_set_it():
    means = torch.rand(200, generator=profiles.generator(0, "means"))
    assert int((means > detection.threshold(means)).sum()) == 10
    assert detection.threshold(means[:5]) == float(means[:5].max())  # of five: their largest


def any_direction(setting, scan, id):
    r = torch.randn(scan.x.shape, generator=profiles.generator(id, "direction"))
    return field_alarms.STRENGTH * scan.x.norm() * r / r.norm()


def test_records_are_whole_and_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("INSTAB_RESULTS", str(tmp_path))
    monkeypatch.setattr(field_alarms, "worst_case", any_direction)  # the attack has its own tests
    monkeypatch.setattr(field_alarms, "N_SAMPLES", 5)
    made = field_alarms.run("smoke")
    assert {(r["method"], r["parameters"]["failure"]) for r in made} == {
        (a, f)
        for a in field_alarms.ALARMS
        for f in ("worst case", "random twin", "details", "fewer views")
    }
    for r in made:
        about, found = r["parameters"], r["metrics"]
        attack = about["failure"] in ("worst case", "random twin")
        assert (r["experiment"], r["task"], r["network"]) == ("alarm", "ct_field", "field")
        assert about["n_views"] == (
            field_alarms.FEWER_VIEWS if about["failure"] == "fewer views" else field_alarms.VIEWS
        )
        failed, clean, tv = (found[part] for part in ("failed", "clean", "tv"))
        assert {"corr_error", "rings", "psnr_db"} <= set(failed) and "image_auroc" in found
        assert {"rings", "psnr_db"} <= set(clean) and {"psnr_db", "psnr_clean_db"} <= set(tv)
        assert ("auroc" in failed) == ("auroc" in clean) == (about["failure"] != "fewer views")
        assert ("amplification" in failed) == ("amplification" in tv) == attack
        assert found["n_images"] == 2
    monkeypatch.setattr(field_alarms, "failures", None)  # would fail if it were asked again
    again = field_alarms.run("smoke")
    assert sorted(r["key"] for r in again) == sorted(r["key"] for r in made)
    assert {r["key"]: r["metrics"] for r in again} == {r["key"]: r["metrics"] for r in made}
