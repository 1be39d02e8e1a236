"""The answer sheet holds on the shipped models themselves, before any tool is graded by it."""

import numpy as np
import pytest
import torch

from lens_core import HookedModel
from lens_core.attention.induction import induction_curve
from lens_core.attention.sequences import repeated_random_tokens
from lens_core.glass.truth import INDUCTION_TRUTH, LOOKUP_TRUTH, GlassTruth, truth_of
from lens_core.interventions import zero

TRUTHS = (INDUCTION_TRUTH, LOOKUP_TRUTH)
HEADS = [(truth, head.name) for truth in TRUTHS for head in truth.heads]


@pytest.fixture(scope="module")
def models() -> dict[str, HookedModel]:
    return {truth.name: HookedModel.from_pretrained(truth.name) for truth in TRUTHS}


def test_it_knows_every_head_of_its_models_and_no_other_model(models):
    """Forbids a head without an answer, and answers for a model that is not of glass."""
    for truth in TRUTHS:
        cfg = models[truth.name].cfg
        wanted = [(layer, head) for layer in range(cfg.n_layers) for head in range(cfg.n_heads)]
        assert [head.name for head in truth.heads] == wanted
        assert truth_of(truth.name) is truth
        assert len(truth.to_frame()) == len(wanted)
    assert set(INDUCTION_TRUTH.circuit.values()) == {
        head.name for head in INDUCTION_TRUTH.heads if head.writes
    }
    assert truth_of("tiny-world") is None
    with pytest.raises(KeyError, match="no head"):
        LOOKUP_TRUTH.head(2, 0)


@pytest.mark.parametrize(("truth", "head"), HEADS)
def test_the_patterns_are_those_of_the_rules(models, truth: GlassTruth, head):
    """Forbids a rule in the answer sheet that the head does not follow, on repeats or off them."""
    model = models[truth.name]
    prompts = [repeated_random_tokens(model, n_sequences=1, half=20), "ant ant bee ant owl bee ant"]
    for prompt in prompts:
        _, cache = model.run_with_cache(prompt, ["pattern"])
        expected = truth.expected_pattern(*head, cache.tokens[0].tolist())
        found = cache["pattern", head[0]][0, head[1]].numpy()
        assert np.abs(found - expected).max() < 1e-3


@pytest.mark.parametrize("truth", TRUTHS)
def test_decoys_do_not_change_a_bit(models, truth: GlassTruth):
    """Forbids a decoy that is none."""
    model = models[truth.name]
    tokens = repeated_random_tokens(model, n_sequences=4)
    plain = model.run(tokens)
    for layer, head in truth.decoys:
        assert torch.equal(model.run(tokens, [zero("z", layer, heads=[head])]), plain)


def test_the_answers_have_the_logits_that_the_arithmetic_says(models):
    """Forbids constants that were left behind when the weights changed."""
    for truth, answer in ((INDUCTION_TRUTH, "owl"), (LOOKUP_TRUTH, "frog")):
        logits = models[truth.name].run("fox owl bee fox")[0, -1]
        place = models[truth.name].to_single_token(answer)
        assert float(logits[place]) == pytest.approx(truth.answer_logit, abs=1e-4)
        assert float(logits.softmax(-1)[place]) == pytest.approx(truth.answer_prob, abs=1e-6)


@pytest.mark.parametrize("truth", TRUTHS)
def test_the_losses_are_those_that_the_arithmetic_says(models, truth: GlassTruth):
    """Forbids a truth about the curve that the curve does not show."""
    curve = induction_curve(models[truth.name], n_sequences=64).before
    first, second = curve.copy_mean(1), curve.copy_mean(2)
    slack = 1e-3 + (first.high - first.low)
    assert first.value == pytest.approx(truth.first_copy_nats, abs=slack)
    assert second.value == pytest.approx(truth.second_copy_nats, abs=slack)
