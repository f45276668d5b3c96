"""The store against everything that damages files: concurrent writers, kill -9, truncation,
tampering.
"""

import json
import math
import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pytest
import torch

from instab_utils import attacks, metrics, store
from instab_utils.store import files

BASE = dict(
    experiment="worst_case",
    task="mri_single",
    network="deep-mri",
    method="deep-mri",
    seed=0,
    profile="smoke",
)


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    """Every test has its own results folder, and no committed results behind it."""
    monkeypatch.setenv("INSTAB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(files, "checkout", lambda: None)
    return tmp_path / "results"


def make(**changes):
    return store.record(
        **{**BASE, "metrics": {"amplification": 16.5}, "code": [attacks.worst_case], **changes}
    )


def test_a_record_comes_back_whole():
    paper = {"source": "antun", "where": "Fig. 1", "value": 3.0}
    record = make(
        metrics={"psnr_clean_db": metrics.mean_ci([30.0, 32.0]), "n_images": torch.tensor(2)},
        parameters={"strength": 0.01},
        inputs=["weights:deep-mri@9f31c2d0"],
        paper=paper,
        seconds=1.5,
    )
    path = store.save_record(record)
    back = store.load_record(record["key"])
    assert back == record and path.stem == record["key"]
    assert back["metrics"]["psnr_clean_db"] == 31 and len(back["metrics"]["psnr_clean_db_ci"]) == 2
    assert (
        back["schema"] == 1
        and back["paper"] == paper
        and back["device"]
        and back["torch"] == torch.__version__
    )
    assert "checksum" in json.loads(path.read_text())
    assert store.load_record("0" * 64) is None


def test_the_key_ignores_order_and_sees_every_part_of_the_identity():
    a = make(parameters={"strength": 0.01, "rate": {"x": 1, "y": 2}}, inputs=["a", "b"])
    b = make(parameters={"rate": {"y": 2, "x": 1}, "strength": 0.01}, inputs=["b", "a"])
    assert a["key"] == b["key"]
    changes = [
        dict(seed=1),
        dict(profile="paper"),
        dict(network="mri-vn"),
        dict(parameters={"strength": 0.02}),
        dict(inputs=["c"]),
        dict(code=[metrics.psnr_db]),
        dict(experiment="baseline"),
        dict(method="tv"),
    ]
    keys = {a["key"], *(make(**change)["key"] for change in changes)}
    assert len(keys) == len(changes) + 1
    # the result is not part of its name
    assert make(metrics={"amplification": 1.0})["key"] == make()["key"]


def test_recorded_computes_once_and_again_after_damage(results):
    calls = []

    def compute():
        calls.append(1)
        return {"amplification": float(len(calls))}

    first = store.recorded(compute, **BASE, code=[attacks.worst_case])
    again = store.recorded(compute, **BASE, code=[attacks.worst_case])
    assert first == again and len(calls) == 1 and first["seconds"] >= 0
    path = results / "records" / f"{first['key']}.json"
    path.write_text(path.read_text().replace("1.0", "9.0"))
    with pytest.warns(RuntimeWarning, match="checksum does not match"):
        repaired = store.recorded(compute, **BASE, code=[attacks.worst_case])
    assert repaired["metrics"]["amplification"] == 2.0
    assert store.load_record(first["key"]) == repaired


def damage_truncated(raw):
    return raw[: len(raw) // 2]


def damage_empty(raw):
    return b""


def damage_schema(raw):
    value = json.loads(raw)
    value.pop("checksum")
    value["schema"] = 2
    return json.dumps({**value, "checksum": store.key(**value)}).encode()


def damage_field(raw):
    value = json.loads(raw)
    value.pop("checksum"), value.pop("seed")
    return json.dumps({**value, "checksum": store.key(**value)}).encode()


def damage_identity(raw):
    value = json.loads(raw)
    value.pop("checksum")
    value["seed"] = 7  # a consistent checksum, but not the content that the name promises
    return json.dumps({**value, "checksum": store.key(**value)}).encode()


def damage_list(raw):
    return b"[1, 2]"


def damage_nan(raw):
    return raw.replace(b"16.5", b"NaN")


@pytest.mark.parametrize(
    "damage",
    [
        damage_truncated,
        damage_empty,
        damage_schema,
        damage_field,
        damage_identity,
        damage_list,
        damage_nan,
    ],
)
def test_a_damaged_record_is_named_and_never_read(damage):
    record = make()
    path = store.save_record(record)
    good = make(seed=5)
    store.save_record(good)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(RuntimeWarning, match=path.name):
        assert store.load_record(record["key"]) is None
    with pytest.warns(RuntimeWarning, match=path.name):
        assert store.records() == [good]
    store.save_record(record)
    assert store.load_record(record["key"]) == record


def test_every_single_changed_byte_is_detected():
    path = store.save_record(make())
    raw = path.read_bytes()
    for position in random.Random(0).sample(range(len(raw)), 60):
        for replacement in (b"7", b" "):
            path.write_bytes(raw[:position] + replacement + raw[position + 1 :])
            if json_equal(path.read_bytes(), raw):
                continue  # white space or the same byte: the content did not change
            with pytest.warns(RuntimeWarning, match="damaged"):
                assert store.load_record(path.stem) is None


def json_equal(a, b):
    try:
        return json.loads(a) == json.loads(b)
    except ValueError:
        return False


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(metrics={"psnr_db": math.inf}), "'psnr_db' must be finite"),
        (dict(metrics={"psnr_db": torch.tensor([1.0, math.nan])}), "'psnr_db' must be finite"),
        (dict(metrics={"psnr_db": "high"}), "'psnr_db' must be finite"),
        (dict(metrics={"psnr_db_ci": [1.0, 2.0]}), "of a metric 'psnr_db'"),
        (dict(metrics={"psnr_db": 1.0, "psnr_db_ci": [1.0]}), "low, high"),
        (dict(parameters={"strength": math.nan}), "JSON compliant"),
        (dict(experiment="worstcase"), "'experiment' must be one of"),
        (dict(task="mri"), "'task' must be one of"),
        (dict(profile="fast"), "'profile' must be one of"),
        (dict(seed=True), "'seed' must be"),
        (dict(paper={"value": 1.0}), "source, where and value"),
    ],
)
def test_a_record_off_the_schema_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        make(**change)


