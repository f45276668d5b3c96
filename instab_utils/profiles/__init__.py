"""How much work a run does, and every size of every run.

`smoke` proves that the code runs, `standard` gives findings, `paper` has the papers' scale.
"""

import ast
import difflib
import hashlib
from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import torch

from .trainings import TRAININGS

NAMES = ("smoke", "standard", "paper")


@dataclass(frozen=True)
class Profile:
    """The budget of one run, as a notebook reads it: `budget = profiles.get(profile)`."""

    name: str
    image_size: int  # side of the images of the CT and MR examples, pixels
    n_images: int  # test images an average is taken over
    solver_iterations: int  # iteration cap of the stable solvers
    attack_iterations: int  # gradient-ascent steps of a worst-case attack
    n_random: int  # random perturbations a worst case is compared with

    def at_least(self, name: str) -> bool:
        """Return whether this profile is `name` or a larger one."""
        return NAMES.index(self.name) >= NAMES.index(_known(name))


_PROFILES = {
    "smoke": Profile(
        "smoke", image_size=64, n_images=1, solver_iterations=20, attack_iterations=6, n_random=2
    ),
    "standard": Profile(
        "standard",
        image_size=256,
        n_images=4,
        solver_iterations=300,
        attack_iterations=60,
        n_random=4,
    ),
    "paper": Profile(
        "paper",
        image_size=256,
        n_images=10,
        solver_iterations=1000,
        attack_iterations=400,
        n_random=16,
    ),
}


def get(name: str) -> Profile:
    """Return the profile called `name`; raise ValueError with the list of names otherwise."""
    return _PROFILES[_known(name)]


class Row(NamedTuple):
    """One size of one stage at each profile, its unit, and the paper's own number if it has one."""

    unit: str
    smoke: object
    standard: object
    paper: object
    published: object = None


_ACTIVATIONS = ("relu", "silu", "sine", "softplus", "tanh")
_VALIDATION, _TEST = (1, 2, 3, 4, 5), (6, 7, 8, 9, 10)  # phantoms of Vasconcelos et al.
_TV_WEIGHTS = tuple(10 ** (k / 4) for k in range(-16, -7))

