"""Runs that are killed go on, and end bit for bit as those that were never interrupted."""

import importlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from instab_utils import profiles, store
from instab_utils.fields.posterior import Posterior
from instab_utils.papers.antun2020 import records
from instab_utils.papers.oala2021 import changes, table1
from instab_utils.papers.vasconcelos2021 import posterior_chains
from instab_utils.stability import worst_case
from instab_utils.uncertainty import hmc


def study():
    return table1.rows("denoising", 0, "smoke")


def worst(n_images=3):
    row = profiles.STAGES["stability"]["n_images"]
    profiles.STAGES["stability"]["n_images"] = row._replace(smoke=n_images)
    return records.worst_cases("dncnn", "smoke")


def chains():
    hmc.SAVE_S = 0.0
    small = posterior_chains.Chains.at("smoke", image_size=16)
    return [posterior_chains.record(small, profile="smoke")]


def die_at(target, call, n_threads):
    """Let this process be killed in the middle of the call with this number."""
    torch.set_num_threads(n_threads)
    module, _, path = target.partition(":")
    *outer, name = path.split(".")
    owner = importlib.import_module(module)
    for part in outer:
        owner = getattr(owner, part)
    usual, calls = getattr(owner, name), [0]

    def dies(*args, **kwargs):
        calls[0] += 1
        if calls[0] == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return usual(*args, **kwargs)

    setattr(owner, name, dies)


def kill(run, target, call):
    script = (
        f"import test_resume as t; t.die_at({target!r}, {call}, {torch.get_num_threads()}); "
        f"t.{run.__name__}()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def counted(monkeypatch, owner, name):
    """Return the list that grows with each call of owner.name."""
    usual, calls = getattr(owner, name), []

    def count(*args, **kwargs):
        calls.append(name)
        return usual(*args, **kwargs)

    monkeypatch.setattr(owner, name, count)
    return calls


@pytest.fixture
def whole(tmp_path, monkeypatch, smoke_weights):
    """Go to one folder of results after another, with the weights of all tests and no other data.

    `whole(run)` returns what an uninterrupted run ends with, in a folder of its own.
    """
    monkeypatch.setenv("INSTAB_DATA", str(tmp_path / "no data"))
    monkeypatch.setenv("INSTAB_OFFLINE", "1")
    monkeypatch.setitem(
        profiles.STAGES, "stability", dict(profiles.STAGES["stability"])
    )  # `worst` changes it
    monkeypatch.setattr(hmc, "SAVE_S", hmc.SAVE_S)

    def folder(name):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").symlink_to(smoke_weights)
        monkeypatch.setenv("INSTAB_RESULTS", str(tmp_path / name))

    def uninterrupted(run):
        folder("whole")
        expected = numbers(run())
        folder("killed")
        return expected

    return uninterrupted


def numbers(rows):
    """Return all that records say but when, and how long it took."""
    found = {}
    for row in rows:
        kept = {k: v for k, v in row.items() if k not in ("created", "seconds")}
        metrics = {k: v for k, v in row["metrics"].items() if k != "seconds"}
        found[row["key"]] = {**kept, "metrics": metrics}
    return found


# --- a study ---


def test_a_study_goes_on_after_the_last_detector(whole, monkeypatch, tmp_path):
    expected = whole(study)
    scores = "instab_utils.papers.oala2021.table1:scores"
    kill(study, scores, 8)  # within MC dropout, after the interval network
    assert not store.records(experiment="adv_detect", profile="smoke")  # all or none
    kill(study, scores, 15)  # two kinds of masks later
    shutil.copytree(tmp_path / "killed", tmp_path / "other", symlinks=True)
    kill(study, "instab_utils.store.lines:add", 2)  # between the files of two experiments
    first, second = (store.records(experiment=e, profile="smoke") for e in table1.EXPERIMENTS)
    assert first and not second
    attacks = counted(monkeypatch, changes, "adversarial")
    scored = counted(monkeypatch, table1, "scores")
    assert numbers(study()) == expected and not scored and not attacks

    # the comparison sees a generator that does not begin anew
    monkeypatch.setenv("INSTAB_RESULTS", str(tmp_path / "other"))
    usual = profiles.generator

    def used(seed, stream, device="cpu"):
        generator = usual(seed, stream, device)
        if stream == "null random":
            torch.rand(1, generator=generator)
        return generator

    monkeypatch.setattr(profiles, "generator", used)
    assert numbers(study()) != expected
    assert not attacks and len(scored) == len(expected) - 3 - 6 - 6


# --- worst cases ---


def test_worst_cases_go_on_after_the_last_image(whole, monkeypatch, tmp_path):
    expected = whole(worst)
    # a network's and TV's own for each of three images
    kill(worst, "instab_utils.stability.worst_case:search", 4)
    shutil.copytree(tmp_path / "killed", tmp_path / "other", symlinks=True)
    searches = counted(monkeypatch, worst_case, "search")
    assert numbers(worst()) == expected and len(searches) == 3
    # noise around the same perturbations; a fourth image
    assert records.neighbourhoods("dncnn", "smoke") and len(searches) == 3
    (tmp_path / "killed" / "records" / "worst_case.jsonl").unlink()
    assert worst(4)[0]["metrics"]["n_images"] == 4 and len(searches) == 5

    # the comparison sees a perturbation that is not the one found
    monkeypatch.setenv("INSTAB_RESULTS", str(tmp_path / "other"))
    usual = records.perturbations
    monkeypatch.setattr(
        records, "perturbations", lambda *a: {s: 0.99 * r for s, r in usual(*a).items()}
    )
    assert numbers(worst()) != expected


# --- chains ---


def test_chains_go_on_from_their_start(whole, monkeypatch, tmp_path):
    expected = whole(chains)
    trajectory = "instab_utils.uncertainty.hmc:_Run.trajectory"
    kill(chains, trajectory, 1)
    kill(chains, trajectory, 9)  # among the draws
    shutil.copytree(tmp_path / "killed", tmp_path / "other", symlinks=True)
    descents = counted(monkeypatch, Posterior, "descend")
    assert numbers(chains()) == expected and len(descents) == 2  # map and control, not the start
    assert_same_exhibit(tmp_path, "killed")

    monkeypatch.setenv("INSTAB_RESULTS", str(tmp_path / "other"))
    kill(chains, "instab_utils.fields.posterior:Posterior.descend", 2)
    kill(chains, "instab_utils.store:save_exhibit", 1)
    assert numbers(chains()) == expected and len(descents) == 2
    assert_same_exhibit(tmp_path, "other")


def assert_same_exhibit(folder, name):
    whole, other = (
        np.load(folder / place / "exhibits" / "hmc-20-3-0-smoke.npz") for place in ("whole", name)
    )
    for array in set(whole) - {"provenance"}:
        assert np.array_equal(whole[array], other[array]), array