def test_one_image_has_no_interval():
    assert make(metrics={"psnr_db": metrics.mean_ci([30.0])})["metrics"] == {
        "psnr_db": 30.0,
        "psnr_db_ci": None,
    }


def test_queries_and_the_table():
    for seed in range(3):
        store.save_record(make(seed=seed, parameters={"strength": 0.01 * seed}))
    store.save_record(make(network="mri-vn", task="mri_parallel"))
    assert len(store.records()) == 4 and len(store.records(network="deep-mri")) == 3
    assert [r["seed"] for r in store.records(network="deep-mri", seed=(1, 2))] in ([1, 2], [2, 1])
    table = store.table(network="deep-mri").sort_values("seed")
    assert (
        table["strength"].tolist() == [0.0, 0.01, 0.02] and (table["amplification"] == 16.5).all()
    )
    with pytest.raises(ValueError, match="no field net"):
        store.records(net="deep-mri")


def test_the_latest_of_each_result():
    """The same question asked again after a change of the code or of the inputs replaces the
    answer; oldest first.
    """
    days = [
        {
            **make(parameters={"strength": s}, inputs=[source]),
            "created": f"2026-01-{day:02}T00:00:00+00:00",
        }
        for day, s, source in ((7, 0.1, "new"), (1, 0.1, "old"), (4, 0.2, "old"), (5, 0.3, "new"))
    ]
    assert [(r["parameters"]["strength"], r["inputs"]) for r in store.latest(iter(days))] == [
        (0.2, ["old"]),
        (0.3, ["new"]),
        (0.1, ["new"]),
    ]
    assert store.latest(days, by=lambda r: r["seed"]) == days[:1] and store.latest([]) == []


def _write_many(folder, barrier, size):
    os.environ["INSTAB_RESULTS"] = folder
    record = make(parameters={"padding": "x" * 50_000})
    barrier.wait()
    for i in range(size):
        store.save_record(
            {**record, "metrics": {"amplification": float(i)}, "seconds": os.getpid()}
        )
        assert store.load_record(record["key"]) is not None  # whoever wrote last, it is whole


def test_concurrent_writers_never_leave_half_a_record(results):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    writers = [
        context.Process(target=_write_many, args=(str(results), barrier, 20)) for _ in range(2)
    ]
    for writer in writers:
        writer.start()
    barrier.wait()
    key = make(parameters={"padding": "x" * 50_000})["key"]
    seen = set()
    while any(writer.is_alive() for writer in writers):
        if record := store.load_record(key):  # warnings are errors: a damaged read fails here
            seen.add(record["seconds"])
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert seen and not list(results.rglob("*.partial.*"))


