"""Training: one loop, one recipe a network, one task a recipe.

`recipe("ell-50")` says how a network is made, `store.load_or_train(recipe(...))` gives it with its
weights, `case("ell-50")` puts it to work on test images. `python -m instab_utils.training ell-50
--seed 0` trains.
"""

from .cases import CASES, case, title
from .comparison import Comparison, compare
from .jobs import batches, build, job, train
from .loop import Diverged, History, Part, fit, optimiser, precision
from .recipes import Recipe, recipe
from .tasks import NAMES, SIGMA, TITLES, Task, task, test_images, views

__all__ = [
    "CASES",
    "NAMES",
    "SIGMA",
    "TITLES",
    "Comparison",
    "Diverged",
    "History",
    "Part",
    "Recipe",
    "Task",
    "batches",
    "build",
    "case",
    "compare",
    "fit",
    "job",
    "optimiser",
    "precision",
    "recipe",
    "task",
    "test_images",
    "title",
    "train",
    "views",
]
