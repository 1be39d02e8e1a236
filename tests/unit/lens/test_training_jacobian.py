"""Fitting of Jacobian lenses against the definition."""

from pathlib import Path

import pytest
import torch

from lens_core import HookedModel
from lens_core.lens.errors import LensDataError
from lens_core.lens.training import JacobianRecipe, RecipeError, fit_jacobian
from tests.conftest import Family
from tests.unit.lens.training_helpers import drifted_model, random_rows

SKIP = 2


@pytest.fixture(scope="module")
def model() -> HookedModel:
    return drifted_model()


def defined(model: HookedModel, tokens: torch.Tensor, depth: int) -> torch.Tensor:
    """The estimator as it is written, from the full Jacobian of one prompt."""
    n_layers = model.cfg.n_layers
    _, cache = model.run_with_cache(tokens, [("resid_pre", 0), "resid_post"])
    state = cache["resid_pre", 0] if depth == 0 else cache["resid_post", depth - 1]

    def last(h: torch.Tensor) -> torch.Tensor:
        return model.run(tokens, start_at_layer=depth, resid=h, stop_at_layer=n_layers, grad=True)

    full = torch.autograd.functional.jacobian(last, state.detach())[0, :, :, 0]  # t', i, t, j
    used = range(SKIP, tokens.shape[1] - 1)
    per_source = [
        torch.stack([full[later, :, source] for later in used if later >= source]).sum(0)
        for source in used
    ]
    return torch.stack(per_source).mean(0)


@pytest.mark.parametrize("dim_batch", [8, 7, 100])
def test_equals_the_definition(model: HookedModel, dim_batch: int) -> None:
    """Forbids transposed matrices, targets before the source, and a wrong last batch."""
    rows = random_rows(2, n_ctx=7)
    recipe = JacobianRecipe(prompts=2, skip_first=SKIP, dim_batch=dim_batch)
    lens = fit_jacobian(model, rows, recipe)
    assert sorted(lens.jacobians) == [0, 1]
    for depth in (0, 1):
        wanted = torch.stack([defined(model, row[None], depth) for row in rows.tokens]).mean(0)
        torch.testing.assert_close(lens.jacobians[depth], wanted, atol=1e-4, rtol=1e-4)


def test_other_families(llama: Family) -> None:
    """Forbids a fit that hangs on one family's blocks."""
    model = llama.hooked
    rows = random_rows(1, n_ctx=6)
    lens = fit_jacobian(model, rows, JacobianRecipe(prompts=1, skip_first=SKIP))
    wanted = defined(model, rows.tokens, 1)
    torch.testing.assert_close(lens.jacobians[1], wanted, atol=1e-4, rtol=1e-3)


def test_resumed_fit_ends_with_the_same_bits(model: HookedModel, tmp_path: Path) -> None:
    """Forbids prompts that are counted twice or not at all after a kill."""
    rows = random_rows(4, n_ctx=7)
    recipe = JacobianRecipe(prompts=4, skip_first=SKIP)
    whole = fit_jacobian(model, rows, recipe)

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_jacobian(model, rows, recipe, out=tmp_path, on_step=stop)
    seen: list[int] = []
    again = fit_jacobian(model, rows, recipe, out=tmp_path, on_step=lambda d, _: seen.append(d))
    assert seen == [3, 4]
    for depth, matrix in whole.jacobians.items():
        assert torch.equal(matrix, again.jacobians[depth])
    with pytest.raises(RecipeError, match="recipe"):
        fit_jacobian(model, rows, JacobianRecipe(prompts=3, skip_first=SKIP), out=tmp_path)


def test_says_how_well_it_is_determined(model: HookedModel) -> None:
    """Forbids a lens without the figure that tells whether more prompts would change it."""
    lens = fit_jacobian(model, random_rows(4, n_ctx=7), JacobianRecipe(skip_first=SKIP))
    cosines = lens.provenance["refit_cosine"]
    assert len(cosines) == 2
    assert all(0.0 < c <= 1.0001 for c in cosines)
    assert lens.provenance["prompts"] == 4


def test_rows_shorter_than_the_skip_are_refused(model: HookedModel) -> None:
    """Forbids a mean over no position, which is NaN."""
    with pytest.raises(LensDataError):
        fit_jacobian(model, random_rows(2, n_ctx=16))
