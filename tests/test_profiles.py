"""Profiles, seeded streams, parameters and claims: the small contracts every notebook relies on."""

import pytest
import torch

from instab_utils import profiles, report

DEFAULTS = """profile = "standard"
seed = 0
network = "all"
strength = 0.01  # relative
noise_levels = [0.0, 0.1]"""


def injected(*lines):
    return ["", DEFAULTS, "# Parameters\n" + "\n".join(lines), "profiles.check_parameters(In)"]


def test_streams_are_independent_and_reproducible():
    def draw(seed, stream):
        return torch.randn(64, generator=profiles.generator(seed, stream))

    assert torch.equal(draw(0, "attack"), draw(0, "attack"))
    for other in [(1, "attack"), (0, "twin")]:
        assert abs(torch.corrcoef(torch.stack([draw(0, "attack"), draw(*other)]))[0, 1]) < 0.5


def test_tf32_is_as_before_afterwards():
    def switches():
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = switches()
    for allowed in (True, False):
        with profiles.tf32(allowed):
            assert switches() == (allowed, allowed)
            with profiles.tf32(not allowed):
                assert switches() == (not allowed, not allowed)
            assert switches() == (allowed, allowed)
        with pytest.raises(RuntimeError, match="within"), profiles.tf32(allowed):
            raise RuntimeError("within")
        assert switches() == before
    inside = profiles.tf32(not before[0])(lambda: switches()[0])
    assert inside() is not before[0] and switches() == before


def test_order_of_profiles():
    assert profiles.get("paper").at_least("standard") and not profiles.get("smoke").at_least(
        "standard"
    )
    with pytest.raises(ValueError, match="expected one of smoke, standard, paper"):
        profiles.get("full")


def test_every_size_has_a_unit_and_three_profiles():
    for stage, rows in profiles.STAGES.items():
        assert rows and all(isinstance(row.unit, str) and row.unit for row in rows.values())
        for profile in profiles.NAMES:
            assert vars(profiles.stage(stage, profile)).keys() == rows.keys()
    assert len(profiles.table()) == sum(map(len, profiles.STAGES.values()))
    strengths = profiles.stage("stability", "smoke").strengths
    assert strengths == (0.01, 0.05)
    assert profiles.stage("train deep-mri", "paper").clip_norm is None
    with pytest.raises(ValueError, match="unknown stage 'walk'; expected one of budget"):
        profiles.stage("walk", "smoke")


def test_valid_parameters_pass():
    profiles.check_parameters(injected('profile = "smoke"', "strength = 1", "noise_levels = [0.2]"))
    profiles.check_parameters(["", DEFAULTS, "profiles.check_parameters(In)"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('netwrok = "dncnn"', r"no parameter 'netwrok' \(did you mean 'network'\?\)"),
        ('seed = "zero"', "seed expects int like 0; got 'zero'"),
        ("seed = True", "seed expects int"),
        ('profile = "fast"', "profile expects one of 'smoke', 'standard', 'paper'; got 'fast'"),
        ('network = "resnet"', "network expects one of 'all', 'dncnn'"),
    ],
)
def test_wrong_parameters_are_refused_with_the_valid_ones(line, message):
    with pytest.raises(ValueError, match=message) as error:
        profiles.check_parameters(injected(line), choices={"network": ("all", "dncnn")})
    assert "strength = 0.01" in str(error.value)


def test_claims(capsys):
    claim = report.claims("standard")
    claim("water is wet", True)
    claim("a long run agrees", False, at_least="paper")
    assert (
        capsys.readouterr().out == "✓  water is wet\n–  a long run agrees: not tested at standard\n"
    )
    with pytest.raises(report.ClaimError, match="false at standard: two is three"):
        claim("two is three", 2 == 3)
