"""A complete stability card with invented numbers: the tests', and a pattern for those who write
cards by other programs.
"""

import base64
import copy
import hashlib
import struct
import zlib

import numpy as np

from instab_utils import metrics

STRENGTHS = (0.0025, 0.005, 0.01, 0.02, 0.05)
N = 6  # images


def card() -> dict:
    """A new copy each time, for tests that spoil it."""
    return copy.deepcopy(_CARD)


def without(*parts: str) -> dict:
    """The card of a run that could not test these parts."""
    found = card()
    for part in parts:
        found[part] = None
        if part in found["verdicts"]:
            found["verdicts"][part] = {
                "word": "not tested",
                "stable_word": None,
                "rule": "",
                "said": "not tested",
            }
        found["not_tested"].append(
            {"what": part.replace("_", " "), "why": f"invented reason for {part}"}
        )
    return found


def over_images(mean: float, spread: float = 0.1) -> dict:
    """Six values about a mean, and Student's interval."""
    values = [mean + spread * v for v in (-1.0, -0.6, -0.2, 0.2, 0.6, 1.0)]
    return {"mean": mean, "ci": metrics.mean_ci(values).ci, "values": values}


def png(levels: np.ndarray) -> str:
    """An 8-bit grey PNG in base64."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width = levels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in levels.astype(np.uint8))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    whole = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return base64.b64encode(whole).decode()


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _disc(n=64):
    row, column = np.mgrid[-1 : 1 : n * 1j, -1 : 1 : n * 1j]
    return 150.0 * (row**2 + column**2 < 0.7) + 60.0 * (
        (row + 0.3) ** 2 + (column - 0.2) ** 2 < 0.06
    )


def _pictures():
    x, stripes = (
        _disc(),
        60 * np.sin(np.arange(64) * 0.9)[None] * np.sin(np.arange(64) * 0.4)[:, None],
    )
    inside = x > 0
    shown = [
        ("image", "True image", "A grey disc with a bright spot.", x),
        ("image", "Changed image", "The same disc; no change can be seen.", x + 0.02 * stripes),
        ("image", "Network, before", "The disc with the spot, slightly soft.", x * 0.98),
        (
            "image",
            "Network, after",
            "The disc is covered by a chequered pattern that was not there.",
            x + stripes * inside,
        ),
        (
            "difference",
            "Network, after − before",
            "A strong chequered pattern fills the disc.",
            128 + stripes * inside,
        ),
        (
            "image",
            "Total variation, after",
            "The disc with the spot, as before the change.",
            x + 0.05 * stripes,
        ),
    ]
    pictures = [
        {
            "group": "worst case",
            "title": title,
            "alt": alt,
            "caption": "strength 2 %, image 1",
            "kind": kind,
            "png": png(np.clip(values, 0, 255)),
        }
        for kind, title, alt, values in shown
    ]
    suit = x.copy()
    suit[20:29, 34:43] += 45
    return pictures + [
        {
            "group": "details",
            "title": title,
            "alt": alt,
            "caption": "contrast 0.3, image 1",
            "kind": "image",
            "png": png(np.clip(values, 0, 255)),
        }
        for title, alt, values in (
            ("True image", "The disc with a small bright square.", suit),
            ("Network", "The square is faint.", 0.6 * x + 0.4 * suit),
            ("Total variation", "The square is clear.", 0.1 * x + 0.9 * suit),
        )
    ]


def _row(s):
    lost, twin, tv, own = 300 * s + 2000 * s * s, 8 * s, 9 * s, 60 * s
    return {
        "strength": s,
        "amplification": over_images(9.0 - 20 * s, 0.8),
        "twin_amplification": over_images(0.62, 0.02),
        "stable_amplification": over_images(0.58, 0.03),
        "front_end_amplification": over_images(0.95, 0.02),
        "stable_twin_amplification": over_images(0.31, 0.02),
        "stable_own_amplification": over_images(1.45, 0.1),
        "psnr_perturbed_db": over_images(33.1 - lost, 0.9),
        "psnr_twin_db": over_images(33.1 - twin, 0.8),
        "psnr_stable_perturbed_db": over_images(30.4 - tv, 0.7),
        "psnr_stable_own_db": over_images(30.4 - own, 0.7),
        "psnr_front_end_perturbed_db": over_images(22.0 - 4 * s, 0.6),
        "lost_db": over_images(lost, 0.2),
        "lost_stable_db": over_images(tv, 0.02),
        "lost_twin_db": over_images(twin, 0.02),
        "lost_stable_own_db": over_images(own, 0.05),
    }


def _detail(name, c):
    shown, seen = min(1.0, 0.2 + 0.9 * c), min(0.99, 0.6 + 0.5 * c)
    rate = {"mean": seen, "ci": [seen - 0.08, min(1.0, seen + 0.06)]}
    return {
        "detail": name,
        "contrast": c,
        "contrast_recovery": over_images(shown, 0.05),
        "stable_contrast_recovery": over_images(0.7 + 0.4 * c, 0.04),
        "front_end_contrast_recovery": over_images(0.93, 0.05),
        "auroc": rate,
        "stable_auroc": {"mean": 0.97, "ci": [0.93, 0.99]},
        "front_end_auroc": {"mean": 0.88, "ci": None},
    }


def _alarm(name, failure, auroc, rings):
    return {
        "alarm": name,
        "failure": failure,
        "auroc": over_images(auroc, 0.03),
        "auroc_clean": over_images(0.55, 0.02),
        "image_auroc": 0.61,
        "rings": {"mean": rings, "ci": None, "values": [rings] * N},
        "rings_clean": {"mean": 0.0, "ci": None, "values": [0.0] * N},
    }


SHARE = [0.4, 0.8, 1.0, 1.6, 2.4, 4.0]  # of the training's samples
_CARD = {
    "schema": "instab-card-1",
    "name": "Example network (invented numbers)",
    "subject": {
        "name": "example-net",
        "access": "gradients",
        "file": "example.py:network",
        "sha256": digest("weights"),
        "n_parameters": 482113,
        "called": "f(y)",
        "output": "real",
        "deterministic": True,
        "device": "cpu",
    },
    "operator": {
        "name": "masked Fourier transform, 25 % of lines",
        "image_shape": [64, 64],
        "y_shape": [64, 16],
        "complex": True,
        "norm": 1.0,
        "adjoint_gap": 1.2e-7,
        "pinv": "zero-filled inverse Fourier transform",
    },
    "data": {
        "source": "synthetic discs",
        "n_images": N,
        "image_size": [64, 64],
        "noise": 0.0,
        "sha256": digest("data"),
        "files": [{"name": f"disc-{i}.npy", "sha256": digest(f"disc {i}")} for i in range(N)],
        "public": True,
    },
    "settings": {
        "profile": "standard",
        "seed": 0,
        "budget_s": 600.0,
        "strengths": list(STRENGTHS),
        "restarts": 3,
        "n_twins": 5,
        "search": "projected gradient ascent, 100 steps",
        "notes": ["The images were scaled to [0, 1]."],
    },
    "stable": {
        "method": "total variation",
        "weight": 0.004,
        "chosen_on": "2 other images",
        "n_iter": 300,
    },
    "clean": {
        "psnr_db": over_images(33.1, 0.8),
        "psnr_stable_db": over_images(30.4, 0.7),
        "psnr_front_end_db": over_images(22.0, 0.6),
    },
    "worst_case": {
        "domain": "image",
        "target": "prediction",
        "search": "projected gradient ascent, 100 steps, 3 restarts",
        "n_images": N,
        "rows": [_row(s) for s in STRENGTHS],
    },
    "structure": {
        "rows": [_detail(name, c) for name in ("heart", "spade") for c in (0.1, 0.3, 0.6)]
    },
    "more_samples": {
        "trained_at": 1.0,
        "share": SHARE,
        "n_samples": [round(1024 * s) for s in SHARE],
        "psnr_db": [24.9, 31.6, 33.1, 32.0, 29.4, 26.7],
        "psnr_stable_db": [24.1, 28.8, 30.4, 33.7, 38.2, 46.0],
        "psnr_front_end_db": [18.5, 21.0, 22.0, 25.1, 29.9, 44.0],
        "change_db": over_images(-4.6, 0.5),
        "stable_change_db": over_images(9.7, 0.4),
        "verdict": "degrades",
        "stable_verdict": "improves",
    },
    "bracket": {
        "domain": "measurement",
        "per": "image 1",
        "why_not": None,
        "rows": [
            {
                "rel_norm": s,
                "e_norm": 12 * s,
                "attack": 100 * s,
                "twin": 7 * s,
                "certificate": 3100 * s**1.02,
                "by": "interval bounds",
            }
            for s in STRENGTHS
        ],
    },
    "alarms": {
        "threshold_from": "the largest mean on 20 clean images",
        "rows": [
            _alarm("MC dropout", "worst case", 0.71, 0.5),
            _alarm("residual of the data", "worst case", 0.52, 0.0),
            _alarm("MC dropout", "details", 0.49, 1 / 6),
        ],
    },
    "verdicts": {
        "worst_case": {
            "word": "unstable",
            "stable_word": "between",
            "said": "At a strength of 2 % it loses 6.8 dB; total variation loses 0.2 dB on the "
            "same data and 1.2 dB in its own worst case; a random change costs 0.2 dB.",
            "rule": "at 2 %: unstable if at least 3 dB are lost and twice what total variation "
            "loses, on the same data and in its own worst case; stable if at most 1 dB is lost, or "
            "no more than total variation loses in its own worst case; else between",
        },
        "structure": {
            "word": "blurs",
            "stable_word": "preserves",
            "said": "It shows 0.47 of the contrast, total variation 0.82, the front end 0.93.",
            "rule": "contrast 0.3: preserves if 80 % of the contrast or more is shown, erases if "
            "30 % or less; else blurs",
        },
        "more_samples": {
            "word": "degrades",
            "stable_word": "improves",
            "said": "With more samples it changes by −4.6 dB, total variation by +9.7 dB.",
            "rule": "beyond 1.5 times the training's samples: improves or degrades if the mean "
            "change is at least 0.5 dB and two standard errors; else stagnates",
        },
        "alarms": {
            "word": "silent",
            "stable_word": None,
            "said": "The best alarm, MC dropout, rings in 50 % of the worst cases and 17 % of the "
            "details.",
            "rule": "rings if an alarm rings in 80 % of the failures and in 10 % of the clean "
            "images at most",
        },
    },
    "summary": "On these six images the network is sharper than total variation while nothing goes "
    "wrong. A change of 2 %, which is hardly visible, is enough to cover its picture in a pattern "
    "that is not there, and no alarm rings reliably; total variation, on the same data, stays as "
    "it was. Small details that no training had appear with half of their contrast, and more "
    "measurements make the picture worse. Other images, other noise and changes that the search "
    "did not find were not looked at.",
    "not_tested": [
        {"what": "moving patients", "why": "the operator has no motion"},
        {"what": "other scanners", "why": "one measurement pattern was given"},
    ],
    "failures": [
        {
            "step": "worst case, image 4",
            "error": "the network returned 12 NaN values.",
            "input": "y-4.npz",
            "sha256": digest("y 4"),
            "cure": "Divide by a norm that cannot be 0.",
        }
    ],
    "steps": [
        {"name": "clean", "status": "done", "seconds": 1.25, "why": None},
        {"name": "worst case", "status": "resumed", "seconds": 301.5, "why": None},
        {
            "name": "alarms",
            "status": "no time",
            "seconds": 0.0,
            "why": "stopped after 2 of 3 alarms",
        },
    ],
    "run": {
        "started": "2026-01-31T10:00:00+00:00",
        "seconds": 398.2,
        "seconds_before": 120.0,
        "n_calls": 41233,
        "n_gradients": 18000,
        "interrupted": False,
    },
    "pictures": _pictures(),
    "versions": {
        "instab_utils": "0.1.0",
        "code": "0123456789abcdef",
        "torch": "2.13.0",
        "numpy": "2.4.6",
        "python": "3.11.7",
        "platform": "Linux",
    },
}
