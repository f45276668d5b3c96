"""Sweeps: what is checked, what is run again, halving by hand, workers that die, and what listens
where.
"""

import importlib
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
import pytest
import torch

from instab_utils import store, sweep
from instab_utils.sweep import Workers, cost_estimate
from instab_utils.sweep import __main__ as command
from instab_utils.sweep import workers as workers_module
from instab_utils.sweep.functions import Function
from instab_utils.sweep.values import fits

HERE = Path(__file__).stem  # the jobs below are imported by workers under this name
ROOT = Path(__file__).resolve().parents[1]


# --- jobs ---


def fit(width: int, depth: int = 3, seed: int = 0, rate: float = 0.1, log: str = "") -> dict:
    """Numbers that depend on everything, by NumPy and by torch's multi-threaded product; each call
    leaves a line in `log`.
    """
    if log:
        with open(log, "a") as file:
            file.write(f"{width} {seed}\n")
    a = np.random.default_rng([width, depth, seed]).standard_normal((200, 200))
    return {
        "psnr_db": float(np.linalg.norm(a @ a)) * rate,
        "trace": (torch.from_numpy(a).float() @ torch.from_numpy(a).float()).trace(),
    }


def race(start: float, speed: float, steps: int, fails: bool = False, log: str = "") -> dict:
    """A learning curve: start + speed * steps."""
    if log:
        with open(log, "a") as file:
            file.write(f"{start} {speed} {steps}\n")
    if fails:
        raise ValueError("diverged")
    return {"psnr_db": start + speed * steps}


def picky(i: int) -> dict:
    if i == 1:
        raise ValueError("one is\nnot welcome")
    if i == 2:
        sys.exit(3)
    return (
        {"i": 1.0}
        if i == 3
        else [i]
        if i == 4
        else {"word": "x"}
        if i == 5
        else {"square": i * i, "many": (1, np.float32(i))}
    )


def not_finite(i: int) -> dict:
    return {"value": math.nan if i else 1.0, "list": [math.inf, 2.0]}


def deadly(i: int, folder: str, always: bool = False) -> dict:
    """Number 2 kills its worker: the first time, or whenever it runs."""
    time.sleep(0.05)
    mark = Path(folder) / "killed"
    with open(Path(folder) / f"ran{i}", "a") as file:
        file.write("x")
    if i == 2 and (always or not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"value": 1.5 * i}


def on_device(i: int) -> dict:
    start = time.time()
    time.sleep(0.1)
    return {"device": int(os.environ["CUDA_VISIBLE_DEVICES"]), "start": start, "end": time.time()}


def field(width: int, seed: int, log: str, poison: bool = False) -> dict:
    with open(log, "a") as file:
        file.write("1 ")
    return _field([{"width": width, "seed": seed, "poison": poison}])[0]


def _field_batched(many: list[dict]) -> list[dict]:
    with open(many[0]["log"], "a") as file:
        file.write(f"{len(many)} ")
    return _field(many)


def _field(many):
    if any(p["poison"] for p in many):
        raise ValueError("poisoned")
    w = torch.stack(
        [
            torch.randn(p["width"], p["width"], generator=torch.Generator().manual_seed(p["seed"]))
            for p in many
        ]
    )
    return [{"norm": value} for value in torch.bmm(w, w).square().mean((1, 2)).sqrt()]


field.batched = _field_batched


def nested(i: int, log: str) -> dict:
    """Job 0 lets another sweep do the rest of the plan meanwhile."""
    with open(log, "a") as file:
        file.write(f"{i} ")
    if i == 0:
        sweep.run_plan(nested, sweep.grid(i=[1, 2, 3], log=log), workers=0)
    return {"value": i}


