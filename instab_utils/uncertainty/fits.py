"""What is fitted around a trained network: interval widths, or a variance output. Looked up in the
store like a training.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from .. import metrics, profiles, store, training
from ..networks import pretrained
from . import interval, probout

POST_PROCESSORS = ("dncnn", "unet-limited", "med-50")
SIZES = {
    "interval": {
        "smoke": dict(steps=20, batch_size=4, n_layers=3),
        "standard": dict(steps=400, batch_size=8),
        "paper": dict(steps=9400, batch_size=96, rate=0.03),
    },
    "probout": {
        "smoke": dict(steps=20, batch_size=4),
        "standard": dict(steps=600, batch_size=8),
        "paper": dict(steps=32_350, batch_size=128),
    },
}


@dataclass(frozen=True)
class Fit:
    """Everything that decides the outcome of a fit; `store.load_or_train(fit(...)).network` gives
    the estimator.
    """

    method: str  # "interval" or "probout"
    base: training.Recipe  # of the network it is fitted to
    # the published DnCNN-25 in the place of base's network; base says which data
    published: bool = False
    steps: int = 400
    batch_size: int = 8
    n_layers: int = 8  # interval: layers with weights that have one, from the last
    beta: float = 1e-3  # interval: price of width
    # interval: mean width of the output after the first step, in units of the image. The loss on
    # validation images fell up to 0.3 and was level beyond: widths that start too large and are
    # pruned end better than widths that grow.
    rate: float = 0.3
    # interval: "layer" gives every layer its share of `rate`, "uniform" one rate for all
    spread_rate: str = "layer"
    penalty: float = 1.0  # probout: weight of log variance; 3 in the authors' code
    form: str = "derived"  # probout: of the loss, see probout.mean_variance_loss
    lr: float = 2e-4  # probout: of the network
    output_lr: float = 2e-3  # probout: of its new output
    version: int = 1  # raised when a change of the code changes what these numbers mean

    @property
    def seed(self) -> int:
        return self.base.seed

    @property
    def key(self) -> str:
        """SHA-256 of the fields that count for the method, and of the base network's key."""
        fields = dataclasses.asdict(self)
        other = {
            "interval": ("penalty", "form", "lr", "output_lr"),
            "probout": ("n_layers", "beta", "rate", "spread_rate"),
        }[self.method]
        return store.key(
            **{k: v for k, v in fields.items() if k not in (*other, "base")}, base=self.base.key
        )

    @property
    def weights(self) -> str:
        """Name of the weights in the store, such as "interval-dncnn-s0-1f2e3d4c"."""
        return f"{self.method}-{self.base.name}{'-published' if self.published else ''}-s{self.seed}-{self.key[:8]}"

    def network(self, device=None) -> nn.Module:
        """The frozen base network."""
        if self.published:
            return pretrained.network("dncnn-25").to(device or "cpu")
        return store.load_or_train(self.base, device=device).network

    def build(self, device=None) -> nn.Module:
        """The estimator before its fit: widths zero, or the new output as it starts."""
        net = self.network(device)
        if self.method == "interval":
            size = 64 if self.base.name == "dncnn" else self.base.image_size
            return interval.IntervalNetwork.from_network(
                net, self.n_layers, torch.zeros(1, 1, size, size, device=device)
            ).to(device)
        return probout.MeanVariance.from_network(
            net, generator=profiles.generator(self.seed, "variance output")
        )

    def train(
        self, device=None, checkpoint: Path | None = None, progress: bool | None = None, **options
    ) -> tuple[nn.Module, dict]:
        """Return the fitted estimator and its card; see `store.load_or_train`."""
        device = training.default_device(device)
        model = self.build(device)
        what = training.task(self.base.name, self.base.image_size, device)
        own_batches = dict(batch_size=self.batch_size, seed=self.seed + 1000)
        batches, source = training.batches(dataclasses.replace(self.base, **own_batches), what)

        def draw(step):
            y, x, A = batches(step)
            return network_input(what.task, A, y), x

        def score():
            return _score(self, model.eval(), *inputs(self.base, 8, "validate", device=device))

        part = _PARTS[self.method](self, model, draw)
        half = self.method == "probout"
        work = training.Training(model, [part], draw, source, score=score, half=half)
        every = min(50, self.steps)
        plan = dict(name=self.weights, seed=self.seed, every=every, schedule="decay", **options)
        loop = training.Loop(self.steps, **plan)
        base = f"{'the published ' if self.published else ''}{self.base.weights}"
        about = f"{type(model).__name__} around {base}"
        return training.train_and_record(self, work, loop, checkpoint, progress, about)


