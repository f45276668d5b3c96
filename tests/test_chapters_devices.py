"""Every chapter on a simulated CUDA device, as a reader on Colab runs it: nothing astray."""

import copy

import pytest
import test_devices
import torch
from simulated_cuda import simulated_cuda

from instab_utils import audit, book, training

CHAPTERS = [pytest.param(script, id=script.stem) for script in book.scripts()]
prepared = test_devices.prepared  # initial weights, pools of few images, few iterations


@pytest.fixture(scope="module")
def reader(prepared):
    """What chapters need beyond the paths of the package."""
    for name in ("dncnn", "unet-limited"):
        test_devices.save_initial(training.recipe(name, "smoke", 1))
    with pytest.MonkeyPatch.context() as patch:
        # more than the fewest passes of the sweep, which finds its records by their number
        test_devices.set_sizes(patch, "detection", n_passes_denoising=4)
        patch_export(patch)
        yield


def patch_export(patch):
    """Pretend to export networks and to load them: torch cannot trace within the simulator."""
    files, load = {}, audit.load_network

    def loaded(path, *architecture, device="cpu"):
        if path not in files:
            return load(path, *architecture, device=device)
        return audit.network_files.Loaded(copy.deepcopy(files[path]).to(device), "")

    patch.setattr(torch.export, "export", lambda network, inputs: network)
    patch.setattr(torch.export, "save", lambda network, path: files.update({path: network}))
    patch.setattr(audit, "load_network", loaded)


@pytest.mark.parametrize("script", CHAPTERS)
@pytest.mark.filterwarnings("default")
def test_chapter(script, reader):
    source = script.read_text("utf-8")
    parameters = next(cell for cell in source.split("\n# %%") if 'tags=["parameters"]' in cell)
    names = {"In": [f"#{parameters}", ""], "display": lambda *_: None, "__name__": "__main__"}
    source = source.replace('profile = "standard"', 'profile = "smoke"')
    with simulated_cuda():
        exec(compile(source, script, "exec"), names)
