"""Audit a reconstruction from the command line; a card (JSON and a page) is written.

python -m instab_utils audit --network ell-50
python -m instab_utils audit --network weights.safetensors --architecture my_module:UNet \\
    --operator radon:image_size=128,n_views=50
python -m instab_utils audit --function my_module:reconstruct --operator my_module:operator \\
    --images scans/*.png
python -m instab_utils audit --compare before.json after.json difference.html
"""

import argparse
import json
import os
import sys
import warnings
from argparse import Namespace
from pathlib import Path

from .. import profiles, training
from ..data import DataUnavailable
from ..networks import Case
from ..store import files
from . import operators
from .errors import FunctionFailed, import_object
from .function import PostProcessor
from .image_files import load_images
from .network_files import load_network
from .problem import AuditOptions
from .run_audit import run


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ValueError(message)


ARGUMENTS = {
    "--architecture": dict(metavar="MODULE:CLASS", help="for files of weights"),
    "--options": dict(type=json.loads, help="keyword arguments of the architecture, JSON"),
    "--operator": dict(
        help="radon:image_size=128,n_views=50 | fourier:image_size=128,acceleration=3 | "
        "identity:image_size=128 | module:function"
    ),
    "--front-end": dict(
        choices=["pinv", "adjoint", "none"],
        default="pinv",
        help="what a network from a file gets of y",
    ),
    "--images": dict(nargs="+", help="files; default: ours"),
    "--image-size": dict(
        type=int, help="to which images are resampled; of ours, which network and images"
    ),
    "--noise": dict(
        type=float, default=0.0, help="||e|| / ||y|| of white noise in the measurements"
    ),
    "--profile": dict(choices=profiles.NAMES, default="standard"),
    "--budget": dict(type=float, default=600.0, help="seconds"),
    "--seed": dict(type=int, default=0),
    "--folder": dict(
        type=Path, help="for the card and what a killed run goes on from; default audit-NAME"
    ),
    "--name": dict(help="title of the card"),
    "--black-box": dict(action="store_true", help="use no gradients"),
    "--allow-random": dict(action="store_true", help="f may answer differently each time"),
    "--public": dict(action="store_true", help="the card may show the images without loss"),
    "--compare": dict(
        nargs=3, metavar=("A", "B", "OUT"), help="two cards and the page that compares them"
    ),
}


def parser() -> argparse.ArgumentParser:
    """Return the command's parser; it raises ValueError instead of leaving."""
    style = argparse.RawDescriptionHelpFormatter
    command = _Parser("python -m instab_utils audit", description=__doc__, formatter_class=style)
    subject = command.add_argument_group("what is audited, one of")
    ours = ", ".join(training.CASES)
    subject.add_argument(
        "--network", help=f"file of a network (.pt2, .safetensors, .pt), or one of ours: {ours}"
    )
    subject.add_argument(
        "--function", metavar="MODULE:NAME", help="a callable y -> image or (y, A) -> image"
    )
    for name, options in ARGUMENTS.items():
        command.add_argument(name, **options)
    return command


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return 0, or 2 after one line that says what is wrong."""
    try:
        given = parser().parse_args(arguments)
        return _compare(*given.compare) if given.compare else _audit(given)
    except (ValueError, TypeError, OSError, ImportError, DataUnavailable, FunctionFailed) as error:
        print(f"audit: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _audit(given: Namespace) -> int:
    if bool(given.network) == bool(given.function):
        raise ValueError("expected --network or --function, one of them; --help shows examples.")
    if os.getcwd() not in sys.path:
        # modules of the working folder, under an installed command, too
        sys.path.insert(0, os.getcwd())
    options = dict(
        profile=given.profile,
        seed=given.seed,
        noise=given.noise,
        access="black box" if given.black_box else "auto",
        allow_random=given.allow_random,
        public=given.public,
        say=lambda line: print(line, flush=True),
    )
    if given.network in training.CASES:
        case = _our_case(given)
        f, A, x, y = case.f, case.A, case.x, case.y
        options |= dict(source=case.source, task=case.task, network=case.network)
        options["public"] |= "AAPM" not in case.source
    else:
        f, A, found = _readers(given)
        x = load_images(given.images, given.image_size or A.image_shape) if given.images else None
        y = None
        options |= found
    name = given.name or Path(given.network or given.function.partition(":")[2]).name
    folder = given.folder or Path(f"audit-{''.join(c if c.isalnum() else '-' for c in name)}")
    with warnings.catch_warnings():
        # an ascent that ends early says so in the card's numbers
        warnings.filterwarnings("ignore", "worst_case: image", RuntimeWarning)
        card = run(
            f,
            A,
            x,
            y=y,
            name=name,
            budget_s=given.budget,
            folder=folder,
            options=AuditOptions(**options),
        )
    from ..report.card import save

    print(f"\n{card['summary']}\n\n{folder / 'card.json'}\n{save(card, folder / 'card.html')}")
    return 130 if card["run"]["interrupted"] else 0


def _our_case(given: Namespace) -> Case:
    """Return the case of a network of the book on its own images."""
    if given.images or given.operator:
        raise ValueError(
            f"{given.network} is audited with its own operator and images; leave out --operator "
            "and --images, or name a file of weights."
        )
    return training.case(given.network, given.profile, image_size=given.image_size, tv=False)


def _readers(given: Namespace) -> tuple:
    """Return (f, A, options of the audit) of a function or a file."""
    if not given.operator:
        raise ValueError("expected --operator, e.g. --operator radon:image_size=128,n_views=50.")
    A = operators.normalised(operators.parsed(given.operator, given.seed), given.image_size)
    if given.function:
        return import_object(given.function), A, {"about": {"file": given.function}}
    loaded = load_network(given.network, given.architecture, given.options)
    about = {"file": Path(given.network).name, "sha256": loaded.sha256}
    f = PostProcessor(loaded.network, A, given.front_end)
    return f, A, {"network": loaded.network, "about": about}


def _compare(a: str, b: str, out: str) -> int:
    from ..report import card, card_comparison

    page = card_comparison.comparison_page(card.load(a), card.load(b))
    files.write(Path(out), page.encode())
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
