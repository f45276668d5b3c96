"""The audit of any reconstruction: linear algebra, a simulated kill, a clock that is set."""

import hashlib
import importlib
import io
import json
import types

import numpy as np
import pytest
import torch

from instab_utils import audit, profiles, training
from instab_utils.__main__ import main
from instab_utils.audit import (
    AuditOptions,
    build_card,
    card_images,
    function,
    operators,
    rates,
    runner,
    units,
    wording,
)
from instab_utils.audit.recorded_cards import recorded_card
from instab_utils.networks import Case, DnCNN, Reconstructor
from instab_utils.operators import Identity, LinearOperator, MaskedFourier, Radon, masks
from instab_utils.report import card as cards
from instab_utils.store import lines

N = 24


@pytest.fixture(autouse=True)
def _phantoms_only(monkeypatch, tmp_path):
    monkeypatch.setenv("INSTAB_OFFLINE", "1")
    monkeypatch.setenv("INSTAB_DATA", str(tmp_path / "no data"))
    monkeypatch.setenv("INSTAB_RESULTS", str(tmp_path / "results"))
    set_sizes(monkeypatch, "stability", n_iter=8, unrolled=2, ascent=3)


def set_sizes(monkeypatch, stage, **sizes):
    """Set sizes of the smoke profile."""
    rows = profiles.STAGES[stage]
    for name, value in sizes.items():
        monkeypatch.setitem(rows, name, rows[name]._replace(smoke=value))


def images(n=1, size=N):
    return torch.rand(n, 1, size, size, generator=profiles.generator(0, "audit images"))


def fourier(size=N):
    return MaskedFourier(
        masks.variable_density_lines(size, 3, generator=profiles.generator(0, "audit mask"))
    )


DIRECT = ("y", "name", "budget_s", "folder")


def run(f, A, x=None, **arguments):
    direct = {name: arguments.pop(name) for name in DIRECT if name in arguments}
    options = {"profile": "smoke", "say": lambda line: None, **arguments}
    return audit.run(f, A, x, **direct, options=AuditOptions(**options))


def numbers(card):
    """Everything that a resumed run must repeat."""
    return {
        key: card[key]
        for key in (
            "clean",
            "worst_case",
            "structure",
            "more_samples",
            "bracket",
            "alarms",
            "verdicts",
            "pictures",
        )
    }


# --- numbers that are known ---


@pytest.mark.parametrize("access", ["gradients", "black box"])
def test_a_matrix_amplifies_by_its_largest_singular_value(access, monkeypatch):
    n = 8
    draw = torch.Generator().manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(n * n, n * n, generator=draw))
    # one direction stands out
    M = (u * torch.linspace(0.2, 0.5, n * n).index_fill(0, torch.tensor(5), 4.0)) @ v

    def f(y):
        return (y.flatten(1) @ M.T).view_as(y)

    set_sizes(monkeypatch, "stability", ascent=20, restarts=2)
    set_sizes(monkeypatch, "audit", n_calls=600)
    asked = {"gradients": "auto"}.get(access, access)
    card = run(f, Identity(n), images(1, n), access=asked)
    cards.validate(card)
    found = [row["amplification"]["mean"] for row in card["worst_case"]["rows"]]
    assert all(value <= 4.0 * (1 + 1e-4) for value in found)  # no search can pass it
    assert found == pytest.approx([4.0] * len(found), rel=0.02 if access == "gradients" else 0.25)
    assert all(row["twin_amplification"]["mean"] < 1.5 for row in card["worst_case"]["rows"])
    assert card["subject"]["access"] == access and ("black box" in card["settings"]["search"]) == (
        access == "black box"
    )
    assert ("weaker" in card["summary"]) == (access == "black box")
    # too small for suits
    assert card["structure"] is None and card["verdicts"]["structure"]["word"] == "not tested"


