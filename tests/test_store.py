"""The store against everything that damages files: concurrent writers, kill -9, truncation,
tampering.
"""

import hashlib
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

from instab_utils import metrics, store
from instab_utils.store import files, lines, rows

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
    return store.record(**{**BASE, "metrics": {"amplification": 16.5}, **changes})


def test_a_record_comes_back_whole():
    paper = {"source": "antun", "where": "Fig. 1", "value": 3.0}
    record = make(
        metrics={
            "network": {"psnr_db": metrics.mean_ci([30.0, 32.0])},
            "n_images": torch.tensor(2),
        },
        parameters={"strength": 0.01},
        inputs=["weights:deep-mri@9f31c2d0"],
        paper=paper,
        seconds=1.5,
    )
    path = store.save_record(record)
    lines._contents.clear()
    assert store.records() == [record] and path.name == "worst_case.jsonl"
    network = record["metrics"]["network"]
    assert network["psnr_db"] == 31 and len(network["psnr_db_ci"]) == 2
    assert record["paper"] == paper and record["device"] and record["torch"] == torch.__version__
    assert "checksum" in json.loads(path.read_text())


def test_the_key_ignores_order_and_sees_every_part_of_the_question():
    a = make(parameters={"strength": 0.01, "rate": {"x": 1, "y": 2}}, inputs=["a", "b"])
    b = make(parameters={"rate": {"y": 2, "x": 1}, "strength": 0.01}, inputs=["b", "a"])
    assert a["key"] == b["key"]
    changes = [
        dict(seed=1),
        dict(profile="paper"),
        dict(network="mri-vn"),
        dict(parameters={"strength": 0.02}),
        dict(inputs=["c"]),
        dict(experiment="baseline"),
        dict(method="tv"),
    ]
    keys = {a["key"], *(make(**change)["key"] for change in changes)}
    assert len(keys) == len(changes) + 1
    # neither the result nor the version is part of its name
    assert make(metrics={"amplification": 1.0}, version=2)["key"] == make()["key"]


def test_cached_computes_once_and_again_after_damage_or_a_new_version(results):
    calls = []

    def compute():
        calls.append(1)
        return {"amplification": float(len(calls))}

    parameters = {"sides": (3, 4)}
    first = store.cached(compute, **BASE, parameters=parameters)
    again = store.cached(compute, **BASE, parameters=parameters)
    assert first == again and len(calls) == 1 and first["seconds"] >= 0
    assert first["parameters"] == {"sides": [3, 4]}  # as it is read again
    again["metrics"]["amplification"] = 7.0  # a reader's own copy
    assert store.cached(compute, **BASE, parameters=parameters) == first
    path = results / "records" / "worst_case.jsonl"
    path.write_text(path.read_text().replace("1.0", "9.0"))
    with pytest.warns(RuntimeWarning, match="checksum does not match"):
        repaired = store.cached(compute, **BASE, parameters=parameters)
    assert repaired["metrics"]["amplification"] == 2.0
    assert store.records() == [repaired]
    changed = store.cached(compute, **BASE, parameters=parameters, version=2)
    assert len(calls) == 3 and store.records() == [changed] and changed["version"] == 2


def changed(row, **changes):
    """A line with a consistent checksum, but not of the schema."""
    row = {**{k: v for k, v in row.items() if changes.get(k) != "drop"}, **changes}
    return lines._line({k: v for k, v in row.items() if v != "drop"}).encode()


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw[:-2] + b"\n",
        lambda raw: changed(lines._row(raw), schema=1),
        lambda raw: changed(lines._row(raw), seed="drop"),
        lambda raw: changed(lines._row(raw), seed=7),  # not the content that the key promises
        lambda raw: b"[1, 2]\n",
        lambda raw: raw.replace(b"16.5", b"NaN"),
        lambda raw: b"\n",
    ],
    ids=["half", "end", "schema", "field", "identity", "list", "nan", "empty"],
)
def test_a_damaged_line_is_named_and_never_read(damage):
    good, record = make(seed=1), make(seed=5)
    store.save_record(good)
    path = store.save_record(record)
    first, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + damage(last))
    with pytest.warns(RuntimeWarning, match=r"worst_case.jsonl, line 2 is damaged"):
        assert store.records() == [good]
    store.save_record(record)
    assert store.records() == [good, record]


