"""Training lenses: the affine translators of a tuned lens, and the mean Jacobians.

from lens_core.lens.corpus import read_corpus
from lens_core.lens.training import TunedRecipe, train_tuned

rows = read_corpus("texts.jsonl", model)
training = train_tuned(model, rows, TunedRecipe(steps=250), out="runs/my-lens")
training.lens, training.to_frame()
"""

from lens_core.lens.training.jacobian import JacobianRecipe, fit_jacobian
from lens_core.lens.training.recipe import RecipeError, TunedRecipe
from lens_core.lens.training.tuned import TunedTraining, train_tuned

__all__ = [
    "JacobianRecipe",
    "RecipeError",
    "TunedRecipe",
    "TunedTraining",
    "fit_jacobian",
    "train_tuned",
]
