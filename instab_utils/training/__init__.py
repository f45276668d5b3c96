"""Training: one loop, one recipe a network, one task a recipe.

`recipe("ell-50")` says how a network is made, `store.load_or_train(recipe(...))` gives it with its
weights, `setting("ell-50")` puts it to work on test images. `python -m instab_utils.training ell-50
--seed 0` trains.
"""

from .comparison import Comparison, compare
from .jobs import batches, build, job, train
from .loop import Diverged, History, Part, fit, optimiser, precision
from .recipes import Recipe, recipe
from .settings import setting
from .tasks import NAMES, TITLES, Task, task, test_images, views

__all__ = [
    "NAMES",
    "TITLES",
    "Comparison",
    "Diverged",
    "History",
    "Part",
    "Recipe",
    "Task",
    "batches",
    "build",
    "compare",
    "fit",
    "job",
    "optimiser",
    "precision",
    "recipe",
    "setting",
    "task",
    "test_images",
    "train",
    "views",
]