def test_every_single_changed_byte_is_detected():
    path = store.save_record(make())
    raw = path.read_bytes()
    for position in random.Random(0).sample(range(len(raw)), 60):
        for replacement in (b"7", b" "):
            path.write_bytes(raw[:position] + replacement + raw[position + 1 :])
            if json_equal(path.read_bytes(), raw):
                continue  # white space or the same byte: the content did not change
            with pytest.warns(RuntimeWarning, match="damaged"):
                assert store.records() == []


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


def test_the_newest_record_of_each_question(results, monkeypatch):
    """An answer to the same question, also one from other inputs, replaces the older one; oldest
    first. A row written first counts as older than one with the same time.
    """
    for day, strength, source in (
        (7, 0.1, "new"),
        (1, 0.1, "old"),
        (4, 0.2, "old"),
        (5, 0.3, "new"),
    ):
        record = make(parameters={"strength": strength}, inputs=[source])
        store.save_record({**record, "created": f"2026-01-{day:02}T00:00:00+00:00"})
    found = [(r["parameters"]["strength"], r["inputs"]) for r in store.records()]
    assert found == [(0.2, ["old"]), (0.3, ["new"]), (0.1, ["new"])]
    committed = results.parent / "committed"
    monkeypatch.setattr(lines, "places", lambda kind: [results / kind, committed / kind])
    newer = {**make(parameters={"strength": 0.2}, inputs=["old"]), "seconds": 2.0}
    monkeypatch.setenv("INSTAB_RESULTS", str(committed))
    store.save_record(newer)
    assert [r["parameters"]["strength"] for r in store.records()] == [0.3, 0.1, 0.2]
    assert store.records()[-1]["seconds"] == 2.0


def test_records_of_one_result_are_saved_all_or_none(results):
    made = [make(seed=seed, metrics={"amplification": float(seed)}) for seed in range(4)]
    with pytest.raises(ValueError, match="'seed' must be"):
        store.save_records([*made, {**made[0], "seed": "one"}])
    assert not list(results.rglob("*.jsonl"))
    assert [path.name for path in store.save_records(made)] == ["worst_case.jsonl"]
    assert sorted(r["seed"] for r in store.records(experiment="worst_case")) == [0, 1, 2, 3]


def test_lines_are_sorted_one_a_record(results):
    records = [make(seed=s, network=n) for s in (2, 0, 1) for n in ("med-50", "automap")]
    for record in records:
        path = store.save_record(record)
    text = path.read_text()
    assert text.count("\n") == 6 and text.splitlines() == sorted(text.splitlines())
    before = text.splitlines()
    store.save_record(make(seed=1, network="med-50", metrics={"amplification": 3.0}))
    after = path.read_text().splitlines()
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1  # one line of a diff


def test_a_file_is_parsed_once(results, monkeypatch):
    path = store.save_record(make())
    lines._contents.clear()
    parsed = []
    monkeypatch.setattr(lines, "_row", lambda line, row=lines._row: parsed.append(1) or row(line))
    assert store.records() == store.records() and len(parsed) == 1
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.warns(RuntimeWarning, match="line 2"):
        store.records()
    assert len(parsed) == 3


# n and SHA-256 of the records that were one file each, sorted, before they became lines
BEFORE = {
    "baseline": (125, "c51ad8fc712aa555ca22cad093bdfa03"),
    "bracket": (12, "58b1e09e318ea280c01730a3e950b015"),
    "hmc": (5, "80e7d5f0c7b24acce2111182474632be"),
    "inr": (71, "a8686566ed90d3dfad794bfeba48d190"),
    "more_samples": (11, "b483257291b784d34b5a198d1703b085"),
    "reconstruct": (20, "5481baf7c3e42b774374b078cf320b85"),
    "structure": (192, "9f5c9c3b747eff8d128607663c3536b0"),
    "worst_case": (188, "71fd21facbea054ddd591efe700cf4ac"),
}
FIELDS = (*rows.QUESTION, "inputs", "metrics", "paper", "seconds", "device", "torch", "created")
EXPERIMENT = {"neighbourhood": "worst_case"}  # of before
PREFIX = {"network": "", "tv": "stable_", "front_end": "front_end_"}  # of metrics, before nesting
NAMES = {  # of metrics of a method, before nesting
    "network_random": {"amplification": "twin_amplification"},
    "tv_random": {"amplification": "stable_twin_amplification"},
    "tv_own": {
        "amplification": "stable_own_amplification",
        "psnr_clean_db": "psnr_stable_own_clean_db",
        "psnr_perturbed_db": "psnr_stable_own_db",
    },
    "r_and_v": {"correlation": "same_artefact", "n_bad": "n_bad", "rate_bad": "rate_bad"},
    "v_alone": {
        "correlation": "same_v_alone",
        "n_bad": "n_bad_v_alone",
        "rate_bad": "rate_bad_v_alone",
    },
}

