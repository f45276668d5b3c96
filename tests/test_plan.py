"""The plan of a profile: what is counted, in which order it runs, and that it stops and goes on."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from instab_utils import operators, papers
from instab_utils.papers import cost, findings, jobs, ledger, plan, work

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("INSTAB_RESULTS", str(tmp_path))
    return tmp_path


# -- costs


def random(*shape, **options):
    return torch.rand(shape, **options)


def test_convolution_forward_and_backward():
    net = nn.Conv2d(3, 5, 3, padding=1, bias=False)
    x = random(2, 3, 10, 8, requires_grad=True)
    forward = 2 * 2 * 80 * 27 * 5
    counted = cost.count(lambda: net(x).sum().backward())
    assert (counted.conv, counted.matmul) == (3 * forward, 0)
    # the gradient of the weights reads x; the filters are parameters
    assert counted.memory == 4 * x.numel()


def test_dense_products():
    net = nn.Sequential(nn.Linear(7, 11), nn.Linear(11, 3))
    x = random(4, 7, requires_grad=True)
    counted = cost.count(lambda: net(x).sum().backward())
    assert counted.matmul == 3 * 2 * 4 * (7 * 11 + 11 * 3) and counted.conv == 0


def test_fourier_transforms():
    z = random(3, 1, 16, 16, dtype=torch.complex64)
    each = 5 * 256 * 8
    assert cost.count(lambda: torch.fft.ifft2(torch.fft.fft2(z))).other == 2 * 3 * each
    assert cost.count(lambda: torch.fft.rfft2(z.real.contiguous())).other == 3 * each / 2


@pytest.mark.parametrize("storage", ["csr", "symmetric"])
def test_sparse_products_and_their_gradients(storage):
    A = operators.Radon(16, [0, 36, 72, 108, 144])
    A.storage = storage
    x = random(1, 1, 16, 16, requires_grad=True)
    (matrix,) = [A._matrix(x.reshape(256, 1))]
    entries = [
        t._nnz() for t in vars(matrix).values() if getattr(t, "layout", 0) is torch.sparse_csr
    ]
    counted = cost.count(lambda: A(x).sum().backward())
    assert entries and counted.matmul == 0
    if storage == "csr":
        assert counted.other == 2 * sum(entries)
        assert counted.sparse > 8 * sum(entries)
    else:  # eight flips and turns of a part of A
        assert counted.other > 2 * sum(entries)


def test_a_function_of_our_own_and_no_memory():
    """Custom gradients are counted by what they call, the same on real and on fake tensors."""
    network = work.VariationalNetwork(2, 4, 5).requires_grad_(False)
    A = operators.MaskedFourier(torch.ones(16, 16), centred=True)

    def step():
        y = torch.zeros(1, 1, 16, 16, dtype=torch.complex64, requires_grad=True)
        network(y, A).abs().sum().backward()

    step()  # its tables are made once
    real = cost.count(step)
    with cost.fake():
        fake = cost.count(step)
    assert (fake.conv, fake.other, fake.memory) == (real.conv, real.other, real.memory)
    assert fake.bytes == pytest.approx(real.bytes, rel=0.01)
    # A* y, and A and A* in both layers, with their gradients; K and K* likewise
    assert real.other == 2 * 5 * (5 * 256 * 8) and real.conv > 8 * (2 * 256 * 25 * 2 * 4)


def test_costs_add_and_devices_price_them():
    a, b = cost.Cost(conv=2e15, kernels=3, memory=5), cost.Cost(bytes=1e12, memory=7)
    both = 2 * a + b
    assert (both.conv, both.bytes, both.kernels, both.memory) == (4e15, 1e12, 6, 7)
    d = cost.DEVICES["h100"]
    seconds = 4e15 / d.conv["bf16"] + 1e12 / d.stream
    assert math.isclose(cost.hours(both, "bf16", "h100"), seconds / 3600)
    assert cost.hours(cost.Cost(kernels=1e6), "fp32", "h100") == 1e6 * d.kernel_s / 3600
    with pytest.raises(ValueError, match="unknown device 'tpu'; expected one of h100, a100, t4"):
        cost.hours(both, "bf16", "tpu")


@pytest.mark.parametrize("name", ["dncnn", "deep-mri"])
def test_units_of_cases_are_those_of_real_gradients(name, results):
    """Counted without memory and on smaller operators, they are what a real case takes."""
    case = work.training.case(name, "smoke", 1, tv=False)
    y = case.y.clone()

    def gradient():
        r = torch.zeros_like(case.x, requires_grad=True)
        case.f(y + case.A(r)).abs().square().sum().backward()

    gradient()
    real, unit = cost.count(gradient), work.case_units(name, "smoke").gradient
    size = 180 / case.x.shape[-1] if name == "dncnn" else 1.0
    assert unit.conv == pytest.approx(size**2 * real.conv, rel=0.01)
    assert unit.bytes == pytest.approx(size**2 * real.bytes, rel=0.5)


# -- jobs and their order


def test_jobs_come_after_what_they_need_and_the_best_first():
    needs = {"train": (), "test": ("train",), "solver": (), "both": ("train", "solver"), "fit": ()}
    gain = {"train": 0, "test": 1, "solver": 3, "both": 1, "fit": 0}
    hours = {"train": 2.0, "test": 0.1, "solver": 1.0, "both": 0.2, "fit": 1.0}
    assert plan.order(needs, gain, hours) == ["solver", "train", "test", "both", "fit"]
    # a test whose network is stored costs no training
    assert plan.order(needs, gain, {**hours, "train": 0.0})[:2] == ["train", "test"]


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """The plan of the paper profile on an H100, where nothing is stored."""
    patch = pytest.MonkeyPatch()
    patch.setenv("INSTAB_RESULTS", str(tmp_path_factory.mktemp("plan")))
    yield plan.rows("paper", "h100")
    patch.undo()


def test_the_paper_profile_takes_a_day_of_an_h100(paper):
    assert 12 < sum(row.hours for row in paper) <= 24
    assert all(row.flop > 0 and 0 < row.hours < 8 for row in paper)
    assert max(row.memory for row in paper) < 70e9


def test_the_plan_is_all_of_it_in_a_possible_order(paper):
    names = [row.job.name for row in paper]
    assert sorted(names) == sorted(jobs.jobs("paper")) and len(set(names)) == len(names)
    for i, row in enumerate(paper):
        assert set(row.job.needs) <= set(names[:i]), row.job.name
    planned = {" ".join(name.split()[:2]) for name in names if " " in name}
    every = {f"{p} {name}" for p in papers.NAMES for name in papers.artefacts(p)}
    assert every - planned == set(jobs.LEFT_OUT) & every


def test_every_published_number_and_statement_is_fed(paper):
    texts = [line.what for line in ledger.lines("paper")]
    texts += [finding.says for finding in findings.findings("paper")]
    patterns = [row.job.feeds for row in paper if row.job.feeds]
    assert not [text for text in texts if not any(re.search(p, text) for p in patterns)]
    assert not any(re.search(p, "another paper, Table 9") for p in patterns)


def test_the_table_and_its_json(paper):
    text = plan.text(paper, "h100")
    assert "not in the plan: antun2020 fig1" in text and "widths 16-64-256 (16-64-256-1024)" in text
    whole = json.loads(plan.as_json(paper, "h100"))
    assert len(whole["jobs"]) == len(paper) and whole["hours"] <= 24
    assert "h in all on H100 SXM" in text and f"{whole['hours']:.1f} h" in text


def test_what_is_unknown_is_named(results):
    with pytest.raises(ValueError, match="unknown device 'x'; expected one of h100, a100,"):
        plan.rows("smoke", "x")
    with pytest.raises(ValueError, match="no job has a name with nothing"):
        plan.rows("smoke", "h100", ["nothing"])


# -- running it


def job(name, run, *needs):
    return jobs.Job(name, run, list, ("inr",), "a step", needs)


def running(monkeypatch, *listed, seconds=60.0):
    rows = [plan.Row(each, 1, 1.0, 0.0, 0.1, 0.0) for each in listed]
    monkeypatch.setattr(plan, "rows", lambda *_: rows)
    return plan.run("smoke", "h100", (), seconds / 3600)


def test_a_failure_is_reported_and_the_rest_runs(monkeypatch, capsys):
    ran = []
    listed = [
        job("a", lambda: 1 // 0),
        job("b", lambda: ran.append("b"), "a"),
        job("c", lambda: ran.append("c")),
        job("d", lambda: ran.append("d"), "b"),
    ]
    assert running(monkeypatch, *listed) == 1
    assert ran == ["c"] and "1 jobs done, 3 failed ['a', 'b', 'd']" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, None])
def test_a_signal_and_the_limit_stop_clean(monkeypatch, capsys, number):
    # what waits for the collector would swallow a stop that comes just then
    monkeypatch.setattr(plan.gc, "collect", lambda: None)
    ran, handlers = [], [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]

    def stopped():
        if number:
            os.kill(os.getpid(), number)
        time.sleep(30)

    listed = [job("a", lambda: ran.append("a")), job("b", stopped), job("c", ran.clear)]
    started = time.perf_counter()
    assert running(monkeypatch, *listed, seconds=60 if number else 0.5) == 0
    assert time.perf_counter() - started < 20 and ran == ["a"]
    assert "1 jobs done, 0 failed []; next: b" in capsys.readouterr().out
    assert handlers == [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]


def test_a_run_that_was_stopped_ends_with_the_same_records(results, monkeypatch):
    """SIGTERM comes with the first record."""
    written = results / "twice" / "records" / "baseline.jsonl"

    def run(stop):
        arguments = ["run", "--profile", "smoke", "--hours", "1", "--only", "baselines"]
        process = subprocess.Popen(
            [sys.executable, "-m", "instab_utils.papers", *arguments],
            env={**os.environ, "INSTAB_RESULTS": str(results / "twice")},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        while stop and process.poll() is None and not written.exists():
            time.sleep(0.01)
        if stop:
            process.terminate()
        said = process.communicate()[0]
        assert process.returncode == 0
        return said

    def records(folder):
        lines = (results / folder / "records/baseline.jsonl").read_text().splitlines()
        rows = map(json.loads, lines)
        return [[row[field] for field in ("key", "parameters", "metrics")] for row in rows]

    assert ", 0 failed []; next: " in run(stop=True)
    assert "1 jobs done, 0 failed []; next: nothing" in run(stop=False)
    monkeypatch.setenv("INSTAB_RESULTS", str(results / "once"))
    papers.artefacts("vasconcelos2021")["baselines"].run("smoke")
    assert records("twice") == records("once") and len(records("once")) > 10
