"""The ledger: verdicts by hand, and lines from records that were made for the purpose."""

import pytest

from instab_utils import store
from instab_utils.metrics import Mean
from instab_utils.papers import findings, ledger
from instab_utils.papers.ledger import Line


@pytest.mark.parametrize(
    ("ours", "ci", "verdict"),
    [
        (30.9, None, "reproduced"),
        (31.1, None, "near"),
        (27.1, None, "near"),
        (26.9, None, "differs"),
        (20.0, (9.0, 31.0), "near"),
        (20.0, (18.0, 22.0), "differs"),
        (None, None, "not tested"),
    ],
)
def test_verdicts(ours, ci, verdict):
    assert Line("oala", "made up", "dB", 30.0, ours, ci).verdict == verdict


@pytest.fixture
def empty_store(tmp_path, monkeypatch):
    from instab_utils.store import files

    monkeypatch.setenv("INSTAB_RESULTS", str(tmp_path))
    monkeypatch.setattr(files, "checkout", lambda: None)  # nor the committed ones


def test_every_published_number_has_a_line(empty_store):
    found = ledger.lines()
    assert {line.verdict for line in found} == {"not tested"}
    count = {paper: sum(line.paper == paper for line in found) for paper in ledger.PAPERS}
    assert count == {"antun": 0, "oala": 12, "vasconcelos": 20 + 2 * (5 * 2 * 3 + 3)}
    assert len({line.what for line in found}) == len(found)


def test_numbers_come_from_the_last_record_of_each_seed(empty_store):
    def save(seed, value, created, **about):
        parameters = {"split": "test", "n_layers": 8, **about}
        record = store.record(
            experiment="adv_detect",
            task="denoising",
            network="dncnn",
            method="interval",
            seed=seed,
            profile="standard",
            metrics={"plain": {"pearson_r": Mean(value, value - 1, value + 1)}},
            parameters=parameters,
            paper={"source": "oala", "where": "Table 1", "value": 0.77},
            inputs=[created],
        )
        store.save_record({**record, "created": created})

    save(0, 0.5, "2026-01-01T00:00:00+00:00")
    save(0, 0.7, "2026-01-02T00:00:00+00:00")  # made again: counts
    save(1, 0.8, "2026-01-01T00:00:00+00:00")
    save(2, 0.9, "2026-01-01T00:00:00+00:00")
    save(2, 0.1, "2026-01-03T00:00:00+00:00", beta=0.1)  # another experiment
    line = next(line for line in ledger.lines() if "AdvDetect, interval" in line.what)
    assert line.ours == pytest.approx(0.8) and line.over == "3 trainings" and len(line.keys) == 3
    assert line.ci == pytest.approx(
        (0.8 - 0.1 * 4.302653 / 3**0.5, 0.8 + 0.1 * 4.302653 / 3**0.5), rel=1e-5
    )
    assert line.verdict == "reproduced"


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([], "not tested"),
        ([1.0, 1.1, 0.9], "holds"),
        ([-1.0, -1.1, -0.9], "differs"),
        ([1.0, -1.0, 0.5], "not shown"),
        ([0.3], "holds"),
    ],
)
def test_a_statement_needs_its_interval(differences, verdict):
    assert findings._paired(differences, " dB", "PSNR")[0] == verdict


def test_no_statement_is_decided_without_records(empty_store):
    found = findings.findings()
    assert {f.verdict for f in found} == {"not tested"}
    assert {f.paper for f in found} == set(ledger.PAPERS) and len({f.says for f in found}) == len(
        found
    )


def test_orders_are_paired_by_training(empty_store):
    for method, values in {"interval": (0.5, 0.6, 0.4), "probout": (0.42, 0.51, 0.33)}.items():
        for seed, value in enumerate(values):
            store.save_record(
                store.record(
                    experiment="art_detect",
                    task="ct_limited",
                    network="unet-limited",
                    method=method,
                    seed=seed,
                    profile="standard",
                    metrics={"plain": {"pearson_r": value}},
                    parameters={"split": "test"},
                    paper={"source": "oala", "where": "Table 1", "value": 0.5},
                )
            )
    found = {f.says: f for f in findings.findings()}
    # 0.08, 0.09, 0.07
    assert (
        found["limited-angle CT, ArtDetect: interval network above mean and variance"].verdict
        == "holds"
    )
    assert (
        found[
            "limited-angle CT, ArtDetect: interval network above MC dropout (fresh masks)"
        ].verdict
        == "not tested"
    )