STAGES: dict[str, dict[str, Row]] = {
    "stability": {  # the three tests of Antun et al., and audits
        "image_size": Row("pixels a side, published networks", 32, 128, 256, 256),
        "n_images": Row("test images, at most", 1, 4, 10),
        "n_iter": Row("iterations of total variation", 20, 300, 1000),
        "unrolled": Row("iterations that an attack on it goes through", 4, 60, 200),
        "ascent": Row("gradient steps of an attack", 4, 40, 200),
        "restarts": Row("starts of an attack", 1, 2, 5),
        "strengths": Row(
            "||r|| / ||x||",
            (0.01, 0.05),
            (0.005, 0.01, 0.02, 0.05),
            (0.005, 0.01, 0.02, 0.03, 0.05, 0.08),
        ),
        "n_twins": Row("random perturbations of the same norm", 2, 4, 16),
        "n_near": Row("draws of noise around a worst case, over all images", 4, 60, 60, 1),
        "n_draws": Row("positions of every detail in an image", 1, 3, 10, 1),
    },
    "audit": {  # of a reader's network, beside "stability"
        "n_validation": Row("clean images that set the thresholds of alarms", 2, 8, 20),
        "n_calls": Row("calls of a black box in both searches", 60, 600, 4000),
        "n_passes": Row("of MC dropout as an alarm", 4, 16, 64),
    },
    "detection": {  # Table 1 of Oala et al.
        "n_images": Row("test images, at most; CT: and as many phantoms", 2, 16, 68, "68; CT 330"),
        "n_validation": Row("images for thresholds and forms", 2, 8, 32),
        "n_passes_denoising": Row("passes of MC dropout", 4, 128, 128, 128),
        "n_passes_ct": Row("passes of MC dropout", 4, 16, 16, 16),
        "n_evaluations": Row("of f by L-BFGS-B", 6, 60, 400),
        "image_size": Row("pixels a side, photographs", 48, 128, 128),
    },
    "interval_fit": {  # widths around DnCNN; Oala et al., Table 2
        "steps": Row("steps of Adam", 20, 400, 9400, "10 epochs"),
        "batch_size": Row("images", 4, 8, 96, 96),
        "n_layers": Row("layers with weights, from the last", 3, 8, 8, 8),
        "rate": Row("mean width after the first step, grey values", 0.3, 0.3, 0.03),
    },
    "interval_fit_ct": {
        "steps": Row("steps of Adam", 20, 300, 9400, "15 epochs, 5085 steps"),
        "batch_size": Row("images", 4, 4, 12, 6),
        "n_layers": Row("layers with weights, from the last; U-Net 7", 3, 8, 8, 7),
        "rate": Row("mean width after the first step, grey values", 0.3, 0.3, 0.03),
    },
    "probout_fit": {  # mean-variance around DnCNN
        "steps": Row("steps of Adam", 20, 600, 32_350),
        "batch_size": Row("images", 4, 8, 128),
    },
    "probout_fit_ct": {
        "steps": Row("steps of Adam", 20, 300, 32_350, "400 epochs"),
        "batch_size": Row("images", 4, 4, 12, 12),
    },
    "alarm": {  # every detector on the failures of Antun et al.'s tests
        "n_passes": Row("passes of MC dropout", 4, 16, 16),
        "attacked_images": Row("images of the adaptive attack", 8, 8, 8),
        "attacked_passes": Row("passes that this attack goes through", 4, 4, 4),
    },
    **{
        f"train {network}": {field: Row(*sizes) for field, sizes in rows.items()}
        for network, rows in TRAININGS.items()
    },
    "inr": {  # fields of Vasconcelos et al.: sweep with dropout, Table 1, Figures 2 to 4
        "image_size": Row("pixels a side", 32, 64, 256),
        "n_frequencies": Row("rows of B", 16, 128, 363),
        "widths": Row("units a layer", (16,), (16, 64), (16, 64, 256, 1024), (16, 64, 256, 1024)),
        "depths": Row("layers", (3,), (3, 6), (3, 6, 9), (3, 6, 9)),
        "activations": Row("names", ("relu", "silu"), _ACTIVATIONS, _ACTIVATIONS, _ACTIVATIONS),
        "omega0": Row(
            "of B", (5.0,), (1.0, 5.0, 10.0, 15.0), (1.0, 5.0, 10.0, 15.0), (1.0, 5.0, 10.0, 15.0)
        ),
        "fractions": Row("dropped", (0.2,), (0.2, 0.5, 0.8), (0.2, 0.5, 0.8), (0.2, 0.5, 0.8)),
        "rungs": Row(
            "(steps, settings that go on)",
            ((8, 2),),
            ((200, 40), (600, 10)),
            ((1000, 120), (4000, 10)),
        ),
        "final_steps": Row("of Adam", 12, 1000, 15000),
        "validation": Row("phantoms", (1,), _VALIDATION, _VALIDATION, _VALIDATION),
        "test": Row("phantoms", (6,), _TEST, _TEST, _TEST),
    },
    "inr_bbb": {  # the sweep with Bayes by backprop
        "widths": Row("units a layer", (16,), (64,), (16, 64, 256, 1024), (16, 64, 256, 1024)),
        "depths": Row("layers", (3,), (3,), (3, 6, 9), (3, 6, 9)),
        "activations": Row(
            "names", ("relu",), ("relu", "silu", "sine"), _ACTIVATIONS, _ACTIVATIONS
        ),
        "omega0": Row("of B", (5.0,), (5.0, 10.0), (1.0, 5.0, 10.0, 15.0), (1.0, 5.0, 10.0, 15.0)),
        "prior_std": Row(
            "of a weight", (10.0,), (10.0, 100.0, 1000.0), (10.0, 100.0, 1000.0), (10, 100, 1000)
        ),
        "xi": Row(
            "factor of KL",
            (1e-10, 1e-5),
            (1e-10, 1e-5, 0.1),
            (1e-10, 1e-5, 0.1),
            (1e-10, 1e-5, 0.1),
        ),
    },
    "baselines": {  # classical methods of the same Table 1
        "scans": Row(
            "(pixels, same matrix for the data)",
            ((32, False),),
            ((64, False), (128, False), (64, True)),
            ((256, False), (256, True)),
        ),
        "share": Row("of the caps on iterations", 0.04, 1.0, 1.0),
        "validation": Row("phantoms", (1,), _VALIDATION, _VALIDATION, _VALIDATION),
        "test": Row("phantoms", (6,), _TEST, _TEST, _TEST),
    },
    "hmc": {  # chains of a field
        "image_size": Row("pixels a side", 32, 64, 256),
        "width": Row("units a layer", 8, 32, 256, 256),
        "depth": Row("layers", 3, 3, 3, 3),
        "omega0": Row("of B", 5.0, 5.0, 10.0, 10.0),
        "n_frequencies": Row("rows of B", 8, 128, 363),
        "map_steps": Row("of Adam, for every start", 20, 2000, 15000),
        "n_warmup": Row("iterations", 6, 120, 500),
        "n_samples": Row("draws a chain", 8, 150, 500),
        "n_steps": Row("leapfrog steps a trajectory", 4, 100, 400),
    },
    "real_data": {  # fields on CT slices and a measured tooth
        "image_size": Row("pixels a side, slices", 32, 128, 512),
        "n_test": Row("slices; 4 are public", 1, 2, 4),
        "binning": Row("of the tooth's 360 detectors", 12, 4, 1),
        "width": Row("units a layer", 16, 64, 280),
        "depth": Row("layers", 3, 3, 5),
        "n_frequencies": Row("rows of B", 16, 128, 363),
        "steps": Row("of Adam", 12, 1000, 15000),
        "lr": Row("of Adam; None: by activation", None, None, 3e-4),
        "omega0": Row(
            "candidates; a validation slice decides", (5.0,), (5.0, 10.0, 15.0), (10.0, 30.0)
        ),
        "weights": Row("of total variation, likewise", (1e-3,), _TV_WEIGHTS, _TV_WEIGHTS),
        "share": Row("of the caps on iterations", 0.04, 1.0, 1.0),
    },
    "field_alarms": {  # alarms of fields on failing scans
        "image_size": Row("pixels a side", 32, 64, 128),
        "width": Row("units a layer", 16, 64, 64),
        "n_frequencies": Row("rows of B", 16, 128, 128),
        # without dropout members of an ensemble learn faster
        "steps": Row("of Adam: dropout, ensemble, Bayes", (6, 6, 6), (400, 200, 250), (1000,) * 3),
        "validation": Row("phantoms that set the threshold", (1,), _VALIDATION, _VALIDATION),
        "test": Row("phantoms", (6, 7), _TEST, _TEST),
        "n_iter": Row("of total variation", 20, 500, 1000),
    },
}
"""Every size of every run: stage -> name -> `Row`. One stage is what one experiment reads."""