def _write_forever(folder):
    os.environ["INSTAB_RESULTS"] = folder
    record = make(parameters={"padding": "x" * 2_000_000})
    while True:
        store.save_record(record)


def test_kill_9_in_the_middle_of_writing(results):
    context = multiprocessing.get_context("spawn")
    key = make(parameters={"padding": "x" * 2_000_000})["key"]
    writer = context.Process(target=_write_forever, args=(str(results),))
    writer.start()
    while store.load_record(key) is None:
        time.sleep(0.01)
    while True:  # stop it at random until it stands inside a write
        time.sleep(0.001)
        os.kill(writer.pid, signal.SIGSTOP)
        if list(results.rglob("*.partial.*")):
            break
        os.kill(writer.pid, signal.SIGCONT)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert list(results.rglob("*.partial.*"))  # the kill left a part of a file, which nobody reads
    assert store.load_record(key)["key"] == key and len(store.records()) == 1
    store.save_record(make(parameters={"padding": "x" * 2_000_000}))


def measure(scale, image, generator=None, budget=None):
    """Stands for an expensive experiment."""
    measure.calls += 1
    noise = 0 if generator is None else torch.randn(3, generator=generator)
    return {"image": scale * image + noise, "plain": np.arange(3), "count": 4}


def test_cached_looks_up_by_code_and_arguments(results):
    measure.calls = 0
    image = torch.randn(3, generator=torch.Generator().manual_seed(0), dtype=torch.complex128)
    first = store.cached(measure, 2.0, image)
    again = store.cached(measure, image=image, scale=2.0)
    assert measure.calls == 1
    assert torch.equal(first["image"], 2 * image) and torch.equal(again["image"], 2 * image)
    assert isinstance(again["plain"], np.ndarray) and again["count"] == 4
    store.cached(measure, 3.0, image), store.cached(measure, 2.0, image + 1)
    for seed in (0, 0, 1):
        store.cached(measure, 2.0, image, torch.Generator().manual_seed(seed))
    assert measure.calls == 5
    with pytest.raises(TypeError, match="key of object"):
        store.cached(measure, 2.0, object())
    with pytest.raises(TypeError, match="return a dictionary"):
        store.cached(make_list)


def make_list():
    return [1]


def make_objects():
    return {"x": np.array([None])}


def test_no_pickle_ever(results):
    with pytest.raises(TypeError, match="only numeric"):
        store.cached(make_objects)
    assert not list(results.rglob("*.npz"))


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.99])
def test_damaged_arrays_are_recomputed(results, fraction):
    measure.calls = 0
    image = torch.randn(3, generator=torch.Generator().manual_seed(0))
    store.cached(measure, 2.0, image)
    (path,) = results.rglob("*.npz")
    raw = path.read_bytes()
    path.write_bytes(raw[: int(fraction * len(raw))])
    with pytest.warns(RuntimeWarning, match=path.name):
        store.cached(measure, 2.0, image)
    assert measure.calls == 2 and torch.equal(store.cached(measure, 2.0, image)["image"], 2 * image)


def test_exhibits_carry_provenance_and_obey_licence_and_size(results):
    image = torch.linspace(0, 1, 64).reshape(8, 8)
    store.save_exhibit(
        "deep-mri-r",
        {"r": image},
        data=["vs-seg-001/1-061.dcm"],
        profile="smoke",
        seed=0,
        code=[attacks.worst_case],
        note="half a per cent",
    )
    arrays, about = store.load_exhibit("deep-mri-r")
    assert torch.equal(arrays["r"], image)
    assert about["data"] == ["vs-seg-001/1-061.dcm"] and about["code"] == store.code_hash(
        attacks.worst_case
    )
    assert {"device", "created", "seed", "profile", "note"} <= set(about)
    for data in (["aapm/test/CT_img_0.npy"], ["phantom", "AAPM"], []):
        with pytest.raises(ValueError, match="licence"):
            store.save_exhibit("ct", {"x": image}, data=data, profile="smoke", seed=0)
    noise = torch.rand(400, 400, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="at most 300 kB"):
        store.save_exhibit("big", {"x": noise}, data=["phantom"], profile="smoke", seed=0)
    with pytest.raises(ValueError, match="letters"):
        store.save_exhibit("../out", {"x": image}, data=["phantom"], profile="smoke", seed=0)
    with pytest.raises(FileNotFoundError, match="make results"):
        store.load_exhibit("absent")
    path = results / "exhibits" / "deep-mri-r.npz"
    with np.load(path) as file:
        content = dict(file)
    # a valid zip with other numbers
    np.savez_compressed(path, **{**content, "r": content["r"] + 1})
    with pytest.raises(store.DamagedFile, match="checksum"):
        store.load_exhibit("deep-mri-r")


