"""The papers' sizes: what is built is what was published, and it can be stepped and tested.

Networks at full size step on the meta device, which has shapes and no memory; what fits a small
machine steps for real. Drivers run end to end at the papers' image sizes, with narrow networks and
tiny budgets.
"""

import math
from collections.abc import Iterable

import pytest
import torch
from torch import nn

from instab_utils import data, networks, papers, profiles, training
from instab_utils.operators import Identity
from instab_utils.operators.base import as_shape
from instab_utils.papers.antun2020 import sampling
from instab_utils.papers.oala2021 import changes, table1
from instab_utils.stability import structure, worst_case
from instab_utils.training import batch_sources, optimisers, tasks, trainings
from instab_utils.uncertainty import prediction
from instab_utils.uncertainty.interval import IntervalNetwork

META = torch.device("meta")
NAMES = (*training.NAMES, "zero-filled-unet")
# weights: of convolutions and dense layers, and of normalisations
PUBLISHED = {
    "dncnn": 2_216_193,
    "unet-limited": 31_030_593,
    "ell-50": 34_549_121 + 13_824,
    "med-50": 34_549_121 + 13_824,
    "automap": 902_391_384 + 107_265,
    "dagan": 98_574_337 + 13_056,
    "deep-mri": 565_770,
    "mri-vn": 65_530,
}
GIGABYTES = {  # of a step in fp32, as the table's units say
    "dncnn": 3,
    "unet-limited": 16,
    "ell-50": 2,
    "med-50": 2,
    "automap": 12,
    "dagan": 6,
    "deep-mri": 3,
    "mri-vn": 4,
}


@pytest.fixture
def on_meta(monkeypatch):
    """Return prepare(recipe): a training at full size without memory and without images."""
    monkeypatch.setitem(optimisers._KINDS, "adam", (torch.optim.Adam, {}))  # fused is for devices
    # draws again what lies outside, which is asked of values
    monkeypatch.setattr(nn.init, "trunc_normal_", lambda weight, *_, **__: weight)

    def prepare(recipe):
        what = training.task(recipe, device="cpu")
        # the matrix of CT has gigabytes, and is not what is trained
        A = Identity() if what.task.startswith("ct") else what.A
        shape = (recipe.batch_size, 1, *as_shape(recipe.image_size))
        x = torch.empty(shape, dtype=torch.cfloat if what.complex_images else None, device=META)
        batch = A(x), x, A
        monkeypatch.setattr(trainings, "task", lambda recipe, device: None)
        monkeypatch.setattr(trainings, "batches", lambda recipe, what: (lambda step: batch, ""))
        monkeypatch.setattr(trainings, "validation", lambda recipe, what: batch)
        with META:
            return trainings.prepare(recipe, META)

    return prepare


def step(work):
    """Take a step of every part; return the bytes of weights, gradients, optimiser, activations."""
    total = 0
    for part in work.parts:
        weights = [w for group in part.optimiser.param_groups for w in group["params"]]
        own = {w.untyped_storage()._cdata for w in weights}
        saved = {}

        def keep(t, saved=saved, own=own):
            storage = t.untyped_storage()
            if t.device == META and storage._cdata not in own:
                saved[storage._cdata] = storage
            return t

        part.optimiser.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            loss = part.loss(work.draw(0))
        total += sum(storage.nbytes() for storage in saved.values())
        saved.clear()
        if isinstance(part.optimiser, training.ipalm.IPALM):  # its decisions are asked of values
            gradients = torch.autograd.grad(loss, weights)
        else:
            loss.backward()
            gradients = [w.grad for w in weights]
            part.optimiser.step()
        assert [g.shape for g in gradients] == [w.shape for w in weights]
        states = [v for state in part.optimiser.state.values() for v in state.values()]
        tensors = [*weights, *gradients, *(v for v in states if isinstance(v, torch.Tensor))]
        total += sum(t.numel() * t.element_size() for t in tensors)
    return total


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_takes_two_steps_at_full_size_and_fits_a_gpu(on_meta, name):
    recipe = training.recipe(name, "paper")
    work = on_meta(recipe)
    step(work)
    n_bytes = step(work)
    assert n_bytes < 70e9
    if name in PUBLISHED:
        assert sum(w.numel() for w in work.network.parameters()) == PUBLISHED[name]
        assert round(n_bytes / 1e9) == GIGABYTES[name]
        unit = profiles.STAGES[f"train {name}"]["batch_size"].unit
        assert f"{GIGABYTES[name]} GB" in unit


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("unet-limited", {"image_size": 500}, "sides divisible by 16"),
        ("dagan", {"image_size": 240}, "a power of two"),
        ("automap", {"architecture": {"m": 9854}}, "AUTOMAP.m=9854. expects a real vector"),
        ("med-50", {"architecture": {"n_levels": 11}}, "sides divisible by 1024"),
        ("deep-mri", {"image_size": (320, 168)}, "Only mri-vn takes"),
    ],
)
def test_a_wrong_shape_is_found(on_meta, name, changes, message):
    with pytest.raises(ValueError, match=message):
        step(on_meta(training.recipe(name, "paper", **changes)))