def anything(**parameters) -> dict:
    return {"n": len(parameters)}


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("INSTAB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("INSTAB_BOOK", "1")  # no bars
    return tmp_path / "results"


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """A folder from which this process and the workers import."""
    folder = tmp_path_factory.mktemp("modules")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


@pytest.fixture(scope="module")
def cluster(modules):
    """Two workers with a GPU each, of a machine that is said to have two; when all is over no
    process is left.
    """

    def environment():
        return {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTEST_CURRENT_TEST", "__DASK_PARENT_PID", "KMP_DUPLICATE_LIB_OK")
        }

    before = environment()
    children = set(psutil.Process().children(recursive=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "device_count", lambda: 2)
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        with sweep.cluster(gpus=True) as made:
            yield made
    assert environment() == before
    left = [p for p in psutil.Process().children(recursive=True) if p not in children]
    # Python's own, one for the life of a process
    left = [p for p in left if "resource_tracker" not in " ".join(p.cmdline())]
    assert not left, [p.cmdline() for p in left]


def on(cluster, **options):
    return Workers(address=cluster.scheduler_address, **options)


def numbers(table):
    return table.drop(columns=["seconds", "status"])


# --- plans ---


def test_grid_is_the_product_with_the_last_axis_fastest():
    assert sweep.grid(a=[1, 2], b=("x", "y"), c=5) == [
        {"a": 1, "b": "x", "c": 5},
        {"a": 1, "b": "y", "c": 5},
        {"a": 2, "b": "x", "c": 5},
        {"a": 2, "b": "y", "c": 5},
    ]
    with pytest.raises(sweep.SweepError, match="axis b: expected at least one value"):
        sweep.grid(a=[1], b=[])


@pytest.mark.parametrize(
    "maximise, values, going",
    [
        # 7 // 3 = 2 of three equals: the first two
        (True, [3.0, 9.0, 9.0, 1.0, 9.0, 2.0, 8.0], [1, 2]),
        (False, [3.0, 9.0, 9.0, 1.0, 9.0, 2.0, 8.0], [3, 5]),
        # no value comes after a poor one, failed never goes on
        (True, ["failed", None, -5.0, "failed", None, "failed"], [1, 2]),
        (True, ["failed", "failed", 1.0], [2]),
        (True, ["failed"] * 3, []),
        (False, [0.0, -0.0], [0]),
    ],
)
def test_who_goes_on(maximise, values, going):
    plan = sweep.halving([{}] * len(values), [1, 2], metric="m", maximise=maximise)
    results = [(i, None if value == "failed" else {"m": value}) for i, value in enumerate(values)]
    assert plan.survivors(results) == going
    assert plan.survivors(results[::-1]) == going  # whatever the order of arrival


def test_halving_beside_a_computation_by_hand(tmp_path):
    """Nine curves, at 10, 30 and 90 steps; the one that wins at last is third at first."""
    curves = [
        (5, 0),
        (4, 0),
        (3, 0.1),
        (3, 0),
        (9, 0.01),
        (2, 0.02),
        (1, 0.001),
        (8, -0.1),
        (7, -0.2),
    ]
    configs = [
        {"start": a, "speed": b, "fails": a == 9, "log": str(tmp_path / "log")} for a, b in curves
    ]
    plan = sweep.halving(configs, [10, 30, 90])
    assert plan.sizes() == [9, 3, 1]
    table = sweep.run_plan(race, plan, workers=0)
    # at 10: 5, 4, 4, 3, failed, 2.2, 1.01, 7, 5 -> 0, 7, 8 go on; at 30: 5, 5, 1 -> 0, the first of
    # two equals
    assert [list(table.start[table.rung == r]) for r in (0, 1, 2)] == [
        [a for a, _ in curves],
        [5, 8, 7],
        [5],
    ]
    assert list(table.steps) == [10] * 9 + [30] * 3 + [90]
    assert len((tmp_path / "log").read_text().splitlines()) == 13
    again = sweep.run_plan(race, plan, workers=0)
    assert list(again.status) == ["stored"] * 4 + ["failed"] + ["stored"] * 8
    assert len((tmp_path / "log").read_text().splitlines()) == 14


def test_halving_ends_where_nothing_is_left(capsys):
    table = sweep.run_plan(
        race,
        sweep.halving([{"start": i, "speed": 0, "fails": True} for i in range(3)], [1, 2]),
        workers=0,
    )
    assert list(table.rung) == [0, 0, 0] and list(table.status) == ["failed"] * 3
    with pytest.raises(
        sweep.SweepError,
        match=r"expected 'psnr' among the metrics.*got psnr_db \(did you mean 'psnr_db'\?\)",
    ):
        sweep.run_plan(
            race,
            sweep.halving([{"start": i, "speed": 0} for i in range(3)], [1, 2], metric="psnr"),
            workers=0,
        )


# --- what is checked before anything runs ---


def problems(what, plan, **options) -> str:
    with pytest.raises(sweep.SweepError) as caught:
        sweep.run_plan(what, plan, **options)
    assert "nothing was run" in str(caught.value)
    return str(caught.value)


def test_one_error_lists_everything_and_nothing_has_run(tmp_path, results):
    log = str(tmp_path / "log")
    good = {"width": 1, "log": log}
    text = problems(
        fit,
        [
            good,
            {"widht": 16, "log": log},
            {"width": 2.0},
            {"width": True},
            {"width": 1, "rate": 1},
            {"width": 3, "rate": math.nan},
            {"width": 3, "seed": np.int64(3)},
            {"width": 1, "depth": 3, "log": log},
            {"width": 1, "rate": 1.0},
            {"width": 2.0, "log": log},
            "x",
        ],
        workers=Workers(-1, "here"),
        batch_by=["width"],
    )
    for part in [
        "configuration 1: there is no parameter 'widht' (did you mean 'width'?); "
        "expected fit(width: int, depth: int = 3",
        "configuration 1: parameter 'width' is missing",
        "configurations 2, 9: width expects int; got 2.0.",
        "configuration 3: width expects int; got True",
        "configuration 5: rate expects a JSON value",
        "got nan of type float",
        "configuration 6: seed expects a JSON value",
        "of type int64",
        "configuration 7: the same as configuration 0 once",
        "configuration 8: the same as configuration 4 once",
        "configuration 10: expected a dictionary",
        "workers: expected",
        "address: expected",
        f"batch_by: expected {HERE}:fit.batched",
    ]:
        assert part in text, f"{part!r} is not in\n{text}"
    assert not Path(log).exists() and not results.exists()


@pytest.mark.parametrize(
    "what, plan, options, message",
    [
        (fit, [], {}, "the plan has no configurations"),
        (fit, [{"width": 1, "status": 3}], {}, "no parameter 'status'"),
        (anything, [{"status": 3}], {}, "'status' has the name of a column"),
        (
            race,
            sweep.halving([{"start": 1, "speed": 1, "steps": 3}], [1, 2]),
            {},
            "'steps' is the budget and set by the rungs",
        ),
        (
            race,
            sweep.halving([{"start": 1, "speed": 1}], [2, 1]),
            {},
            "rungs: expected increasing positive budgets; got [2, 1]",
        ),
        (
            race,
            sweep.halving([{"start": 1, "speed": 1}], [1, 2], eta=1),
            {},
            "eta: expected a whole number of 2 or more; got 1",
        ),
        (
            race,
            sweep.halving([{"start": 1, "speed": 1}], [1.5, 2]),
            {},
            "steps expects int; got 1.5",
        ),
        (
            race,
            sweep.halving([{"start": 1, "speed": 1}], [1, 2], budget="step"),
            {},
            "no parameter 'step' (did you mean 'steps'?)",
        ),
        (lambda: 0, [{}], {}, "expected one that has an import path"),
        ("no_such_module:f", [{}], {}, "No module named 'no_such_module'"),
        (f"{HERE}:no", [{}], {}, "has no attribute 'no'"),
        (f"{HERE}:HERE", [{}], {}, "is of type str"),
        (fit, [{"width": 1}], {"collect": "metrics"}, "collect: expected a notebook"),
        (
            fit,
            [{"width": 1}],
            {"workers": Workers(resources={"GPU": 0})},
            "resources: expected positive numbers",
        ),
        (
            field,
            [{"width": 1, "seed": 0, "log": ""}],
            {"batch_by": ["widht"]},
            "no parameter 'widht' (did you mean 'width'?)",
        ),
        (fit, [{"width": 1}], {"workers": Workers(batch_size=0)}, "batch_size: expected"),
        ("no/such.ipynb", [{}], {}, "notebook: expected a file"),
    ],
)
def test_what_cannot_run_is_named(what, plan, options, message):
    assert message in problems(what, plan, **options)


def test_a_gpu_is_not_promised_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert "PyTorch finds none" in problems(
        fit, [{"width": 1}], workers=Workers(resources={"GPU": 1})
    )


@pytest.mark.parametrize("n_gpus, visible", [(0, ""), (1, "3"), (2, "GPU-a,GPU-b"), (2, "")])
def test_fields_take_a_process_a_gpu_or_a_core(monkeypatch, n_gpus, visible):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_gpus > 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.delenv("INSTAB_DEVICE", raising=False)
    on_gpus = {"resources": {"GPU": 1}}
    expected = {0: Workers(), 1: Workers(0, **on_gpus), 2: Workers(2, **on_gpus)}[n_gpus]
    assert Workers.on_devices() == expected and Workers.on_devices().problems() == []
    assert workers_module.visible_gpus() == (visible.split(",") if visible else ["0", "1"][:n_gpus])
    assert Workers.on_devices(0).n == 0
    too_many = Workers(n_gpus + 1, **on_gpus).problems()
    assert len(too_many) == 1 and ("at most one a GPU" if n_gpus else "finds none") in too_many[0]
    with (
        pytest.raises(sweep.SweepError, match=f"of which there are {n_gpus}; got"),
        sweep.cluster(n_gpus + 1, gpus=True),
    ):
        pass
    monkeypatch.setenv("INSTAB_DEVICE", "cpu")
    assert Workers.on_devices() == Workers() and Workers.on_devices(3) == Workers(3)
    monkeypatch.setenv("INSTAB_DEVICE", "cuda:1")  # this one GPU and no other
    assert Workers.on_devices().n == 0


def test_a_function_of_the_running_script_runs_here_only(monkeypatch):
    def own(i: int):
        return {"value": i}

    monkeypatch.setattr("__main__.own", own, raising=False)
    assert "belongs to the running script" in problems("__main__:own", [{"i": 1}])
    assert list(sweep.run_plan("__main__:own", [{"i": 4}], workers=0).value) == [4]
    fake = type(fit)(fit.__code__, fit.__globals__, "fit")
    fake.__module__, fake.__qualname__ = HERE, "race"
    assert "is not what is imported under this name" in problems(fake, [{"width": 1}])


@pytest.mark.parametrize(
    "value, wanted, right",
    [
        (1, int, True),
        (1.0, int, False),
        (True, int, False),
        (1, float, True),
        (True, bool, True),
        (1, bool, False),
        ("a", str, True),
        (1, str, False),
        ((1, 2), list[int], True),
        ([1], tuple[int, ...], True),
        ("ab", list, False),
        ({}, dict, True),
        (None, int | None, True),
        ("x", int | None, False),
        ("relu", Literal["relu", "silu"], True),
        ("sine", Literal["relu", "silu"], False),
        ("p", Path, True),
        # JSON has no such kinds: the function takes what it is given
        ([1], np.ndarray, True),
        (1, object, True),
    ],
)
def test_types(value, wanted, right):
    assert fits(value, wanted) is right


# --- results ---


def test_only_what_is_missing_is_run(tmp_path, results):
    log = tmp_path / "log"
    plan = sweep.grid(width=[4, 8], seed=[0, 1], log=str(log))
    first = sweep.run_plan(fit, plan[:3], workers=0)
    assert list(first.columns) == [
        "key",
        "width",
        "depth",
        "seed",
        "rate",
        "log",
        "psnr_db",
        "trace",
        "status",
        "seconds",
        "error",
    ]
    assert list(first.status) == ["done"] * 3
    # named otherwise, the same function
    table = sweep.run_plan(f"{HERE}:fit", plan, workers=0)
    assert list(table.status) == ["stored"] * 3 + ["done"] and log.read_text().split() == [
        "4",
        "0",
        "4",
        "1",
        "8",
        "0",
        "8",
        "1",
    ]
    assert (numbers(table)[:3] == numbers(first)).all(axis=None)
    (path,) = (results / "sweeps").glob("*.jsonl")
    assert path.stem == f"{HERE}-fit" and sorted(r["key"] for r in stored(path)) == sorted(
        table.key
    )
    lines = path.read_bytes().splitlines(keepends=True)
    hit = [line for line in lines if table.key[1].encode() in line]
    damaged = hit[0].replace(b'"trace":', b'"trace":1')
    path.write_bytes(b"".join(lines).replace(hit[0], damaged))
    with pytest.warns(RuntimeWarning, match="checksum does not match"):
        mended = sweep.run_plan(fit, plan, workers=0)
    assert list(mended.status) == ["stored", "done", "stored", "stored"] and (
        numbers(mended) == numbers(table)
    ).all(axis=None)


def stored(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_key_is_function_version_and_parameters(modules):
    (modules / "keyed.py").write_text("def f(x: float, n=(1, 2)):\n    return {'value': x}\n")
    options = dict(workers=0)
    first = sweep.run_plan("keyed:f", [{"x": 1}], **options)
    parameters = {"x": 1.0, "n": [1, 2]}
    identity = dict(function="keyed:f", version=1, parameters=parameters)
    assert first.key[0] == store.key(**identity)[:16]
    again = sweep.run_plan("keyed:f", [{"n": (1, 2), "x": 1.0}], **options)
    assert list(again.status) == ["stored"]
    changed = sweep.run_plan("keyed:f", [{"x": 1}], version=2, **options)
    assert list(changed.status) == ["done"] and changed.key[0] != first.key[0]


def test_what_another_sweep_finished_meanwhile_is_not_run(tmp_path):
    log = tmp_path / "log"
    table = sweep.run_plan(nested, sweep.grid(i=[0, 1, 2, 3], log=str(log)), workers=0)
    assert log.read_text() == "0 1 2 3 " and list(table.value) == [0, 1, 2, 3]


def test_a_failed_job_is_named_and_the_rest_is_done(capsys, results):
    table = sweep.run_plan(picky, sweep.grid(i=list(range(7))), workers=0)
    assert (
        list(table.status) == ["done", "failed", "failed", "failed", "failed", "failed", "done"]
        and table.square[6] == 36
    )
    assert table.many[6] == [1, 6.0]
    said = capsys.readouterr().err.splitlines()
    assert (
        said[0] == f"failed: {HERE}:picky(i=1): ValueError: not welcome"
        and said[1] == f"failed: {HERE}:picky(i=2): SystemExit: 3"
    )
    assert (
        "metric 'i': expected a name that is no parameter" in said[2]
        and "expected a dictionary of numbers; got list" in said[3]
    )
    assert (
        "metric 'word': expected a number, or a list of numbers; got 'x'" in said[4]
        and len(said) == 5
    )
    # a failure is no result: it is tried again
    assert len(stored(results / "sweeps" / f"{HERE}-picky.jsonl")) == 2
    with pytest.raises(
        sweep.SweepError,
        match="2 of 3 jobs failed; the rest is done and stored.*First: ValueError: not welcome",
    ) as caught:
        sweep.run_plan(picky, sweep.grid(i=[0, 1, 2]), workers=0, strict=True)
    assert list(caught.value.table.status) == ["stored", "failed", "failed"]


def test_what_is_not_finite_has_no_value():
    for _ in range(2):
        table = sweep.run_plan(not_finite, sweep.grid(i=[0, 1]), workers=0)
        assert table.value[0] == 1.0 and math.isnan(table.value[1]) and table.list[1] == [None, 2.0]


def test_batches_have_one_record_each_and_the_same_numbers(tmp_path, results, monkeypatch):
    plan = sweep.grid(width=[8, 32], seed=list(range(5)), log=str(tmp_path / "log"))
    batched = sweep.run_plan(field, plan[:9], workers=Workers(0, batch_size=3), batch_by=["width"])
    assert (tmp_path / "log").read_text() == "3 2 3 1 " and list(batched.seed) == [
        0,
        1,
        2,
        3,
        4,
        0,
        1,
        2,
        3,
    ]
    assert len(stored(results / "sweeps" / f"{HERE}-field.jsonl")) == 9
    assert list(sweep.run_plan(field, plan, workers=0).status) == ["stored"] * 9 + ["done"]
    monkeypatch.setenv("INSTAB_RESULTS", str(tmp_path / "others"))
    alone = sweep.run_plan(field, plan[:9], workers=0)
    assert list(alone.key) == list(batched.key) and list(alone.status) == ["done"] * 9
    np.testing.assert_allclose(alone.norm, batched.norm, rtol=1e-6)


def test_in_a_batch_only_the_wrong_one_fails(tmp_path, capsys):
    plan = [
        {"width": 4, "seed": s, "poison": s == 1, "log": str(tmp_path / "log")} for s in range(3)
    ]
    table = sweep.run_plan(field, plan, workers=0, batch_by=["width"])
    assert (
        list(table.status) == ["done", "failed", "done"]
        and (tmp_path / "log").read_text() == "3 1 1 1 "
    )
    assert (
        "a batch of 3 failed and is run one by one: ValueError: poisoned" in capsys.readouterr().err
    )


# --- workers ---


def test_workers_give_the_numbers_of_this_process(cluster, tmp_path, monkeypatch):
    plan = sweep.grid(width=[3, 5, 7], seed=[0, 1])
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    serial = sweep.run_plan(fit, plan, workers=0)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    monkeypatch.setenv("INSTAB_RESULTS", str(tmp_path / "others"))
    parallel = sweep.run_plan(fit, plan, workers=on(cluster))
    assert list(parallel.status) == ["done"] * 6
    assert (numbers(parallel) == numbers(serial)).all(axis=None)
    # what workers are told does not reach this process
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_batches_on_workers(cluster, tmp_path):
    plan = sweep.grid(width=[8, 32], seed=[0, 1, 2], log=str(tmp_path / "log"))
    table = sweep.run_plan(
        field,
        plan,
        workers=on(cluster),
        batch_by=["width"],
    )
    assert (
        sorted((tmp_path / "log").read_text().split()) == ["3", "3"]
        and list(table.status) == ["done"] * 6
    )


def test_one_job_at_a_time_on_each_gpu(cluster):
    table = sweep.run_plan(
        on_device,
        sweep.grid(i=list(range(6))),
        workers=on(cluster, resources={"GPU": 1}),
    )
    assert list(table.status) == ["done"] * 6 and set(table.device) == {0, 1}
    for _, jobs in table.sort_values("start").groupby("device"):
        assert (jobs.start.to_numpy()[1:] >= jobs.end.to_numpy()[:-1]).all()


def test_a_killed_worker_costs_nothing_but_time(cluster, tmp_path):
    plan = sweep.grid(i=list(range(6)), folder=str(tmp_path))
    table = sweep.run_plan(deadly, plan, workers=on(cluster))
    assert list(table.status) == ["done"] * 6 and list(table.value) == [
        0.0,
        1.5,
        3.0,
        4.5,
        6.0,
        7.5,
    ]
    assert (tmp_path / "killed").exists() and (tmp_path / "ran2").read_text() == "xx"


def test_a_job_that_always_kills_its_worker_fails_alone(cluster, tmp_path, capsys):
    plan = sweep.grid(i=[1, 2, 3], folder=str(tmp_path), always=True)
    table = sweep.run_plan(deadly, plan, workers=on(cluster))
    assert list(table.status) == ["done", "failed", "done"]
    assert (tmp_path / "ran2").read_text() == "xx"  # once among others, once alone, and no more
    assert (
        f"failed: {HERE}:deadly(i=2, " in capsys.readouterr().err
        and "KilledWorker" in table.error[1]
    )


def test_all_sockets_are_on_loopback(cluster):
    assert cluster.scheduler_address.startswith("tcp://127.0.0.1:")
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening = [
        c.laddr.ip
        for p in processes
        for c in p.net_connections("inet")
        if c.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 3 and set(listening) == {"127.0.0.1"}


def test_workers_with_other_code_or_without_it_are_refused(cluster, modules):
    workers = on(cluster)
    cluster.wait_for_workers(2)  # after those that were killed
    (modules / "shared.py").write_text("def f(i: int):\n    return {'value': i}\n")
    assert list(sweep.run_plan("shared:f", [{"i": 1}], workers=workers).status) == ["done"]
    (modules / "shared.py").write_text(
        "def f(i: int):\n    return {'value': i + 1}\n\n\ndef g(i: int):\n    return {'value': 0}\n"
    )
    os.utime(modules / "shared.py", (1, 1))
    import linecache

    import shared

    linecache.checkcache()
    importlib.reload(shared)
    with pytest.raises(
        sweep.SweepError, match="it has loaded another version of shared:f; restart it"
    ):
        sweep.run_plan("shared:f", [{"i": 2}], workers=workers)
    message = "it cannot import shared:g: .* has no attribute 'g'\n.*Give them the same code"
    with pytest.raises(sweep.SweepError, match=f"(?s){message}"):
        sweep.run_plan("shared:g", [{"i": 1}], workers=workers)
    with pytest.raises(sweep.SweepError, match=r"no worker offers {'TPU': 1}"):
        sweep.run_plan(
            fit,
            [{"width": 1}],
            workers=on(cluster, resources={"TPU": 1}),
        )


def test_no_scheduler_at_the_address():
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "300ms"}),
        pytest.raises(
            sweep.SweepError,
            match="expected a dask scheduler with workers; none at tcp://127.0.0.1:1 ",
        ),
    ):
        sweep.run_plan(fit, [{"width": 1}], workers=Workers(address="tcp://127.0.0.1:1"))


# --- notebooks ---

CELLS = """
# %% tags=["parameters"]
profile = "smoke"
width = 16
rate = 0.1

# %%
from instab_utils import profiles, store
profiles.check_parameters(In, choices={"width": (4, 16)})

# %%
import numpy as np
if rate > 1:
    raise ValueError("too fast")
scores = {"psnr_db": np.float32(width * rate), "list": [1, 2]}
"""


@pytest.fixture
def notebook(tmp_path):
    (tmp_path / "own.py").write_text(CELLS)
    return tmp_path / "own.py"


def test_notebooks_are_checked(notebook):
    text = problems(
        notebook,
        [{"widht": 4}, {"width": 5}, {"rate": "x"}, {"width": 16}, {}],
        collect="scores[",
        batch_by=["width"],
    )
    for part in [
        "there is no parameter 'widht' (did you mean 'width'?). "
        "Valid parameters and their defaults: profile = 'smoke'",
        "width expects one of 4, 16; got 5",
        "rate expects float like 0.1; got 'x'",
        "collect: expected a Python expression",
    ]:
        assert part in text, text
    text = problems(notebook, [{"width": 4}, {"width": 16}, {}, {"width": 16, "rate": 0.1}])
    assert "configurations 2, 3: the same as configuration 1" in text
    (notebook.parent / "none.py").write_text("# %%\nx = 1\n")
    assert "expected a code cell tagged 'parameters'" in problems(notebook.parent / "none.py", [{}])


@pytest.mark.notebooks
def test_notebooks_run_on_workers(cluster, notebook):
    notebook.write_text(
        CELLS.replace("\nfrom instab_utils", "\n# from instab_utils").replace(
            "\nprofiles.", "\n0 and profiles."
        )
    )
    table = sweep.run_plan(
        notebook,
        [{"width": 4, "rate": 0.5}, {"rate": 2.0}],
        collect="scores",
        workers=on(cluster),
    )
    assert (
        list(table.status) == ["done", "failed"]
        and table.error[1] == "RuntimeError: own: PapermillExecutionError: ValueError: too fast"
    )
    assert table.psnr_db[0] == 2.0 and table.list[0] == [1, 2] and table.peak_gb[0] > 0
    assert list(
        sweep.run_plan(notebook, [{"width": 4, "rate": 0.5}], collect="scores", workers=0).status
    ) == ["stored"]


# --- the command ---


def plan_file(folder, text, name="plan.toml"):
    (folder / name).write_text(textwrap.dedent(text))
    return str(folder / name)


TOML = f"""
function = "{HERE}:race"
rungs = [10, 20]
seconds_per_job = 3600
[axes]
start = [1, 2, 3, 4]
speed = 0.5
"""


def test_a_dry_run_says_how_much_is_to_do(tmp_path, capsys):
    path = plan_file(tmp_path, TOML)
    assert command.main([path, "--dry-run", "--workers", "2"]) == 0
    assert capsys.readouterr().out == (
        "rung 0 (steps = 10): 4 jobs, 0 already there, 4 to run\n"
        "rung 1 (steps = 20): at most 1 jobs; "
        "which ones is not known yet\nestimated hours on one worker 3, on 2 workers 1.5\n"
    )
    sweep.run_plan(
        race,
        [{"start": s, "speed": 0.5, "steps": 10} for s in (1, 2, 3)],
        workers=0,
    )
    assert command.main([path, "--dry-run"]) == 0
    assert "4 jobs, 3 already there, 1 to run" in capsys.readouterr().out
    assert command.main([path, "--workers", "0", "--csv", str(tmp_path / "table.csv")]) == 0
    assert "stored" in capsys.readouterr().out and (tmp_path / "table.csv").read_text().startswith(
        "key,rung,start"
    )
    assert command.main([path, "--dry-run"]) == 0
    assert (
        "rung 1 (steps = 20): 1 jobs, 1 already there, 0 to run\nestimated hours on one worker 0\n"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "function = 'f'\naxis = 3",
            "expected one of axes and configs; got neither",
        ),
        (
            "function = 'f'\nnotebook = 'g'\nconfigs = []",
            "expected one of function and notebook; got both",
        ),
        ("function = 'f'\naxes = [1]", "axes expects dict | None; got [1]"),
        ("function", "expected a plan in JSON, or in TOML if it is called so"),
        ("function = 'f'\n[axes]\na = []", "axis a: expected at least one value"),
        (
            f"function = '{HERE}:race'\n[axes]\nstrat = [1]",
            "there is no parameter 'strat' (did you mean 'start'?)",
        ),
    ],
)
def test_a_wrong_plan_is_refused(text, message, tmp_path, capsys):
    assert command.main([plan_file(tmp_path, text), "--workers", "0"]) == 1
    assert message in capsys.readouterr().err