def test_weights_round_trip_and_half_precision(results):
    state = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4)).state_dict()
    card = dict(
        architecture="conv",
        data="phantoms",
        steps=10,
        seed=0,
        validation={"psnr_db": 30.0},
        licence="MIT",
    )
    name = store.save_weights("tiny-s0", state, card)
    back, about = store.load_weights("tiny-s0")
    assert name == f"weights:tiny-s0@{about['sha256'][:8]}" and about["validation"] == {
        "psnr_db": 30.0
    }
    assert set(back) == set(state) and all(torch.equal(back[k], state[k]) for k in state)
    assert json.loads((results / "weights" / "tiny-s0.json").read_text()) == about
    assert store.save_weights("half-s0", state, card, half=True) != name
    half, _ = store.load_weights("half-s0")
    assert all(
        half[k].dtype == state[k].dtype and torch.allclose(half[k], state[k], rtol=1e-3)
        for k in state
    )
    path = results / "weights" / "tiny-s0.safetensors"
    raw = path.read_bytes()
    for broken in (raw[:-3], raw[:-1] + bytes([raw[-1] ^ 1]), b"", raw[:40]):
        path.write_bytes(broken)
        with pytest.raises(store.DamagedFile, match="tiny-s0"):
            store.load_weights("tiny-s0")
    with pytest.raises(ValueError, match="lacks licence"):
        store.save_weights("x", state, {k: v for k, v in card.items() if k != "licence"})


def test_code_hash_follows_imports(tmp_path, monkeypatch):
    package = tmp_path / "instab_utils"
    (package / "room").mkdir(parents=True)
    for name, text in (
        ("__init__", ""),
        ("a", "def f():\n    from .room import g\n    return g"),
        ("b", "x = 1"),
        ("room/__init__", "from .inner import g"),
        ("room/inner", "from ..b import x\ndef g(): return x"),
        ("c", "unrelated = 1"),
    ):
        (package / f"{name}.py").write_text(text)
    monkeypatch.setattr(files, "PACKAGE", package)

    def f():
        """Stands for instab_utils.a.f."""

    f.__module__ = "instab_utils.a"
    before = store.code_hash(f)
    assert files.imported("instab_utils.a") == {
        f"instab_utils.{name}" for name in ("a", "room", "room.inner", "b")
    }
    (package / "c.py").write_text("unrelated = 2")
    assert store.code_hash(f) == before
    (package / "b.py").write_text("x = 2")
    assert store.code_hash(f) != before


def test_a_notebook_function_is_hashed_with_what_it_calls():
    def compile_notebook(helper, body):
        import linecache

        text = f"def helper():\n    return {helper}\n\ndef run():\n    return {body}\n"
        name = f"<notebook {hash(text)}>"
        linecache.cache[name] = (len(text), None, text.splitlines(True), name)
        space = {"__name__": "__main__", "psnr_db": metrics.psnr_db}
        exec(compile(text, name, "exec"), space)
        return space["run"]

    base = store.code_hash(compile_notebook("1", "helper()"))
    assert base == store.code_hash(compile_notebook("1", "helper()"))
    assert base != store.code_hash(compile_notebook("2", "helper()"))
    assert base != store.code_hash(compile_notebook("1", "psnr_db"))


def test_where_results_lie(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.delenv("INSTAB_RESULTS", raising=False)
    root = files.checkout()
    assert store.folder() == root / "build" / "results"  # ignored by git
    assert files.places("records") == [
        root / "build" / "results" / "records",
        root / "results" / "records",
    ]
    monkeypatch.setenv("INSTAB_RESULTS", str(root / "results"))
    assert files.places("records") == [root / "results" / "records"]
    # caches are never committed
    assert files.places("arrays") == [root / "build" / "results" / "arrays"]
    monkeypatch.setattr(files, "checkout", lambda: None)
    monkeypatch.delenv("INSTAB_RESULTS")
    assert store.folder().name == "results" and root not in store.folder().parents
