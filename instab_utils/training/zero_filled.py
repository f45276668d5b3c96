"""The small U-Net behind zero-filling: Deep MRI's task, its own loss, weights that ship for the
page in the browser.
"""

import dataclasses
from dataclasses import dataclass

import torch

from .. import data, metrics, profiles
from ..networks.zero_filled import ZeroFilledUNet
from . import jobs, loop
from .recipes import Recipe
from .tasks import task

# of the second loss: errors of the image are about 1e-3, the log-likelihood about -6
VARIANCE_SHARE = 3e-4


@dataclass(frozen=True)
class ZeroFilled(Recipe):
    """A `Recipe` whose network is a `ZeroFilledUNet`, for `store.load_or_train`. Make it by
    `zero_filled(profile)`.
    """

    def build(self, device=None):
        """The network with its initial weights."""
        return ZeroFilledUNet(
            **self.architecture, generator=profiles.generator(self.seed, f"{self.name} weights")
        ).to(device or "cpu")

    def train(self, device=None, checkpoint=None, progress=None, **options):
        """(network, card): lowers |x_rec - x|^2 + VARIANCE_SHARE (|x_rec - x|^2 exp(-s) + s), x_rec
        constant in the second part.

        So the image is that of least squares, and s learns the squared error that the image makes.
        A new mask for every batch.
        """
        what = dataclasses.replace(
            task("deep-mri", self.image_size, device or "cpu"), name=self.name
        )
        net = self.build(device)
        draw, source = jobs.batches(self, what)

        def loss(batch):
            y, x, A = batch
            x_rec, s = net.with_log_variance(A.pinv(y))
            error = (x_rec - x).abs().square()
            return error.mean() + VARIANCE_SHARE * (error.detach() * (-s).exp() + s).mean()

        images = data.pool("mr", self.image_size, "validate", jobs.N_VALIDATION)[0]
        y, x, A = what.measure(
            data.mr_training(images, profiles.generator(0, "deep-mri validation")), None
        )

        def validate():
            return float(metrics.psnr_db(net(A.pinv(y)), x).mean())

        part = loop.Part(
            self.name,
            loop.optimiser(self.optimiser, net.parameters(), self.lr),
            loss,
            None,
            self.clip_norm,
        )
        history = loop.fit(
            net,
            [part],
            draw,
            steps=self.steps,
            name=self.name,
            seed=self.seed,
            schedule=self.schedule,
            validate=validate,
            every=self.every,
            checkpoint=checkpoint,
            progress=progress,
            **options,
        )
        # as they ship
        net.load_state_dict({k: v.half().float() for k, v in net.state_dict().items()})
        with torch.no_grad():
            rounded = validate()
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.architecture.items())
        n_weights = sum(w.numel() for w in net.parameters())
        card = {
            "architecture": f"ZeroFilledUNet({arguments}), {n_weights:,} parameters",
            "data": source,
            "steps": history.best_step,
            "seed": self.seed,
            "licence": "MIT",
            "validation": {"psnr_db": rounded, "float32_psnr_db": history.best_db},
            "recipe": dataclasses.asdict(self),
            "key": self.key,
            "half": True,
            "curve": history.curve,
            "seconds": history.seconds,
            "stopped": history.stopped,
            "torch": torch.__version__,
            "device": "cpu",
        }
        return net.eval().requires_grad_(False), card


def zero_filled(profile: str = "standard", seed: int = 0) -> ZeroFilled:
    """How the network is trained: at "smoke" in seconds, at "standard" (the weights that ship) in
    some minutes of one core.
    """
    sizes = {
        "smoke": dict(
            image_size=32,
            architecture=dict(base_width=4, n_levels=3),
            steps=30,
            every=15,
            batch_size=4,
        ),
        "standard": dict(
            image_size=128,
            architecture=dict(base_width=16, n_levels=3),
            steps=1200,
            batch_size=4,
            every=100,
            clip_norm=1.0,
        ),
    }
    name = profiles.get(profile).name
    if name not in sizes:
        raise ValueError(f"zero_filled expects the profile smoke or standard; got {profile!r}.")
    return ZeroFilled(name="zero-filled-unet", profile=name, seed=seed, **sizes[name])