def test_a_front_end_is_as_stable_as_itself_and_gains_from_samples():
    A = fourier()
    card = run(lambda y, A: A.pinv(y), A, images(2), public=True)
    cards.validate(card)
    for row in card["worst_case"]["rows"]:
        assert row["amplification"]["mean"] == pytest.approx(
            row["front_end_amplification"]["mean"], rel=1e-6
        )
        assert row["amplification"]["mean"] == pytest.approx(1.0, abs=0.01)  # A^+ A is a projection
    more = card["more_samples"]
    assert (
        more["psnr_db"] == more["psnr_front_end_db"]
        and more["share"][1] == 1
        and more["verdict"] == "improves"
    )
    assert more["psnr_db"] == sorted(more["psnr_db"])
    for row in card["structure"]["rows"]:
        assert row["contrast_recovery"] == row["front_end_contrast_recovery"]
    assert card["operator"]["adjoint_gap"] < 1e-5 and card["operator"]["norm"] == 1.0
    assert {p["group"] for p in card["pictures"]} == {"worst case", "details"}
    assert "2 images are few" in card["summary"] and "lower bound" in card["summary"]
    assert card["run"]["n_gradients"] > 0 and card["run"]["n_calls"] > card["run"]["n_gradients"]


def test_an_unstable_network_is_called_unstable_and_one_that_erases_too():
    x = images(2)
    spike = torch.zeros(1, 1, N, N)
    spike[..., 7, 9] = 1.0

    def unstable(y):
        return y + 300 * (y * spike).sum((1, 2, 3), keepdim=True) * spike.flip(-1) - 0.0 * y

    card = run(lambda y: unstable(y) - unstable(x[:1]) + x[:1], Identity(N), x[:1])
    assert card["verdicts"]["worst_case"]["word"] == "unstable"
    top = (1 + 300**2) ** 0.5
    assert card["worst_case"]["rows"][0]["amplification"]["mean"] == pytest.approx(top, rel=0.01)
    fixed = run(lambda y: x[:1] + 1e-3 * y, Identity(N), x)
    assert fixed["verdicts"]["structure"]["word"] == "erases"


# --- time, kills and failures ---


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    A, x = Radon(N, torch.arange(8) * 22.5), images()
    f = audit.post_processor(lambda image: image.clamp(0, 1), A)
    whole = run(f, A, x, folder=tmp_path / "whole")
    calls = 0

    def stop(line):
        nonlocal calls
        calls += 1
        if calls == 6:
            raise SystemExit("killed")

    with pytest.raises(SystemExit):
        run(f, A, x, folder=tmp_path / "cut", say=stop)
    stored = tmp_path / "cut" / "units.jsonl"
    assert len(lines.read(stored)) == 6
    again = run(f, A, x, folder=tmp_path / "cut")
    assert numbers(again) == numbers(whole)
    assert [s["status"] for s in again["steps"]].count("resumed") == 6
    assert again["run"]["seconds_before"] > 0
    for count in ("n_calls", "n_gradients"):
        assert again["run"][count] == whole["run"][count]
    rows = stored.read_text().splitlines()
    stored.write_text("\n".join([rows[0][:-40], *rows[1:]]) + "\n")
    with pytest.warns(RuntimeWarning, match="line 1 is damaged"):
        repaired = run(f, A, x, folder=tmp_path / "cut")
    assert numbers(repaired) == numbers(whole)
    assert [s["status"] for s in repaired["steps"]].count("done") == 1
    other = run(f, A, 0.9 * x, folder=tmp_path / "cut", budget_s=0)
    assert not any(s["status"] == "resumed" for s in other["steps"])  # other data
    assert cards.load(tmp_path / "cut" / "card.json")["data"]["sha256"] == other["data"]["sha256"]


def test_an_interrupted_run_still_gives_its_card(tmp_path):
    seen = []

    def f(y):
        if len(seen) > 40:
            raise KeyboardInterrupt
        seen.append(1)
        return y * 1.0

    card = run(f, Identity(N), images(2), folder=tmp_path)
    cards.validate(card)
    assert card["run"]["interrupted"] and "interrupted" in card["summary"] and card["not_tested"]
    assert cards.load(tmp_path / "card.json") == card


