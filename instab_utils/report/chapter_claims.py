"""From results to sentences: claims that fail when they stop being true."""

from .. import profiles


class ClaimError(AssertionError):
    """A claim of a chapter is false in this run."""


def claims(profile: str):
    """Return `claim(text, condition, at_least="standard")`, bound to the running profile.

    A true claim prints itself with a tick. A false one raises `ClaimError`, so that the notebook,
    and with it the book, fails. One asked above the running profile prints "not tested at smoke": a
    tiny run proves that the code runs, never a finding. A claim of a paper that is false in our
    data belongs into `differs`, with the evidence.
    """
    running = profiles.get(profile)

    def claim(text: str, condition: object, at_least: str = "standard") -> None:
        if not running.at_least(at_least):
            print(f"–  {text}: not tested at {running.name}")
        elif bool(condition):
            print(f"✓  {text}")
        else:
            raise ClaimError(
                f"claim is false at {running.name}: {text}. If the data really say so, "
                "report it as a finding with its evidence; do not loosen the claim."
            )

    return claim


def differs(text: str, ours: str, theirs: str, reason: str) -> None:
    """Print a finding that differs from the paper: theirs, ours, and the likely reason."""
    print(f"≠  {text}\n   paper: {theirs}\n   here:  {ours}\n   likely reason: {reason}")
