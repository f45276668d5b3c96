"""Training: exact resume after kill -9, seeds, stops, losses against numpy, tasks, shipped weights,
comparisons.
"""

import ast
import dataclasses
import functools
import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from instab_utils import data, metrics, networks, profiles, solvers, store, training
from instab_utils.audit.lipschitz import LipschitzDnCNN
from instab_utils.data import image_pools, phantoms
from instab_utils.networks import Reconstructor, dagan
from instab_utils.networks.automap import encode
from instab_utils.operators import (
    Identity,
    MaskedFourier,
    MultiCoilFourier,
    Radon,
    limited_angle,
    masks,
)
from instab_utils.papers.oala2021 import cards_only, shipped_fits
from instab_utils.training import Loop, __main__, checkpoint, comparison, loop, trainings
from instab_utils.training.__main__ import SHIPPED
from instab_utils.training.optimisers import ClippedSGD
from instab_utils.uncertainty import fits

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
SMALL_POOLS = """
from instab_utils.data import image_pools
draw = image_pools._real_or_phantoms  # a thousand phantoms take a minute; those of DAGAN a second


def few(kind, size, split, n=None):
    return draw(kind, size, split, n or (None if (kind, size) == ("mr", 32) else 40))


image_pools._real_or_phantoms = few
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


@pytest.fixture(autouse=True)
def phantoms_only(results, monkeypatch):
    """No files, no network, results of their own, small pools."""
    monkeypatch.setenv("INSTAB_RESULTS", str(results))
    monkeypatch.setenv("INSTAB_DATA", str(results / "no data"))
    monkeypatch.setenv("INSTAB_OFFLINE", "1")
    original = image_pools._real_or_phantoms
    monkeypatch.setattr(image_pools, "_real_or_phantoms", original)  # to be put back
    exec(SMALL_POOLS, {})
    yield
    for kind in ("weights", "checkpoints"):
        shutil.rmtree(results / kind, ignore_errors=True)


def random(stream, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=profiles.generator(0, stream), dtype=dtype)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def smoke(name, seed=0, **changes):
    return training.recipe(name, "smoke", seed, **changes)


def train(recipe, **options):
    return training.train(recipe, CPU, progress=False, **options)


class Toy(nn.Module):
    """Linear regression with dropout; all of the loop, in microseconds."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.linear, self.drop = nn.Linear(3, 2), networks.layers.Dropout(0.3)
        with torch.no_grad():
            for w in self.parameters():
                w.copy_(random("toy", *w.shape))
        self.to(dtype)

    def forward(self, x):
        return self.drop(self.linear(x))


def toy_batch(step):
    return random(f"batch {step}", 5, 3, dtype=torch.float32), random(
        f"target {step}", 5, 2, dtype=torch.float32
    )


def toy_part(net, kind="adam", lr=0.1, clip_norm=None):
    make = torch.optim.SGD if kind == "sgd" else torch.optim.Adam

    def loss(batch):
        return (net(batch[0]) - batch[1]).square().mean()

    return training.Part("toy", make(net.parameters(), lr), loss, clip_norm=clip_norm)


def toy_fit(net=None, draw=toy_batch, part=None, **options):
    net = Toy() if net is None else net
    history = fit(net, [part or toy_part(net)], draw, **{"steps": 12, "every": 3, **options})
    return net.state_dict(), history


def fit(net, parts, draw, validate=None, checkpoint=None, **options):
    return training.fit(net, parts, draw, Loop(**options), validate, checkpoint, progress=False)


# --- end to end ---


@pytest.mark.parametrize("name", training.NAMES)
def test_every_network_trains_validates_and_learns(name):
    recipe = smoke(name)
    start = training.prepare(recipe)
    start.network.eval()
    with torch.no_grad():
        before = start.validate()
    net, card = train(recipe)
    assert [row["step"] for row in card["curve"]] == [recipe.every, recipe.steps]
    assert (
        card["validation"]["float32_psnr_db"]
        == max(row["validation_db"] for row in card["curve"])
        > before
    )
    assert all(math.isfinite(row["loss"]) for row in card["curve"])
    assert not net.training and not any(w.requires_grad for w in net.parameters())
    assert not same(net.state_dict(), start.network.state_dict())
    with torch.no_grad():  # the score of the card is that of the weights that are handed over
        work = training.prepare(recipe)
        work.network.load_state_dict(net.state_dict())
        work.network.eval()
        assert work.validate() == pytest.approx(card["validation"]["psnr_db"], abs=1e-6)
    assert (
        "phantom" in card["data"]
        and card["recipe"] == dataclasses.asdict(recipe)
        and card["key"] == recipe.key
    )
    assert set(store.weights.CARD) <= set(card) and card["licence"] == "MIT" and card["seconds"] > 0
    count = sum(w.numel() for w in net.parameters())
    assert (
        f"{count:,} parameters" in card["architecture"]
        and type(net).__name__ in card["architecture"]
    )
    json.dumps(card, allow_nan=False)


@pytest.mark.parametrize("name", training.NAMES)
def test_every_network_trains_in_bfloat16_where_asked(name):
    net, card = train(smoke(name, steps=2, every=2), autocast="bf16")
    exact, reference = train(smoke(name, steps=2, every=2), autocast="fp32")
    assert (card["precision"], reference["precision"]) == ("bf16", "fp32")
    assert all(w.dtype == torch.float32 and torch.isfinite(w).all() for w in net.parameters())
    assert not same(net.state_dict(), exact.state_dict())  # it was used
    losses = [c["curve"][0]["loss"] for c in (card, reference)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_precision_follows_the_processor(monkeypatch):
    for name in ("avx512_bf16", "amx_tile"):
        monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda: False, raising=False)
    assert loop.precision(CPU) == "fp32" and loop.precision(CPU, "bf16") == "bf16"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert loop.precision(CPU) == "bf16" and loop.precision(CPU, "fp32") == "fp32"
    with pytest.raises(
        ValueError, match='expects "auto", "bf16" or "fp32"; got "half"'.replace('"half"', "'half'")
    ):
        loop.precision(CPU, "half")


def test_a_network_asked_for_without_gradients_is_trained():
    with torch.no_grad():
        net, _ = train(smoke("dncnn", steps=4, every=2))
    assert same(net.state_dict(), train(smoke("dncnn", steps=4, every=2))[0].state_dict())


# --- exact resume ---

DYING = (
    SMALL_POOLS
    + """
import os, signal, sys
import functools
from instab_utils.training import __main__, trainings
step_of_death, batches = int(sys.argv.pop(1)), trainings.batches
def dying(recipe, what):
    draw, source = batches(recipe, what)
    kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
    return (lambda step: kill() if step == step_of_death else draw(step)), source
trainings.batches = dying
trainings.Loop = functools.partial(trainings.Loop, save_s=0)  # after every step
__main__.main()
"""
)

KILLED = {  # name -> (changes, step of death), between two validations
    "dagan": (dict(steps=12, every=4), 9),
    "dncnn stopped early": (
        dict(steps=60, every=2, lr=0.05, patience=3, schedule="constant"),
        5,
    ),
}


DYING_FIT = (
    SMALL_POOLS
    + """
import os, signal
import functools
from instab_utils import store, training
from instab_utils.uncertainty import fits
batches = training.batches
def dying(recipe, what):
    draw, source = batches(recipe, what)
    kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
    return (lambda step: kill() if step == 55 else draw(step)), source
spec = fits.fit_recipe("interval", "dncnn", 0, "smoke", steps=60)
store.load_or_train(spec.base, "cpu")
training.batches = dying
training.Loop = functools.partial(training.Loop, save_s=0)  # after every step
store.load_or_train(spec, "cpu")
"""
)


