"""Every chapter on a simulated CUDA device, as a reader on Colab runs it: nothing astray."""

import copy
import functools
import os

import pytest
import test_devices
import torch
from simulated_cuda import simulated_cuda

from instab_utils import audit, book, training

CHAPTERS = [pytest.param(script, id=script.stem) for script in book.scripts()]
ON_CPU = ("01", "02", "12")  # operators and solvers of small images; records
SLOW = ("02",)
weights = test_devices.weights  # initial ones, and pools of few images


@pytest.fixture(scope="module")
def reader(weights):
    """What chapters need beyond the paths of the package, and less work."""
    for name in ("dncnn", "unet-limited"):
        test_devices.save_initial(training.recipe(name, "smoke", 1))
    with pytest.MonkeyPatch.context() as patch:
        set_sizes = functools.partial(test_devices.set_sizes, patch)
        set_sizes("stability", n_iter=3, unrolled=2, ascent=2, n_twins=1, n_near=2)
        set_sizes("audit", n_calls=16, n_passes=2)
        set_sizes("detection", n_evaluations=4)
        set_sizes("baselines", share=0.01)
        set_sizes("real_data", share=0.01)
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


def run(source, name="chapter"):
    """Run a script at smoke where there is a GPU; return what happened."""
    parameters = next(cell for cell in source.split("\n# %%") if 'tags=["parameters"]' in cell)
    names = {"In": [f"#{parameters}", ""], "display": lambda *_: None, "__name__": "__main__"}
    source = source.replace('profile = "standard"', 'profile = "smoke"')
    with simulated_cuda() as gpu:
        exec(compile(source, name, "exec"), names)
    return gpu


@pytest.mark.parametrize("script", CHAPTERS)
@pytest.mark.filterwarnings("default")
def test_a_chapter_is_on_the_gpu(script, reader):
    if script.name[:2] in SLOW and not os.environ.get("INSTAB_SLOW"):
        pytest.skip("takes more than 15 s; INSTAB_SLOW=1 runs it")
    gpu = run(script.read_text("utf-8"), script)
    assert bool(gpu.copies) == (script.name[:2] not in ON_CPU)


def test_a_tensor_that_stays_on_the_cpu_is_found(reader):
    cell = """
# %% tags=["parameters"]
profile = "standard"
# %%
from instab_utils import training
case = training.case("dncnn", profile, 1, tv=False)
case.f(case.y.cpu())
"""
    with pytest.raises(RuntimeError, match="on the same device"):
        run(cell)
