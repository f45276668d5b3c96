"""The worked examples of book/examples, as they stand: each ends with a valid card, beside a stable
solver.
"""

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import torch

from instab_utils import report, store, training

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "book" / "examples"
BUDGET_S = 6.0


def example(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def checked(card, access):
    report.card.validate(card)
    assert card["subject"]["access"] == access and not card["failures"]
    row = card["worst_case"]["rows"][-1]
    for name in ("amplification", "twin_amplification", "stable_amplification"):
        assert row[name]["mean"] > 0
    assert card["summary"]
    return card


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {
        "deepinv_model",
        "exported_model",
        "numpy_sart",
        "own_operator",
    }


def test_an_exported_model(tmp_path):
    card = checked(
        example("exported_model").main(profile="smoke", budget_s=BUDGET_S, folder=tmp_path),
        "gradients",
    )
    assert card["more_samples"] or any(
        "more samples" in n["what"].lower() for n in card["not_tested"]
    )


def test_sart_of_scikit_image(tmp_path):
    card = checked(
        example("numpy_sart").main(
            profile="smoke", budget_s=BUDGET_S, image_size=32, n_views=20, folder=tmp_path
        ),
        "black box",
    )
    assert card["clean"]["psnr_db"]["mean"] > 15, "turned or shifted: the truth and SART disagree"


def test_an_operator_of_ones_own(tmp_path):
    card = checked(
        example("own_operator").main(
            profile="smoke", budget_s=BUDGET_S, image_size=32, folder=tmp_path
        ),
        "black box",
    )
    assert card["operator"]["adjoint_gap"] < 1e-5
    # the worst case of a linear f is known: the largest gain of the filter behind the blur
    H = example("own_operator").transfer(32)
    known = float(np.max(H * H / (H**2 + 1e-3)))
    assert max(r["amplification"]["mean"] for r in card["worst_case"]["rows"]) <= known * (1 + 1e-4)


def test_a_model_of_deepinv(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from common import deepinv_physics

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deepinv's own
        deepinv_physics()
        module = example("deepinv_model")
        model = module.trained_model()
        card = module.main(profile="smoke", budget_s=BUDGET_S, image_size=32, folder=tmp_path)
    ours = store.load_or_train(training.recipe("dncnn")).network
    x = torch.rand(2, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(model(x, 25 / 255), ours(x), atol=1e-5)
    checked(card, "gradients")
