"""Fits around trained networks, the detection study end to end at its smallest, verdicts on made-up
records.
"""

import dataclasses
from pathlib import Path

import pytest
import torch

from instab_utils import store, training
from instab_utils.uncertainty import fits, study, verdicts
from instab_utils.uncertainty.__main__ import shipped
from instab_utils.uncertainty.fits import fit

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module", autouse=True)
def offline(tmp_path_factory):
    """Phantoms for data, and a store of our own."""
    results = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSTAB_RESULTS", str(results))
        patch.setenv("INSTAB_DATA", str(results / "no data"))
        patch.setenv("INSTAB_OFFLINE", "1")
        yield results


# --- fits ---


def test_a_key_counts_what_decides_the_outcome_and_nothing_else():
    usual = fit("interval")
    assert usual.key == fit("interval", penalty=3.0, lr=1.0).key
    others = [
        fit("interval", beta=1e-2),
        fit("interval", n_layers=5),
        fit("interval", seed=1),
        fit("interval", rate=0.1),
        fit("interval", "unet-limited"),
        fit("interval", "dncnn-published"),
        fit("probout"),
        fit("probout", penalty=3.0),
        fit("probout", form="printed"),
        fit("interval", profile="smoke"),
    ]
    assert len({usual.key, *(other.key for other in others)}) == 1 + len(others)
    assert fit("probout").key == fit("probout", beta=1.0, n_layers=2).key
    changed = dataclasses.replace(usual, base=training.recipe("dncnn", steps=1))
    assert changed.key != usual.key


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(method="ensemble"), 'method "interval" or "probout"'),
        (dict(method="interval", base="deep-mri"), "base of dncnn"),
        (dict(method="interval", base="unet-limited-published"), "dncnn-published"),
        (dict(method="interval", width=3), "no field width"),
    ],
)
def test_what_cannot_be_fitted_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        fit(**wrong)


@pytest.mark.parametrize(
    "method, base",
    [
        ("interval", "dncnn"),
        ("probout", "dncnn"),
        ("interval", "unet-limited"),
        ("probout", "unet-limited"),
        ("interval", "med-50"),
    ],
)
def test_a_fit_is_stored_and_is_the_same_network_again(method, base):
    spec = fit(method, base, profile="smoke", steps=6)
    first, again = (
        store.load_or_train(spec, progress=False),
        store.load_or_train(spec, progress=False),
    )
    assert first.key == again.key and spec.weights in first.key
    x_in, x = fits.inputs(spec.base, 1, "validate", image_size=32)
    one, two = first.network.predict(x_in), again.network.predict(x_in)
    assert all(torch.equal(a, b) for a, b in zip(one, two))
    assert bool(
        (one.spread >= 0).all() and (one.lower <= one.mean).all() and (one.mean <= one.upper).all()
    )
    assert one.spread.max() > 0
    base_net = spec.network()
    if method == "interval":
        assert torch.equal(one.mean, base_net(x_in))
        assert not any("net" in name for name in again.network.state_dict())
    assert not again.network.training and not any(
        p.requires_grad for p in again.network.parameters()
    )
    assert {"loss", "coverage", "width"} <= set(first.card["validation"])


def test_a_fit_lowers_its_loss():
    """From widths zero, where the loss is the mean squared error."""
    spec = fit("interval", profile="smoke", steps=60, beta=1e-3)
    model, card = spec.train(progress=False)
    x_in, x = fits.inputs(spec.base, 8, "validate")
    assert card["validation"]["loss"] < 0.8 * (spec.network()(x_in) - x).square().mean().item()
    assert all(bool((w >= 0).all()) for w in model.parameters())


def test_a_rate_that_explodes_stops_after_one_step_and_says_the_cure():
    with pytest.raises(
        training.Diverged,
        match=r"after one step the mean width .* Take a smaller rate \(now 1000\)",
    ):
        fit("interval", profile="smoke", rate=1e3).train(progress=False)


@pytest.mark.parametrize("name, seed", [("layer", 0), ("uniform", 0)])
def test_the_first_step_has_the_width_that_the_rate_promises(name, seed):
    spec = fit("interval", profile="smoke", steps=1, rate=1e-3, spread_rate=name, seed=seed)
    model, _ = spec.train(progress=False)
    what = training.task("dncnn", spec.base.image_size)
    y, _, A = training.batches(
        dataclasses.replace(spec.base, batch_size=spec.batch_size, seed=1000), what
    )[0](0)
    width = model.predict(fits.network_input("denoising", A, y)).spread.mean().item()
    # dropout was on in the step, some widths went down and were clipped
    assert width == pytest.approx(1e-3, rel=0.3)


@pytest.mark.parametrize("spec", shipped(), ids=lambda spec: spec.weights)
def test_shipped_fits_belong_to_what_makes_them(spec, monkeypatch):
    monkeypatch.setenv("INSTAB_RESULTS", str(ROOT / "results"))
    state, card = store.load_weights(spec.weights)
    assert card["key"] == spec.key
    assert card["device"] and card["seconds"] > 0 and card["steps"] == spec.steps
    if spec.method == "interval":
        assert all(bool((w >= 0).all()) for w in state.values())


