"""Every tensor of a pass: read from the run, and equal to its formula applied to earlier ones."""

import math

import pytest
import torch

from lens_core import HookedModel
from lens_core.glass import explain, forward_steps, glass_model
from lens_core.glass.arithmetic import number
from lens_core.glass.forward import BLOCK_STEPS, KINDS, PER_HEAD
from lens_core.interventions import scale
from lens_core.model.errors import TokenError, UnknownSiteError, UnsupportedModelError

PROMPT = "ant bee dog ant"
KEYS = (
    "tokens",
    "embed",
    "pos_embed",
    "resid_pre.0",
    *(f"{name}.{layer}" for layer in range(2) for name in BLOCK_STEPS),
    "ln_final",
    "logits",
    "probabilities",
)


@pytest.fixture(scope="module")
def model() -> HookedModel:
    return glass_model()


@pytest.fixture(scope="module")
def steps(model):
    return forward_steps(model, PROMPT)


def test_every_step_is_there_in_order(steps):
    """Forbids a step that is left out, or comes before what it is made from."""
    assert tuple(step.key for step in steps) == KEYS
    assert {step.name for step in steps} == set(KINDS)
    for step in steps:
        assert len(step.axes) == step.tensor.ndim
        assert len(step.columns) == step.tensor.shape[-1]


def test_tensors_are_those_of_the_run(model, steps):
    """Forbids a tensor that was computed here instead of read from the model."""
    logits, cache = model.run_with_cache(PROMPT)
    assert torch.equal(steps["logits"].tensor, logits[0])
    for step in steps:
        if not step.tapped or step.name in ("tokens", "logits"):
            continue
        site = "scores" if step.name == "masked" else step.name
        own = cache[site][0] if step.layer is None else cache[site, step.layer][0]
        own = own.transpose(0, 1) if step.name in ("q", "k", "v", "z") else own
        assert torch.equal(step.tensor, own), step.key


def test_scores_before_the_mask_are_those_that_the_model_masked(steps):
    """Forbids a wrong scale or head: where the mask lets a score pass, the model held the same."""
    for layer in range(2):
        scores, masked = steps[f"scores.{layer}"].tensor, steps[f"masked.{layer}"].tensor
        kept = torch.isfinite(masked)
        assert torch.equal(kept[0], torch.ones_like(kept[0]).tril())
        assert torch.allclose(scores[kept], masked[kept], atol=1e-5)


def check_every_cell(model, steps, digits, tolerance):
    for step in steps:
        for head in range(step.tensor.shape[0] if step.name in PER_HEAD else 1):
            grid = step.grid(head)
            for position in range(grid.shape[0]):
                for column in range(grid.shape[1]):
                    told = explain(
                        model, steps, step.key, position=position, column=column, head=head
                    )
                    value = float(grid[position, column])
                    if math.isinf(value):
                        assert told.worked(digits) == value
                    else:
                        assert abs(told.worked(digits) - value) <= tolerance * max(1, abs(value)), (
                            step.key,
                            position,
                            column,
                            str(told),
                        )


def test_each_tensor_is_its_formula_of_earlier_ones(model, steps):
    """Forbids a formula on the page that is not what the model does: every cell, every step."""
    check_every_cell(model, steps, None, 1e-4)


def test_the_shown_numbers_are_enough_to_work_it_out(model, steps):
    """Forbids numbers rounded so far that a learner with paper misses the truth by .01."""
    check_every_cell(model, steps, 3, 0.01)


def test_the_formulas_hold_for_several_heads_biases_and_gains(gpt2):
    """Forbids formulas that only fit the glass model, whose biases are zero and gains one."""
    steps = forward_steps(gpt2.hooked, torch.tensor([[5, 17, 99]]))
    check_every_cell(gpt2.hooked, steps, None, 1e-3)


def test_arithmetic_is_spelled_out_with_the_real_numbers(model, steps):
    """Forbids an explanation that names no numbers, or not those of the cell."""
    told = explain(model, steps, "scores.1", position=4, column=2)
    text = str(told)
    assert "ant: q × k" in text
    assert "√d_head" in text
    assert f"{steps['scores.1'].tensor[0, 4, 2]:.2f}"[:4] in text
    assert "−∞" in str(explain(model, steps, "masked.0", position=0, column=3))


def test_interventions_are_seen(model):
    """Forbids steps of the untouched model; LayerNorm takes a factor out again."""
    plain, scaled = (
        forward_steps(model, PROMPT, edits) for edits in ((), [scale("resid_post", 1, factor=10)])
    )
    last = "resid_post.1"
    assert torch.allclose(scaled[last].tensor, 10 * plain[last].tensor)
    assert torch.allclose(scaled["logits"].tensor, plain["logits"].tensor, atol=1e-4)


def test_the_table_has_one_row_a_number(steps):
    """Forbids an export that loses a step, a head or a masked score."""
    frame = steps.to_frame()
    assert len(frame) == sum(step.tensor.numel() for step in steps)
    assert len(steps.to_frame("pattern.1")) == 25


def test_what_cannot_be_laid_out_is_refused_in_words(model, steps, llama):
    """Forbids GPT-2's formulas under a model that is none, and crashes on a bad cell."""
    with pytest.raises(UnsupportedModelError, match="GPT-2"):
        forward_steps(llama.hooked, torch.tensor([[1, 2]]))
    with pytest.raises(TokenError):
        forward_steps(model, ["ant bee", "bee ant"])
    with pytest.raises(UnknownSiteError):
        steps["nothing.7"]
    for bad in ({"position": 9, "column": 0}, {"position": 0, "column": -1}):
        with pytest.raises(UnknownSiteError):
            explain(model, steps, "embed", **bad)
    with pytest.raises(UnknownSiteError):
        explain(model, steps, "q.0", position=0, column=0, head=5)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(3, "3"), (0.5, "0.5"), (0.9977, "1.00"), (-2, "−2"), (0, "0"), (-0.0007, "0.00")],
)
def test_a_shown_number_tells_exact_from_rounded(value, shown):
    """Forbids a 0.998 that reads 1, a speck that reads 0, and a minus before nought."""
    assert number(value, 2) == shown
