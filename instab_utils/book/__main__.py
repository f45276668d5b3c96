"""The command line: see the package's first lines."""

import argparse
import ast
import sys
from pathlib import Path

from . import (
    BookError,
    __doc__,
    archive,
    assets,
    build,
    compare_books,
    comparison_text,
    execute,
    sync,
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its status: 0 done, 1 failed or something moved, 2 wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    command = options.command
    try:
        if command == "compare":
            chapters = compare_books(options.old, options.new, only=options.only)
            print(comparison_text(chapters))
            return int(any(chapter.differences for chapter in chapters))
        if command in ("sync", "all"):
            for path in sync(check=command == "all" or options.check):
                print(f"wrote {path.name}")
        if command in ("assets", "build", "all"):
            assets()
        if command in ("execute", "all"):
            parameters = {name: _value(text) for name, text in options.parameters}
            execute(options.profile, options.only, parameters)
        if command in ("build", "all"):
            print(f"open {build().as_uri()}")
        if command == "archive":
            path = archive()
            print(f"{path}: {path.stat().st_size / 1e6:.1f} MB; unzip it, open index.html")
    except FileNotFoundError as error:
        parser.error(str(error))
    except BookError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m instab_utils.book",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    check = "change nothing; fail if a notebook is not generated from its present script"
    commands.add_parser("sync").add_argument("--check", action="store_true", help=check)
    commands.add_parser("assets")
    commands.add_parser("build")
    commands.add_parser("archive")
    compare = commands.add_parser("compare")
    compare.add_argument("old", type=Path, help="folder of executed notebooks, or a notebook")
    compare.add_argument("new", type=Path)
    execution = [commands.add_parser("execute"), commands.add_parser("all")]
    for command in execution:
        command.add_argument("--profile", default="standard")
        command.add_argument(
            "-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE")
        )
    for command in (compare, *execution):
        command.add_argument("--only", default="", help="beginning of names: 07, or 01,02")
    return parser


def _value(text: str) -> object:
    """Return a parameter's value: a Python literal, true, false, or else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False}.get(text.lower(), text)


if __name__ == "__main__":
    sys.exit(main())
