"""The four terms of DAGAN's loss, for images (batch, 1, n, n) in [-1, 1].

    loss of the generator = 15 nmse + 0.1 frequency + 0.0025 perceptual + 1 adversarial

Yang et al. 2018 and their code. The SI of Antun et al. 2020 prints squared errors; the code is
followed here.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

WEIGHTS = {"nmse": 15.0, "frequency": 0.1, "perceptual": 0.0025, "adversarial": 1.0}


def nmse(x_rec: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Mean over the batch of ||x - x_rec||_2 / ||x||_2; not squared, despite its name."""
    return ((x - x_rec).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)).mean()


def frequency_loss(x_rec: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of |FFT2((x + 1) / 2)|, not normalised, over all frequencies, sampled
    or not.
    """
    return F.mse_loss(_spectrum(x_rec), _spectrum(x))


def _spectrum(x):
    # no transform in half precision
    x = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    return torch.fft.fft2((x + 1) / 2).abs()


def adversarial(logits: torch.Tensor, real: bool) -> torch.Tensor:
    """Sigmoid cross-entropy of the discriminator's logits against "all real" or "all
    reconstructed".

    Generator: adversarial(D(x_rec), True). Discriminator: adversarial(D(x), True) +
    adversarial(D(x_rec), False).
    """
    return F.softplus(-logits if real else logits).mean()


def perceptual(
    x_rec: torch.Tensor, x: torch.Tensor, features: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Mean squared difference of features(x_rec) and features(x); `features` is `vgg_features()`,
    or any map.
    """
    return F.mse_loss(features(x_rec), features(x))


def vgg_features(path: str | Path | None = None) -> nn.Module | None:
    """VGG16 up to its fourth pooling, frozen: (batch, 1, n, n) in [-1, 1] -> (batch, 512, 15, 15);
    None without the file.

    Nothing is downloaded. The file is a .safetensors with torchvision's names (`features.0.weight`,
    ...), made once by
    `safetensors.torch.save_file(torchvision.models.vgg16(weights="IMAGENET1K_V1").state_dict(),
    path)`.

    Args:
        path: the file; None looks for weights/vgg16.safetensors in `data.folder()`.

    The image is mapped to [0, 1], repeated to three colours, resized to 244 x 244 bilinearly, and
    normalised by the mean and deviation of ImageNet. The published code has Caffe's VGG16, which
    wants [0, 255] minus a mean and whose
    features are larger: its weight 0.0025 does not carry over.

    Raises:
        ValueError: for a file of another format or without the weights of the ten convolutions.
    """
    if path is None:
        from .. import data  # only where weights are read

        path = data.folder() / "weights/vgg16.safetensors"
    path = Path(path)
    if not path.is_file():
        return None
    if path.suffix != ".safetensors":
        raise ValueError(
            f"vgg_features expects a .safetensors file; got {path.name}. Nothing is unpickled here: convert it."
        )
    from safetensors import safe_open

    net = _VGG()
    with safe_open(path, "pt") as file:
        missing = sorted(set(net.state_dict()) - set(file.keys()))
        if missing:
            raise ValueError(
                f"vgg_features expects torchvision's names of VGG16 in {path.name}; got none for {missing[0]}."
            )
        net.load_state_dict({name: file.get_tensor(name).float() for name in net.state_dict()})
    return net.requires_grad_(False).eval()


class _VGG(nn.Module):
    def __init__(self):
        super().__init__()
        layers, n_in = [], 3
        for width, n_convs in ((64, 2), (128, 2), (256, 3), (512, 3)):
            for _ in range(n_convs):
                layers += [nn.Conv2d(n_in, width, 3, padding=1), nn.ReLU()]
                n_in = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.register_buffer(
            "mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None], persistent=False
        )
        self.register_buffer(
            "std", torch.tensor([0.229, 0.224, 0.225])[:, None, None], persistent=False
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.interpolate((x + 1) / 2, (244, 244), mode="bilinear", align_corners=False)
        return self.features((x.expand(-1, 3, -1, -1) - self.mean) / self.std)
