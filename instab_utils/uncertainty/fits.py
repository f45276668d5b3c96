"""How estimators are fitted around a trained network: interval widths, or a variance output."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import metrics, profiles, store, training
from . import interval, probout

POST_PROCESSORS = ("dncnn", "dncnn-tuned", "unet-limited", "med-50")
_OPTIONS = {  # fields that count for one method only
    "interval": ("n_layers", "beta", "rate"),
    "probout": ("penalty", "lr", "output_lr"),
}
# former options at their only values: parts of the keys of shipped weights
_FORMER = {"interval": {"spread_rate": "layer"}, "probout": {"form": "derived"}}


@dataclass(frozen=True)
class FitRecipe:
    """Everything that decides a fit; `store.load_or_train(fit_recipe(...)).network` fits it.

    A method of its own fields: interval n_layers, beta, rate; probout penalty, lr, output_lr.
    """

    method: str  # "interval" or "probout"
    base: training.Recipe  # of the network it is fitted to
    steps: int = 400
    batch_size: int = 8
    n_layers: int = 8  # layers with weights that have an interval, from the last
    beta: float = 1e-3  # price of width
    # mean width of the output after the first step, in units of the image, shared equally by the
    # layers. The loss on validation images fell up to 0.3 and was level beyond: widths that start
    # too large and are pruned end better than widths that grow.
    rate: float = 0.3
    penalty: float = 1.0  # weight of log variance; 3 in the authors' code
    lr: float = 2e-4  # of the network
    output_lr: float = 2e-3  # of its new output
    version: int = 1  # raised when a change of the code changes what these numbers mean

    @property
    def seed(self) -> int:
        return self.base.seed

    @property
    def key(self) -> str:
        """SHA-256 of the fields that count for the method, and of the base network's key."""
        other = _OPTIONS["probout" if self.method == "interval" else "interval"]
        fields = dataclasses.asdict(self)
        counting = {k: v for k, v in fields.items() if k not in other}
        former = {"published": False, **_FORMER[self.method]}
        return store.key(**{**counting, **former, "base": self.base.key})

    @property
    def weights(self) -> str:
        """Name of the weights in the store, such as "interval-dncnn-s0-1f2e3d4c"."""
        return f"{self.method}-{self.base.name}-s{self.seed}-{self.key[:8]}"

    def build(self, device: str | torch.device | None = None) -> nn.Module:
        """Return the estimator before its fit: widths zero, or the new output as it starts."""
        device = profiles.default_device(device)
        net = store.load_or_train(self.base, device=device).network
        if self.method == "probout":
            generator = profiles.generator(self.seed, "variance output")
            return probout.MeanVariance.from_network(net, generator=generator)
        size = 64 if self.base.denoises else self.base.image_size
        example = torch.zeros(1, 1, size, size, device=device)
        return interval.IntervalNetwork.from_network(net, self.n_layers, example).to(device)

    def train(
        self,
        device: str | torch.device | None = None,
        checkpoint: Path | None = None,
        progress: bool | None = None,
        **options,
    ) -> tuple[nn.Module, dict]:
        """Return the fitted estimator and its card; see `store.load_or_train`.

        Intervals are fitted in float32 on every device.
        """
        device = profiles.default_device(device)
        model = self.build(device)
        problem = training.task(self.base, device=device)
        own_batches = dict(batch_size=self.batch_size, seed=self.seed + 1000)
        batches, source = training.batches(dataclasses.replace(self.base, **own_batches), problem)

        def draw(step):
            y, x, A = batches(step)
            return network_input(problem.task, A, y), x

        def score():
            return _score(self, model.eval(), *inputs(self.base, 8, "validate", device=device))

        part = {"interval": _interval_part, "probout": _probout_part}[self.method](
            self, model, draw
        )
        half = self.method == "probout"
        work = training.Training(model, [part], draw, source, score=score, half=half)
        every = min(50, self.steps)
        # gradients too: with bfloat16 the widths diverge
        precision = "fp32" if self.method == "interval" else "auto"
        plan = dict(name=self.weights, seed=self.seed, every=every, schedule="decay")
        loop = training.Loop(self.steps, **{**plan, "autocast": precision, **options})
        about = f"{type(model).__name__} around {self.base.weights}"
        return training.train_and_record(self, work, loop, checkpoint, progress, about)