@pytest.mark.parametrize("budget_s", [0.0, 60.0, 150.0])
def test_the_time_is_kept_to_within_one_unit(monkeypatch, budget_s):
    clock = types.SimpleNamespace(now=0.0)
    fake = types.SimpleNamespace(monotonic=lambda: clock.now)
    for module in (runner, build_card, importlib.import_module("instab_utils.audit.run_audit")):
        monkeypatch.setattr(module, "time", fake)

    def slow(y):
        clock.now += 1.0
        return y * 1.0

    card = run(slow, Identity(N), images(5), budget_s=budget_s)
    longest = max([s["seconds"] for s in card["steps"]] + [20.0])
    assert card["run"]["seconds"] <= budget_s + longest
    late = [s for s in card["steps"] if s["status"] == "no time"]
    assert late and all(s["seconds"] == 0 and "s " in s["why"] for s in late)
    assert any("no time" in item["why"] for item in card["not_tested"])
    if budget_s == 150:  # every test has one image before any has two
        done = [s["name"] for s in card["steps"] if s["status"] == "done" and "image" in s["name"]]
        first = [name for name in done if name.endswith("image 1")]
        assert done[: len(first)] == first and {
            "clean, image 1",
            "worst case, image 1",
            "details, image 1",
        } <= set(done)
    if budget_s == 0:
        assert card["worst_case"] is None and card["verdicts"]["worst_case"]["word"] == "not tested"
        cards.validate(card)


@pytest.mark.parametrize("how", ["raises", "nan"])
def test_where_f_breaks_is_kept_and_the_rest_goes_on(tmp_path, how):
    x = images(2)
    x[1] = x[1] / 4 + 0.7

    def f(y):
        if float(y.detach().mean()) > 0.8:
            if how == "raises":
                raise ArithmeticError("too bright")
            return y / 0
        return y * 1.0

    card = run(f, Identity(N), x, folder=tmp_path)
    cards.validate(card)
    broken = [s["name"] for s in card["steps"] if s["status"] == "failed"]
    assert "clean, image 2" in broken and not any("image 1" in name for name in broken)
    failure = next(item for item in card["failures"] if item["step"] == "clean, image 2")
    assert ("ArithmeticError: too bright" if how == "raises" else "not finite") in failure[
        "error"
    ] and failure["cure"]
    with open(failure["input"], "rb") as file:
        content = file.read()
    assert hashlib.sha256(content).hexdigest() == failure["sha256"]
    assert np.array_equal(np.load(io.BytesIO(content), allow_pickle=False)["y"], x[1:].numpy())
    assert card["worst_case"]["n_images"] == 1 and "broke" in card["summary"]


# --- what is refused ---


def flawed(A, scale):
    return audit.operator(A.forward, lambda y: scale * A.adjoint(y), N)


def test_what_cannot_be_audited_is_named_with_its_cure():
    A, x = Identity(N), images()
    radon = Radon(N, torch.arange(8) * 22.5)

    def same(y):
        return y * 1.0

    noise = torch.Generator().manual_seed(0)
    refused = [
        (dict(f=same, A=A, x=images(1, 17)), "shape of x"),
        (dict(f=same, A=A, x=0 * x), "image 1.*all-zero"),
        (dict(f=same, A=A, x=x * torch.nan), "image 1.*finite"),
        (dict(f=same, A=A, x=255 * x), r"range of x.*255|range of x.*\[0"),
        (dict(f=same, A=A, x=(255 * x).to(torch.uint8)), "type of x.*x / 255"),
        (dict(f=same, A=A, x=x.to(torch.complex64)), "type of x.*real"),
        (dict(f=same, A=A, x=x, y=images(2)), "shape of y"),
        (dict(f=same, A=A, x=x, y=x * torch.nan), "y: expected finite"),
        (dict(f=same, A=A, y=x), "y without x"),
        (dict(f=lambda y: y[..., 1:], A=A, x=x), "shape of f"),
        (dict(f=lambda y: (y, y), A=A, x=x), "output of f.*tuple"),
        (dict(f=lambda y: y > 0.5, A=A, x=x), "output of f.*floating"),
        (dict(f=lambda y: y / 0, A=A, x=x), "image 1: expected finite"),
        (
            dict(f=lambda y: y @ torch.ones(3, 3), A=A, x=x),
            r"f\(y\): expected an image for y of shape \(1, 1, 24, 24\)",
        ),
        (
            dict(f=lambda y: y + torch.rand(y.shape, generator=noise), A=A, x=x),
            "the same image.*differ by.*allow_random",
        ),
        (dict(f=lambda y: 0 * y + 0.5, A=A, x=x), "depends on y"),
        (dict(f=same, A=A, x=x, access="oracle"), "access: expected"),
        (dict(f=same, A=A, x=x, profile="large"), "profile: expected one of smoke"),
        (
            dict(
                f=torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3, padding=1), torch.nn.Dropout(0.5)),
                A=A,
                x=x,
            ),
            r"training mode.*net\.eval",
        ),
        (dict(f=7, A=A, x=x), "f: expected a callable"),
        (dict(f=same, A=object(), x=x), "A: expected.*audit.operator"),
        (dict(f=radon.pinv, A=flawed(radon, 1.1), x=x), "adjoint of"),
        (dict(f=same, A=audit.operator(lambda x: x + 1, lambda y: y, N), x=x), "linear operator"),
        (dict(f=same, A=A, x=x, rates=[(2, A, images(3))]), "shape of y"),
    ]
    for case, message in refused:
        with pytest.raises(audit.AuditError, match=message) as caught:
            run(**case)
        assert (
            caught.value.cure and caught.value.expected and str(caught.value).endswith((".", "="))
        )
    with pytest.raises(ValueError, match="forward takes neither"):
        audit.operator(lambda x: x @ torch.ones(3, 3), lambda y: y, N)


