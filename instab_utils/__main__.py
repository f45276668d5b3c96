"""`python -m instab_utils audit ...`: the stability test for the reader's own network."""

import sys


def main(arguments: list[str] | None = None) -> int:
    """Hand over to the command that is named first; the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] != ["audit"]:
        print("usage: python -m instab_utils audit [options]; --help shows them", file=sys.stderr)
        return 2
    from .audit.__main__ import main as audit

    return audit(arguments[1:])


if __name__ == "__main__":
    sys.exit(main())