def fit_recipe(
    method: str, base: str = "dncnn", seed: int = 0, profile: str = "standard", **changes
) -> FitRecipe:
    """Return how `method` is fitted to the network `base` of that seed and profile.

    Args:
        method: "interval" or "probout".
        base: one of `POST_PROCESSORS`.
        changes: replace fields of `FitRecipe`.

    Raises:
        ValueError: for another method or network.
    """
    if method not in _OPTIONS or base not in POST_PROCESSORS:
        raise ValueError(
            'fit_recipe expects method "interval" or "probout" and a base of '
            f"{', '.join(POST_PROCESSORS)}; got {method!r} and {base!r}."
        )
    plan = training.recipe(base, profile, seed)
    stage = f"{method}_fit" if plan.denoises else f"{method}_fit_ct"
    values = vars(profiles.stage(stage, profile)) | _USUAL.get((base, method), {}) | changes
    return FitRecipe(method, plan, **values)


# the mean is to stay what it was: with a rate of 3e-5 its squared error on validation images
# tripled
_USUAL = {
    ("unet-limited", "interval"): dict(beta=1e-4),
    ("unet-limited", "probout"): dict(lr=1e-6, output_lr=0.03),
}


def network_input(task: str, A, y: Tensor) -> Tensor:
    """Return the input of a post-processing network, A^+ y; a noisy image clipped to [0, 1].

    The attacks of denoisers search in the same box.
    """
    x_in = A.pinv(y)
    return x_in.clamp(0, 1) if task == "denoising" else x_in


def inputs(
    base: training.Recipe,
    n_images: int,
    split: str,
    image_size: int | None = None,
    device: str | torch.device | None = None,
) -> tuple[Tensor, Tensor]:
    """Return (x_in, x) of at most n_images images of a split.

    Photographs are cut to their middle 128 x 128 pixels, if `image_size` is None.
    """
    usual = 128 if base.denoises else base.image_size
    problem = training.task(base, image_size or usual, device)
    images, _ = training.test_images(problem, n_images, split)
    generator = profiles.generator(0, f"{base.name} {split} noise")
    y, x, A = problem.measure(images, generator)
    return network_input(problem.task, A, y), x


def _interval_part(
    spec: FitRecipe, model: interval.IntervalNetwork, draw: Callable
) -> training.Part:
    gain = interval.gains(model, draw(0)[0]).tolist()
    first_widths = []

    def check(first, second):
        # a fit that goes on from a checkpoint starts wide
        if first < 0.01 and second > 1:
            raise training.Diverged(
                f"{spec.weights}: after one step the mean width of the intervals is {second:.3g}, "
                "more than the range of the image. Gains of the layers: "
                f"{', '.join(f'{g:.2g}' for g in gain)}. Take a smaller rate (now {spec.rate:g}) "
                "or fewer layers."
            )

    def loss(batch):
        lower, upper = model.bounds(batch[0])
        if len(first_widths) < 2:
            first_widths.append((upper - lower).detach().mean())
            if len(first_widths) == 2:
                check(*torch.stack(first_widths).tolist())
        return interval.interval_loss(lower, upper, batch[1], spec.beta)

    groups = []
    for widths, g in zip(model.widths, gain):
        groups.append({"params": list(widths.parameters()), "lr": spec.rate / len(gain) / g})
    return training.Part("widths", torch.optim.Adam(groups, fused=True), loss, model.project_)


def _probout_part(spec: FitRecipe, model: probout.MeanVariance, draw: Callable) -> training.Part:
    def loss(batch):
        return probout.mean_variance_loss(*model(batch[0]), batch[1], penalty=spec.penalty)

    groups = [
        {"params": model.net.parameters(), "lr": spec.lr},
        {"params": model.variance.parameters(), "lr": spec.output_lr},
    ]
    optimiser = torch.optim.Adam(groups, fused=True)
    return training.Part("mean and variance", optimiser, loss, clip_norm=1.0)


@torch.no_grad()
def _score(spec: FitRecipe, model: nn.Module, x_in: Tensor, x: Tensor) -> dict:
    """Return scores on validation images: the loss of the fit, coverage, width and error."""
    mean, spread, lower, upper = model.predict(x_in)
    if spec.method == "interval":
        loss = interval.interval_loss(lower, upper, x, spec.beta)
    else:
        loss = probout.mean_variance_loss(mean, spread.log(), x, penalty=spec.penalty)
    return {
        "loss": loss.item(),
        "coverage": metrics.coverage(lower, upper, x).inside.mean().item(),
        "width": (upper - lower).mean().item(),
        "mean_square_error": (mean - x).square().mean().item(),
    }
