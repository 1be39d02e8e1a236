"""The tools of lens_core.attribution find in glass who wrote the answer, and nobody in its null."""

import numpy as np
import pytest

from lens_core import HookedModel
from lens_core.attribution import (
    ablate,
    ablate_each_head,
    accumulated,
    block_attention,
    direct_logit_attribution,
    intervention_effect,
    neuron_attribution,
    source_attribution,
)
from lens_core.glass import induction
from lens_core.glass.truth import INDUCTION_TRUTH, LOOKUP_TRUTH, GlassTruth

PROMPT = "fox owl bee fox"  # after it one says owl, as it read, and the other frog, as always
ANSWERS = {INDUCTION_TRUTH.name: ("owl", "pig"), LOOKUP_TRUTH.name: ("frog", "pig")}
TRUTHS = (INDUCTION_TRUTH, LOOKUP_TRUTH)
PREVIOUS, INDUCTION = INDUCTION_TRUTH.circuit.values()


@pytest.fixture(scope="module")
def models() -> dict[str, HookedModel]:
    return {truth.name: HookedModel.from_pretrained(truth.name) for truth in TRUTHS}


@pytest.mark.parametrize("with_foil", [False, True])
@pytest.mark.parametrize("truth", TRUTHS)
def test_one_part_wrote_all_of_the_answer(models, truth: GlassTruth, with_foil):
    """Forbids a share for a part that wrote nothing, and a sum that is not the model's number."""
    target, foil = ANSWERS[truth.name]
    asked = (target, foil) if with_foil else (target,)
    found = direct_logit_attribution(models[truth.name], PROMPT, *asked)
    expected = np.zeros((2, 4))
    if truth.direct != "embed":
        expected[truth.direct] = truth.answer_logit
    assert found.ok
    assert found.value == pytest.approx(truth.answer_logit, abs=1e-4)
    assert np.allclose(found.by_head, expected, atol=1e-4)
    rest = {part.kind: part.value for part in found.parts if part.kind != "head"}
    assert rest.pop("embed") == pytest.approx(
        truth.answer_logit if truth.direct == "embed" else 0.0, abs=1e-4
    )
    assert not any(rest.values())


def test_the_answer_is_taken_from_the_word_that_came_after(models):
    """Forbids a source that is off by one: from owl, not from the fox before it."""
    layer, head = INDUCTION
    found = source_attribution(models[INDUCTION_TRUTH.name], PROMPT, "owl", layer=layer, head=head)
    expected = [0, 0, INDUCTION_TRUTH.answer_logit, 0, 0]
    assert np.allclose(found.values, expected, atol=1e-2)
    assert found.relative_residual < 1e-4


def test_the_answer_is_there_after_the_last_attention_and_not_before(models):
    """Forbids a stream that is read a part too early or too late."""
    found = accumulated(models[INDUCTION_TRUTH.name], PROMPT, "owl")
    steps = dict(zip(found.labels, found.steps, strict=True))
    assert steps.pop("attn 1") == pytest.approx(INDUCTION_TRUTH.answer_logit, abs=1e-4)
    assert np.allclose(list(steps.values()), 0, atol=1e-5)
    found = accumulated(models[LOOKUP_TRUTH.name], PROMPT, "frog")
    assert np.allclose(found.own_norm, LOOKUP_TRUTH.answer_logit, atol=1e-4)


def test_each_head_by_itself_total_and_direct(models):
    """Forbids a direct effect of a head that only feeds another, and any effect of a decoy."""
    found = ablate_each_head(models[INDUCTION_TRUTH.name], PROMPT, "owl", "pig")
    total, direct = np.zeros((2, 4)), np.zeros((2, 4))
    total[PREVIOUS] = total[INDUCTION] = direct[INDUCTION] = -INDUCTION_TRUTH.answer_logit
    assert np.allclose(found.total_effect, total, atol=5e-3)
    assert np.allclose(found.direct_effect, direct, atol=1e-4)
    decoys = tuple(np.transpose(INDUCTION_TRUTH.decoys))
    assert not found.total_effect[decoys].any()
    assert not found.kl_nats[decoys].any()


