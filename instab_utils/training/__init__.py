"""Training: one loop, one recipe a network, one task a recipe, and cases on test images.

`recipe("ell-50")` says how a network is made, `store.load_or_train(recipe(...))` gives it with its
weights, `case("ell-50")` puts it to work on test images. `python -m instab_utils.training ell-50
--seed 0` trains.
"""

from .batch_sources import batches
from .cases import CASES, case, title
from .comparison import Comparison, compare
from .loop import Diverged, History, Loop, Part, fit, precision
from .optimisers import SCHEDULES, optimiser
from .recipes import Recipe, recipe
from .tasks import NAMES, SIGMA, TITLES, Task, task, test_images, views
from .trainings import Training, build, prepare, train, train_and_record
