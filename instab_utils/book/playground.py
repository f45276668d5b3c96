"""What the page "In your browser" loads: weights, scans and a recorded attack as scripts, because a
page opened from a folder may not fetch; and, outside the book, the answers of torch that the page
is tested against."""

import base64
import copy
import hashlib
import json
import sys
from pathlib import Path

import torch
from torch import nn

from .. import attacks, data, metrics, profiles, solvers, store, training
from ..data import textures
from ..figures.images import GREY, _encode
from ..networks import Reconstructor
from ..operators import MaskedFourier, masks
from ..training.zero_filled import zero_filled

IMAGE_SIZE = 128
# the weight that chapters 07 and 08 chose for Deep MRI on validation images
TV = {"weight": 0.003, "n_iter": 100}
STRENGTHS = (0.005, 0.01, 0.02, 0.05)
NETWORKS = {
    "deep-mri": "Deep MRI (5 blocks that keep the measured data)",
    "zero-filled-unet": "U-Net after zero-filling",
}
WASM = "@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-simd.wasm"


def export(vendor: Path, modules: Path, answers: Path) -> bool:
    """Write vendor/playground (wasm.js, weights.js, scans.js, exhibit.js) and `answers`; False
    where all is up to date.

    Args:
        vendor: folder of what the pages load.
        modules: node_modules with TensorFlow.js.
        answers: JSON file for the tests.
    """
    found = {
        name: store.load_or_train(spec)
        for name, spec in {
            "deep-mri": training.recipe("deep-mri"),
            "zero-filled-unet": zero_filled(),
        }.items()
    }
    chosen, source = scans()
    binary = (modules / WASM).read_bytes()
    digest = hashlib.sha256(b"".join(x.numpy().tobytes() for _, x in chosen) + binary).hexdigest()
    texts = [
        Path(module.__file__).read_text("utf-8")
        for module in (
            sys.modules[__name__],
            sys.modules[attacks.worst_case.__module__],
            sys.modules[solvers.tv.__module__],
        )
    ]
    mark = store.key(code=texts, weights=[trained.key for trained in found.values()], inputs=digest)
    folder = vendor / "playground"
    if (
        answers.exists()
        and (folder / "mark.txt").exists()
        and (folder / "mark.txt").read_text() == mark
    ):
        return False
    folder.mkdir(parents=True, exist_ok=True)
    networks = {name: trained.network for name, trained in found.items()}
    A = MaskedFourier(
        masks.variable_density_lines(
            IMAGE_SIZE, 3, generator=profiles.generator(0, "deep-mri mask")
        )
    )
    _script(folder, "wasm", base64.b64encode(binary).decode())
    _script(
        folder,
        "weights",
        {
            name: weights(net)
            | {"title": NETWORKS[name], "n_weights": sum(w.numel() for w in net.parameters())}
            for name, net in networks.items()
        },
    )
    _script(
        folder,
        "scans",
        {
            "source": source,
            "lines": A.mask[:, 0].int().tolist(),
            "tv": TV,
            "images": [
                {"title": title, "data": _halves(torch.view_as_real(x))} for title, x in chosen
            ],
        },
    )
    _script(folder, "exhibit", exhibit(networks, A, chosen[0][1][None, None], source))
    answers.parent.mkdir(parents=True, exist_ok=True)
    answers.write_text(json.dumps(reference(networks, A, chosen)))
    (folder / "mark.txt").write_text(mark)
    return True


def scans() -> tuple[list[tuple[str, torch.Tensor]], str]:
    """[(title, complex (n, n) image, float16 values)] and the source: two open MR slices and a
    phantom.
    """
    found, source = data.demo("mr", 4, IMAGE_SIZE, "test")
    made = textures.mr_like(IMAGE_SIZE, profiles.generator(0, "playground phantom"), 1)
    kind = "Phantom" if source.startswith("phantom") else "Head MR, slice"
    titled = [
        (f"{kind} 1", found[0]),
        (f"{kind} 2", found[-1]),
        ("Phantom: ellipses and texture", made[0]),
    ]
    credit = "" if kind == "Phantom" else " (TCIA Vestibular-Schwannoma-SEG, CC BY 4.0)"
    return [
        (title, torch.view_as_complex(torch.view_as_real(x[0]).half().float()))
        for title, x in titled
    ], source + credit


