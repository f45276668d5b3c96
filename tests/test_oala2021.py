"""Fits around trained networks, Table 1 and alarms at their smallest, forms on made-up records."""

import dataclasses
import hashlib
import json
from pathlib import Path

import alarm_records
import pytest
import torch

from instab_utils import profiles, store, training
from instab_utils.data import image_pools
from instab_utils.papers.oala2021 import alarms, changes, detectors, forms, shipped_fits, table1
from instab_utils.stability.alarms import Failure, image_auroc, scores
from instab_utils.store import rows
from instab_utils.uncertainty import fits
from instab_utils.uncertainty.fits import fit_recipe
from instab_utils.uncertainty.null_detectors import NULL_DETECTORS, NullDetector

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module", autouse=True)
def offline(tmp_path_factory, smoke_weights):
    """Small pools of phantoms for data, and a store of our own, but for the weights."""
    results = tmp_path_factory.mktemp("results")
    (results / "weights").symlink_to(smoke_weights)
    draw = image_pools._real_or_phantoms

    def few(kind, size, split, n=None):
        return draw(kind, size, split, n or 40)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSTAB_RESULTS", str(results))
        patch.setenv("INSTAB_DATA", str(results / "no data"))
        patch.setenv("INSTAB_OFFLINE", "1")
        patch.setattr(image_pools, "_real_or_phantoms", few)
        yield results


# --- fits ---


def test_a_key_counts_what_decides_the_outcome_and_nothing_else():
    usual = fit_recipe("interval")
    assert usual.key == fit_recipe("interval", penalty=3.0, lr=1.0).key
    others = [
        fit_recipe("interval", beta=1e-2),
        fit_recipe("interval", n_layers=5),
        fit_recipe("interval", seed=1),
        fit_recipe("interval", rate=0.1),
        fit_recipe("interval", "unet-limited"),
        fit_recipe("probout"),
        fit_recipe("probout", penalty=3.0),
        fit_recipe("interval", profile="smoke"),
    ]
    assert len({usual.key, *(other.key for other in others)}) == 1 + len(others)
    assert fit_recipe("probout").key == fit_recipe("probout", beta=1.0, n_layers=2).key
    changed = dataclasses.replace(usual, base=training.recipe("dncnn", steps=1))
    assert changed.key != usual.key


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(method="ensemble"), 'method "interval" or "probout"'),
        (dict(method="interval", base="deep-mri"), "base of dncnn"),
    ],
)
def test_what_cannot_be_fitted_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        fit_recipe(**wrong)


@pytest.mark.parametrize(
    "method, base",
    [("interval", "dncnn"), ("probout", "dncnn"), ("interval", "unet-limited")],
)
def test_a_fit_is_stored_and_is_the_same_network_again(method, base):
    spec = fit_recipe(method, base, profile="smoke", steps=6)
    first, again = (store.load_or_train(spec, progress=False) for _ in range(2))
    assert first.key == again.key and spec.weights in first.key
    x_in, x = fits.inputs(spec.base, 1, "validate", image_size=32)
    one, two = first.network.predict(x_in), again.network.predict(x_in)
    assert all(torch.equal(a, b) for a, b in zip(one, two))
    assert (one.spread >= 0).all() and one.spread.max() > 0
    assert (one.lower <= one.mean).all() and (one.mean <= one.upper).all()
    if method == "interval":
        base_net = store.load_or_train(spec.base).network
        assert torch.equal(one.mean, base_net(x_in))
        assert not any("net" in name for name in again.network.state_dict())
    assert not again.network.training
    assert not any(p.requires_grad for p in again.network.parameters())
    assert {"loss", "coverage", "width"} <= set(first.card["validation"])


def test_a_fit_lowers_its_loss():
    """From widths zero, where the loss is the mean squared error."""
    spec = fit_recipe("interval", profile="smoke", steps=60, beta=1e-3)
    model, card = spec.train(progress=False)
    x_in, x = fits.inputs(spec.base, 8, "validate")
    base_net = store.load_or_train(spec.base).network
    assert card["validation"]["loss"] < 0.8 * (base_net(x_in) - x).square().mean().item()
    assert all(bool((w >= 0).all()) for w in model.parameters())


def test_a_rate_that_explodes_stops_after_one_step_and_says_the_cure():
    with pytest.raises(
        training.Diverged,
        match=r"after one step the mean width .* Take a smaller rate \(now 1000\)",
    ):
        fit_recipe("interval", profile="smoke", rate=1e3).train(progress=False)


def test_the_first_step_has_the_width_that_the_rate_promises():
    spec = fit_recipe("interval", profile="smoke", steps=1, rate=1e-3)
    model, _ = spec.train(progress=False)
    problem = training.task("dncnn", spec.base.image_size)
    base = dataclasses.replace(spec.base, batch_size=spec.batch_size, seed=1000)
    y, _, A = training.batches(base, problem)[0](0)
    width = model.predict(fits.network_input("denoising", A, y)).spread.mean().item()
    # dropout was on in the step, some widths went down and were clipped
    assert width == pytest.approx(1e-3, rel=0.3)