def dying(*arguments, script=DYING):
    """The command in a process that kills itself."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
        "INSTAB_BOOK": "1",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", script, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
        timeout=120,
    )


def command(monkeypatch, *arguments):
    """The command in this process."""
    monkeypatch.setattr(sys, "argv", ["training", *arguments])
    __main__.main()


@pytest.mark.parametrize("case", KILLED)
def test_a_training_killed_by_the_system_ends_with_the_same_weights(
    case, results, monkeypatch, capsys
):
    changes, death = KILLED[case]
    recipe = smoke(case.split()[0], **changes)
    arguments = [
        recipe.name,
        "--profile",
        "smoke",
        "--seed",
        "0",
        "--device",
        "cpu",
        *itertools.chain(*(["--set", f"{k}={v!r}"] for k, v in changes.items())),
    ]
    killed = dying(str(death), *arguments)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    file = results / "checkpoints" / f"{recipe.weights}.safetensors"
    assert not store.is_trained(recipe) and not list(file.parent.glob("*.partial.*"))
    work = training.prepare(recipe)
    step, history, _ = checkpoint.load(
        file, work.trained or work.network, [part.optimiser for part in work.parts]
    )
    assert step == death and len(history["losses"]) == 1
    if case == "dagan":  # the command again
        command(monkeypatch, *arguments)
        assert recipe.weights in capsys.readouterr().out
    resumed = store.load_or_train(recipe, CPU, progress=False)
    assert store.is_trained(recipe) and not file.exists()
    network, card = train(recipe)
    assert same(resumed.network.state_dict(), network.state_dict())
    for field in ("step", "loss", "validation_db"):
        assert [row[field] for row in resumed.card["curve"]] == [
            row[field] for row in card["curve"]
        ]
    if "early" in case:
        assert resumed.card["stopped"] == card["stopped"] == "no better validation in 3 of them"
        assert card["curve"][-1]["step"] < recipe.steps


def test_a_fit_of_intervals_killed_by_the_system_ends_with_the_same_widths(results):
    killed = dying(script=DYING_FIT)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    spec = fits.fit_recipe("interval", "dncnn", 0, "smoke", steps=60)
    file = results / "checkpoints" / f"{spec.weights}.safetensors"
    assert store.is_trained(spec.base) and not store.is_trained(spec)
    widths = {k for k in load_file(file) if k.startswith("last/")}
    assert widths and all(load_file(file)[k].any() for k in widths)  # it was on its way
    resumed = store.load_or_train(spec, CPU, progress=False)
    whole, card = spec.train(CPU, progress=False)
    assert same(resumed.network.state_dict(), whole.state_dict())
    losses = [[row["loss"] for row in curve] for curve in (resumed.card["curve"], card["curve"])]
    assert losses[0] == losses[1] and len(losses[0]) == 2


@pytest.mark.parametrize("name", ["unet-limited", "ell-50", "automap", "deep-mri", "mri-vn"])
def test_a_training_interrupted_by_an_exception_goes_on_exactly(name, tmp_path):
    recipe, file = smoke(name, steps=9, every=2), tmp_path / "checkpoint.safetensors"
    work = training.prepare(recipe)

    def interrupted(step):
        if step == 5:
            raise KeyboardInterrupt
        return work.draw(step)

    with pytest.raises(KeyboardInterrupt):
        fit(
            work.network,
            work.parts,
            interrupted,
            validate=work.validate,
            checkpoint=file,
            steps=recipe.steps,
            schedule=recipe.schedule,
            every=recipe.every,
            save_s=0,
        )
    assert all(getattr(module, "generator", None) is None for module in work.network.modules())
    resumed, card = train(recipe, checkpoint=file)
    network, reference = train(recipe)
    assert same(resumed.state_dict(), network.state_dict())
    assert [row["loss"] for row in card["curve"]] == [row["loss"] for row in reference["curve"]]


@pytest.mark.parametrize(
    "kind, options",
    [("adam", {}), ("rmsprop", {"alpha": 0.9}), ("clipped-sgd", {})],
)
def test_every_optimiser_goes_on_exactly(kind, options, tmp_path):
    def attempt(draw, file=None):
        net = nn.Sequential(nn.Conv2d(3, 4, 3), networks.layers.Dropout(0.2)).to(
            memory_format=torch.channels_last
        )
        with torch.no_grad():
            for w in net.parameters():
                w.copy_(random("conv", *w.shape))
        part = training.Part(
            "conv",
            training.optimiser(kind, net.parameters(), 0.01, **options),
            lambda x: net(x).square().mean(),
        )
        fit(net, [part], draw, checkpoint=file, steps=10, every=2, save_s=0)
        return net.state_dict()

    def draw(step):
        return random(f"images {step}", 2, 3, 6, 6, dtype=torch.float32)

    with pytest.raises(ZeroDivisionError):
        attempt(lambda step: draw(step) if step < 5 else 1 // 0, tmp_path / "c.safetensors")
    assert same(attempt(draw, tmp_path / "c.safetensors"), attempt(draw))


def test_a_stopped_training_stays_stopped(tmp_path):
    file, scores = tmp_path / "c.safetensors", iter([1.0, 3.0, 2.0, 2.0])
    weights, history = toy_fit(validate=lambda: next(scores), patience=2, steps=99, checkpoint=file)
    # neither is called
    again, later = toy_fit(draw=None, validate=None, patience=2, steps=99, checkpoint=file)
    assert same(weights, again) and later == history and history.best_step == 6


def test_a_training_starts_from_the_published_weights_that_its_recipe_names(monkeypatch):
    published = smoke("dncnn-tuned", 7).build()
    monkeypatch.setattr(trainings.pretrained, "network", lambda name: published)
    plain, started = smoke("dncnn-tuned"), smoke("dncnn-tuned", init="dncnn-25")
    assert plain.key != started.key
    assert same(training.prepare(started).network.state_dict(), published.state_dict())
    # drawn from the seed: loading shipped weights needs no file
    assert same(started.build().state_dict(), plain.build().state_dict())
    assert not same(plain.build().state_dict(), published.state_dict())


# --- checkpoints ---


@pytest.fixture
def saved(tmp_path):
    file = tmp_path / "toy.safetensors"
    with pytest.raises(ZeroDivisionError):
        toy_fit(
            draw=lambda step: toy_batch(step) if step < 7 else 1 // 0, checkpoint=file, save_s=0
        )
    return file


def damaged(file, content):
    file.write_bytes(content)
    with pytest.raises(
        store.DamagedFile, match="toy.safetensors cannot be used: .*Delete it to start afresh"
    ):
        toy_fit(checkpoint=file)


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_truncated_checkpoint_is_named(saved, fraction):
    raw = saved.read_bytes()
    damaged(saved, raw[: int(fraction * len(raw))])


def test_every_changed_byte_of_a_checkpoint_is_noticed(saved):
    raw = saved.read_bytes()
    assert (
        len(load_file(saved)) >= 5
        and checkpoint.load(saved, net := Toy(), [toy_part(net).optimiser])[0] == 7
    )
    start = 8 + int.from_bytes(raw[:8], "little")
    for place in {*range(0, len(raw), 7), *range(start, len(raw))}:
        changed = bytearray(raw)
        changed[place] ^= 1
        saved.write_bytes(bytes(changed))
        net = Toy()
        try:
            checkpoint.load(saved, net, [toy_part(net).optimiser])
        except store.DamagedFile as reason:
            assert "toy.safetensors" in str(reason)
        else:  # only white space at the end of the header means nothing
            assert place < start and raw[place : place + 1] == b" "


def test_a_checkpoint_of_another_network_is_named(saved):
    class Wider(Toy):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 2)

    net = Wider()
    with pytest.raises(
        store.DamagedFile, match="(?s)toy.safetensors cannot be used: .*size mismatch"
    ):
        toy_fit(net=net, part=toy_part(net), checkpoint=saved)
    save_file({"weight": torch.zeros(2)}, saved)  # of another programme
    damaged(saved, saved.read_bytes())


def test_a_checkpoint_is_tensors_and_json_only(saved):
    raw = saved.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert json.loads(header["__metadata__"]["about"])["step"] == 7
    assert {"last/linear.weight", "optimiser/0/0/exp_avg"} <= set(header)
    assert not raw.startswith((b"\x80", b"PK"))  # neither a pickle nor torch.save's archive
    names = {
        alias.name
        for node in ast.walk(ast.parse(Path(checkpoint.__file__).read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not names & {"pickle", "load", "torch.load"}


# --- seeds ---


def test_weights_are_the_seeds_and_nothing_elses():
    torch.manual_seed(1)
    first, _ = train(smoke("dncnn", 3, steps=6, every=3))
    torch.manual_seed(2)
    torch.rand(5)
    again, _ = train(smoke("dncnn", 3, steps=6, every=3))
    other, _ = train(smoke("dncnn", 4, steps=6, every=3))
    assert same(first.state_dict(), again.state_dict())
    assert not any(
        torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters()) if a.ndim > 1
    )


@pytest.mark.parametrize("name", training.NAMES)
def test_another_seed_draws_other_batches_and_every_step_its_own(name):
    seeds = [training.prepare(smoke(name, seed)).draw for seed in (0, 0, 1)]
    first, again, other = (draw(3) for draw in seeds)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1]) and not torch.equal(first[1], seeds[0](4)[1])


@pytest.mark.parametrize("name", ["dncnn", "dagan", "mri-vn"])
def test_validations_leave_no_trace(name):
    """Last weights do not depend on `every`. Which weights are best, and so kept, does: it says
    where one looks.
    """

    def last(every):
        recipe, score = smoke(name, steps=6), itertools.count()
        work = training.prepare(recipe)

        def validate():  # the last one is always the best
            work.validate()
            return float(next(score))

        trained, options = work.trained or work.network, dict(steps=6, schedule=recipe.schedule)
        fit(trained, work.parts, work.draw, validate, every=every, **options)
        return trained.state_dict()

    assert same(last(2), last(5))


# --- what goes wrong ---


def test_a_batch_that_is_not_finite_is_named_and_changes_nothing():
    def draw(step):
        x, target = toy_batch(step)
        return (x, target * math.nan) if step == 7 else (x, target)

    net = Toy()
    said = (
        r"the loss of 'toy' is nan at step 7 of 12, on batch draw\(7\).*batch itself is not finite"
    )
    with pytest.raises(training.Diverged, match=said):
        toy_fit(net, draw)
    reference, stop = Toy(), 7
    with pytest.raises(ZeroDivisionError):
        toy_fit(reference, lambda step: toy_batch(step) if step < stop else 1 // 0)
    assert same(net.state_dict(), reference.state_dict())


def test_a_learning_rate_too_large_has_another_cure(tmp_path):
    net, file = Toy(), tmp_path / "c.safetensors"
    part = toy_part(net, "sgd", lr=1e8)
    with pytest.raises(
        training.Diverged,
        match="Lower the learning rate or set clip_norm.*last checkpoint is .*c.safetensors",
    ) as said:
        toy_fit(net, part=part, schedule="constant", steps=99, every=1, checkpoint=file, save_s=0)
    assert "batch itself" not in str(said.value)
    assert all(torch.isfinite(w).all() for w in net.parameters())


@pytest.mark.parametrize("clip_norm", [1.0, None])
def test_an_infinite_gradient_stops_before_the_step(clip_norm):
    net = Toy()
    part, before = (
        toy_part(net, clip_norm=clip_norm),
        {k: v.clone() for k, v in net.state_dict().items()},
    )
    # 0, slope infinite
    part.loss = lambda batch: net.linear.weight.sub(net.linear.weight.detach()).abs().sqrt().sum()
    with pytest.raises(training.Diverged, match="the gradient of 'toy' is nan at step 0"):
        toy_fit(net, part=part)
    part.loss = lambda batch: (
        (net.linear.bias * 1e30).square().sqrt().sum() * 1e30 * 0
        + (net.linear.bias * 1e25).sum() * 1e12
    )
    with pytest.raises(training.Diverged, match="the (loss|gradient) of 'toy' is (-?inf|nan)"):
        toy_fit(net, part=part)
    assert same(net.state_dict(), before)


def test_the_rival_of_two_parts_is_named():
    net = nn.ModuleDict({"one": Toy(), "two": Toy()})
    parts = [toy_part(net["one"]), toy_part(net["two"])]
    parts[1].name, parts[1].loss = "rival", lambda batch: net["two"](batch[0]).sum() / 0
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(
        training.Diverged,
        match="loss of 'rival' is .*All parameters are those from before",
    ):
        fit(net, parts, toy_batch, steps=1)
    assert same(net.state_dict(), before)


def test_a_failure_of_the_first_part_is_found_with_the_last_and_undone():
    net = nn.ModuleDict({"one": Toy(), "two": Toy()})
    parts = [toy_part(net["one"]), toy_part(net["two"])]
    parts[0].name, parts[0].loss = "first", lambda batch: net["one"](batch[0]).sum() / 0
    # as a rival's loss depends on what the generator has become
    parts[1].loss = lambda batch: net["two"](net["one"](batch[0]) @ torch.ones(2, 3)).sum()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(training.Diverged, match="loss of 'first' is .*at step 0"):
        fit(net, parts, toy_batch, steps=1)
    assert same(net.state_dict(), before)


def test_clipping_scales_the_gradient_to_its_norm():
    steps = []
    for clip_norm in (None, 1e-3):
        net = Toy().eval()
        net.drop.fraction = 0.0
        before = net.linear.weight.detach().clone()
        toy_fit(net, part=toy_part(net, "sgd", 1.0, clip_norm), steps=1, schedule="constant")
        gradient = torch.cat(
            [
                (before - net.linear.weight).flatten(),
                (random("toy", 2).float() - net.linear.bias).flatten(),
            ]
        )
        steps.append(gradient.detach())
    assert float(steps[1].norm()) == pytest.approx(1e-3, rel=1e-3)
    assert torch.allclose(steps[1], 1e-3 * steps[0] / steps[0].norm(), atol=1e-6)


# --- the loop ---


@pytest.mark.parametrize("name", [*training.NAMES, "interval", "probout"])
def test_a_step_asks_the_device_once(name, monkeypatch):
    """A GPU is idle while a number is on its way to the CPU. Operators are built in step 0."""
    if name in training.NAMES:
        go = functools.partial(train, smoke(name, steps=4, every=4))
    else:
        spec = fits.fit_recipe(name, "unet-limited", 0, "smoke", steps=4)
        store.load_or_train(spec.base, CPU, progress=False)
        go = functools.partial(spec.train, CPU, progress=False)
    asked = []
    for question in ("item", "tolist", "__float__", "__bool__", "__int__", "numpy", "nonzero"):
        answer = getattr(torch.Tensor, question)

        def counted(t, *args, _answer=answer, _question=question):
            asked.append(_question)
            return _answer(t, *args)

        monkeypatch.setattr(torch.Tensor, question, counted)
    steps = []

    def stop_watching(wrapped):
        def step(*args):
            before = len(asked)
            loss = wrapped(*args)
            steps.append(asked[before:])
            return loss

        return step

    monkeypatch.setattr(loop, "_step", stop_watching(loop._step))
    go()
    allowed = [["tolist"]] * 3
    if name == "interval":  # the width after the first step; signs of numbers are on the CPU
        steps = [[q for q in step if q != "__bool__"] for step in steps]
        allowed[0] = ["tolist"] * 2
    assert steps[1:] == allowed


@pytest.mark.parametrize("ahead", [True, False])
def test_batches_come_in_order_and_errors_at_their_step(ahead):
    drawn, threads = [], set()

    def draw(step):
        drawn.append(step)
        threads.add(threading.get_ident())
        return step**2 if step < 5 else 1 // 0

    assert list(loop._batches(draw, range(2, 5), ahead)) == [(2, 4), (3, 9), (4, 16)]
    assert drawn == [2, 3, 4]  # none beyond the last
    assert (threading.get_ident() in threads) is not ahead
    batches, seen = loop._batches(draw, range(3, 9), ahead), []
    with pytest.raises(ZeroDivisionError):
        for step, _ in batches:
            seen.append(step)
    assert seen == [3, 4] and list(loop._batches(draw, range(9, 9), ahead)) == []
    leaving = loop._batches(draw, range(4), ahead)
    next(leaving)
    leaving.close()


def test_weights_do_not_depend_on_where_batches_are_drawn(monkeypatch):
    recipe = smoke("dncnn", steps=6, every=3)
    reference, _ = train(recipe)
    batches = loop._batches
    monkeypatch.setattr(loop, "_batches", lambda draw, steps, ahead: batches(draw, steps, True))
    assert same(train(recipe)[0].state_dict(), reference.state_dict())


def test_a_step_has_tf32_unless_float32_is_asked_for(monkeypatch):
    seen, step = [], loop._step
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn)

    def look(*args):
        seen.append([switch.allow_tf32 for switch in switches])
        return step(*args)

    monkeypatch.setattr(loop, "_step", look)
    before = [switch.allow_tf32 for switch in switches]
    toy_fit(steps=1, autocast="auto")
    toy_fit(steps=1, autocast="fp32")
    assert seen == [[True, True], [False, False]]
    with pytest.raises(training.Diverged):
        toy_fit(draw=lambda step: (torch.full((5, 3), math.nan), torch.ones(5, 2)))
    assert [switch.allow_tf32 for switch in switches] == before


def test_intervals_are_fitted_in_float32_whatever_the_processor_prefers(monkeypatch):
    """Negative control: the variance fit follows the processor."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert loop.precision(CPU) == "bf16"
    seen, gradient = [], loop._gradient

    def look(part, *args):
        loss = part.loss

        def watched(batch):
            seen.append((part.name, torch.is_autocast_enabled("cpu")))
            return loss(batch)

        return gradient(dataclasses.replace(part, loss=watched), *args)

    monkeypatch.setattr(loop, "_gradient", look)
    cards = {}
    for method in ("interval", "probout"):
        spec = fits.fit_recipe(method, "dncnn", 0, "smoke", steps=2)
        store.load_or_train(spec.base, CPU, progress=False)
        seen.clear()
        cards[method] = spec.train(CPU, progress=False)[1]
        expected = {"interval": ("widths", False), "probout": ("mean and variance", True)}
        assert seen == [expected[method]] * 2
    assert [card["precision"] for card in cards.values()] == ["fp32", "bf16"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", trainings.COMPILED)
def test_a_compiled_network_has_the_same_loss_and_gradient(name):
    """By the tracing of `torch.compile` without its code generator, which takes half a minute."""
    results = []
    for wanted in (False, True):
        work = training.prepare(smoke(name), CPU)
        for module in work.network.modules():
            if hasattr(module, "generator"):
                module.generator = profiles.generator(0, "masks")
        with loop.compiled(work.network, wanted, "aot_eager"):
            loss = work.parts[0].loss(work.draw(0))
            loss.backward()
            assert ("forward" in vars(work.network)) is wanted
        assert "forward" not in vars(work.network)
        gradients = [w.grad.flatten() for w in work.network.parameters()]
        results.append((loss.item(), torch.cat(gradients)))
    (loss, gradient), (again, its_gradient) = results
    assert again == pytest.approx(loss, rel=1e-5)
    assert (its_gradient - gradient).norm() < 1e-4 * gradient.norm()


@pytest.mark.filterwarnings("ignore")
def test_a_network_that_cannot_be_compiled_runs_as_it_is(caplog):
    net = Toy().eval()
    x = toy_batch(0)[0]
    expected = net(x)

    def broken(graph, inputs):
        raise OSError("no compiler on this machine")

    net.drop.fraction = 0.0
    with loop.compiled(net.train(), backend=broken):
        assert torch.equal(net(x), expected)
    caplog.clear()


def test_best_weights_are_those_of_the_best_validation():
    net, seen, scores = Toy(), [], iter([1.0, 5.0, 4.0, math.nan, 4.9, 3.0])

    def validate():
        assert not net.training and not torch.is_grad_enabled()
        seen.append({k: v.clone() for k, v in net.state_dict().items()})
        return next(scores)

    weights, history = toy_fit(net, validate=validate, steps=30, patience=4)
    assert (history.best_step, history.best_db) == (6, 5.0) and same(weights, seen[1])
    assert (
        history.stopped == "no better validation in 4 of them" and history.curve[-1]["step"] == 18
    )
    assert [row["step"] for row in history.curve] == [3, 6, 9, 12, 15, 18] and not net.training


def test_without_validation_the_last_weights_stay_and_losses_are_means():
    net, values = Toy(), []
    part = toy_part(net)
    loss = part.loss
    part.loss = lambda batch: values.append(loss(batch)) or values[-1]
    _, history = toy_fit(net, part=part, steps=7)
    assert (
        [row["step"] for row in history.curve] == [3, 6, 7]
        and history.best_step == 0
        and history.stopped == "all steps done"
    )
    means = [
        float(torch.stack(part).detach().mean()) for part in (values[:3], values[3:6], values[6:])
    ]
    assert [row["loss"] for row in history.curve] == pytest.approx(means)


def test_schedules_are_their_closed_forms():
    steps = 9600
    names = ("cosine", "halving", "falling", "constant")
    cosine, halving, falling, constant = (training.SCHEDULES[name] for name in names)
    for step in (0, 1, 98, 99, 100, 4800, 9599):
        assert cosine(step, steps) == pytest.approx(
            min(1, (step + 1) / 100) * math.cos(math.pi / 2 * step / steps) ** 2
        )
        assert halving(step, steps) == (1, 0.5, 0.25)[step // 3200] and constant(step, steps) == 1
    assert [halving(step, steps) for step in (3199, 3200, 6400)] == [1, 0.5, 0.25]
    assert [falling(steps * k // 20, steps) for k in (0, 2, 4, 5, 19)] == pytest.approx(
        [1, 10**-0.5, 0.1, 0.1, 0.1]
    )


@pytest.mark.parametrize("schedule", training.SCHEDULES)
def test_the_rate_of_every_group_follows_the_schedule(schedule):
    net, rates = Toy(), []
    groups = [{"params": [net.linear.weight]}, {"params": [net.linear.bias], "lr": 0.02}]
    optimiser = torch.optim.SGD(groups, 0.01)
    part = training.Part(
        "toy",
        optimiser,
        lambda batch: (
            rates.append([g["lr"] for g in optimiser.param_groups]) or net(batch[0]).sum()
        ),
    )
    toy_fit(net, part=part, schedule=schedule)
    expected = [
        [rate * training.SCHEDULES[schedule](step, 12) for rate in (0.01, 0.02)]
        for step in range(12)
    ]
    assert np.allclose(rates, expected, rtol=1e-12)


def test_clipped_sgd_is_a_plain_loop():
    w = nn.Parameter(random("w", 7, 3))
    optimiser = training.optimiser(
        "clipped-sgd", [w], 0.05, momentum=0.9, limit=0.01, weight_decay=0.1
    )
    ours, velocity = w.detach().numpy().copy(), np.zeros((7, 3))
    for step in range(20):
        w.grad = random(f"gradient {step}", 7, 3)
        optimiser.step()
        velocity = 0.9 * velocity - w.grad.numpy() - 0.1 * ours
        update = np.clip(0.05 * velocity, -0.01, 0.01)
        ours = ours + update
        assert np.allclose(w.detach().numpy(), ours, atol=1e-14)
    assert (np.abs(update) == 0.01).any() and (np.abs(update) < 0.01).any()  # both cases were met


@pytest.mark.parametrize(
    "name, kind, expected",
    [
        ("dagan", torch.optim.Adam, {"betas": (0.5, 0.999), "lr": 1e-4}),
        ("deep-mri", torch.optim.Adam, {"weight_decay": 2e-7}),
        ("automap", torch.optim.RMSprop, {"alpha": 0.9, "lr": 2e-5}),
        (
            "ell-50",
            ClippedSGD,
            {"momentum": 0.99, "limit": 1e-2, "weight_decay": 1e-12, "lr": 1e-2},
        ),
        ("mri-vn", training.ipalm.IPALM, {"momentum": 0.7}),
    ],
)
def test_the_papers_options_reach_the_optimiser(name, kind, expected):
    paper = training.recipe(name, "paper")
    optimiser = trainings._optimiser(paper, smoke(name).build())
    assert type(optimiser) is kind
    for field, value in expected.items():
        assert optimiser.param_groups[0][field] in (
            value,
            list(value) if isinstance(value, tuple) else value,
        )
    if name == "ell-50":  # gains and biases learn twice as fast
        vectors = optimiser.param_groups[1]
        assert vectors["lr"] == 2e-2 and all(w.ndim == 1 for w in vectors["params"])
    with pytest.raises(ValueError, match="optimiser expects .*'lion'"):
        training.optimiser("lion", [nn.Parameter(torch.zeros(1))], 1.0)


def test_constraints_hold_after_every_step():
    recipe = smoke("mri-vn", lr=1.5, schedule="constant")
    work = training.prepare(recipe)
    calls, project, loss = [], work.parts[0].project, work.parts[0].loss
    # pushes the steps down
    work.parts[0].loss = lambda batch: loss(batch) + work.network.steps.sum()
    work.parts[0].project = lambda: project() or calls.append(work.network.steps.detach().clone())

    def draw(step):
        net = work.network
        for filters in net.filters:
            assert (
                filters.mean((1, 2, 3)).abs().max() < 1e-6
                and filters.flatten(1).norm(dim=1).max() <= 1 + 1e-6
            )
        assert (net.steps >= 0).all() and len(calls) == step
        return work.draw(step)

    fit(work.network, work.parts, draw, steps=6, schedule="constant")
    draw(6)
    assert any((steps == 0).any() for steps in calls)  # a step was stopped at 0


def test_validation_sees_the_activations_of_this_moment():
    """Tables are kept by the version of their weights, which fused steps do not raise by
    themselves.
    """
    net = smoke("mri-vn").build()
    what = training.task("mri-vn", 32)
    image = torch.rand(1, 1, 32, 32, generator=profiles.generator(0, "x"))
    y, x, A = what.measure(data.with_smooth_phase(image, profiles.generator(0, "phase")), None)
    differences = []

    def validate():
        fast = net(y, A)
        with pytest.MonkeyPatch.context() as patch:
            for activation in net.activations:
                patch.setattr(activation, "forward", activation.formula)
            differences.append(float((fast - net(y, A)).abs().max()))
        return 0.0

    part = training.Part(
        "vn",
        training.optimiser("adam", net.parameters(), 0.01),
        lambda b: (net(y, A) - x).abs().square().mean(),
        net.project_,
    )
    fit(net, [part], lambda step: None, validate, steps=6, every=2, schedule="constant")
    assert len(differences) == 3 and max(differences) < 1e-5


# --- recipes, cards, the store ---


def test_recipes_change_item_by_item_and_refuse_what_they_do_not_have():
    recipe = training.recipe("deep_mri", architecture={"width": 7}, steps=5)
    assert (
        recipe.name == "deep-mri"
        and recipe.architecture == {"n_cascades": 5, "n_convs": 5, "width": 7}
        and recipe.steps == 5
    )
    assert training.recipe("deep-mri").architecture["width"] == 32  # the shipped one is as it was
    assert training.recipe("dagan", options={"eps": 1e-7}).options == {
        "betas": (0.5, 0.999),
        "eps": 1e-7,
    }
    with pytest.raises(ValueError, match="no network is called 'vdsr'; expected one of dncnn"):
        training.recipe("vdsr")
    with pytest.raises(ValueError, match="no field learning_rate; it has .*lr"):
        training.recipe("dncnn", learning_rate=1)
    with pytest.raises(ValueError, match="unknown profile 'huge'"):
        training.recipe("dncnn", "huge")


def test_every_field_is_part_of_the_key():
    recipe, keys = smoke("dncnn"), set()
    other = {
        "name": "dagan",
        "profile": "standard",
        "architecture": {"width": 9},
        "optimiser": "sgd",
        "options": {"eps": 1e-7},
        "schedule": "constant",
        "clip_norm": 2.0,
        "patience": 3,
        "augment": False,
        "n_train": 7,
        "lr": 0.5,
        "pool": "aapm",
        "sampling": 0.15,
        "init": "dncnn-25",
    }
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        keys.add(
            dataclasses.replace(
                recipe,
                **{
                    field.name: other.get(field.name, value + 1 if isinstance(value, int) else None)
                },
            ).key
        )
    assert len(keys | {recipe.key}) == len(dataclasses.fields(recipe)) + 1
    assert recipe.weights == f"dncnn-s0-{recipe.key[:8]}"


@pytest.fixture
def counted(monkeypatch):
    """Recipes trained, in order; a training takes four steps."""
    trained = []
    monkeypatch.setattr(
        trainings,
        "train",
        lambda recipe, **options: trained.append(recipe) or training.train(recipe, **options),
    )
    return trained


def quick(**changes):
    return smoke("dncnn", **{"steps": 4, "every": 2, **changes})


def test_a_second_call_only_loads(counted, results):
    first = store.load_or_train(quick(), CPU, progress=False)
    again = store.load_or_train(quick(), CPU, progress=False)
    assert counted == [quick()] and first.key == again.key and first.card == again.card
    assert (
        same(first.network.state_dict(), again.network.state_dict())
        and first.network is not again.network
    )
    assert not again.network.training and not any(
        w.requires_grad for w in again.network.parameters()
    )
    assert first.key == f"weights:{quick().weights}@{first.card['sha256'][:8]}"
    assert json.loads((results / "weights" / f"{quick().weights}.json").read_text()) == first.card
    store.load_or_train(quick(lr=2e-3), CPU, progress=False)
    assert (
        counted == [quick(), quick(lr=2e-3)]
        and store.is_trained(quick())
        and not store.is_trained(quick(lr=3e-3))
    )


@pytest.mark.parametrize("damage", ["truncated", "flipped", "of another key"])
def test_damaged_weights_are_named_and_trained_again(counted, results, damage):
    first = store.load_or_train(quick(), CPU, progress=False)
    file = results / "weights" / f"{quick().weights}.safetensors"
    raw = file.read_bytes()
    if damage == "of another key":
        state, card = store.load_weights(quick().weights)
        store.save_weights(quick().weights, state, {**card, "key": "0" * 64}, half=card["half"])
    else:
        file.write_bytes(
            raw[:-9] if damage == "truncated" else raw[:-9] + bytes([raw[-9] ^ 4]) + raw[-8:]
        )
    with pytest.warns(RuntimeWarning, match=f"{quick().weights}.*It is trained again"):
        again = store.load_or_train(quick(), CPU, progress=False)
    assert len(counted) == 2 and same(first.network.state_dict(), again.network.state_dict())


@pytest.mark.parametrize("loss_db, half", [(0.04, True), (0.06, False)])
def test_half_precision_only_where_it_costs_little(monkeypatch, results, loss_db, half):
    """Validation says 30 dB until the weights are rounded, then a little less."""
    prepare = trainings.prepare

    def stub(recipe, device):
        work = prepare(recipe, device)

        def validate():
            rounded = all(torch.equal(w, w.half().float()) for w in work.network.parameters())
            return 30 - loss_db if rounded else 30.0

        work.validate = validate
        return work

    monkeypatch.setattr(trainings, "prepare", stub)
    trained = store.load_or_train(quick(), CPU, progress=False)
    stored = load_file(results / "weights" / f"{quick().weights}.safetensors")
    assert trained.card["half"] == trained.card["float16"] == half
    assert {v.dtype for v in stored.values()} == {torch.float16 if half else torch.float32}
    assert trained.card["validation"] == {
        "psnr_db": 30 - loss_db if half else 30.0,
        "float32_psnr_db": 30.0,
    }


def test_whole_numbers_of_batch_norm_survive_half_precision():
    trained = store.load_or_train(smoke("dagan", steps=2, every=2), CPU, progress=False)
    counts = [
        v for k, v in trained.network.state_dict().items() if k.endswith("num_batches_tracked")
    ]
    # two parts look at it in each of two steps
    assert trained.card["half"] and counts and all(int(v) == 4 for v in counts)


@pytest.mark.parametrize("name, seed", SHIPPED)
def test_shipped_weights_belong_to_their_recipe(name, seed, monkeypatch):
    recipe = training.recipe(name, seed=seed)
    files = {
        suffix: ROOT / "results" / "weights" / f"{recipe.weights}.{suffix}"
        for suffix in ("safetensors", "json")
    }
    assert all(file.is_file() for file in files.values()), (
        f"{recipe.weights} is not in results/weights: train it"
    )
    monkeypatch.setenv("INSTAB_RESULTS", str(ROOT / "results"))
    state, card = store.load_weights(recipe.weights)  # checks the hash of the tensors
    assert json.loads(files["json"].read_text()) == card
    assert card["key"] == recipe.key == training.Recipe(**card["recipe"]).key
    assert card["torch"] and card["device"] and card["precision"] in ("bf16", "fp32")
    assert card["seed"] == seed and card["validation"]["float32_psnr_db"] == max(
        r["validation_db"] for r in card["curve"]
    )
    recipe.build().load_state_dict(state)
    assert all(torch.isfinite(v).all() for v in state.values())


def test_nothing_else_ships_and_all_of_it_is_small():
    files = sorted((ROOT / "results" / "weights").iterdir())
    specs = [
        *(training.recipe(name, seed=seed) for name, seed in SHIPPED),
        *shipped_fits(),
        training.recipe("zero-filled-unet"),
        LipschitzDnCNN(),
    ]
    expected = {f"{spec.weights}.{suffix}" for spec in specs for suffix in ("json", "safetensors")}
    expected |= {f"{spec.weights}.json" for spec in cards_only()}
    assert {file.name.removesuffix(".gz") for file in files} == expected
    assert sum(file.stat().st_size for file in files) < 34e6  # the repository is to stay below 40
    assert {name for name, _ in SHIPPED} == set(training.NAMES)


def test_the_command_line_explains_itself_and_trains_any_seed(monkeypatch, capsys):
    with pytest.raises(SystemExit, match="0"):
        command(monkeypatch, "--help")
    asked = capsys.readouterr().out
    assert "--set FIELD=VALUE" in asked and "mri-vn" in asked
    calls = []

    def load(recipe, device):
        calls.append((recipe.name, recipe.seed, recipe.steps, device))
        card = {
            "architecture": "net",
            "validation": {"psnr_db": 1.0},
            "steps": 1,
            "seconds": 1,
            "device": "cpu",
        }
        return store.Trained(None, card, "key")

    monkeypatch.setattr(store, "load_or_train", load)
    for arguments in (
        ["dncnn"],
        ["deep-mri", "--seed", "7", "--set", "steps=5", "--device", "cpu"],
        ["all"],
    ):
        command(monkeypatch, *arguments)
    steps = training.recipe("dncnn").steps
    assert calls[:4] == [
        ("dncnn", 0, steps, None),
        ("dncnn", 1, steps, None),
        ("dncnn", 2, steps, None),
        ("deep-mri", 7, 5, "cpu"),
    ]
    assert [call[:2] for call in calls[4:]] == SHIPPED and "1.00 dB" in capsys.readouterr().out


# --- from measurements to images ---


def small(name):
    """(network, operator, y, the same pipeline written by hand) in float64, 8 x 8 pixels."""
    generator, x = profiles.generator(0, name), random("image", 2, 1, 8, 8).abs()
    z = torch.complex(x, random("imaginary", 2, 1, 8, 8))
    mask = torch.rand(8, 8, generator=profiles.generator(1, "mask")) < 0.5
    mask[0, 0] = True
    angles = torch.arange(9, dtype=torch.float64) * 20
    coils = torch.view_as_complex(random("coils", 3, 8, 8, 2))
    if name == "dncnn":
        net, A = networks.DnCNN(3, 4, generator=generator), Identity(8)

        def by_hand(y):
            return net.double()(y)

    elif name in ("unet", "fbpconvnet", "unknown"):
        net = {
            "unet": lambda: networks.LimitedAngleUNet(3, 2, generator=generator),
            "fbpconvnet": lambda: networks.FBPConvNet(3, 2, generator=generator),
            "unknown": lambda: nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Tanh()),
        }[name]()
        A = Radon(8, angles)

        def by_hand(y):
            return net(A.fbp(y))

    elif name == "automap":
        net, A = (
            networks.AUTOMAP(8, int(mask.sum()), 11, 3, generator=generator),
            MaskedFourier(mask),
        )

        def by_hand(y):
            samples = y[:, 0][:, mask]
            return net(0.48 * torch.cat([samples.real, -samples.imag], 1))
    elif name == "dagan":
        net, A = (
            dagan.Generator(8, 2, generator=generator),
            MaskedFourier(torch.fft.fftshift(mask), centred=True),
        )

        def by_hand(y):
            ifft = torch.fft.fftshift(
                torch.fft.ifft2(torch.fft.ifftshift(y, dim=(-2, -1)), norm="ortho"), dim=(-2, -1)
            )
            return (net(2 * ifft.abs() - 1) + 1) / 2
    elif name == "deep-mri":
        net, A = networks.Cascade(2, 2, 4, generator=generator), MaskedFourier(mask)

        def by_hand(y):
            u = torch.fft.ifft2(y, norm="ortho")
            for first, last in net.blocks:
                pair = last(first(torch.cat([u.real, u.imag], 1)).relu())
                k = torch.fft.fft2(u + torch.complex(pair[:, :1], pair[:, 1:]), norm="ortho")
                u = torch.fft.ifft2(torch.where(mask, y, k), norm="ortho")
            return u
    else:
        net, A = (
            networks.VariationalNetwork(2, 3, 3, generator=generator),
            MultiCoilFourier(mask, coils),
        )

        def by_hand(y):
            u = A.adjoint(y)
            for filters, activation, step in zip(net.filters, net.activations, net.steps):
                padded = torch.nn.functional.pad(
                    torch.cat([u.real, u.imag], 1), [2] * 4, mode="reflect"
                )
                hidden = activation.formula(torch.nn.functional.conv2d(padded, filters))
                back = torch.nn.functional.conv_transpose2d(hidden, filters)[..., 2:-2, 2:-2] / 3
                u = u - torch.complex(back[:, :1], back[:, 1:]) - step * A.adjoint(A(u) - y)
            return u

    if name == "dagan":  # gains and means as after some training
        with torch.no_grad():
            for buffer_name, buffer in net.named_buffers():
                if buffer.is_floating_point():
                    buffer.add_(random(buffer_name, *buffer.shape).abs().float() / 9)
    y = A(z if name in ("deep-mri", "mri-vn") else x)
    return net.double().eval().requires_grad_(False), A, y, by_hand


KINDS = ("dncnn", "unet", "fbpconvnet", "automap", "dagan", "deep-mri", "mri-vn", "unknown")


@pytest.mark.parametrize("name", KINDS)
def test_reconstruction_is_the_pipeline_written_by_hand(name):
    net, A, y, by_hand = small(name)
    f = Reconstructor(net, A)
    x = f(y)
    assert (
        x.shape == (2, 1, 8, 8)
        and x.is_complex() == (name in ("deep-mri", "mri-vn"))
        and x.abs().max() > 0
    )
    torch.testing.assert_close(x, by_hand(y), rtol=1e-9, atol=1e-9)
    assert type(net).__name__ in repr(f)


@pytest.mark.parametrize("name", KINDS)
def test_the_gradient_to_the_measurements_is_exact(name):
    net, A, y, _ = small(name)
    assert torch.autograd.gradcheck(
        Reconstructor(net, A), y[:1].clone().requires_grad_(), fast_mode=True
    )


# --- tasks ---


@pytest.mark.parametrize("name", training.NAMES)
def test_measurements_are_the_operators(name):
    what = training.task(name, 32)
    assert what.task in store.TASKS
    images, source = training.test_images(what, 3)
    y, x, A = what.measure(images, profiles.generator(0, "noise"))
    assert x.shape == (3, 1, 32, 32) and A(x).shape == y.shape and A(x).dtype == y.dtype
    assert (
        x.is_complex() == (name in ("deep-mri", "mri-vn"))
        and "smooth phase" not in source
        or x.is_complex()
    )
    error = float((A(x) - y).norm() / y.norm())
    if what.task.startswith("ct"):  # close to the solver's own matrix, and not it
        assert 1e-4 < error < 0.03
    elif name.startswith("dncnn"):
        assert float((y - x).std()) == pytest.approx(25 / 255, rel=0.05)
    else:
        assert error == 0
    again = what.measure(images, profiles.generator(0, "noise"))[0]
    assert torch.equal(y, again)


def test_underscores_are_hyphens_and_unknown_tasks_are_refused():
    assert training.task("mri_vn", 32).name == "mri-vn"
    with pytest.raises(ValueError, match="no network is called 'vdsr'"):
        training.task("vdsr", 32)
    with pytest.raises(ValueError, match="expects an image_size"):
        training.task("mri-vn")


def test_views_are_the_papers():
    assert training.views("ell-50", 512) == training.views("med-50", 512) == (1000, 20)
    limited, sparse, med = (
        training.task(name, 512).A for name in ("unet-limited", "ell-50", "med-50")
    )
    assert limited.image_size == 512 and limited.n_detectors == 725
    assert (
        limited.n_views == 427
        and 15 - 0.5
        < limited.angles_deg.min()
        < 15
        < 165
        < 165 + 0.5
        > limited.angles_deg.max()
        > 164.5
    )
    assert torch.allclose(sparse.angles_deg, torch.arange(50, dtype=torch.float64) * 3.6)
    assert torch.equal(sparse.angles_deg, med.angles_deg)
    assert int(limited_angle(512, 30).sum()) == 427


def test_deep_mri_trains_on_fresh_masks_and_is_tested_on_one():
    draw = training.prepare(smoke("deep-mri")).draw
    drawn = [draw(step)[2].mask for step in range(3)]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(drawn, 2))
    what, x = training.task("deep-mri", 32), torch.ones(1, 1, 32, 32) + 0j
    fixed = masks.variable_density_lines(32, 3, generator=profiles.generator(0, "deep-mri mask"))
    assert torch.equal(what.A.mask, fixed) and what.measure(x, None)[2] is what.A


def test_parallel_imaging_is_scaled_to_one():
    what = training.task("mri-vn", 32)
    images, _ = training.test_images(what, 3)
    y, x, A = what.measure(7 * images, None)
    peaks = A.adjoint(y).abs().amax((1, 2, 3))
    assert torch.allclose(peaks, torch.ones(3), atol=1e-5)
    assert torch.allclose(y, what.measure(images, None)[0], atol=1e-5)


def test_ell_50_measures_closed_forms():
    """A disc of radius r pixels: chords 2 sqrt(r^2 - s^2), averaged over bins of one pixel by
    quadrature.
    """
    what = training.task("ell-50", 32)
    table = torch.tensor([[[0.8, 0.5, 0.5, 0.0, 0.0, 0.0]]])  # radius 0.5 of half a side: 8 pixels
    y, x, A = what.measure(table, None)
    s = (
        np.arange(A.n_detectors)[:, None]
        - (A.n_detectors - 1) / 2
        + (np.arange(2000) + 0.5) / 2000
        - 0.5
    )
    chords = 0.8 * 2 * np.sqrt(np.clip(64 - s**2, 0, None)).mean(1)
    assert y.shape[2] == len(A.angles_deg) == 3 and np.allclose(y[0, 0].numpy(), chords, atol=2e-3)
    assert torch.equal(x, phantoms.raster(table, 32))
    images, source = training.test_images(what, 5)
    assert images.shape[0] == 5 and source == "random ellipses"


def test_test_images_are_not_validation_images():
    for name in ("dncnn", "ell-50", "automap", "mri-vn"):
        what = training.task(name, 32)
        test, validation = (
            training.test_images(what, 3, split)[0] for split in ("test", "validate")
        )
        assert test.shape == validation.shape and not torch.allclose(test, validation)


@pytest.mark.parametrize("name", ["deep-mri", "dncnn"])
def test_a_case_is_the_trained_network_at_work(name):
    how = smoke(name, steps=2, every=2)
    one = training.case(how, n_images=2, tv=False)
    trained = store.load_or_train(how)
    assert (one.name, one.task, one.title) == (
        name,
        training.task(name, 32).task,
        training.TITLES[name],
    )
    assert (
        torch.equal(one.f(one.y), Reconstructor(trained.network, one.A)(one.y))
        and "phantom" in one.source
    )
    assert one.x.shape[-1] == (180 if name == "dncnn" else 32)
    assert torch.equal(training.case(how, n_images=2, tv=False).y, one.y)
    other = training.case(how, n_images=2, split="validate", image_size=40, tv=False)
    assert other.x.shape[-1] == 40
    if name == "dncnn":
        assert not torch.equal(training.case(how, n_images=2, seed=1, tv=False).y, one.y)


# --- losses ---


def first_batch(name, **changes):
    work = training.prepare(smoke(name, **changes))
    work.network.eval()
    batch = work.draw(0)
    return work, batch, float(work.parts[0].loss(batch).detach())


@pytest.mark.parametrize("name", ["dncnn", "unet-limited", "med-50", "deep-mri"])
def test_squared_error_is_numpys(name):
    work, (y, x, A), loss = first_batch(name)
    with torch.no_grad():
        difference = (Reconstructor(work.network, A)(y) - x).numpy()
    assert loss == pytest.approx(np.mean(np.abs(difference) ** 2), rel=1e-5)


def test_ell_50_learns_from_one_reconstruction_to_another():
    work, (x_in, x, A), loss = first_batch("ell-50")
    with torch.no_grad():
        assert loss == pytest.approx(np.mean((work.network(x_in) - x).numpy() ** 2), rel=1e-5)
    assert x_in.shape == x.shape == (4, 1, 32, 32) and not torch.equal(x_in, x)


def test_automap_loses_means_and_pays_for_codes():
    work, (y, x, A), loss = first_batch("automap")
    with torch.no_grad():
        x_rec, codes = work.network(encode(y, A.mask), return_codes=True)
    difference = (x_rec - x).numpy().reshape(len(x), -1)
    difference = difference - difference.mean(1, keepdims=True)
    expected = ((difference**2).sum() + 1e-4 * np.abs(codes.numpy()).sum()) / x.numel()
    assert loss == pytest.approx(expected, rel=1e-5)


def test_automap_is_trained_with_multiplicative_noise():
    _, (y, x, A), _ = first_batch("automap")
    clean = A(x)
    ratio = (y / clean)[clean.abs() > 1e-3 * clean.abs().max()]
    assert (
        ratio.real.min() > 0.99 - 1e-4
        and ratio.real.max() < 1.01 + 1e-4
        and ratio.real.std() > 0.004
    )
    assert torch.equal(y == 0, clean == 0)


def test_mri_vn_compares_magnitudes():
    work, (y, x, A), loss = first_batch("mri-vn")
    with torch.no_grad():
        u = work.network(y, A).numpy()
    smooth = [np.sqrt(np.abs(z) ** 2 + 1e-12) for z in (u, x.numpy())]
    assert loss == pytest.approx(np.mean((smooth[0] - smooth[1]) ** 2), rel=1e-4)


def test_dagans_two_losses_have_their_weights():
    work, (y, x, A), loss = first_batch("dagan")
    rival = work.trained["rival"].eval()
    with torch.no_grad():
        x_in = 2 * torch.fft.ifft2(torch.fft.ifftshift(y, dim=(-2, -1)), norm="ortho").abs() - 1
        x_in = torch.fft.fftshift(x_in, dim=(-2, -1))
        x_rec, truth = work.network(x_in), 2 * x - 1
        fake, true = rival(x_rec).numpy().astype(float), rival(truth).numpy().astype(float)
    a, b = x_rec.numpy()[:, 0].astype(float), truth.numpy()[:, 0].astype(float)
    nmse = np.mean([np.linalg.norm(u - v) / np.linalg.norm(v) for u, v in zip(a, b)])
    spectra = [np.abs(np.fft.fft2((v + 1) / 2)) for v in (a, b)]
    frequency = np.mean((spectra[0] - spectra[1]) ** 2)
    with torch.no_grad():
        loss, rival_loss = (float(part.loss((y, x, A))) for part in work.parts)
    assert loss == pytest.approx(
        15 * nmse + 0.1 * frequency + np.mean(np.logaddexp(0, -fake)), rel=1e-4
    )
    assert rival_loss == pytest.approx(
        np.mean(np.logaddexp(0, -true)) + np.mean(np.logaddexp(0, fake)), rel=1e-4
    )


def test_dagans_parts_train_their_own_weights():
    work = training.prepare(smoke("dagan"))
    networks_of = [
        {id(w) for group in part.optimiser.param_groups for w in group["params"]}
        for part in work.parts
    ]
    assert networks_of == [
        {id(w) for w in work.trained[k].parameters()} for k in ("network", "rival")
    ]


# --- comparison ---


@pytest.mark.parametrize("name", ["dncnn", "deep-mri", "automap"])
def test_scores_of_a_comparison_are_metrics_by_hand(name, monkeypatch):
    how, splits, chosen = smoke(name, steps=2, every=2), [], []

    def watched_case(*args, **kwargs):
        one = training.case(*args, **kwargs)
        splits.append((kwargs.get("split", "test"), one))
        return one

    def watched_choice(A, x, weights, **options):
        chosen.append((x, options["y_validation"]))
        with warnings.catch_warnings():
            # the best may lie at the end of the grid on so small images
            warnings.simplefilter("ignore")
            return choose(A, x, weights, **options)

    choose = solvers.choose_weight
    monkeypatch.setattr(comparison, "case", watched_case)
    monkeypatch.setattr(comparison, "BATCH", 2)
    monkeypatch.setattr(solvers, "choose_weight", watched_choice)
    size = None if name == "automap" else 32
    result = training.compare(how, 3, n_iter=30, n_validation=2, image_size=size)
    (first, test), (second, validation) = splits
    assert (first, second) == ("test", "validate") and len(chosen) == 1
    assert (
        torch.equal(chosen[0][0], validation.x)
        and torch.equal(chosen[0][1], validation.y)
        and len(validation.x) == 2
    )
    assert (
        not torch.equal(validation.x, test.x[:2])
        and result.tv_weight in training.cases.TV_WEIGHTS[test.task]
    )
    by_hand = {
        "input": test.A.pinv(test.y),
        "network": test.f(test.y),
        "TV": torch.cat(
            [solvers.tv(test.A, y, result.tv_weight, n_iter=30).x for y in test.y.split(2)]
        ),
    }
    for way, x in by_hand.items():
        x = x if test.x.is_complex() else (x.abs() if x.is_complex() else x).clamp(0, 1)
        torch.testing.assert_close(result.images[way], x)
        torch.testing.assert_close(result.psnr_db[way], metrics.psnr_db(x, test.x))
        torch.testing.assert_close(result.ssim[way], metrics.ssim(x, test.x))
    gain = metrics.mean_ci(result.psnr_db["network"] - result.psnr_db["TV"])
    assert result.gain_db() == gain and 0 <= result.tv_gap < 1
    scores = result.metrics()
    assert scores["n_images"] == 3 and scores["gain_over_tv_db"] == gain
    assert scores["network"]["psnr_db"] == metrics.mean_ci(result.psnr_db["network"])
    store.record(
        experiment="reconstruct",
        task=test.task,
        network=name,
        method=name,
        seed=0,
        profile="smoke",
        metrics=scores,
    )


# --- one default device ---


def test_the_default_device_is_the_argument_then_the_variable_then_a_gpu(monkeypatch):
    monkeypatch.delenv("INSTAB_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert profiles.default_device() == CPU and profiles.device_name() == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert profiles.default_device().type == "cuda" and profiles.default_device("cpu") == CPU
    monkeypatch.setenv("INSTAB_DEVICE", "cuda:1")
    assert profiles.default_device() == torch.device("cuda", 1)
    assert profiles.default_device(CPU) == CPU
    monkeypatch.setenv("INSTAB_DEVICE", "gpu")
    with pytest.raises(ValueError, match="a device is .*got 'gpu'.*INSTAB_DEVICE"):
        profiles.default_device()


def test_everything_is_built_on_the_default_device(monkeypatch):
    """The meta device stands for a GPU."""
    monkeypatch.setenv("INSTAB_DEVICE", "meta")
    assert {w.device.type for w in smoke("dncnn").build().parameters()} == {"meta"}
    assert training.task("mri-vn", 32).A.device.type == "meta"
    x_in, x = fits.inputs(smoke("dncnn"), 1, "validate", image_size=32)
    assert (x_in.device.type, x.device.type) == ("meta", "meta")
