"""Recompute figures, tables and claims of the three papers.

    python -m instab_utils.papers                                    list all of them
    python -m instab_utils.papers antun2020 fig3 [--profile standard] [--only deep-mri ell-50]
    python -m instab_utils.papers oala2021 all                       every artefact of one paper
    python -m instab_utils.papers all                                every artefact of every paper
    python -m instab_utils.papers plan --profile paper [--device h100] [--json]
    python -m instab_utils.papers run --profile paper --hours 8 [--only dncnn]

`plan` lists every training, fit and artefact with what it costs on a device, the most evidence an
hour first; `run` does as much of it as fits and goes on where it was stopped.


Results are records in INSTAB_RESULTS (build/results by default); what is stored is not recomputed.
"""

import argparse
import inspect
import logging
import sys

from .. import profiles
from . import NAMES, artefacts, plan
from .cost import DEVICES

log = logging.getLogger(__name__)


def listing() -> str:
    """Return one line for each artefact: command, place in the paper, chapter, claim."""
    lines = []
    for paper in NAMES:
        for name, artefact in artefacts(paper).items():
            where = f"{artefact.where}, chapter {artefact.chapter}"
            lines.append(f"{paper} {name:15} {where:30} {artefact.claim}")
    return "\n".join(lines)


def run(paper: str, name: str, profile: str, only: list[str] | None = None) -> list[dict]:
    """Return the records of one artefact, or of all of a paper ("all"), running what is missing.

    Raises:
        ValueError: for an unknown name, or `only` where the artefact has no parts.
    """
    known = artefacts(paper)
    if name != "all" and name not in known:
        raise ValueError(f"{paper} has no {name!r}; expected all or one of {', '.join(known)}.")
    records = []
    for each in known if name == "all" else [name]:
        function = known[each].run
        takes_only = "only" in inspect.signature(function).parameters
        if only and not takes_only and name != "all":
            raise ValueError(f"{paper} {each} runs as a whole; leave out --only.")
        log.info("%s %s: %s", paper, each, known[each].where)
        computed = function(profile, only=only) if only and takes_only else function(profile)
        log.info("%s %s: %d records", paper, each, len(computed))
        records += computed
    return records


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m instab_utils.papers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paper", nargs="?", help=f"all, {', '.join(NAMES)}; or plan, run")
    parser.add_argument("artefact", nargs="?", default="all", help="a name of the list, or all")
    parser.add_argument("--profile", default="standard", choices=profiles.NAMES)
    parser.add_argument("--only", nargs="+", help="networks or methods, of a plan: parts of names")
    parser.add_argument("--device", default="h100", help=f"of a plan: {', '.join(DEVICES)}")
    parser.add_argument("--hours", type=float, default=24.0, help="of run, at most")
    parser.add_argument("--json", action="store_true", help="plan for machines")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if arguments.paper is None:
        print(listing())
        return
    papers = NAMES if arguments.paper == "all" else [arguments.paper]
    chosen = arguments.profile, arguments.device, arguments.only or ()
    try:
        if arguments.paper == "plan":
            log.info("operations are counted once, which takes minutes, and then looked up")
            show = plan.as_json if arguments.json else plan.text
            print(show(plan.rows(*chosen), arguments.device))
            return
        if arguments.paper == "run":
            sys.exit(plan.run(*chosen, arguments.hours))
        for paper in papers:
            run(paper, arguments.artefact, arguments.profile, arguments.only)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
