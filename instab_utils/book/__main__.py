"""The command line: see the package's first lines."""

import argparse
import ast
import sys
from pathlib import Path

from . import (
    ROOT,
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
    parser = argparse.ArgumentParser(
        prog="python -m instab_utils.book",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("sync").add_argument(
        "--check", action="store_true", help="change nothing; fail if stale"
    )
    commands.add_parser("assets")
    commands.add_parser("build")
    commands.add_parser("archive")
    for name in ("execute", "all"):
        command = commands.add_parser(name)
        command.add_argument("--profile", default="standard")
        command.add_argument(
            "--only", default="", help="beginning of notebook names, such as 07 or 01,02"
        )
        command.add_argument(
            "-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE")
        )
    comparison = commands.add_parser("compare", help="every number of two executed books")
    comparison.add_argument("old", type=Path, help="folder of executed notebooks, or a notebook")
    comparison.add_argument("new", type=Path)
    comparison.add_argument("--tolerance", type=float, default=0.0, help="relative; 0: digits")
    comparison.add_argument("--only", default="", help="beginning of chapters, such as 07 or 01,02")
    given = parser.parse_args(arguments)
    if given.command == "compare":
        try:
            comparisons = compare_books(
                given.old, given.new, tolerance=given.tolerance, only=given.only
            )
        except FileNotFoundError as error:
            parser.error(str(error))
        print(comparison_text(comparisons))
        return int(any(chapter.differences for chapter in comparisons))
    try:
        if given.command == "sync":
            for path in sync(check=given.check):
                print(f"wrote {path.relative_to(ROOT)}")
        if given.command == "all":
            sync(check=True)
        if given.command in ("assets", "build", "all"):
            assets()
        if given.command in ("execute", "all"):
            execute(
                given.profile, given.only, {name: _value(text) for name, text in given.parameters}
            )
        if given.command in ("build", "all"):
            print(f"open {build().as_uri()}")
        if given.command == "archive":
            path = archive()
            megabytes = path.stat().st_size / 1e6
            print(f"{path.relative_to(ROOT)}: {megabytes:.1f} MB")
            print("Unzip it and open instab-book/index.html.")
    except BookError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _value(text: str) -> object:
    """A parameter from the command line: a Python literal, true, false, or else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False}.get(text.lower(), text)


if __name__ == "__main__":
    sys.exit(main())