RECONSTRUCT = {  # metrics of that experiment, before nesting
    "psnr_front_end_db": "psnr_input_db",
    "front_end_ssim": "ssim_input",
    "stable_ssim": "ssim_stable",
    "stable_weight": "tv_weight",
    "stable_duality_gap": "tv_gap",
    "gain_over_front_end_db": "gain_over_input_db",
    "gain_over_tv_db": "gain_over_stable_db",
}


def before(row):
    """Return the parameters and the metrics of a row as they were before metrics were nested."""
    parameters, flat = dict(row["parameters"]), {}
    for method, value in row["metrics"].items():
        if not isinstance(value, dict):
            flat[method] = value
            continue
        prefix = PREFIX.get(method, method)
        for metric, number in value.items():
            base = metric.removesuffix("_images").removesuffix("_ci")
            name = NAMES.get(method, {}).get(base, prefix + base)
            if base.startswith("psnr_") and method in PREFIX:
                name = f"psnr_{prefix}{base.removeprefix('psnr_')}"
            flat[name + metric.removeprefix(base)] = number
    if row["experiment"] == "reconstruct":
        for name in list(flat):
            base = name.removesuffix("_ci")
            flat[RECONSTRUCT.get(base, base) + name.removeprefix(base)] = flat.pop(name)
    elif row["experiment"] == "neighbourhood":
        parameters["around"] = parameters.pop("strength")
    elif row["experiment"] == "worst_case" and parameters.pop("image_size", None):
        parameters["alpha_tv"] = parameters.pop("tv_weight")
        flat["psnr_stable_db"] = flat.pop("psnr_stable_perturbed_db")
    elif row["experiment"] == "worst_case":  # the same number in every image
        s, n = parameters["strength"], flat["n_images"]
        images = [s] * n
        flat |= {"rel_norm": s, "rel_norm_ci": [s, s] if n > 1 else None, "rel_norm_images": images}
    return parameters, flat


