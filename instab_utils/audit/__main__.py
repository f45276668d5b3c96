"""Audit a reconstruction from the command line; a card (JSON and a page) is written.

python -m instab_utils audit --network ell-50 python -m instab_utils audit --network
weights.safetensors --architecture my_module:UNet --operator radon:image_size=128,n_views=50
python -m instab_utils audit --function my_module:reconstruct --operator my_module:operator
--images scans/*.png python -m instab_utils audit --compare before.json after.json
difference.html
"""

import argparse
import json
import os
import sys
import warnings
from pathlib import Path

from .. import profiles, training
from ..data import DataUnavailable
from . import files, operators
from .auditing import run
from .function import FunctionFailed, PostProcessor


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ValueError(message)


def parser() -> argparse.ArgumentParser:
    made = _Parser(
        "python -m instab_utils audit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = made.add_argument_group("what is audited, one of")
    what.add_argument(
        "--network",
        help=f"file of a network (.pt2, .safetensors, .pt), or one of ours: {', '.join(training.CASES)}",
    )
    what.add_argument(
        "--function", metavar="MODULE:NAME", help="a callable y -> image or (y, A) -> image"
    )
    made.add_argument("--architecture", metavar="MODULE:CLASS", help="for files of weights")
    made.add_argument(
        "--options", type=json.loads, default={}, help="keyword arguments of the architecture, JSON"
    )
    made.add_argument(
        "--operator",
        help="radon:image_size=128,n_views=50 | fourier:image_size=128,acceleration=3 | "
        "identity:image_size=128 | module:function",
    )
    made.add_argument(
        "--front-end",
        choices=["pinv", "adjoint", "none"],
        default="pinv",
        help="what a network from a file gets of y",
    )
    made.add_argument("--images", nargs="+", help="files; default: ours")
    made.add_argument(
        "--image-size",
        type=int,
        help="to which images are resampled; of ours, which network and images",
    )
    made.add_argument(
        "--noise", type=float, default=0.0, help="||e|| / ||y|| of white noise in the measurements"
    )
    made.add_argument("--profile", choices=profiles.NAMES, default="standard")
    made.add_argument("--budget", type=float, default=600.0, help="seconds")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument(
        "--folder",
        type=Path,
        help="for the card and what a killed run goes on from; default audit-NAME",
    )
    made.add_argument("--name", help="title of the card")
    made.add_argument("--black-box", action="store_true", help="use no gradients")
    made.add_argument(
        "--allow-random", action="store_true", help="f may answer differently each time"
    )
    made.add_argument(
        "--public", action="store_true", help="the card may show the images without loss"
    )
    made.add_argument(
        "--compare",
        nargs=3,
        metavar=("A", "B", "OUT"),
        help="two cards and the page that compares them",
    )
    return made


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0, or 2 after one line that says what is wrong."""
    try:
        given = parser().parse_args(arguments)
        return _compare(*given.compare) if given.compare else _audit(given)
    except (ValueError, TypeError, OSError, ImportError, DataUnavailable, FunctionFailed) as error:
        print(f"audit: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _audit(given) -> int:
    if bool(given.network) == bool(given.function):
        raise ValueError("expected --network or --function, one of them; --help shows examples.")
    if os.getcwd() not in sys.path:
        # modules of the folder one stands in, under an installed command, too
        sys.path.insert(0, os.getcwd())
    what, about = {}, {}
    if given.network in training.CASES:
        f, A, x, what = _ours(given)
    else:
        if not given.operator:
            raise ValueError(
                "expected --operator, e.g. --operator radon:image_size=128,n_views=50."
            )
        A = operators.normalised(operators.parsed(given.operator, given.seed), given.image_size)
        f, x = None, None
        if given.function:
            f = operators.imported(given.function)
            about["file"] = given.function
        else:
            loaded = files.load_network(given.network, given.architecture, given.options)
            f = PostProcessor(loaded.network, A, given.front_end)
            what["network"] = loaded.network
            about |= {"file": Path(given.network).name, "sha256": loaded.sha256}
        if given.images:
            found = files.load_images(given.images, given.image_size or tuple(A.image_shape))
            x, what["source"] = found.x, found.source
            about["files"] = [
                {"name": n, "sha256": s} for n, s in zip(found.names, found.sha256s, strict=True)
            ]
    name = given.name or Path(given.network or given.function.partition(":")[2]).name
    folder = given.folder or Path(f"audit-{''.join(c if c.isalnum() else '-' for c in name)}")
    with warnings.catch_warnings():
        # an ascent that ends early says so in the card's numbers
        warnings.simplefilter("ignore", RuntimeWarning)
        card = run(
            f,
            A,
            x,
            name=name,
            access="black box" if given.black_box else "auto",
            profile=given.profile,
            seed=given.seed,
            budget_s=given.budget,
            folder=folder,
            public=given.public or what.pop("public", False),
            noise=given.noise,
            allow_random=given.allow_random,
            about=about,
            say=lambda line: print(line, flush=True),
            **what,
        )
    from ..report import card as cards

    print("\n" + card["summary"] + "\n")
    for place in (folder / "card.json", cards.save(card, folder / "card.html")):
        print(place)
    return 130 if card["run"]["interrupted"] else 0


def _ours(given):
    """A network of the book on its own images: (f, A, x, more arguments of run)."""
    if given.images or given.operator:
        raise ValueError(
            f"{given.network} is audited with its own operator and images; leave out --operator and --images, "
            "or name a file of weights."
        )
    case = training.case(given.network, given.profile, image_size=given.image_size, tv=False)
    public = "AAPM" not in case.source
    return (
        case.f,
        case.A,
        case.x,
        {
            "y": case.y,
            "source": case.source,
            "task": case.task,
            "public": public,
            "network": case.network,
        },
    )


def _compare(a, b, out) -> int:
    from ..report import card, card_comparison
    from ..store import files as stored

    stored.write(Path(out), card_comparison.comparison_page(card.load(a), card.load(b)).encode())
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
