"""One weight changed, in a copy."""

import copy

import pytest
import torch

from lens_core.glass import (
    WeightEdit,
    format_edits,
    glass_model,
    parse_edits,
    weight_of,
    with_edits,
    with_weight,
)
from lens_core.glass.weights import WEIGHTS
from lens_core.model.errors import InterventionError

SHAPE = {"W_E": 2, "W_pos": 2, "W_U": 2, "W_Q": 4, "W_K": 4, "W_V": 4, "W_O": 4}
SHAPE |= {"b_Q": 3, "b_K": 3, "b_V": 3, "W_in": 3, "W_out": 3, "b_in": 2, "b_out": 2, "b_O": 2}


@pytest.fixture(scope="module")
def model():
    return glass_model()


@pytest.mark.parametrize("name", WEIGHTS)
def test_every_weight_can_be_set_and_the_shared_model_stays(model, name):
    """Forbids a weight that is written into a temporary, or into the model of all visitors."""
    before = copy.deepcopy(model.hf_model.state_dict())
    index = (1, 0, 0, 0)[: SHAPE[name]] if name not in ("W_E", "W_pos", "W_U") else (1, 0)
    edited = with_weight(model, name, index, 7.5)
    assert weight_of(edited, name, index) == 7.5
    after = model.hf_model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    changed = edited.hf_model.state_dict()
    assert sum(int((changed[key] != before[key]).sum()) for key in before) == 1


def test_a_changed_weight_moves_the_output(model):
    """Forbids a copy whose taps or forward still belong to the original."""
    plain = model.run("ant bee cat ant")
    edited = with_weight(model, "W_U", (10, 2), 4.0)
    moved, cache = edited.run_with_cache("ant bee cat ant")
    assert not torch.allclose(moved, plain)
    assert torch.equal(cache["logits"], moved)
    assert torch.equal(model.run("ant bee cat ant"), plain)


def test_edits_travel_as_text():
    """Forbids an address that loses an edit or a digit."""
    edits = (WeightEdit("W_K", (1, 0, 15, 4), 30.0), WeightEdit("b_Q", (1, 0, 4), -0.25))
    assert parse_edits(format_edits(edits)) == edits
    assert parse_edits("") == ()
    assert parse_edits(" W_K[1,0,15,4]=30 ;") == edits[:1]


@pytest.mark.parametrize(
    "text",
    [
        "W_K[1,0,15,4]=30000",
        "W_K[1,0,15,4]=nan",
        "W_K[1,0,15,4]=1e9",
        "__class__[0,0]=1",
        "hf_model[0,0]=1",
        "W_K=3",
        "; ".join(["W_E[0,0]=1"] * 17),
    ],
)
def test_nonsense_is_refused_in_words(text):
    """Forbids an address that reaches any attribute, or blows the model up."""
    with pytest.raises(InterventionError):
        parse_edits(text)


@pytest.mark.parametrize(
    ("name", "index"),
    [("W_Q", (5, 0, 0, 0)), ("W_Q", (0, 0, 99, 0)), ("W_Q", (0, 0, 0)), ("tokenizer", (0,))],
)
def test_a_weight_that_is_not_there_is_refused(model, name, index):
    """Forbids a silent edit of nothing, and an IndexError."""
    with pytest.raises(InterventionError):
        with_edits(model, [WeightEdit(name, index, 1.0)])
    with pytest.raises(InterventionError):
        with_weight(model, "W_E", (0, 0), float("nan"))
