"""How much work a run does: `smoke` proves that the code runs, `standard` gives findings, `paper` the papers' scale."""

import hashlib
from dataclasses import dataclass

import torch

NAMES = ("smoke", "standard", "paper")


@dataclass(frozen=True)
class Profile:
    """The budget of one run. Read-only; a notebook asks `budget = profiles.get(profile)` and uses the fields."""

    name: str
    image_size: int         # side of the images of the CT and MR examples, pixels
    n_images: int           # test images an average is taken over
    solver_iterations: int  # iteration cap of the stable solvers
    attack_iterations: int  # gradient-ascent steps of a worst-case attack
    n_random: int           # random perturbations a worst case is compared with

    def at_least(self, name: str) -> bool:
        """True when this profile is `name` or a larger one."""
        return NAMES.index(self.name) >= NAMES.index(_known(name))


_PROFILES = {
    "smoke": Profile("smoke", image_size=64, n_images=1, solver_iterations=20, attack_iterations=6, n_random=2),
    "standard": Profile("standard", image_size=256, n_images=4, solver_iterations=300, attack_iterations=60, n_random=4),
    "paper": Profile("paper", image_size=256, n_images=10, solver_iterations=1000, attack_iterations=400, n_random=16),
}


def get(name: str) -> Profile:
    """The profile called `name`; ValueError with the list of names otherwise."""
    return _PROFILES[_known(name)]


def generator(seed: int, stream: str, device: str | torch.device = "cpu") -> torch.Generator:
    """A `torch.Generator` for one named purpose: same (seed, stream) -> same numbers, different streams independent.

    The generator's seed is the first 63 bits of SHA-256(seed, stream), so that adding a stream never shifts another.
    """
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _known(name: str) -> str:
    if name not in NAMES:
        raise ValueError(f"unknown profile {name!r}; expected one of {', '.join(NAMES)}.")
    return name