def weights(net: nn.Module) -> dict:
    """Filters as (height, width, in, out), each followed by its bias, float16, in the order in
    which the network runs them.
    """
    convs = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    filters = [conv.weight.detach().permute(2, 3, 1, 0) for conv in convs]
    values = [
        part.flatten()
        for conv, filter in zip(convs, filters)
        for part in (filter, conv.bias.detach())
    ]
    return {
        "kind": "cascade" if hasattr(net, "blocks") else "unet",
        "layers": [list(filter.shape) for filter in filters],
        "data": _halves(torch.cat(values)),
    }


def exhibit(networks: dict, A, x: torch.Tensor, source: str) -> dict:
    """The attack as the page makes it, made here: for browsers that cannot. Strips of four
    pictures, one grey window, lossless.
    """

    def stable(y):
        return solvers.tv(A, y, TV["weight"], n_iter=TV["n_iter"], tol=0.0).x

    frames = []
    for name, net in networks.items():
        f = Reconstructor(net, A)
        worst = attacks.worst_case(
            f,
            A,
            x,
            generator=profiles.generator(0, f"playground exhibit {name}"),
            strengths=STRENGTHS,
        )
        for strength in (0.0, *STRENGTHS):
            r = worst.r[strength] if strength else torch.zeros_like(x)
            twin = (
                attacks.random_twin(r, profiles.generator(0, "playground twin")) if strength else r
            )
            images = {
                "the scan with the change": x + r,
                "network": f(A(x + r)),
                "network, random change of the same size": f(A(x + twin)),
                "total variation, same worst-case data": stable(A(x + r)),
            }
            scores = {
                what: round(float(metrics.psnr_db(image, x)), 2) for what, image in images.items()
            }
            strip = torch.cat([image.abs()[0, 0] for image in images.values()], 1).clamp(0, 1)
            frames.append(
                {
                    "network": name,
                    "strength": strength,
                    "psnr_db": scores,
                    "png": _encode((strip * 255).round().byte().numpy(), GREY),
                }
            )
    return {"source": source, "torch": torch.__version__, "frames": frames}


def reference(networks: dict, A, chosen: list) -> dict:
    """Torch's own answers: f(y), its log variance, the attack's gradient at a change r (float64),
    TV, and a whole attack.
    """
    out = {"images": []}
    for k, (_, x) in enumerate(chosen):
        x = x[None, None]
        y = A(x)
        r = (
            0.05
            * x.norm()
            * _unit(
                torch.randn(x.shape, dtype=x.dtype, generator=profiles.generator(k, "playground r"))
            )
        )
        tv = solvers.tv(A, y, TV["weight"], n_iter=TV["n_iter"], tol=0.0).x
        entry = {
            "r": _floats(r),
            "tv": _floats(tv),
            "tv_psnr_db": float(metrics.psnr_db(tv, x)),
            "networks": {},
        }
        for name, net in networks.items():
            f, exact = Reconstructor(net, A), Reconstructor(copy.deepcopy(net).double(), A)
            leaf = r.to(torch.complex128).requires_grad_()
            (gradient,) = torch.autograd.grad(
                0.5 * (exact(A(x + leaf)) - exact(A(x.to(leaf)))).abs().square().sum(), leaf
            )
            entry["networks"][name] = {
                "x_rec": _floats(f(y)),
                "psnr_db": float(metrics.psnr_db(f(y), x)),
                "gradient": _floats(gradient),
            }
            if hasattr(net, "with_log_variance"):
                entry["networks"][name]["spread"] = _floats(
                    (net.with_log_variance(A.pinv(y))[1] / 2).exp()
                )
            if k == 0:  # from r as the first direction, no power iteration
                worst = attacks.worst_case(
                    f,
                    A,
                    x,
                    generator=profiles.generator(0, "unused"),
                    strengths=(0.005,),
                    ascent=attacks.Ascent(init=r, sigma=1.0),
                )
                entry["networks"][name]["attack"] = {
                    "steps": int(worst.n_iter[0]),
                    "amplification": float(worst.amplification[0.005]),
                    "psnr_db": float(metrics.psnr_db(worst.x_rec_perturbed[0.005], x)),
                }
        out["images"].append(entry)
    return out


def _unit(x):
    return x / x.norm()


def _script(folder: Path, name: str, value) -> None:
    (folder / f"{name}.js").write_text(f"window.Playground.{name} = {json.dumps(value)};\n")


def _halves(values: torch.Tensor) -> str:
    return base64.b64encode(values.contiguous().numpy().astype("<f2").tobytes()).decode()


def _floats(x: torch.Tensor) -> str:
    """float32, real and imaginary parts one after the other."""
    x = x.detach()[0, 0]
    return base64.b64encode(
        (torch.view_as_real(x) if x.is_complex() else x)
        .contiguous()
        .numpy()
        .astype("<f4")
        .tobytes()
    ).decode()