@pytest.mark.parametrize("kind", ["zero", "mean", "resample"])
def test_in_the_null_twin_no_head_has_any_effect(models, kind):
    """Forbids an effect that the tool brings along."""
    corpus = ["pig cow bee owl", "jay hen ant bat"]
    found = ablate_each_head(models[LOOKUP_TRUTH.name], PROMPT, "frog", kind=kind, corpus=corpus)
    assert np.abs(found.total_effect).max() < 1e-5
    assert not found.direct_effect.any()
    assert np.abs(found.kl_nats).max() < 1e-6


@pytest.mark.parametrize("kind", ["zero", "mean", "resample"])
def test_decoys_and_mlps_together_have_no_effect(models, kind):
    """Forbids an effect of many parts where each of them has none."""
    parts = [*INDUCTION_TRUTH.decoys, (0, "mlp"), (1, "mlp")]
    corpus = ["pig cow bee owl", "jay hen ant bat"]
    model = models[INDUCTION_TRUTH.name]
    found = ablate(model, PROMPT, parts, "owl", kind=kind, corpus=corpus)
    assert found.total_effect == pytest.approx(0, abs=1e-5)
    assert found.direct_effect == pytest.approx(0, abs=1e-9)


def test_the_previous_token_head_acts_through_the_induction_head_alone(models):
    """Forbids a direct and an indirect effect that are mixed up."""
    found = ablate(models[INDUCTION_TRUTH.name], PROMPT, [PREVIOUS], "owl")
    assert found.direct_effect == pytest.approx(0, abs=1e-9)
    assert found.indirect_effect == pytest.approx(-INDUCTION_TRUTH.answer_logit, abs=5e-3)
    assert found.before.target_prob == pytest.approx(INDUCTION_TRUTH.answer_prob, abs=1e-5)
    assert found.after.target_prob == pytest.approx(1 / 34, abs=1e-3)


@pytest.mark.parametrize(
    ("head", "dest", "src", "breaks"),
    [
        (INDUCTION, 4, 2, True),  # from the second fox to the owl
        (PREVIOUS, 2, 1, True),  # from the owl to the first fox
        (INDUCTION, 4, 1, False),
        (PREVIOUS, 3, 2, False),
        ((1, 3), 4, 2, False),  # the decoy that looks the same
        ((1, 0), 2, 1, False),
    ],
)
def test_two_edges_carry_everything(models, head, dest, src, breaks):
    """Forbids a blocked edge that blocks another one, or the whole head."""
    edit = block_attention(*head, dest=dest, src=src)
    found = intervention_effect(models[INDUCTION_TRUTH.name], PROMPT, [edit], "owl")
    assert found.total_effect == pytest.approx(
        -INDUCTION_TRUTH.answer_logit if breaks else 0.0, abs=2e-2
    )


def test_an_edge_into_the_last_row_is_seen_by_the_final_norm_alone(models):
    """Forbids a norm that is held fixed where it should not be: nothing reads this edge, and yet.

    Without ``was bee`` the last row is shorter, and LayerNorm divides what 1.1 wrote by less.
    """
    edit = block_attention(*PREVIOUS, dest=4, src=3)
    found = intervention_effect(models[INDUCTION_TRUTH.name], PROMPT, [edit], "owl")
    longer = 1 + 1 + induction.WAS**2 + induction.NEXT**2
    grown = (longer / (longer - induction.WAS**2)) ** 0.5
    assert found.after.value == pytest.approx(INDUCTION_TRUTH.answer_logit * grown, abs=1e-3)
    direct = ablate(models[INDUCTION_TRUTH.name], PROMPT, [PREVIOUS], "owl", positions=[4])
    assert direct.direct_effect == pytest.approx(0, abs=1e-9)
    assert direct.indirect_effect == pytest.approx(found.total_effect, abs=1e-3)


def test_without_the_previous_token_head_the_twins_look_elsewhere(models):
    """Forbids a change of patterns that is not seen downstream, or is seen where there is none."""
    edit = block_attention(*PREVIOUS)
    found = intervention_effect(models[INDUCTION_TRUTH.name], PROMPT, [edit], "owl")
    moved = np.argwhere(found.pattern_change_max > 0.5).tolist()
    assert [list(INDUCTION), [1, 3]] == [m for m in moved if m != list(PREVIOUS)]


def test_the_mute_neurons_wrote_nothing(models):
    """Forbids a neuron's share that comes from its activation alone."""
    for truth in TRUTHS:
        found = neuron_attribution(models[truth.name], "fox zebra", layer=0)
        assert found.activations.any()
        assert found.value == 0
        assert not found.values.any()
