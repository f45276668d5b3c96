"""Write what the page "In your browser" loads: weights, scans and a recorded attack as scripts.

    python book/playground.py VENDOR NODE_MODULES ANSWERS

Scripts, because a page opened from a folder may not fetch. ANSWERS receives torch's own answers,
which the page is tested against.
"""

import base64
import copy
import hashlib
import json
import sys
from pathlib import Path

import torch
from torch import nn

from instab_utils import attacks, data, metrics, profiles, solvers, store, training
from instab_utils.data import textures
from instab_utils.figures.images import GREY, encode
from instab_utils.networks import Reconstructor
from instab_utils.operators import MaskedFourier, masks

IMAGE_SIZE = 128
# the weight that chapters 07 and 08 chose for Deep MRI on validation images
TV = {"weight": 0.003, "n_iter": 100}
STRENGTHS = (0.005, 0.01, 0.02, 0.05)
NETWORKS = {
    "deep-mri": "Deep MRI (5 blocks that keep the measured data)",
    "zero-filled-unet": "U-Net after zero-filling",
}
CREDIT = " (TCIA Vestibular-Schwannoma-SEG, CC BY 4.0)"
VERSION = 1  # raised when what is written here changes its meaning
WASM = "@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-simd.wasm"


def export(vendor: Path, modules: Path, answers: Path) -> None:
    """Write vendor/playground (wasm.js, weights.js, scans.js, exhibit.js) and `answers`.

    Args:
        vendor: folder of what the pages load.
        modules: node_modules with TensorFlow.js.
        answers: JSON file for the tests.
    """
    recipes = {name: training.recipe(name) for name in ("deep-mri", "zero-filled-unet")}
    trained = {name: store.load_or_train(recipe) for name, recipe in recipes.items()}
    images, source = scans()
    binary = (modules / WASM).read_bytes()
    inputs = hashlib.sha256(b"".join(x.numpy().tobytes() for _, x in images) + binary).hexdigest()
    keys = [network.key for network in trained.values()]
    mark = store.key(version=VERSION, weights=keys, inputs=inputs)
    folder = vendor / "playground"
    mark_file = folder / "mark.txt"
    if answers.exists() and mark_file.exists() and mark_file.read_text() == mark:
        return
    folder.mkdir(parents=True, exist_ok=True)
    networks = {name: loaded.network for name, loaded in trained.items()}
    lines = masks.variable_density_lines(
        IMAGE_SIZE, 3, generator=profiles.generator(0, "deep-mri mask")
    )
    A = MaskedFourier(lines)
    _script(folder, "wasm", base64.b64encode(binary).decode())
    _script(folder, "weights", {name: weights(name, net) for name, net in networks.items()})
    pictures = [{"title": title, "data": _halves(torch.view_as_real(x))} for title, x in images]
    rows = A.mask[:, 0].int().tolist()
    shown = {"source": source, "lines": rows, "tv": TV, "images": pictures}
    _script(folder, "scans", shown)
    _script(folder, "exhibit", exhibit(networks, A, images[0][1][None, None], source))
    answers.parent.mkdir(parents=True, exist_ok=True)
    answers.write_text(json.dumps(reference(networks, A, images)))
    mark_file.write_text(mark)


def scans() -> tuple[list[tuple[str, torch.Tensor]], str]:
    """Return [(title, complex (n, n) image of float16 values)] and the source of the first two."""
    slices, source = data.demo("mr", 4, IMAGE_SIZE, "test")
    phantom = textures.mr_like(IMAGE_SIZE, profiles.generator(0, "playground phantom"), 1)
    is_phantom = source.startswith("phantom")
    kind = "Phantom" if is_phantom else "Head MR, slice"
    titled = {
        f"{kind} 1": slices[0],
        f"{kind} 2": slices[-1],
        "Phantom: ellipses and texture": phantom[0],
    }
    rounded = [
        (title, torch.view_as_complex(torch.view_as_real(x[0]).half().float()))
        for title, x in titled.items()
    ]
    return rounded, source + ("" if is_phantom else CREDIT)


def weights(name: str, net: nn.Module) -> dict:
    """Return filters as (height, width, in, out), each followed by its bias, float16.

    In the order in which the network runs them.
    """
    convolutions = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    filters = [layer.weight.detach().permute(2, 3, 1, 0) for layer in convolutions]
    biases = [layer.bias.detach() for layer in convolutions]
    values = [part.flatten() for pair in zip(filters, biases) for part in pair]
    return {
        "title": NETWORKS[name],
        "kind": "cascade" if hasattr(net, "blocks") else "unet",
        "layers": [list(weight.shape) for weight in filters],
        "n_weights": sum(parameter.numel() for parameter in net.parameters()),
        "data": _halves(torch.cat(values)),
    }