def test_the_command_starts_its_own_workers_and_leaves_none(tmp_path):
    plan = {"function": f"{HERE}:picky", "configs": [{"i": 0}, {"i": 1}, {"i": 6}]}
    path = plan_file(tmp_path, json.dumps(plan), "plan.json")
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-m",
            "instab_utils.sweep",
            path,
            "--workers",
            "1",
            "--strict",
        ],
        text=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), "INSTAB_BOOK": ""},
        cwd=ROOT,
        check=False,
    )
    assert (
        done.returncode == 1 and "2 of 3" not in done.stderr and "1 of 3 jobs failed" in done.stderr
    ), done.stderr
    assert (
        f"failed: {HERE}:picky(i=1): ValueError: not welcome" in done.stderr
        and "3/3" in done.stderr
        and "36" in done.stdout
    )
    assert "distributed" not in done.stderr and "Warning" not in done.stderr, done.stderr
    ours = os.environ["INSTAB_RESULTS"]
    left = {
        p.pid
        for p in psutil.process_iter(["environ"])
        if (p.info["environ"] or {}).get("INSTAB_RESULTS") == ours
    }
    assert left <= {os.getpid()}


# --- cost ---


def test_cost_beside_a_computation_by_hand(monkeypatch):
    steps = {(16, 3): 1.0, (64, 3): 4.0}
    with monkeypatch.context() as patch:
        patch.setattr(cost_estimate, "INR_SWEEPS", {"a": 4, "b": 2})
        table = sweep.cost(steps, n_steps=3600, n_images=2, workers=[1, 3, 64]).set_index("sweep")
    # a: 2 configurations a shape, 2 images: 4 runs of 1 h and 4 of 4 h; on 3 workers 4 4 4 | 4 1 1
    # 1 1 -> 4+4, 4+1+1, 4+1+1
    assert list(
        table.loc["a"][["configurations", "runs", "hours_on_1", "hours_on_3", "hours_on_64"]]
    ) == [4, 8, 20, 8, 4]
    assert table.loc["a"]["widest_share"] == 0.8 and table.loc["a"]["longest_run_hours"] == 4
    assert table.loc["together"]["runs"] == 12 and table.loc["together"]["hours_on_1"] == 30
    full = sweep.cost(
        {(w, d): w * d * 1e-5 for w in (16, 64, 256, 1024) for d in (3, 6, 9)}, 1000, 5
    ).set_index("sweep")
    assert list(full.configurations) == [720, 2160, 2880] and list(full.runs) == [
        3600,
        10800,
        14400,
    ]
    total = 60 * 5 * sum(w * d * 1e-5 for w in (16, 64, 256, 1024) for d in (3, 6, 9)) * 1000 / 3600
    assert full.hours_on_1["MC dropout"] == pytest.approx(total)
    assert full.hours_on_8["MC dropout"] == pytest.approx(total / 8, rel=0.01)
    with pytest.raises(ValueError, match="MC dropout: expected a multiple of the 7 shapes"):
        sweep.cost({(w, 3): 1.0 for w in range(7)}, 1000, 1)


def test_functions_travel_by_name():
    assert Function.of(fit) == Function.of(f"{HERE}.fit") == Function(f"{HERE}:fit")