def stage(name: str, profile: str) -> SimpleNamespace:
    """Return the sizes of one stage at a profile, as attributes.

    Raises:
        ValueError: for a stage or a profile that does not exist, with the list of names.
    """
    if name not in STAGES:
        raise ValueError(f"unknown stage {name!r}; expected one of {', '.join(STAGES)}.")
    return SimpleNamespace(
        **{size: getattr(row, _known(profile)) for size, row in STAGES[name].items()}
    )


def table():
    """Return `STAGES` as a pandas DataFrame: a line a size, its unit and the paper's number."""
    import pandas

    lines = []
    for name, rows in STAGES.items():
        lines += [{"stage": name, "size": size, **row._asdict()} for size, row in rows.items()]
    return pandas.DataFrame(lines)


def generator(seed: int, stream: str, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a `torch.Generator` for one named purpose.

    The same (seed, stream) gives the same numbers; different streams are independent. The
    generator's seed is the first 63 bits of SHA-256(seed, stream), so that adding a stream
    never shifts another.
    """
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _known(name: str) -> str:
    if name not in NAMES:
        raise ValueError(f"unknown profile {name!r}; expected one of {', '.join(NAMES)}.")
    return name


def check_parameters(history: list[str], choices: dict[str, tuple] | None = None) -> None:
    """Refuse an unknown papermill parameter, one of another type, or one outside its choices.

    Call it as `profiles.check_parameters(In, ...)` in the cell after the parameters cell. `In` is
    IPython's list of executed cells; papermill's injected cell is the one that starts with "#
    Parameters" and follows the defaults. Without an injected cell (a reader running cell by cell)
    only the choices are checked.

    Args:
        history: IPython's `In`.
        choices: allowed values by parameter name; `profile` always has `NAMES`.

    Raises:
        ValueError: naming every refused parameter, what was got, and the list of valid ones.
    """
    cells = [cell for cell in history[:-1] if cell.strip()]
    injected = next(
        (i for i, cell in enumerate(cells) if cell.lstrip().startswith("# Parameters")), None
    )
    defaults = assigned(cells[-1] if injected is None else cells[injected - 1])
    given = {} if injected is None else assigned(cells[injected])
    choices = {"profile": NAMES, **(choices or {})}
    valid = ", ".join(f"{name} = {value!r}" for name, value in defaults.items())
    wrong = []
    for name, value in {**defaults, **given}.items():
        if name not in defaults:
            close = difflib.get_close_matches(name, defaults, n=1)
            wrong.append(
                f"there is no parameter {name!r}"
                + (f" (did you mean {close[0]!r}?)" if close else "")
            )
        elif not _same_kind(value, defaults[name]):
            wrong.append(
                f"{name} expects {type(defaults[name]).__name__} like {defaults[name]!r}; "
                f"got {value!r}"
            )
        elif name in choices and value not in choices[name]:
            wrong.append(
                f"{name} expects one of {', '.join(map(repr, choices[name]))}; got {value!r}"
            )
    if wrong:
        raise ValueError("; ".join(wrong) + f". Valid parameters and their defaults: {valid}.")


def assigned(cell: str) -> dict[str, object]:
    """Return names and literal values assigned at the top level of a cell."""
    pairs = {}
    for node in ast.parse(cell).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            pairs[node.targets[0].id] = ast.literal_eval(node.value)
    return pairs


def _same_kind(value: object, default: object) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):  # an integer is a fine value for a real parameter
        return isinstance(value, (int, float))
    if isinstance(default, (list, tuple)):
        return isinstance(value, (list, tuple))
    return isinstance(value, type(default))