@pytest.mark.parametrize("experiment", BEFORE)
def test_the_shipped_records_are_those_of_before(experiment, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("INSTAB_RESULTS", str(files.checkout() / "results"))
    until = "2026-11-25T12:00:00"
    texts = []
    for name in (experiment, *(new for new, old in EXPERIMENT.items() if old == experiment)):
        for row in lines.stored("records", name, rows._check):
            parameters, metrics = before(row)
            changed = {"experiment": experiment, "parameters": parameters, "metrics": metrics}
            values = [{**row, **changed}[field] for field in FIELDS]
            if row["created"] < until:
                texts.append(json.dumps(values, sort_keys=True, separators=(",", ":")))
    digest = hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest()
    assert (len(texts), digest[:32]) == BEFORE[experiment]


def _write_many(folder, barrier, seed):
    os.environ["INSTAB_RESULTS"] = folder
    record = make(parameters={"padding": "x" * 50_000})
    barrier.wait()
    for i in range(8):
        store.save_record({**record, "metrics": {"amplification": float(i)}})
        store.save_record(make(seed=100 * seed + i))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_concurrent_writers_lose_nothing_and_never_leave_half_a_line(results):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(3)
    writers = [
        context.Process(target=_write_many, args=(str(results), barrier, seed)) for seed in (1, 2)
    ]
    for writer in writers:
        writer.start()
    barrier.wait()
    seen = 0
    while any(writer.is_alive() for writer in writers):
        seen = max(seen, len(store.records()))  # warnings are errors: a damaged read fails here
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert seen and len(store.records()) == 17 and not list(results.rglob("*.partial.*"))


def _write_forever(folder):
    os.environ["INSTAB_RESULTS"] = folder
    record = make(parameters={"padding": "x" * 2_000_000})
    while True:
        store.save_record(record)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_kill_9_in_the_middle_of_writing(results):
    context = multiprocessing.get_context("fork")
    writer = context.Process(target=_write_forever, args=(str(results),))
    writer.start()
    while not store.records():
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
    assert len(store.records()) == 1
    store.save_record(make())  # the lock went with its owner
    assert len(store.records()) == 2


IMAGE = torch.tensor([1 + 2j, 3, 4j])


def measure(scale, setting=None):
    """Stands for an expensive experiment."""
    measure.calls += 1
    rows = {"tv": {"psnr_db": 0.1 + 0.2, "values": [1, None, "a"]}}
    return {"image": scale * IMAGE, "plain": np.arange(3), "count": 4, "rows": rows}


def test_cached_arrays_look_up_by_version_and_parameters(results):
    measure.calls = 0
    first = cached_measure(scale=2.0, setting={"steps": 3})
    again = cached_measure(setting={"steps": 3}, scale=2.0)
    assert measure.calls == 1
    assert torch.equal(first["image"], 2 * IMAGE) and torch.equal(again["image"], 2 * IMAGE)
    assert isinstance(again["plain"], np.ndarray) and again["count"] == 4
    assert again["rows"] == measure(2.0)["rows"]  # JSON values, every digit
    measure.calls -= 1
    cached_measure(scale=3.0, setting={"steps": 3})
    cached_measure(scale=2.0, setting={"steps": 4})
    assert measure.calls == 3
    cached_measure(scale=2.0, setting={"steps": 3}, version=2)
    assert measure.calls == 4
    with pytest.raises(TypeError, match="not JSON serializable"):
        cached_measure(scale=IMAGE)


def cached_measure(version=1, **parameters):
    return store.cached_arrays("measure", parameters, measure, version=version)


def test_no_pickle_ever(results):
    with pytest.raises(TypeError, match="only numeric"):
        store.cached_arrays("objects", {}, lambda: {"x": np.array([None])}, version=1)
    assert not list(results.rglob("*.npz"))


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.99])
def test_damaged_arrays_are_recomputed(results, fraction):
    measure.calls = 0
    cached_measure(scale=2.0)
    (path,) = results.rglob("*.npz")
    raw = path.read_bytes()
    path.write_bytes(raw[: int(fraction * len(raw))])
    with pytest.warns(RuntimeWarning, match=path.name):
        cached_measure(scale=2.0)
    assert measure.calls == 2 and torch.equal(cached_measure(scale=2.0)["image"], 2 * IMAGE)


def test_exhibits_carry_provenance_and_obey_licence_and_size(results):
    image = torch.linspace(0, 1, 64).reshape(8, 8)
    store.save_exhibit(
        "deep-mri-r",
        {"r": image},
        data=["vs-seg-001/1-061.dcm"],
        profile="smoke",
        seed=0,
        version=3,
        note="half a per cent",
    )
    arrays, about = store.load_exhibit("deep-mri-r")
    assert torch.equal(arrays["r"], image)
    assert about["data"] == ["vs-seg-001/1-061.dcm"] and about["version"] == 3
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
    store.save_weights("tiny-s0", state, card)
    back, about = store.load_weights("tiny-s0")
    assert about["validation"] == {"psnr_db": 30.0}
    assert set(back) == set(state) and all(torch.equal(back[k], state[k]) for k in state)
    assert json.loads((results / "weights" / "tiny-s0.json").read_text()) == about
    store.save_weights("half-s0", state, card, half=True)
    half, less = store.load_weights("half-s0")
    assert less["sha256"] != about["sha256"]
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


def test_where_results_lie(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.delenv("INSTAB_RESULTS", raising=False)
    root = files.checkout()
    assert store.results_folder() == root / "build" / "results"  # ignored by git
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
    assert store.results_folder().name == "results" and root not in store.results_folder().parents