def test_the_gap_of_a_wrong_adjoint_is_what_it_is_off():
    for scale in (1.1, 0.5):
        found = operators.gap(
            flawed(Radon(N, torch.arange(8) * 22.5), scale), profiles.generator(0, "gap")
        )
        # <A x, A x> (1 - scale) / ||A x||^2 = |1 - scale|
        assert found == pytest.approx(abs(1 - scale), rel=0.2)
    assert operators.gap(fourier(), profiles.generator(0, "gap")) < 1e-5
    # nearly orthogonal to what it should be
    off = audit.operator(lambda x: x, lambda y: y.roll(1, -1), N)
    assert operators.gap(off, profiles.generator(0, "gap")) > 0.9


def test_a_random_network_is_measured_where_it_is_allowed():
    draw = torch.Generator().manual_seed(0)

    def f(y):
        return y + 0.01 * torch.randn(y.shape, generator=draw)

    card = run(f, Identity(N), images(), allow_random=True, budget_s=0)
    x = images()
    assert card["settings"]["two_calls_differ_by"] == pytest.approx(
        0.01 * 2**0.5 * N / float(x.norm()), rel=0.1
    )
    assert card["subject"]["deterministic"] is False and "differently" in card["summary"]


def test_images_of_a_batch_that_see_each_other_go_one_by_one():
    with pytest.warns(UserWarning, match="one at a time"):
        card = run(lambda y: y - 0.1 * y.mean(0, keepdim=True), Identity(N), images(2), budget_s=0)
    assert (
        card["settings"]["one_image_at_a_time"] and "batch together" in card["settings"]["notes"][0]
    )


# --- how f and A may be written ---