# --- the study ---


@pytest.mark.parametrize("task", list(study.TASKS))
def test_inputs_can_be_measured_again(task):
    group = study.images(task, "smoke")[0]
    torch.testing.assert_close(group.remeasure(group.originals), group.x_in, rtol=0, atol=1e-6)
    assert group.x.shape == group.x_in.shape
    assert task != "denoising" or (group.x_in.min() >= 0 and group.x_in.max() <= 1)


@pytest.mark.parametrize("task, n", [("denoising", 3), ("ct_limited", 2)])
def test_every_alarm_meets_every_change(task, n):
    made = study.rows(task, 0, "smoke")
    methods = {"interval", "dropout", "probout", *(f"null-{kind}" for kind in study.NULL_DETECTORS)}
    assert {r["method"] for r in made} == methods
    forms = (
        1 + 4 + 2 + len(study.NULL_DETECTORS)
    )  # of dropout: fresh and shared masks, variance and std
    assert len(made) == forms * n
    # looked up, not made again
    assert {r["key"] for r in study.rows(task, 0, "smoke")} == {r["key"] for r in made}
    for r in made:
        m = r["metrics"]
        assert len(m["pearson_r_images"]) == m["n_images"] and m["pearson_r_ci"]
        assert abs(m["pearson_r"] - sum(m["pearson_r_images"]) / m["n_images"]) < 1e-4
        assert (r["paper"] is not None) == (
            r["method"] in ("interval", "dropout", "probout")
            and r["parameters"]["amount"] != 0.1
            and r["parameters"]["spread"] == "variance"
        )
    [random] = verdicts.select(made, experiment="adv_detect", method="null-random")
    assert abs(random["metrics"]["pearson_r"]) < 0.2 and abs(random["metrics"]["auroc"] - 0.5) < 0.1
    [raw] = verdicts.select(made, experiment="adv_detect", method="null-input")
    assert raw["metrics"]["width"] == 0


def test_the_attack_goes_where_it_was_sent():
    networks, _ = study.detectors("denoising", "smoke", 0)
    group = study.images("denoising", "smoke")[0]
    change = study.attack("denoising", networks["base"], group, "smoke")
    moved = (networks["base"](change.x_in) - networks["base"](group.x_in)).square()
    inside, outside = (moved[where].mean() for where in (change.mask, ~change.mask))
    assert inside > 3 * outside and change.x_in.min() >= 0 and change.x_in.max() <= 1


# --- verdicts, on records whose answer is known ---


def made_up(method, seed, values, averaged, split="validate", experiment="adv_detect", **about):
    spread = about.pop("spread", "variance")
    return {
        "method": method,
        "seed": seed,
        "experiment": experiment,
        "parameters": {"spread": spread, "amount": 0.5, **about},
        "metrics": {
            "auroc": sum(values) / len(values),
            "auroc_images": values,
            "auroc_averaged": sum(averaged) / len(averaged),
            "auroc_averaged_images": averaged,
        },
    }


def test_the_form_is_the_best_in_the_mean_over_experiments():
    records = [
        made_up("dropout", 0, [0.6, 0.6], [0.7, 0.7], masks="shared"),
        made_up("dropout", 0, [0.9, 0.9], [0.5, 0.5], masks="fresh"),
        made_up("dropout", 0, [0.6, 0.6], [0.8, 0.8], masks="shared", experiment="art_detect"),
        made_up("dropout", 0, [0.3, 0.3], [0.5, 0.5], masks="fresh", experiment="art_detect"),
        made_up("null-random", 0, [0.5, 0.5], [0.5, 0.5]),
        made_up("null-input", 0, [0.4, 0.4], [0.8, 0.8]),
    ]
    chosen = verdicts.choose(records, "auroc")
    form, score = chosen["dropout"]
    assert (dict(form.about), form.suffix, score) == (
        {"masks": "shared"},
        "_averaged",
        pytest.approx(0.75),
    )
    assert str(form) == "dropout, shared, variance, 7 x 7"
    assert verdicts.best_null(chosen).method == "null-input"


def test_means_over_seeds_and_paired_gains():
    records = [
        *(
            made_up("interval", s, [0.5 + s / 10, 0.7 + s / 10], [0, 0], n_layers=8)
            for s in (0, 1, 2)
        ),
        *(made_up("null-input", s, [0.4, 0.6], [0, 0]) for s in (0, 1, 2)),
    ]
    ours, null = (
        next(f for f in verdicts.forms(records) if f.method == m and not f.suffix)
        for m in ("interval", "null-input")
    )
    mean, std = verdicts.over_seeds(records, ours, "auroc")
    assert (mean, std) == (pytest.approx(0.7), pytest.approx(0.1))
    gain = verdicts.gain(records, ours, null, "auroc")
    # every image gains as much
    assert gain.mean == pytest.approx(0.2) and gain.low == pytest.approx(0.2) == gain.high