def fit(
    method: str, base: str = "dncnn", seed: int = 0, profile: str = "standard", **changes
) -> Fit:
    """How `method` is fitted to the network `base` of that seed and profile; `changes` replace
    fields of `Fit`.

    Args:
        method: "interval" or "probout".
        base: "dncnn", "unet-limited" or "med-50"; "dncnn-published" for the published sigma = 25
            weights.

    Raises:
        ValueError: for another method, network or field.
    """
    name = base.removesuffix("-published")
    if method not in SIZES or name not in POST_PROCESSORS or (name != base and name != "dncnn"):
        raise ValueError(
            f'fit expects method "interval" or "probout" and a base of {", ".join(POST_PROCESSORS)}, '
            f"dncnn-published; got {method!r} and {base!r}."
        )
    known = {f.name for f in dataclasses.fields(Fit)} - {"method", "base", "published"}
    if unknown := set(changes) - known:
        raise ValueError(
            f"a fit has no field {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}."
        )
    fewer = {} if name == "dncnn" else _FEWER[profile]
    values = {
        **SIZES[method][profiles.get(profile).name],
        **fewer,
        **_USUAL.get(name, {}).get(method, {}),
        **changes,
    }
    return Fit(method, training.recipe(name, profile, seed), name != base, **values)


# the mean is to stay what it was: with a rate of 3e-5 its squared error on validation images
# tripled
_USUAL = {
    "unet-limited": {
        "interval": dict(n_layers=7, beta=1e-4),
        "probout": dict(lr=1e-6, output_lr=0.03),
    }
}
# of large images
_FEWER = {"smoke": {}, "standard": dict(steps=300, batch_size=4), "paper": dict(batch_size=12)}


def network_input(task: str, A, y: torch.Tensor) -> torch.Tensor:
    """What a post-processing network takes in: A^+ y; a noisy image clipped to [0, 1], since the
    box of the attack is that.
    """
    x_in = A.pinv(y)
    return x_in.clamp(0, 1) if task == "denoising" else x_in


def inputs(
    base: training.Recipe,
    n_images: int,
    split: str,
    noise_seed: int = 0,
    image_size: int | None = None,
    device="cpu",
) -> tuple[torch.Tensor, torch.Tensor]:
    """(x_in, x) of at most n_images images of a split; photographs as the middle 128 x 128 pixels,
    if `image_size` is None.
    """
    natural = base.name == "dncnn"
    what = training.task(base.name, image_size or (128 if natural else base.image_size), device)
    images, _ = training.test_images(what, n_images, split)
    y, x, A = what.measure(images, profiles.generator(noise_seed, f"{base.name} {split} noise"))
    return network_input(what.task, A, y), x


def _interval_part(spec, model, draw):
    x_in, _ = draw(0)
    gain = interval.gains(model, x_in).tolist()
    if spec.spread_rate == "layer":
        rates = [spec.rate / len(gain) / g for g in gain]
    else:
        rates = [spec.rate / sum(gain)] * len(gain)
    seen = []

    def loss(batch):
        lower, upper = model.bounds(batch[0])
        if len(seen) < 2:
            seen.append((upper - lower).detach().mean().item())
            # a fit that goes on from a checkpoint starts wide
            if len(seen) == 2 and seen[0] < 0.01 and seen[1] > 1:
                raise training.Diverged(
                    f"{spec.weights}: after one step the mean width of the intervals is {seen[1]:.3g}, more than the range of the image. "
                    f"Gains of the layers: {', '.join(f'{g:.2g}' for g in gain)}. Take a smaller rate (now {spec.rate:g}) or fewer layers."
                )
        return interval.interval_loss(lower, upper, batch[1], spec.beta)

    groups = [
        {"params": list(w.parameters()), "lr": r} for w, r in zip(model.widths, rates, strict=True)
    ]
    return training.Part("widths", torch.optim.Adam(groups, fused=True), loss, model.project_)


def _probout_part(spec, model, draw):
    def loss(batch):
        return probout.mean_variance_loss(*model(batch[0]), batch[1], spec.form, spec.penalty)

    new = list(model.variance.parameters())
    ids = {id(p) for p in new}
    groups = [
        {"params": [p for p in model.parameters() if id(p) not in ids], "lr": spec.lr},
        {"params": new, "lr": spec.output_lr},
    ]
    return training.Part(
        "mean and variance", torch.optim.Adam(groups, fused=True), loss, clip_norm=1.0
    )


_PARTS = {"interval": _interval_part, "probout": _probout_part}


@torch.no_grad()
def _score(spec, model, x_in, x) -> dict:
    """On validation images: the loss that was lowered, and what a reader would ask first."""
    prediction = model.predict(x_in)
    inside = metrics.coverage(prediction.lower, prediction.upper, x).inside.mean().item()
    if spec.method == "interval":
        lowered = interval.interval_loss(prediction.lower, prediction.upper, x, spec.beta)
    else:
        lowered = probout.mean_variance_loss(
            prediction.mean, prediction.spread.log(), x, spec.form, spec.penalty
        )
    return {
        "loss": lowered.item(),
        "coverage": inside,
        "width": (prediction.upper - prediction.lower).mean().item(),
        "mean_square_error": (prediction.mean - x).square().mean().item(),
    }