def exhibit(networks: dict, A, x: torch.Tensor, source: str) -> dict:
    """Return the page's attack as made here, for browsers that cannot compute.

    Strips of four pictures through one grey window, lossless.
    """
    frames = []
    for name, net in networks.items():
        f = Reconstructor(net, A)
        stream = profiles.generator(0, f"playground exhibit {name}")
        worst = attacks.worst_case(f, A, x, generator=stream, strengths=STRENGTHS)
        for strength in (0.0, *STRENGTHS):
            r = twin = torch.zeros_like(x)
            if strength:
                r = worst.r[strength]
                twin = attacks.random_twin(r, profiles.generator(0, "playground twin"))
            images = {
                "the scan with the change": x + r,
                "network": f(A(x + r)),
                "network, random change of the same size": f(A(x + twin)),
                "total variation, same worst-case data": total_variation(A, A(x + r)),
            }
            psnr_db = {
                title: round(float(metrics.psnr_db(image, x)), 2) for title, image in images.items()
            }
            strip = torch.cat([image.abs()[0, 0] for image in images.values()], 1).clamp(0, 1)
            png = encode((strip * 255).round().byte().numpy(), GREY)
            frames.append({"network": name, "strength": strength, "psnr_db": psnr_db, "png": png})
    return {"source": source, "torch": torch.__version__, "frames": frames}


def total_variation(A, y: torch.Tensor) -> torch.Tensor:
    return solvers.tv(A, y, TV["weight"], n_iter=TV["n_iter"], tol=0.0).x


def reference(networks: dict, A, images: list) -> dict:
    """Return torch's own answers, image by image: TV, and what `_answers` computes of a network."""
    entries = []
    for k, (_, x) in enumerate(images):
        x = x[None, None]
        r = torch.randn(x.shape, dtype=x.dtype, generator=profiles.generator(k, "playground r"))
        r = 0.05 * x.norm() * (r / r.norm())
        tv = total_variation(A, A(x))
        answers = {name: _answers(net, A, x, r) for name, net in networks.items()}
        if k == 0:
            for name, net in networks.items():
                answers[name]["attack"] = _attack(net, A, x, r)
        entries.append(
            {
                "r": _floats(r),
                "tv": _floats(tv),
                "tv_psnr_db": float(metrics.psnr_db(tv, x)),
                "networks": answers,
            }
        )
    return {"images": entries}


def _answers(net: nn.Module, A, x: torch.Tensor, r: torch.Tensor) -> dict:
    """Return f(y), its standard deviation, and the attack's gradient at r in float64."""
    y = A(x)
    x_rec = Reconstructor(net, A)(y)
    exact = Reconstructor(copy.deepcopy(net).double(), A)
    leaf = r.to(torch.complex128).requires_grad_()
    change = exact(A(x + leaf)) - exact(A(x.to(leaf)))
    (gradient,) = torch.autograd.grad(0.5 * change.abs().square().sum(), leaf)
    answers = {
        "x_rec": _floats(x_rec),
        "psnr_db": float(metrics.psnr_db(x_rec, x)),
        "gradient": _floats(gradient),
    }
    if hasattr(net, "with_log_variance"):
        log_variance = net.with_log_variance(A.pinv(y))[1]
        answers["spread"] = _floats((log_variance / 2).exp())
    return answers


def _attack(net: nn.Module, A, x: torch.Tensor, r: torch.Tensor) -> dict:
    """Return a whole attack from r as the first direction, without a power iteration."""
    worst = attacks.worst_case(
        Reconstructor(net, A),
        A,
        x,
        generator=profiles.generator(0, "unused"),
        strengths=(0.005,),
        ascent=attacks.Ascent(init=r, sigma=1.0),
    )
    return {
        "steps": int(worst.n_iter[0]),
        "amplification": float(worst.amplification[0.005]),
        "psnr_db": float(metrics.psnr_db(worst.x_rec_perturbed[0.005], x)),
    }


def _script(folder: Path, name: str, value) -> None:
    (folder / f"{name}.js").write_text(f"window.Playground.{name} = {json.dumps(value)};\n")


def _halves(values: torch.Tensor) -> str:
    return base64.b64encode(values.contiguous().numpy().astype("<f2").tobytes()).decode()


def _floats(x: torch.Tensor) -> str:
    """Return float32 values in base64, real and imaginary parts one after the other."""
    x = x.detach()[0, 0]
    values = torch.view_as_real(x) if x.is_complex() else x
    return base64.b64encode(values.contiguous().numpy().astype("<f4").tobytes()).decode()


if __name__ == "__main__":
    export(*map(Path, sys.argv[1:]))
