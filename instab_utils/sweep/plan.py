"""Which configurations are run, and how many of them go on with a larger budget."""

import difflib
import itertools
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


class SweepError(RuntimeError):
    """A plan that cannot be run (then nothing has run), or, if asked for, jobs that failed; then
    `.table` has them all.
    """

    table = None


@dataclass(frozen=True)
class Plan:
    """Configurations and, for successive halving, the budgets of the rungs. Made by `halving`, or
    of configurations alone.

    Rung r gives the configurations that are left the budget rungs[r]; of n jobs the best max(1, n
    // eta) go on.
    """

    configs: tuple[Mapping, ...]
    rungs: tuple[float, ...] = ()
    eta: int = 3
    budget: str = "steps"
    metric: str = "psnr_db"
    maximise: bool = True
    # at the largest budget; only for the estimate of `preview`
    seconds_per_job: float | None = None

    def problems(self) -> list[str]:
        """What is wrong with the plan whatever it is a plan of."""
        found = [] if self.configs else ["the plan has no configurations; expected at least one."]
        for i, config in enumerate(self.configs):
            if not isinstance(config, Mapping) or not all(isinstance(name, str) for name in config):
                found.append(
                    f"configuration {i}: expected a dictionary from names to values; got {config!r}."
                )
            elif self.rungs and self.budget in config:
                found.append(
                    f"configuration {i}: {self.budget!r} is the budget and set by the rungs; leave it out."
                )
        if not all(_is_number(r) and r > 0 for r in self.rungs) or any(
            b <= a for a, b in itertools.pairwise(r for r in self.rungs if _is_number(r))
        ):
            found.append(f"rungs: expected increasing positive budgets; got {list(self.rungs)}.")
        if self.rungs and not (isinstance(self.eta, int) and self.eta >= 2):
            found.append(f"eta: expected a whole number of 2 or more; got {self.eta!r}.")
        if len(self.rungs) > 1 and not (isinstance(self.metric, str) and self.metric):
            found.append(
                f"metric: expected the name of the metric that decides who goes on; got {self.metric!r}."
            )
        return found

    def sizes(self) -> list[int]:
        """Jobs in each rung, where none fails."""
        sizes = [len(self.configs)]
        for _ in self.rungs[1:]:
            sizes.append(max(1, sizes[-1] // self.eta))
        return sizes

    def at(self, rung: int, positions: Iterable[int]) -> list[dict]:
        """The configurations at these positions with the budget of this rung."""
        budget = {self.budget: self.rungs[rung]} if self.rungs else {}
        return [{**self.configs[i], **budget} for i in positions]

    def survivors(self, results: Sequence[tuple[int, Mapping | None]]) -> list[int]:
        """Positions that go on, in the plan's order, from (position, metrics or None for a failed
        job).

        The best by the metric; at a tie the one that stands first in the plan. A job without a
        value (not finite) comes after all that have one; a failed job never goes on.
        """
        sign = -1 if self.maximise else 1
        done = [
            (position, metrics[self.metric]) for position, metrics in results if metrics is not None
        ]
        ranked = sorted(done, key=lambda job: (job[1] is None, sign * (job[1] or 0), job[0]))
        return sorted(position for position, _ in ranked[: max(1, len(results) // self.eta)])


def grid(**axes: object) -> list[dict]:
    """Every combination of the axes' values, the last axis fastest; what is not a list or tuple is
    the same for all.
    """
    values = {
        name: list(v) if isinstance(v, (list, tuple, range)) else [v] for name, v in axes.items()
    }
    empty = [name for name, v in values.items() if not v]
    if empty:
        raise SweepError(f"axis {', '.join(empty)}: expected at least one value; got none.")
    return [dict(zip(values, combination)) for combination in itertools.product(*values.values())]


def halving(
    configs: Iterable[Mapping],
    rungs: Sequence[float],
    eta: int = 3,
    budget: str = "steps",
    metric: str = "psnr_db",
    maximise: bool = True,
    seconds_per_job: float | None = None,
) -> Plan:
    """Successive halving: all configurations with a small budget, the best n // eta with the next,
    and so on.

    Each rung starts anew: budgets are not continued, so a rung costs what its budget says.

    Args:
        configs: parameters without the budget.
        rungs: increasing budgets.
        eta: the share 1 / eta of a rung's jobs goes on, at least one.
        budget: the name of the parameter that the rungs set.
        metric, maximise: what decides.
        seconds_per_job: of a job at the largest budget, if known.
    """
    return Plan(tuple(configs), tuple(rungs), eta, budget, metric, maximise, seconds_per_job)


_OF_PLAN = ("rungs", "eta", "budget", "metric", "maximise", "seconds_per_job")
_OF_RUN = ("collect", "batch_by", "batch_size", "resources")


def load(path: str | Path) -> tuple[str, Plan, dict]:
    """What is run, the plan, and further arguments of `run`, from a file in JSON or TOML.

    Fields: `function` or `notebook`; `configs` (a list) or `axes` (as for `grid`); optionally
    rungs, eta, budget, metric, maximise, seconds_per_job, collect, batch_by, batch_size, resources.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8")
        content = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError) as reason:
        raise SweepError(
            f"{path}: expected a plan in JSON, or in TOML if it is called so; got {reason}."
        ) from reason
    fields = ("function", "notebook", "axes", "configs", *_OF_PLAN, *_OF_RUN)
    if not isinstance(content, dict):
        raise SweepError(
            f"{path}: expected the fields {', '.join(fields)}; got {type(content).__name__}."
        )
    found = [
        f"there is no field {name!r}{did_you_mean(name, fields)}"
        for name in content
        if name not in fields
    ]
    for pair in (("function", "notebook"), ("axes", "configs")):
        if sum(name in content for name in pair) != 1:
            found.append(
                f"expected one of {' and '.join(pair)}; got {'both' if pair[0] in content else 'neither'}"
            )
    kinds = {
        "axes": dict,
        "configs": list,
        "rungs": list,
        "batch_by": list,
        "resources": dict,
        "function": str,
        "notebook": str,
        "metric": str,
        "budget": str,
        "collect": str,
        "maximise": bool,
    }
    found += [
        f"{name} expects {kind.__name__}; got {content[name]!r}"
        for name, kind in kinds.items()
        if name in content and not isinstance(content[name], kind)
    ]
    if found:
        raise SweepError(f"{path}: {'; '.join(found)}. A plan has the fields {', '.join(fields)}.")
    configs = content["configs"] if "configs" in content else grid(**content["axes"])
    plan = Plan(
        tuple(configs),
        **{
            name: tuple(content[name]) if name == "rungs" else content[name]
            for name in _OF_PLAN
            if name in content
        },
    )
    return (
        content.get("function") or content["notebook"],
        plan,
        {name: content[name] for name in _OF_RUN if name in content},
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
