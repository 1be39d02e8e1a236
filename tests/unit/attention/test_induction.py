"""The loss on a sequence read twice, checked against the loss computed by hand and on glass."""

import math

import numpy as np
import pytest
import torch

from lens_core import HookedModel
from lens_core.attention.induction import induction_curve
from lens_core.interventions import zero
from lens_core.model.errors import PromptTooLongError


@pytest.fixture(scope="module")
def glass() -> HookedModel:
    return HookedModel.from_pretrained("glass-induction")


@pytest.fixture(scope="module")
def lookup() -> HookedModel:
    return HookedModel.from_pretrained("glass-lookup")


def test_the_losses_are_those_of_the_model(glass):
    """Forbids losses shifted by a token, or in bits, or of the wrong copy."""
    curve = induction_curve(glass, n_sequences=3, half=8, seed=5)
    tokens = torch.tensor(curve.token_ids)
    logprobs = glass.run(tokens).log_softmax(-1)
    for row in range(3):
        for copy in range(2):
            for place in range(8):
                at = 1 + copy * 8 + place
                wanted = -logprobs[row, at - 1, tokens[row, at]]
                found = curve.before.per_sequence[row, copy, place]
                assert found == pytest.approx(float(wanted), abs=1e-6)
    assert (curve.token_ids[:, 1:9] == curve.token_ids[:, 9:]).all()


def test_the_second_copy_is_known_and_the_first_is_not(glass):
    """Forbids a curve that misses a perfect induction circuit."""
    curve = induction_curve(glass)
    assert curve.before.copy_mean(1).value == pytest.approx(math.log(34), abs=1e-3)
    assert curve.before.copy_mean(2).value < 0.001
    assert curve.before.mean[1, 0] == pytest.approx(math.log(34), abs=1e-3)
    low, high = curve.before.drop[1:]
    assert low <= curve.before.drop.value <= high
    assert curve.after is None


@pytest.mark.parametrize("head", [(0, 2), (1, 1)])
def test_without_a_head_of_the_circuit_the_second_copy_is_news_again(glass, head):
    """Forbids an effect with the wrong sign, and interventions that reach the first run."""
    curve = induction_curve(glass, interventions=[zero("z", head[0], heads=[head[1]])])
    assert curve.effect(2).value == pytest.approx(math.log(34), abs=0.01)
    assert abs(curve.effect(1).value) < 1e-3
    assert curve.before.copy_mean(2).value < 0.001
    assert curve.interventions == (f"zero z[{head[0]}] (heads=[{head[1]}])",)


def test_decoys_change_nothing(glass):
    """Forbids an effect of heads that only look."""
    edits = [zero("z", 0, heads=[0, 1, 3]), zero("z", 1, heads=[0, 2, 3])]
    curve = induction_curve(glass, interventions=edits)
    assert curve.after is not None
    assert np.array_equal(curve.after.per_sequence, curve.before.per_sequence)


def test_a_lookup_gains_nothing_from_reading_twice(lookup):
    """Forbids a drop where there is no memory: the null twin says the same in both copies."""
    curve = induction_curve(lookup, interventions=[zero("z", 0), zero("z", 1)])
    assert abs(curve.before.drop.value) < 1e-5
    assert curve.before.copy_mean(2).value > curve.uniform_nats
    assert np.allclose(curve.effect(2), 0, atol=1e-6)


def test_the_intervals_hold_the_mean_and_shrink_with_more_sequences(lookup):
    """Forbids an interval over tokens, or one that is not of the mean."""
    few, many = (induction_curve(lookup, n_sequences=n) for n in (8, 128))
    for curve in (few, many):
        value, low, high = curve.before.copy_mean(1)
        assert low < value < high
        assert (curve.before.low <= curve.before.high).all()
    width = [c.before.copy_mean(1).high - c.before.copy_mean(1).low for c in (few, many)]
    assert width[1] < width[0] / 2
    for unknown in ({"n_sequences": 1}, {"n_bootstrap": 0}):
        assert np.isnan(induction_curve(lookup, **unknown).before.drop.low)


def test_the_same_seed_gives_the_same_figures_and_another_does_not(lookup):
    """Forbids figures that change from visit to visit."""
    one, two, other = (induction_curve(lookup, n_sequences=4, seed=s) for s in (1, 1, 2))
    assert one.to_frame().equals(two.to_frame())
    assert not np.array_equal(one.token_ids, other.token_ids)


def test_a_model_without_a_start_token_has_no_first_loss(gpt2):
    """Forbids a made-up loss for the token that nothing predicts."""
    curve = induction_curve(gpt2.hooked, n_sequences=2, half=100)
    assert curve.half == 32
    assert np.isnan(curve.before.per_sequence[:, 0, 0]).all()
    assert np.isfinite(curve.before.copy_mean(1).value)


def test_the_table_has_a_line_a_token_of_both_runs(glass):
    """Forbids a download that lacks what the figure shows."""
    frame = induction_curve(glass, n_sequences=2, half=5, interventions=[zero("z", 0)]).to_frame()
    assert list(frame.columns) == ["when", "copy", "place", "loss_nats", "low", "high"]
    assert len(frame) == 2 * 2 * 5
    assert frame.groupby("when")["copy"].unique().map(list).to_dict() == {
        "before": [1, 2],
        "after": [1, 2],
    }


def test_what_there_is_not_is_refused_in_words(glass):
    """Forbids an IndexError for a third copy, and a curve of nothing."""
    curve = induction_curve(glass, n_sequences=2, half=5)
    with pytest.raises(ValueError, match="no copy 3"):
        curve.before.copy_mean(3)
    with pytest.raises(ValueError, match="without interventions"):
        curve.effect(1)
    with pytest.raises(PromptTooLongError, match="two different"):
        induction_curve(glass, half=1)
