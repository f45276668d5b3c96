"""How much work a run does, and every size of every run.

`smoke` proves that the code runs, `standard` gives findings. `paper` has the papers' sizes where
one GPU-day takes them; the table says where not and why, and what memory a training takes; `python
-m instab_utils.papers plan` counts the hours.
"""

import ast
import difflib
import hashlib
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import torch

from .precision import tf32

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


def get(name: str) -> Profile:
    """Return the profile called `name`; raise ValueError with the list of names otherwise."""
    return Profile(name, **vars(stage("budget", name)))


class Row(NamedTuple):
    """One size of one stage at each profile, its unit, and the paper's own number if it has one.

    Where `paper` and `published` differ, the unit says why.
    """

    unit: str
    smoke: object
    standard: object
    paper: object
    published: object = None


def _value(entry: object) -> object:
    """Return an entry of sizes.toml: its lists are tuples here, "none" is None."""
    if isinstance(entry, list):
        return tuple(map(_value, entry))
    return None if entry == "none" else entry


_SIZES = tomllib.loads(Path(__file__).with_name("sizes.toml").read_text("utf-8"))
STAGES: dict[str, dict[str, Row]] = {
    stage: {size: Row(*map(_value, entries)) for size, entries in sizes.items()}
    for stage, sizes in _SIZES.items()
}
"""Every size of every run: stage -> name -> `Row`. One stage is what one experiment reads.

The table is the file `sizes.toml`.
"""
STAGES["train ell-50"] = {**STAGES["train med-50"], **STAGES["train ell-50"]}


def stage(name: str, profile: str) -> SimpleNamespace:
    """Return the sizes of one stage at a profile, as attributes.

    "published" gives the papers' own numbers, those of `paper` where they print none.

    Raises:
        ValueError: for a stage or a profile that does not exist, with the list of names.
    """
    if name not in STAGES:
        raise ValueError(f"unknown stage {name!r}; expected one of {', '.join(STAGES)}.")
    column = profile if profile == "published" else _known(profile)
    values = {size: getattr(row, column) for size, row in STAGES[name].items()}
    if column == "published":
        values = {size: STAGES[name][size].paper if v is None else v for size, v in values.items()}
    return SimpleNamespace(**values)


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


def default_device(device: str | torch.device | None = None) -> torch.device:
    """Return the device of a computation: what is asked for, or the default of the package.

    The default is the environment variable INSTAB_DEVICE ("cpu", "cuda", "cuda:1"); without one
    CUDA where there is one, else the CPU.

    Raises:
        ValueError: for a name that is no device.
    """
    wanted = device if device is not None else os.environ.get("INSTAB_DEVICE")
    wanted = wanted or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(wanted)
    except RuntimeError as reason:
        raise ValueError(
            f'a device is "cpu", "cuda" or "cuda:<number>"; got {wanted!r}. Change the argument '
            "device or the environment variable INSTAB_DEVICE."
        ) from reason


def device_name(device: str | torch.device | None = None) -> str:
    """Return the name of a GPU, or "cpu"; None: of the default device."""
    device = default_device(device)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


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