@pytest.mark.parametrize("spec", shipped_fits(), ids=lambda spec: spec.weights)
def test_shipped_fits_belong_to_what_makes_them(spec, monkeypatch):
    monkeypatch.setenv("INSTAB_RESULTS", str(ROOT / "results"))
    state, card = store.load_weights(spec.weights)
    assert card["key"] == spec.key
    assert card["device"] and card["seconds"] > 0 and card["steps"] == spec.steps
    if spec.method == "interval":
        assert all(bool((w >= 0).all()) for w in state.values())


# --- Table 1 ---


@pytest.mark.parametrize("task", list(changes.NETWORKS))
def test_inputs_can_be_measured_again(task):
    group = changes.image_groups(task, "smoke")[0]
    torch.testing.assert_close(group.remeasure(group.originals), group.x_in, rtol=0, atol=1e-6)
    assert group.x.shape == group.x_in.shape
    assert task != "denoising" or (group.x_in.min() >= 0 and group.x_in.max() <= 1)


@pytest.mark.parametrize("task, n", [("denoising", 3), ("ct_limited", 2)])
def test_every_alarm_meets_every_change(task, n):
    records = table1.rows(task, 0, "smoke")
    methods = {"interval", "dropout", "probout", *(f"null-{kind}" for kind in NULL_DETECTORS)}
    assert {r["method"] for r in records} == methods
    n_forms = 1 + 4 + 2 + len(NULL_DETECTORS)  # of dropout: two kinds of masks, variance and std
    assert len(records) == n_forms * n
    # looked up, not computed again
    assert {r["key"] for r in table1.rows(task, 0, "smoke")} == {r["key"] for r in records}
    for r in records:
        assert set(r["metrics"]) == {*table1.VARIANTS, "clean", "n_images"}
        plain = r["metrics"]["plain"]
        values = plain["pearson_r_images"]
        assert len(values) == r["metrics"]["n_images"] and plain["pearson_r_ci"]
        assert abs(plain["pearson_r"] - sum(values) / len(values)) < 1e-4
        assert (r["paper"] is not None) == (
            r["method"] in ("interval", "dropout", "probout")
            and r["parameters"]["amount"] != 0.1
            and r["parameters"]["spread"] == "variance"
        )
    [random] = forms.select(records, experiment="adv_detect", method="null-random")
    plain = random["metrics"]["plain"]
    assert abs(plain["pearson_r"]) < 0.2 and abs(plain["auroc"] - 0.5) < 0.1
    [raw] = forms.select(records, experiment="adv_detect", method="null-input")
    assert raw["metrics"]["clean"]["width"] == 0


def test_the_attack_goes_where_it_was_sent():
    f = detectors.detection("denoising", "smoke", 0).networks["base"]
    group = changes.image_groups("denoising", "smoke")[0]
    change = changes.adversarial("denoising", f, group, "smoke")
    moved = (f(change.x_in) - f(group.x_in)).square()
    inside, outside = (moved[where].mean() for where in (change.mask, ~change.mask))
    assert inside > 3 * outside and change.x_in.min() >= 0 and change.x_in.max() <= 1


# n and SHA-256 of the shipped records, sorted, before their metrics were nested
BEFORE = {
    "adv_detect": (183, "d6d6975ac9f16f137e531993e4040171"),
    "art_detect": (268, "1951c69b4f577a659aa08ebb4f4d6c88"),
    "adaptive": (17, "78c92b2a21bf2ed4f03df1380c84a3ec"),
}
FIELDS = (*rows.QUESTION, "inputs", "metrics", "paper", "seconds", "device", "torch", "created")


def test_the_shipped_records_are_those_of_before():
    texts = {experiment: [] for experiment in BEFORE}
    for name in (*BEFORE, "alarm"):
        path = ROOT / "results" / "records" / f"{name}.jsonl"
        for row in map(json.loads, path.read_text().splitlines()):
            if row["created"] > "2026-11-25T12:00:00":
                continue
            experiment, metrics = alarm_records.before(row)
            changed = {**row, "experiment": experiment, "metrics": metrics}
            values = [changed[field] for field in FIELDS]
            text = json.dumps(values, sort_keys=True, separators=(",", ":"))
            texts[experiment].append(text)
    for experiment, found in texts.items():
        digest = hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()
        assert (len(found), digest[:32]) == BEFORE[experiment]


# --- forms, on records whose answer is known ---


