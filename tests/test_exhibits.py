"""Exhibits of the paper profile fit 300 kB, whatever is in them; and say what they are."""

from types import SimpleNamespace

import numpy as np
import pandas
import pytest
import torch

from instab_utils import profiles, store
from instab_utils.fields import Scan
from instab_utils.papers.vasconcelos2021 import (
    posterior_chains,
    real_data,
    results,
    settings,
    table1,
)
from instab_utils.store import arrays


def noise(*shape):
    """Values that no compression makes smaller."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def scan(n_images, n):
    return Scan("phantoms made up", noise(n_images, 1, n, n), None, noise(n_images, 1, 20, n))


def size_of(path):
    (file,) = (path / "exhibits").glob("*.npz")
    return file.stat().st_size


@pytest.fixture(autouse=True)
def results_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("INSTAB_RESULTS", str(tmp_path))


@pytest.mark.parametrize("profile", profiles.NAMES)
def test_of_chains(tmp_path, profile):
    chains = posterior_chains.Chains.at(profile)
    n, n_chains, n_kept = chains.image_size, chains.n_chains, 6  # of so many draws one has images
    traces = [noise(n_chains, n_each) for n_each in (chains.n_samples, chains.n_warmup)]
    result = SimpleNamespace(
        tracked=noise(n_chains, n_kept, 1, n, n),
        log_density=traces[0],
        warmup_log_density=traces[1],
    )
    name = f"hmc-20-3-0-{profile}"
    posterior_chains._exhibit(chains, result, scan(1, n), name)
    assert size_of(tmp_path) <= arrays.EXHIBIT_BYTES
    found, about = store.load_exhibit(name)
    assert found["draws"].dtype == torch.uint8 and found["energy"].shape == traces[0].shape
    side = found["mean"].shape[-1]
    assert side >= 64 or profile == "smoke"
    assert found["rhat"].min() >= 0 and found["rhat"].max() <= posterior_chains.MOST_RHAT
    expected = torch.nn.functional.avg_pool2d(result.tracked.mean((0, 1)), n // side)[0]
    assert torch.allclose(found["mean"].float(), expected, atol=1 / 500)
    assert ("Averaged" in about["note"]) == (side < n)


@pytest.mark.parametrize("method", ["dropout", "bbb"])
def test_of_sweeps(tmp_path, method):
    grid = pandas.DataFrame(settings.grid(method, 20, "published"))
    rungs = profiles.stage("inr", "paper").rungs
    table = pandas.concat([grid, *(grid.head(n) for _, n in rungs)], ignore_index=True)
    n = len(table)
    assert n > len(grid) > 700
    table["rung"] = np.repeat([0, *range(1, len(rungs) + 1)], [len(grid), *(k for _, k in rungs)])
    table["status"], table["steps"] = "done", 1000
    measured = ("psnr_db", "nll", "ece", "residual", "training_s", "seconds")
    for k, column in enumerate(measured):
        table[column] = np.random.default_rng(k).random(n)
    table1._sweep_exhibit(f"inr-sweep-{method}-20-paper", table, "paper")
    assert size_of(tmp_path) <= arrays.EXHIBIT_BYTES
    found, _ = store.load_exhibit(f"inr-sweep-{method}-20-paper")
    assert (
        set(results.favourite_omega0(found))
        == set(results.ladder(found))
        == set(grid["activation"])
    )
    axes = set(grid) - {"method", "n_views", "n_frequencies"}
    assert set(found) == axes | {"rung", "steps", "status", "psnr_db", "training_s"}
    assert np.allclose(found["psnr_db"], table["psnr_db"])


def test_of_panels(tmp_path, monkeypatch):
    size = profiles.stage("inr", "paper")
    n, n_test = size.image_size, len(size.test)
    monkeypatch.setattr(settings.Setting, "scan", lambda self, ids: scan(len(ids), n))
    monkeypatch.setattr(table1, "pooled_passes", lambda settings, ids: noise(3, n_test, 1, n, n))
    one = [settings.Setting(image_size=n)]
    table1._panels(20, {"dropout": one, "ensemble5": one, "bbb": one}, "paper")
    assert size_of(tmp_path) <= arrays.EXHIBIT_BYTES
    found, _ = store.load_exhibit("inr-panels-20-paper")
    assert len({array.shape for name, array in found.items() if "coverage" not in name}) == 1


def test_of_the_explorer(tmp_path, monkeypatch):
    n = profiles.stage("inr", "paper").image_size
    monkeypatch.setattr(settings.Setting, "scan", lambda self, id: scan(1, n))
    monkeypatch.setattr(table1, "run_trials", lambda *a: None)
    monkeypatch.setattr(table1, "passes", lambda setting, id: (noise(1, 1, 1, n, n), 1.0))
    table1._explorer_exhibit(20, "paper", None)
    assert size_of(tmp_path) <= arrays.EXHIBIT_BYTES
    found, _ = store.load_exhibit("inr-explorer-20-paper")
    assert found["images"].shape[:2] == (5, 4) and found["images"].dtype == torch.uint8


def test_of_the_tooth(tmp_path, monkeypatch):
    n = 360 // profiles.stage("real_data", "paper").binning
    tooth = scan(1, n)._replace(name="tooth")
    monkeypatch.setattr(real_data, "scan", lambda *a: tooth)
    monkeypatch.setattr(real_data, "setting", lambda *a: None)
    monkeypatch.setattr(real_data, "_samples", lambda *a: {"samples": noise(3, 1, 1, n, n)})
    monkeypatch.setattr(real_data, "classical", lambda *a: (noise(1, 1, n, n), 1.0))
    real_data._exhibit("paper")
    assert size_of(tmp_path) <= arrays.EXHIBIT_BYTES
    found, _ = store.load_exhibit("inr-tooth-paper")
    assert set(found) == {"mean", "std", "reference", "sirt", "tv"}


def test_pictures_are_as_fine_as_fits(tmp_path):
    """Half precision; 256 levels; 256 levels of averages: whatever is the first to fit."""
    about = dict(data=["phantom"], profile="smoke", seed=0, note="Made up.")
    for n, tolerance, factor in ((300, 5e-4, 1), (500, 1 / 500, 1), (600, 1 / 500, 2)):
        image = noise(1, n, n)
        grey = (255 * noise(8, 8)).round().byte()
        pictures = {"image": image * 0.2 - 3, "grey": grey}
        store.save_exhibit(f"n{n}", {"n": n}, pictures=pictures, **about)
        found, stated = store.load_exhibit(f"n{n}")
        expected = torch.nn.functional.avg_pool2d(image, factor) * 0.2 - 3
        error = (found["image"].float() - expected).abs().max()
        assert 0 < error < 2 * tolerance and found["n"] == n
        assert torch.equal(found["grey"], grey) == (factor == 1)
        assert stated["note"] == "Made up." + " Averaged over 2 x 2 pixels." * (factor == 2)
    with pytest.raises(ValueError, match="at most 300 kB"):  # arrays stay as they are
        store.save_exhibit("big", {"x": noise(400, 400)}, pictures={"y": noise(9, 9)}, **about)
    store.save_exhibit(
        "flat", {}, pictures={"zero": torch.zeros(9, 9), "x": noise(400, 400)}, **about
    )
    assert torch.equal(store.load_exhibit("flat")[0]["zero"], torch.zeros(9, 9))