# --- with values


@pytest.fixture
def blocks(monkeypatch):
    """Images of 8 x 8 blocks in the place of all others: what is asked for is their size."""

    def draw(n, side):
        x = torch.rand(n, 1, 8, 8, generator=profiles.generator(n, "blocks"))
        return nn.functional.interpolate(0.1 + 0.9 * x, size=(side, side))

    def pool(kind, image_size=None, split="train", n=None):
        return draw(2, image_size or 180), "blocks"

    def demo(kind, n=4, image_size=256, split="test"):
        x = draw(n, image_size)
        return (x + 0j if kind == "mr" else x), "blocks"

    monkeypatch.setattr(data, "pool", pool)
    monkeypatch.setattr(data, "demo", demo)
    monkeypatch.setattr(batch_sources, "N_VALIDATION", 1)


@pytest.mark.parametrize(
    ("name", "part"),
    [("dncnn", {}), ("deep-mri", {"n_cascades": 1}), ("mri-vn", {"n_layers": 1, "n_filters": 4})],
)
def test_two_steps_of_one_image_with_values(blocks, name, part):
    """One cascade of five, one narrow layer of ten: the others are the same again."""
    changes = dict(batch_size=1, steps=2, every=2, architecture=part)
    recipe = training.recipe(name, "paper", **changes)
    network, card = recipe.train(device="cpu", progress=False)
    (row,) = card["curve"]
    assert row["step"] == 2 and 0 < row["loss"] < 1 and row["validation_db"] > 5
    assert card["recipe"]["image_size"] == recipe.image_size
    fresh = recipe.build("cpu").state_dict()
    assert any(not torch.equal(v.half(), fresh[k].half()) for k, v in network.state_dict().items())


# --- drivers


def size_all(monkeypatch, **stages):
    """Set sizes of the paper profile: stage -> {size: value}."""
    for stage, values in stages.items():
        rows = profiles.STAGES[stage]
        for size, value in values.items():
            monkeypatch.setitem(rows, size, rows[size]._replace(paper=value))


@pytest.fixture
def tiny_budgets(blocks, tmp_path, monkeypatch):
    """The papers' image sizes, but for the limited-angle U-Net's, and the least of all else.

    Two of fifteen coils, four of fifty views.
    """
    coils = data.simulated_coils
    monkeypatch.setattr(data, "simulated_coils", lambda n_coils, size: coils(2, size))
    monkeypatch.setenv("INSTAB_RESULTS", str(tmp_path))
    narrow = {
        "dncnn": {"architecture.width": 4},
        "dncnn-tuned": {"architecture.width": 4, "init": None},
        # at 512 pixels its 427 views take a minute to be made; untrained, 0.7 makes it diverge
        "unet-limited": {
            "image_size": 64,
            "architecture.base_width": 2,
            "architecture.dropout": 0.1,
        },
        "ell-50": {"architecture.base_width": 2, "n_train": 1},
        "med-50": {"architecture.base_width": 2},
        "automap": {"architecture.hidden": 20, "architecture.width": 2},
        "dagan": {"architecture.base_width": 2},
        "deep-mri": {"architecture.width": 4},
        "mri-vn": {"architecture.n_layers": 1, "architecture.n_filters": 2},
    }
    short = {"steps": 2, "every": 2, "batch_size": 1}
    size_all(monkeypatch, **{f"train {name}": short | narrow[name] for name in training.NAMES})
    few = dict(n_images=1, n_images_slow=1, n_iter=2, unrolled=1, ascent=1, restarts=1)
    size_all(monkeypatch, stability=few | dict(strengths=(0.01,), n_twins=1, n_near=2, n_draws=1))

    fewer = {"CONTRASTS": (0.3,), "FRACTIONS": (0.15, 0.3), "ACCELERATIONS": (3, 2)}
    fewer |= {"PERCENT": (20, 50), "EVERY": (4, 2)}
    for module in (structure, worst_case, sampling):
        for constant in fewer.keys() & vars(module).keys():
            monkeypatch.setattr(module, constant, fewer[constant])

    def few_views(name, image_size):
        return 16, 4

    for module in (tasks, batch_sources, training):
        monkeypatch.setattr(module, "views", few_views)