def made_up(method, seed, values, averaged, experiment="adv_detect", **about):
    def of(values):
        return {"auroc": sum(values) / len(values), "auroc_images": values}

    return {
        "method": method,
        "seed": seed,
        "experiment": experiment,
        "parameters": {"spread": "variance", "amount": 0.5, **about},
        "metrics": {
            "plain": of(values),
            "averaged": of(averaged),
            "two_sided": {},
            "two_sided_averaged": {},
            "clean": {},
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
    chosen = forms.choose(records, "auroc")
    form, score = chosen["dropout"]
    assert (dict(form.about), form.variant, score) == (
        {"masks": "shared"},
        "averaged",
        pytest.approx(0.75),
    )
    assert str(form) == "dropout, shared, variance, 7 x 7"
    assert forms.best_null(chosen).method == "null-input"


def test_means_over_seeds_and_paired_gains():
    records = [
        *(
            made_up("interval", s, [0.5 + s / 10, 0.7 + s / 10], [0, 0], n_layers=8)
            for s in (0, 1, 2)
        ),
        *(made_up("null-input", s, [0.4, 0.6], [0, 0]) for s in (0, 1, 2)),
    ]
    ours, null = (forms.published_form(records, m) for m in ("interval", "null-input"))
    mean, std = forms.over_seeds(records, ours, "auroc")
    assert (mean, std) == (pytest.approx(0.7), pytest.approx(0.1))
    gain = forms.gain(records, ours, null, "auroc")
    # every image gains as much
    assert gain.mean == pytest.approx(0.2) and gain.low == pytest.approx(0.2) == gain.high


# --- alarms on failures ---


def test_an_alarm_rings_and_is_scored_by_hand():
    x = torch.zeros(2, 1, 8, 8)
    mask = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    mask[..., :4, :] = True
    failure = Failure("made", 0.0, x, x, mask)
    wrong = x + mask.float()  # the reconstruction is wrong where the mask is
    quiet, loud = 0.1 + 0 * x, 0.1 + mask.float()
    found = scores(quiet, loud, wrong, failure, usual=0.2)
    failed, clean = found["failed"], found["clean"]
    assert failed["corr_error"].tolist() == pytest.approx([1, 1])
    assert failed["auroc"].tolist() == [1, 1]
    assert clean["auroc"].tolist() == [0.5, 0.5]  # a constant map
    assert failed["rings"].tolist() == [1, 1] and clean["rings"].tolist() == [0, 0]
    assert image_auroc(quiet, loud) == 1 and image_auroc(loud, quiet) == 0
    assert image_auroc(quiet, quiet) == 0.5
    parts = scores(quiet, loud, wrong, failure._replace(mask=None), 0.2)
    assert set(parts["failed"]) == {"corr_error", "rings"} and set(parts["clean"]) == {"rings"}


def test_the_attackers_view_of_an_alarm_is_the_alarm():
    """spread(...) equals predict(...).spread and has a gradient, for every estimator."""
    x_in = torch.rand(2, 1, 16, 16, generator=profiles.generator(0, "x"))
    x_in[..., :5, :5] = 1  # overexposed: flat
    for d in detectors.detection("denoising", "smoke", 0).detectors:
        if d.method == "null-random" or d.about.get("masks") == "fresh":
            continue
        leaf = x_in.clone().requires_grad_()
        u, exact = alarms.spread(d.before, leaf), d.before.predict(x_in).spread
        assert torch.allclose(u.detach(), exact, atol=1e-6, rtol=1e-4), d.method
        (gradient,) = torch.autograd.grad(u.sum(), leaf)
        assert torch.isfinite(gradient).all()
        assert gradient.abs().sum() > 0 or d.method == "null-gradient", d.method


def test_an_attacker_who_knows_a_blind_alarm_loses_nothing():
    """A constant alarm leaves the naive attack; one that watches the answer stops it."""
    x_in = torch.rand(1, 1, 12, 12, generator=profiles.generator(0, "x")) / 2 + 0.25
    group = changes.ImageGroup("made", x_in, x_in, x_in, lambda x: x)

    def f(x):
        return 2 * x

    def constant(x):
        return x.mean((1, 2, 3), keepdim=True) + 0 * x

    target = f(x_in).clone()
    target[..., 4:8, 4:8] -= 0.2
    x_adv = x_in - (f(x_in) - target) / 2
    mask = target != f(x_in)
    naive = changes.Change("adv_detect", "patch", 0.0, x_adv, mask, target)
    left = {}
    for kind, alarm in (("input", f), ("variance", constant)):
        watcher = NullDetector(kind, alarm)
        d = detectors.Detector(watcher.name, {}, watcher, watcher, "")
        adapted = alarms.adaptive_attack(f, d, group, naive, "smoke")
        found = alarms.attack_scores(f, d, group, naive, adapted)
        left[kind] = float(found["adaptive"]["target_left"])
    assert left["variance"] < 0.05 < 0.5 < left["input"]


def test_records_of_alarms_are_computed_once(monkeypatch):
    records = alarms.rows("denoising", "smoke")
    kinds = {(r["experiment"], r["parameters"]["failure"]) for r in records}
    assert kinds == {
        ("alarm", "worst case"),
        ("alarm", "details"),
        ("adaptive", "adaptive patch"),
    }
    monkeypatch.setattr(alarms, "failures", None)  # an error if it were called again
    again = alarms.rows("denoising", "smoke")
    assert {r["key"] for r in again} == {r["key"] for r in records}
