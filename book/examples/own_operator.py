"""An operator of one's own, a blur along the rows, as two functions; Wiener's filter undoes it."""

import numpy as np

from instab_utils import audit, data


def transfer(n: int, width: float = 2.0) -> np.ndarray:
    """Return the factor of a Gaussian blur of `width` pixels for each frequency of a row."""
    return np.exp(-2 * (np.pi * width * np.fft.fftfreq(n)) ** 2)


def main(profile="standard", budget_s=120, image_size=64, folder=None):
    H = transfer(image_size)

    def through(x, factor):
        return np.fft.ifft(np.fft.fft(x, axis=-1) * factor, axis=-1).real

    A = audit.operator(
        forward=lambda x: through(x, H),
        adjoint=lambda y: through(y, H),
        image_size=image_size,
        numpy=True,
    )
    x, source = data.demo("natural", 1, image_size)
    return audit.run(
        lambda y: through(y, H / (H**2 + 1e-3)),
        A,
        x,
        name="a Wiener filter",
        budget_s=budget_s,
        folder=folder,
        options=audit.AuditOptions(profile=profile, source=source, public=True, noise=0.01),
    )


if __name__ == "__main__":
    print(main()["summary"])
