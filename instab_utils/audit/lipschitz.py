"""A small denoiser whose layers cannot amplify, so that its certificate is tight."""

import dataclasses
from dataclasses import dataclass

import torch

from .. import profiles, store, training
from ..networks import Case, DnCNN
from .norms import conv_norm

ANY_SIZE = (256, 256)
"""`conv_norm` of an image above its grid bounds the norm for images of every size."""
COARSE = (14, 14)
"""For training steps: 16 frequencies an axis, up to 8 % too small, a fifteenth of the time."""


@dataclass(frozen=True)
class LipschitzDnCNN:
    """Training of the denoiser f(x) = x - net(x) with ||W|| <= 1 of every convolution.

    So that ||f(y + e) - f(y)|| <= 2 ||e|| for all y.

    After every step each convolution is divided by max(1, its norm on a coarse grid), after the
    last one by max(1, `norms.conv_norm`). For `store.load_or_train`.

    Source: the projection of Ryu et al. (ICML 2019), who take power iteration on one image size for
    the norm; this one is an upper bound, for every size.
    """

    seed: int = 0
    steps: int = 400
    n_layers: int = 4
    width: int = 16
    lr: float = 2e-3

    @property
    def key(self) -> str:
        return store.key(kind="lipschitz-dncnn", **dataclasses.asdict(self))

    @property
    def weights(self) -> str:
        return f"lipschitz-dncnn-s{self.seed}"

    @property
    def recipe(self) -> training.Recipe:
        """Return data, loss and optimiser of the package's dncnn."""
        return training.recipe(
            "dncnn",
            seed=self.seed,
            steps=self.steps,
            lr=self.lr,
            batch_size=8,
            every=100,
            architecture=dict(n_layers=self.n_layers, width=self.width, dropout=0.0),
        )

    def build(self, device=None) -> DnCNN:
        """Return the network with hidden layers near the identity.

        Random ones of norm 1 pass on a third of a signal, and nothing after five.
        """
        net = training.build(self.recipe, device)
        with torch.no_grad():
            for conv in net.convs[1:-1]:
                noise = conv.weight.clone()
                torch.nn.init.dirac_(conv.weight).add_(noise, alpha=0.1)
        return net

    def train(
        self, device=None, checkpoint=None, progress: bool | None = None
    ) -> tuple[DnCNN, dict]:
        """Return the network and its card, after about a minute on two CPU cores.

        A training that was stopped goes on from `checkpoint`.
        """
        how, device = self.recipe, profiles.default_device(device)
        work = training.prepare(how, device)
        network = work.network
        network.load_state_dict(self.build(device).state_dict())
        work.parts[0].project = lambda: project_(network, COARSE)
        work.finish = lambda: project_(network)
        work.half = False
        plan = dict(name=self.weights, seed=self.seed, every=how.every, autocast="fp32")
        loop = training.Loop(how.steps, schedule=how.schedule, **plan)
        n_weights = sum(w.numel() for w in network.parameters())
        about = (
            f"DnCNN(n_layers={self.n_layers}, width={self.width}), ||W|| <= 1 each, "
            f"{n_weights:,} parameters"
        )
        return training.train_and_record(self, work, loop, checkpoint, progress, about)


@torch.no_grad()
def project_(net: DnCNN, size: tuple[int, int] = ANY_SIZE) -> None:
    """Project W <- W min(1, 1 / ||W||), in place, for every convolution; biases stay.

    ||W|| is an upper bound for images of `size`.
    """
    for conv in net.convs:
        norm = conv_norm(conv.weight, size)
        if norm > 1:
            conv.weight *= (1 - 1e-6) / norm  # single precision must not round it up again


def case(
    n_images: int = 1, seed: int = 0, split: str = "test", image_size: int | None = None
) -> Case:
    """Return the case of the package's dncnn with this network, trained first if need be."""
    found = training.case("dncnn", n_images=n_images, split=split, image_size=image_size, tv=False)
    network = store.load_or_train(LipschitzDnCNN(seed)).network
    return dataclasses.replace(
        found,
        name="lipschitz-dncnn",
        title="DnCNN, 1-Lipschitz layers",
        network=network,
        reconstruct=network.reconstruct,
    )