def test_a_pair_in_numpy_and_a_function_in_numpy():
    rng = np.random.default_rng(0)
    M = rng.standard_normal((N // 2, N)).astype(np.float32)
    # one image or a batch, all the same
    A = audit.operator(lambda x: M @ x, lambda y: M.T @ y, N, numpy=True)
    assert A.pinv(A(images())).shape == (1, 1, N, N)

    def f(y):
        assert isinstance(y, np.ndarray)
        return np.linalg.pinv(M) @ y

    card = run(f, A, images().numpy(), public=True)
    cards.validate(card)
    assert card["subject"]["access"] == "black box" and "NumPy" in card["settings"]["why_black_box"]
    assert card["operator"]["y_shape"] == [1, N // 2, N] and "||A||^2" in card["operator"]["pinv"]
    assert card["operator"]["norm"] == pytest.approx(np.linalg.norm(M, 2), rel=1e-2)
    # pinv(M) M is a projection
    assert card["worst_case"]["rows"][-1]["amplification"]["mean"] <= 1 + 1e-4


def test_single_images_flat_measurements_and_complex_ones():
    draw = torch.Generator().manual_seed(0)
    M = torch.randn(60, N * N, generator=draw, dtype=torch.complex64) / N

    def forward(image):
        return M @ image.reshape(N * N).to(torch.complex64)

    A = audit.operator(forward, lambda y: (M.mH @ y).reshape(N, N), N)
    card = run(lambda y: (M.mH @ y).reshape(N, N).abs(), A, images())
    cards.validate(card)
    assert (
        card["operator"]["complex"]
        and card["operator"]["y_shape"] == [60]
        and card["subject"]["access"] == "gradients"
    )
    assert card["operator"]["adjoint_gap"] < 1e-5 and not card["failures"]


class Physics:
    """What deepinv's objects look like, with a complex image as two channels, as its MRI has it."""

    def __init__(self, A):
        self._A = A

    def A(self, x):
        return two(self._A(one(x)))

    def A_adjoint(self, y):
        return two(self._A.adjoint(one(y)))

    A_dagger = A_adjoint


class MRI(Physics):
    pass


def one(x):
    return torch.view_as_complex(x.movedim(1, -1).contiguous())[:, None]


def two(y):
    return torch.view_as_real(y[:, 0]).movedim(-1, 1)


def test_a_model_of_another_library_gets_its_own_physics():
    physics = MRI(fourier())
    seen = set()

    class Model(torch.nn.Module):
        def forward(self, y, physics, **kwargs):
            seen.add((type(physics).__name__, y.shape[1], y.is_complex()))
            return physics.A_dagger(y)

    card = run(Model().eval(), physics, images(), budget_s=0)
    assert (
        seen == {("MRI", 2, False)}
        and card["subject"]["called"] == "f(y, A)"
        and card["subject"]["output"] == "complex"
    )
    assert card["operator"]["y_shape"] == [2, N, N]
    assert any("pass rates" in item["why"] for item in card["not_tested"])
    given = run(
        Model().eval(),
        physics,
        images(),
        rates=[(1, physics), (2.9, MRI(MaskedFourier(torch.ones(N, N))))],
    )
    cards.validate(given)
    assert not given["failures"]
    assert (
        given["more_samples"]["verdict"] == "improves"
        and given["more_samples"]["psnr_db"][1] == units.MOST_DB
    )


def test_signatures():
    wants = function.wants_operator
    assert (
        wants(lambda y, A: y)
        and wants(lambda y, physics=None: y)
        and wants(audit.post_processor(torch.nn.Identity(), Identity(N)))
    )
    assert (
        not wants(lambda y: y)
        and not wants(lambda y, n_iter=3: y)
        and not wants(torch.relu)
        and not wants(torch.nn.Identity())
    )


def test_networks_inside_of_f_are_found_and_their_dropout_is_an_alarm():
    net = DnCNN(n_layers=3, width=4, dropout=0.2).eval()

    def f(y):
        return net(y)

    assert function.networks_of(f) == [net] == function.networks_of(Reconstructor(net, Identity(N)))
    card = run(f, Identity(N), images(), alarms={"brightness": lambda y: y})
    names = {row["alarm"] for row in card["alarms"]["rows"]}
    assert names == {"null-gradient", "null-residual", "null-variance", "dropout", "brightness"}
    assert card["subject"]["n_parameters"] == sum(p.numel() for p in net.parameters())
    with torch.no_grad():
        next(net.parameters()).mul_(2)
    changed = run(f, Identity(N), images(), budget_s=0)
    assert changed["subject"]["sha256"] != card["subject"]["sha256"]


def test_images_on_a_finer_raster_are_measured_finely():
    A = Radon(N, torch.arange(8) * 22.5)
    fine = images(1, 2 * N)
    card = run(audit.post_processor(torch.nn.Identity().eval(), A), A, fine)
    assert card["data"]["image_size"] == [N, N] and "2 times the raster" in card["data"]["source"]
    assert card["more_samples"]["share"] == [0.5, 1, 1.5, 2, 4] and card["more_samples"][
        "n_samples"
    ] == [4, 8, 12, 16, 32]
    mean = torch.nn.functional.avg_pool2d(fine, 2)
    # no inverse crime
    assert card["clean"]["psnr_front_end_db"]["mean"] != pytest.approx(
        units.db(A.pinv(A(mean)), mean), abs=1e-3
    )


def test_our_images_where_there_are_none_and_noise():
    card = run(lambda y: y * 0.99, Identity(N), noise=0.1, budget_s=0)
    assert (
        card["data"]["source"].startswith("phantom")
        and card["data"]["public"]
        and card["data"]["noise"] == 0.1
    )


@pytest.mark.parametrize(
    "mask",
    [
        masks.variable_density_lines(32, 4, generator=profiles.generator(0, "m")),
        masks.gaussian_lines(20, 32, generator=profiles.generator(0, "m")),
        masks.poisson_disk(32, 0.3, generator=profiles.generator(0, "m")),
    ],
    ids=["rows", "centred", "points"],
)
def test_masks_grow_around_the_one_that_is_given(mask):
    A = MaskedFourier(mask)
    built = rates.nested_masks(A, 0)
    kept = [B.mask.bool() for _, _, B in built]
    assert all(bool((a <= b).all()) and int(a.sum()) < int(b.sum()) for a, b in zip(kept, kept[1:]))
    assert any(B is A for _, _, B in built) and built[-1][0] > 1.5
    for share, _, B in built:
        assert float(B.mask.sum() / A.mask.sum()) == pytest.approx(share)


# --- words, units, pictures ---


def test_words_follow_the_rules():
    assert wording.worst_case(None, 0.02)["word"] == "not tested"

    def m(v):
        return {"mean": v, "ci": None, "values": [v]}

    row = {
        "strength": 0.02,
        "lost_db": m(9.0),
        "lost_stable_db": m(1.0),
        "lost_stable_own_db": m(2.0),
        "amplification": m(9.0),
        "twin_amplification": m(1.0),
    }
    for change, word, stable in (
        ({}, "unstable", "between"),
        ({"lost_stable_own_db": m(5.0)}, "between", "unstable"),
        ({"lost_db": m(0.5)}, "stable", "between"),
        ({"lost_stable_own_db": None}, "unstable", None),
    ):
        found = wording.worst_case({"rows": [{**row, **change}]}, 0.02)
        assert (found["word"], found["stable_word"]) == (word, stable)
    rings = {"alarm": "a", "failure": "details", "rings": m(1.0), "rings_clean": m(0.0)}
    assert wording.alarms({"rows": [rings]})["word"] == "rings"
    # it always rings
    assert wording.alarms({"rows": [{**rings, "rings_clean": m(1.0)}]})["word"] == "silent"


def test_units_come_back_from_the_disk_as_they_were():
    value = {
        "a": [1, 0.1, float("inf")],
        "b": torch.randn(2, 3, dtype=torch.complex64),
        "c": {"d": None, "e": "text"},
    }
    again = runner.unpacked(json.loads(json.dumps(runner.packed(value), allow_nan=False)))
    assert (
        again["a"] == [1, 0.1, None]
        and torch.equal(again["b"], value["b"])
        and again["c"] == value["c"]
    )


def test_pictures_are_files_that_others_read():
    from PIL import Image

    grey = np.arange(20, dtype=np.uint8).reshape(4, 5) * 12
    palette = card_images.diverging()
    plain = Image.open(io.BytesIO(card_images.image_file(grey, "png")))
    coloured = Image.open(io.BytesIO(card_images.image_file(grey, "png", palette)))
    assert np.array_equal(np.array(plain), grey)
    assert np.array_equal(np.array(coloured.convert("RGB")), palette[grey])


# --- the command line ---

MODULE = """
import torch
from instab_utils import audit
from instab_utils.operators import Identity

def reconstruct(y):
    return 0.9 * y

def operator():
    return Identity(24)

class Net(torch.nn.Module):
    def __init__(self, width=3):
        super().__init__()
        first = torch.nn.Conv2d(1, width, 3, padding=1)
        last = torch.nn.Conv2d(width, 1, 3, padding=1)
        self.layers = torch.nn.Sequential(first, torch.nn.ReLU(), last)

    def forward(self, x):
        return x + self.layers(x)
"""


def test_the_command_audits_a_function_and_a_file_and_compares(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine_for_audit.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    np.save("scan.npy", images(2)[:, 0].numpy())
    common = ["audit", "--profile", "smoke", "--images", "scan.npy", "--budget", "0.5"]
    assert (
        main(
            [
                *common,
                "--function",
                "mine_for_audit:reconstruct",
                "--operator",
                "mine_for_audit:operator",
                "--folder",
                "a",
            ]
        )
        == 0
    )
    said_ = capsys.readouterr().out
    first = cards.load("a/card.html")
    assert (
        first["summary"] in said_
        and "card.html" in said_
        and first["subject"]["file"] == "mine_for_audit:reconstruct"
    )
    import mine_for_audit
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(mine_for_audit.Net(width=4).state_dict(), "net.safetensors")
    how = [
        "--network",
        "net.safetensors",
        "--architecture",
        "mine_for_audit:Net",
        "--options",
        '{"width": 4}',
        "--folder",
        "b",
    ]
    assert (
        main(
            [
                *common,
                *how,
                "--operator",
                "radon:image_size=24,n_views=10",
                "--name",
                "mine",
                "--black-box",
            ]
        )
        == 0
    )
    second = cards.load("b/card.json")
    assert (
        second["subject"]["access"] == "black box"
        and second["name"] == "mine"
        and len(second["subject"]["sha256"]) == 64
    )
    assert [f["name"] for f in second["data"]["files"]] == ["scan.npy[0]", "scan.npy[1]"]
    capsys.readouterr()
    assert main(["audit", "--compare", "a/card.json", "b/card.html", "difference.html"]) == 0
    assert (
        "mine" in (tmp_path / "difference.html").read_text("utf-8")
        and capsys.readouterr().out.strip() == "difference.html"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage"),
        (["audit"], "--network or --function"),
        (["audit", "--function", "os:getcwd"], "--operator"),
        (
            ["audit", "--function", "no_such_module:f", "--operator", "identity:image_size=8"],
            "no_such_module",
        ),
        (["audit", "--function", "os:getcwd", "--operator", "radon:n_views=4"], "image_size"),
        (["audit", "--function", "os:getcwd", "--operator", "radon:image_size=many"], "numbers"),
        (
            [
                "audit",
                "--function",
                "os:getcwd",
                "--operator",
                "identity:image_size=24",
                "--profile",
                "smoke",
            ],
            "os|getcwd|takes no",
        ),
        (
            ["audit", "--network", "nowhere.pt2", "--operator", "identity:image_size=24"],
            "nowhere.pt2",
        ),
        (["audit", "--profile", "large"], "large"),
        (["audit", "--compare", "a.json", "b.json", "c.html"], "a.json"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(
    arguments, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "Traceback" not in error
    assert any(word in error for word in message.split("|"))


def test_a_network_of_the_book_by_its_name(tmp_path, monkeypatch):
    A, net = Identity(N), DnCNN(n_layers=3, width=4, dropout=0.2).eval()
    case = Case(
        name="dncnn",
        title="DnCNN",
        task="denoising",
        A=A,
        x=images(),
        y=images() * 0.98,
        reconstruct=net.reconstruct,
        source="phantom: test",
        network=net,
    )
    monkeypatch.setattr(training, "case", lambda *args, **options: case)
    assert (
        main(
            [
                "audit",
                "--network",
                "dncnn",
                "--profile",
                "smoke",
                "--budget",
                "30",
                "--folder",
                str(tmp_path),
            ]
        )
        == 0
    )
    card = cards.load(tmp_path / "card.json")
    assert card["subject"]["name"] == "DnCNN" and "phantom" in card["data"]["source"]
    assert card["worst_case"]["n_images"] == 1 and "dropout" in {
        row["alarm"] for row in card["alarms"]["rows"]
    }


def test_a_recorded_card_is_computed_once():
    cards_made = []

    def compute():
        cards_made.append(run(lambda y: 0.9 * y, Identity(N), images(), budget_s=0))
        return cards_made[-1]

    first, second = (recorded_card("ours", "smoke", compute) for _ in range(2))
    assert len(cards_made) == 1 and second == {**cards_made[0], "pictures": []}
    assert first["pictures"] == []


def test_operators_in_words():
    A = operators.parsed("radon:image_size=24,n_views=10,span_deg=150")
    assert isinstance(A, Radon) and A.n_views == 10 and float(A.angles_deg[-1]) == 135
    assert operators.parsed("fourier:image_size=32,acceleration=4").mask.mean() == pytest.approx(
        0.25
    )
    assert isinstance(operators.parsed("identity:image_size=24"), LinearOperator)
