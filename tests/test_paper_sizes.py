"""The papers' sizes: what is built is what was published, and it can be stepped and tested.

Networks at full size step on the meta device, which has shapes and no memory; what fits a small
machine steps for real. Drivers run end to end at the papers' image sizes, with narrow networks and
tiny budgets.
"""

import pytest
import torch
from torch import nn

from instab_utils import data, profiles, training
from instab_utils.operators import Identity
from instab_utils.operators.base import as_shape
from instab_utils.training import batch_sources, optimisers, trainings

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