SHAPES = {  # of an image, as published
    "deep-mri": (256, 256),
    "mri-vn": (640, 368),
    "automap": (128, 128),
    "dagan": (256, 256),
    "ell-50": (512, 512),
    "med-50": (512, 512),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_tests_of_antun_run_at_the_papers_shapes(tiny_budgets, name):
    case = training.case(name, "paper", tv=False)
    assert case.A.image_shape == case.x.shape[-2:] == SHAPES[name]
    for artefact, (_, _, run, _) in papers.artefacts("antun2020").items():
        if artefact == "ladders":
            continue  # published weights alone, at the sizes of chapter 07
        records = run("paper", only=[name])
        assert records or (artefact, name) == ("fig5-samples", "automap")
        for record in records:
            assert (record["network"], record["metrics"]["n_images"]) == (name, 1)
            assert finite(record["metrics"])


def finite(metrics):
    """Return whether all numbers of a record are."""
    if isinstance(metrics, dict):
        metrics = metrics.values()
    if isinstance(metrics, Iterable) and not isinstance(metrics, str):
        return all(map(finite, metrics))
    return not isinstance(metrics, float) or math.isfinite(metrics)


def test_many_large_images_meet_a_network_in_parts(monkeypatch):
    seen = []

    class Watched(networks.DnCNN):
        def forward(self, x):
            seen.append(len(getattr(x, "lower", x)))
            return super().forward(x)

    net = Watched(3, 4, generator=profiles.generator(0, "net")).eval().requires_grad_(False)
    intervals = IntervalNetwork.from_network(net, 2).widen_(0.01)
    x = torch.rand(5, 1, 8, 8, generator=profiles.generator(0, "x"))
    group = changes.ImageGroup("noise", x, x, x, None)
    size_all(monkeypatch, detection={"n_evaluations": 3})

    def results():
        seen.clear()
        predicted = intervals.predict(x)
        bounded = set(seen)
        attack = changes.adversarial("denoising", net, group, "paper")
        return bounded, set(seen[1:]), [*predicted, attack.x_in]

    *whole, values = results()
    assert whole == [{5}, {5}]
    monkeypatch.setattr(prediction, "PIXELS", 2 * 64 + 1)
    bounded, attacked, in_parts = results()
    assert bounded == {2, 1} and {2, 1} <= attacked
    for one, other in zip(values, in_parts, strict=True):
        torch.testing.assert_close(one, other)


def test_the_studies_of_oala_run_at_the_papers_shapes(tiny_budgets, monkeypatch):
    few = ("n_images", "n_validation", "n_passes_denoising", "n_passes_ct", "n_evaluations")
    size_all(
        monkeypatch,
        detection=dict.fromkeys(few, 2),
        interval_fit={"steps": 2, "batch_size": 1},
        interval_fit_ct={"steps": 2, "batch_size": 1, "rate": 1e-5},
        probout_fit={"steps": 2, "batch_size": 1},
        probout_fit_ct={"steps": 2, "batch_size": 1},
        alarm=dict(n_passes=2, attacked_images=1, attacked_passes=2),
    )
    monkeypatch.setattr(table1, "SEEDS", (0,))
    assert changes.image_groups("denoising", "paper")[0].x.shape == (2, 1, 128, 128)
    for artefact, (_, _, run, _) in papers.artefacts("oala2021").items():
        records = run("paper")
        assert records
        if artefact != "fits":  # these are cards
            assert all(finite(record["metrics"]) for record in records)


def test_the_baselines_of_vasconcelos_run_at_the_papers_shape(tmp_path, monkeypatch):
    monkeypatch.setenv("INSTAB_RESULTS", str(tmp_path))
    few = vars(profiles.stage("baselines", "smoke")) | {"scans": ((256, False),)}
    size_all(monkeypatch, baselines=few)
    records = papers.artefacts("vasconcelos2021")["baselines"].run("paper")
    assert {record["parameters"]["n_views"] for record in records} == {5, 20}
    assert all(finite(record["metrics"]) for record in records)
