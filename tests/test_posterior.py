"""The posterior of a field: its density, where chains start, what a run leaves behind; and the
drivers of the study at smoke.
"""

import json

import pytest
import torch

from instab_utils import fields, profiles, store
from instab_utils.fields import posterior, scans
from instab_utils.papers.vasconcelos2021 import (
    posterior_chains,
    real_data,
    settings,
    table1,
    trials,
)

SMALL = posterior_chains.Chains.at(
    "standard",
    width=8,
    depth=1,
    n_frequencies=8,
    image_size=16,
    n_views=6,
    map_steps=400,
    omega0=3.0,
)


@pytest.fixture
def own_results(tmp_path, monkeypatch):
    monkeypatch.setenv("INSTAB_RESULTS", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def small():
    scan = scans.phantom_scan((1,), SMALL.n_views, SMALL.image_size)
    return posterior_chains.prepare(SMALL, scan)


def test_log_density_is_the_formula(small):
    target, prior, _ = small
    for theta, found in zip(prior, target.log_density(prior)):
        f = target.fields.load_flat(theta[None]).render(16)
        y, sigma = target.scan.y / 16, 0.03 * (target.scan.y / 16).square().mean().sqrt()
        u = (target.scan.A(f) / 16 - y).square().sum() / (2 * sigma**2)
        for w, b in zip(target.fields.weights, target.fields.biases):
            u = u + (w.square().sum() + b.square().sum()) * w.shape[1] / (2 * SMALL.tau)
        assert found.item() == pytest.approx(-u.item(), rel=1e-4)


def test_the_prior_is_drawn_with_its_precision(small):
    target, prior, noise = small
    assert len(target.prior_precision) == target.fields.n_parameters
    z = prior * target.prior_precision.sqrt()
    assert abs(z.mean()) < 5 / z.numel() ** 0.5 and z.var().item() == pytest.approx(
        1, abs=5 * (2 / z.numel()) ** 0.5
    )
    assert noise.std().item() == pytest.approx(target.sigma, rel=0.1)


def test_without_data_a_start_is_its_draw_of_the_prior(small):
    target, prior, _ = small
    target = posterior.Posterior(target.fields, target.scan, sigma=1e6)
    start = target.descend(prior + 0.02, 60, anchor=prior)
    torch.testing.assert_close(start, prior, atol=2e-3, rtol=0)


def test_anchored_chains_start_at_the_energy_of_the_posterior_and_maps_far_below(small):
    target, prior, _ = small
    wide = posterior.Posterior(target.fields, target.scan, sigma=0.5)
    noise = wide.sigma * torch.randn(
        len(prior), *target.scan.y.shape[1:], generator=torch.Generator().manual_seed(0)
    )
    anchored = -wide.log_density(wide.descend(prior, 250, 1e-2, anchor=prior, noise=noise))
    lowest = -wide.log_density(wide.descend(prior, 250, 1e-2))
    above = (anchored - lowest.min()) / (prior.shape[1] / 2)  # 1 for draws of a Gaussian
    assert (abs(above - 1) < 0.3).all() and (lowest - lowest.min()).median() < 0.2 * prior.shape[
        1
    ] / 2


def test_run_leaves_a_record_and_an_exhibit(own_results):
    chains = posterior_chains.Chains.at("smoke", image_size=16)
    made = posterior_chains.record(chains, profile="smoke")
    assert posterior_chains.record(chains, profile="smoke") == made  # a look-up
    m = made["metrics"]
    assert {
        "rhat_max",
        "ess_min",
        "accept",
        "virial_ratio",
        "psnr_control_db",
        "nll",
        "ece",
        "energy_expected",
    } <= set(m)
    assert made["paper"]["value"] == 29.12 and m["n_gradients"] >= 4 * (6 + 8)
    arrays, about = store.load_exhibit("hmc-20-3-0-smoke")
    assert (
        arrays["draws"].shape == (24, 16, 16)
        and arrays["rhat"].shape == (16, 16)
        and about["data"] == ["phantoms"]
    )
    assert arrays["coverage"].shape == (1, 20) and arrays["energy"].shape == (4, 8)


def test_the_whole_table_at_smoke(own_results):
    made = table1.table(20, "smoke", workers=0)
    methods = {(r["method"], r["parameters"]["split"]) for r in made}
    assert {("dropout", "test"), ("bbb", "validate"), ("ensemble-2", "test")} <= methods
    two = next(
        r for r in made if r["method"] == "ensemble-2" and r["parameters"]["split"] == "test"
    )
    assert two["paper"]["value"] == 33.44 and len(two["parameters"]["members"]) == 2
    panels, _ = store.load_exhibit("inr-panels-20-smoke")
    assert panels["mean_dropout"].shape == (32, 32) and panels["coverage_ensemble2"].shape == (
        1,
        20,
    )
    sweep, _ = store.load_exhibit("inr-sweep-dropout-20-smoke")
    assert len(sweep["psnr_db"]) == len(settings.grid("dropout", 20, "smoke")) == 2 and set(
        sweep["activation"]
    ) == {"relu", "silu"}


def test_the_explorer_at_smoke(own_results):
    table1.explorer("smoke", ["5"], workers=0)
    arrays, _ = store.load_exhibit("inr-explorer-5-smoke")
    truth = arrays["truth"].float()
    again = -10 * torch.log10((arrays["images"].float() / 255 - truth).square().mean((-1, -2)))
    torch.testing.assert_close(again, arrays["psnr"], atol=0.05, rtol=0)


def test_real_data_at_smoke(own_results):
    rows = real_data.run("smoke")
    assert [(r["parameters"]["data"], r["method"]) for r in rows] == [
        (data, method)
        for data in ("aapm 0", "tooth")
        for method in ("dropout", "dropout", "fbp", "sirt", "tv")
    ]
    assert rows == real_data.run("smoke") and all("psnr_db" in r["metrics"] for r in rows)


def test_grids_count_as_in_the_paper():
    counts = [len(settings.grid(method, 20, "published")) for method in ("dropout", "bbb")]
    assert counts == [720, 2160]
    grid = settings.grid("dropout", 5)
    assert len(grid) == len({json.dumps(s) for s in grid}) == 240 and all(
        settings.Setting(**s).n_views == 5 for s in grid
    )


def test_a_stack_of_settings_needs_names_that_exist():
    with pytest.raises(TypeError, match="omega"):
        trials.trial(omega=3.0)
    with pytest.raises(ValueError, match="'dropout' or 'bbb'"):
        settings.Setting(method="mcd")
    assert fields.FREE == 0 and not set(fields.VALIDATION) & set(fields.TEST)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("method", ["dropout", "bbb"])
def test_a_stack_gives_what_its_settings_give_alone(own_results, monkeypatch, method, size):
    """Three fields in stacks of 2 and 1, or of 3: masks, draws and samples are those of each field
    alone. Adam makes round-off grow: a few steps only.
    """
    fixed = dict(image_size=32, width=16, n_frequencies=16, steps=5, p=0.3, method=method)
    both = [{**fixed, "omega0": 3.0, "ids": [1, 2]}, {**fixed, "omega0": 8.0, "ids": [2]}]
    alone, sizes, fit = [trials.trial(**s) for s in both], [], trials.fit_fields

    def counted(net, *rest, **options):
        sizes.append(len(net.fields.flat() if method == "bbb" else net.flat()))
        return fit(net, *rest, **options)

    monkeypatch.setattr(trials, "fit_fields", counted)
    monkeypatch.setattr(trials, "stack_size", lambda *_: size)
    together = trials.trial.batched(both)
    assert sizes == ([2, 1] if size == 2 else [3])
    for one, stacked in zip(alone, together, strict=True):
        one, stacked = ({k: v for k, v in s.items() if k != "training_s"} for s in (one, stacked))
        assert stacked == pytest.approx(one, rel=2e-3, abs=2e-3)
    # a shared source of draws gives the second field other masks: the check finds it
    monkeypatch.setattr(profiles, "generator", lambda *_: torch.Generator().manual_seed(0))
    other = trials.trial.batched(both)
    assert abs(other[1]["nll"] - alone[1]["nll"]) > 2e-3 * abs(alone[1]["nll"])
    with pytest.raises(ValueError, match="agree in method"):
        trials.trial.batched([{**fixed}, {**fixed, "depth": 2}])


def test_finals_are_stored_field_by_field(own_results, monkeypatch):
    """A run of finals that is stopped after its first stack goes on with what is missing; `passes`
    finds fields trained in stacks.
    """
    fixed = dict(image_size=32, width=16, n_frequencies=16, steps=5)
    jobs = [{**fixed, "ids": [id]} for id in (1, 2, 3, 4)]
    monkeypatch.setattr(trials, "stack_size", lambda *_: 2)
    trained, fit = [], trials.fit_fields

    def stopped(net, *rest, **options):
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(net.n_fields)
        return fit(net, *rest, **options)

    monkeypatch.setattr(trials, "fit_fields", stopped)
    with pytest.raises(KeyboardInterrupt):
        trials.final.batched(jobs)
    trained[0] = "before"
    trained.append("after")
    trials.final.batched(jobs)
    assert trained == ["before", "after", 2]
    drawn, _ = trials.passes(settings.Setting(**fixed), (1, 2, 3, 4))
    assert len(trained) == 3 and drawn.shape == (50, 4, 1, 32, 32)
    monkeypatch.setattr(trials, "stack_size", lambda *_: 1)
    alone, _ = trials.train([settings.Setting(**fixed)], settings.Setting(**fixed).scan(3), [3])
    torch.testing.assert_close(drawn[:, 2:3], alone.half().float(), atol=2e-3, rtol=0)


def test_only_choices_are_made_in_tf32(own_results, monkeypatch):
    """Rungs allow TF32 on CUDA, reported fields and HMC's descent forbid it, and nothing leaks."""
    seen = []
    fit = trials.fit_fields

    def observed(*given, **options):
        seen.append(torch.backends.cuda.matmul.allow_tf32)
        return fit(*given, **options)

    monkeypatch.setattr(trials, "fit_fields", observed)
    small = dict(image_size=32, width=8, n_frequencies=8, steps=1)
    for before in (False, True):
        with profiles.tf32(before):
            trials.trial(**small, seed=int(before))
            trials.final(**small, seed=int(before))
            with pytest.raises(ValueError, match="Invalid learning rate"):
                trials.trial(**small, lr=-1.0)
            assert torch.backends.cuda.matmul.allow_tf32 is before
    assert seen == [True, False, True] * 2


def test_scores_of_perfect_samples_are_perfect():
    """Truth and samples drawn alike: ECE as for 50 perfect samples, coverage 0.9, and the NLL of
    the Gaussian they come from.
    """
    generator = torch.Generator().manual_seed(0)
    scan = scans.phantom_scan((1, 2), 5, 32)
    mean = 0.3 + 0.4 * torch.rand(2, 1, 32, 32, generator=generator)
    draws = mean + 0.05 * torch.randn(51, 2, 1, 32, 32, generator=generator)
    found = trials.score(draws[1:], scan._replace(x=draws[0], y=scan.A(draws[0])))
    assert (found["ece"] < 0.045).all() and (found["ece_interior"] < 0.045).all()
    torch.testing.assert_close(
        found["coverage_interior"], torch.full((2,), 0.88, dtype=torch.float64), atol=0.05, rtol=0
    )
    # .5 log(2 pi e .05^2)
    torch.testing.assert_close(
        found["nll"], torch.full((2,), -1.577, dtype=torch.float64), atol=0.1, rtol=0
    )
    assert (found["psnr_sample_db"] < found["psnr_db"] - 2).all()
