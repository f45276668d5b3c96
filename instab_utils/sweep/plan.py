"""Which configurations are run, and how many of them go on with a larger budget."""

import itertools
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .values import refused


class SweepError(RuntimeError):
    """A plan that cannot be run, or jobs that failed; then `.table` has them all."""

    table = None


@dataclass(frozen=True)
class Plan:
    """Configurations and, for successive halving, the budgets of the rungs (see `halving`).

    Rung r gives the configurations that are left the budget rungs[r]; of n jobs the best max(1, n
    // eta) go on.
    """

    configs: tuple[Mapping, ...]
    rungs: tuple[float, ...] = ()
    eta: int = 3
    budget: str = "steps"
    metric: str = "psnr_db"
    maximise: bool = True
    seconds_per_job: float | None = None  # at the largest budget; only for `preview`'s estimate

    def problems(self) -> list[str]:
        """Return what is wrong with the plan whatever it is a plan of."""
        found = [] if self.configs else ["the plan has no configurations; expected at least one."]
        for i, config in enumerate(self.configs):
            if not isinstance(config, Mapping):
                found.append(
                    f"configuration {i}: expected a dictionary from names to values; "
                    f"got {config!r}."
                )
            elif self.rungs and self.budget in config:
                found.append(
                    f"configuration {i}: {self.budget!r} is the budget and set by the rungs; "
                    "leave it out."
                )
        if not self.rungs:
            return found
        numbers = all(isinstance(r, (int, float)) for r in self.rungs)
        if not numbers or any(a >= b for a, b in itertools.pairwise((0, *self.rungs))):
            found.append(f"rungs: expected increasing positive budgets; got {list(self.rungs)}.")
        if not (isinstance(self.eta, int) and self.eta >= 2):
            found.append(f"eta: expected a whole number of 2 or more; got {self.eta!r}.")
        return found

    def sizes(self) -> list[int]:
        """Return the number of jobs in each rung, where none fails."""
        sizes = [len(self.configs)]
        for _ in self.rungs[1:]:
            sizes.append(max(1, sizes[-1] // self.eta))
        return sizes

    def at(self, rung: int, positions: Iterable[int]) -> list[dict]:
        """Return the configurations at these positions with the budget of this rung."""
        budget = {self.budget: self.rungs[rung]} if self.rungs else {}
        return [{**self.configs[i], **budget} for i in positions]

    def survivors(self, results: Sequence[tuple[int, Mapping | None]]) -> list[int]:
        """Return the positions that go on, in the plan's order.

        The best by the metric; at a tie the one that stands first in the plan. A job without a
        value (not finite) comes after all that have one; a failed job never goes on.

        Args:
            results: (position, metrics, or None for a failed job).
        """
        sign = -1 if self.maximise else 1
        ranked = []
        for position, metrics in results:
            if metrics is not None:
                value = metrics[self.metric]
                ranked.append((value is None, sign * (value or 0), position))
        n = max(1, len(results) // self.eta)
        return sorted(position for *_, position in sorted(ranked)[:n])


def grid(**axes: object) -> list[dict]:
    """Return every combination of the axes' values, the last axis fastest.

    What is not a list or tuple is the same for all.
    """
    values = {}
    for name, axis in axes.items():
        values[name] = list(axis) if isinstance(axis, (list, tuple, range)) else [axis]
    empty = [name for name, axis in values.items() if not axis]
    if empty:
        raise SweepError(f"axis {', '.join(empty)}: expected at least one value; got none.")
    return [dict(zip(values, combination)) for combination in itertools.product(*values.values())]


def halving(configs: Iterable[Mapping], rungs: Sequence[float], **options: object) -> Plan:
    """Return the plan of a successive halving.

    All configurations run with a small budget, the best n // eta of them with the next, and so on.
    Each rung starts anew: budgets are not continued, so a rung costs what its budget says.

    Args:
        configs: parameters without the budget.
        rungs: increasing budgets.
        options: of `Plan`: eta, budget (the parameter that the rungs set), metric, maximise,
            seconds_per_job.
    """
    return Plan(tuple(configs), tuple(rungs), **options)


def load(path: str | Path) -> tuple[str, Plan, dict]:
    """Return what is run, the plan, and options of `run_plan`, from a file in JSON or TOML.

    Fields: `function` or `notebook`; `configs` (a list) or `axes` (as for `grid`); optionally
    rungs, eta, budget, metric, maximise, seconds_per_job, collect, batch_by, version, resources.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8")
        content = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError) as reason:
        raise SweepError(
            f"{path}: expected a plan in JSON, or in TOML if it is called so; got {reason}."
        ) from reason
    if not isinstance(content, dict):
        raise SweepError(f"{path}: expected a dictionary; got {type(content).__name__}.")
    found = refused(plan, content)
    for pair in (("function", "notebook"), ("axes", "configs")):
        if sum(name in content for name in pair) != 1:
            got = "both" if pair[0] in content else "neither"
            found.append(f"expected one of {' and '.join(pair)}; got {got}")
    if found:
        raise SweepError(f"{path}: {'; '.join(found)}.")
    return plan(**content)


def plan(  # noqa: PLR0913 the fields of a file
    function: str = "",
    notebook: str = "",
    axes: dict | None = None,
    configs: list | None = None,
    rungs: list = (),
    collect: str = "",
    batch_by: list = (),
    version: int = 1,
    resources: dict | None = None,
    eta: int = Plan.eta,
    budget: str = Plan.budget,
    metric: str = Plan.metric,
    maximise: bool = Plan.maximise,
    seconds_per_job: float | None = None,
) -> tuple[str, Plan, dict]:
    """Return what `load` does; it checks the fields of a file against this signature."""
    configs = grid(**axes) if configs is None else configs
    made = Plan(tuple(configs), tuple(rungs), eta, budget, metric, maximise, seconds_per_job)
    options = {"collect": collect, "batch_by": batch_by, "version": version}
    return function or notebook, made, {**options, "resources": resources or {}}
