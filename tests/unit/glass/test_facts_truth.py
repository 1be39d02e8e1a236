"""The answer sheet of glass-facts holds on the shipped model, before any tool is graded by it."""

import numpy as np
import pytest
import torch

from lens_core import HookedModel
from lens_core.glass import facts
from lens_core.glass.facts import FACTS
from lens_core.glass.facts_truth import FACTS_TRUTH as TRUTH
from lens_core.interventions import patch, zero

CITY = "today ada wood lives in", "today ben hill lives in", "rome"
INSTRUMENT = "today ada wood plays the", "today ben hill plays the", "harp"
ROWS = {3: "surname", 5: "last"}
SITES = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")


@pytest.fixture(scope="module")
def model() -> HookedModel:
    return HookedModel.from_pretrained(facts.NAME)


def logit(model, prompt, answer, edits=()):
    return float(model.run(prompt, edits)[0, -1, model.to_single_token(answer)])


def test_it_knows_every_head_and_neuron(model):
    """Forbids a head without an answer, and a fact whose neuron is another's."""
    wanted = [(layer, head) for layer in range(3) for head in range(4)]
    assert [head.name for head in TRUTH.heads] == wanted
    assert set(TRUTH.circuit.values()) == {head.name for head in TRUTH.heads if head.writes}
    assert [TRUTH.neuron_of(fact.subject, fact.kind) for fact in FACTS] == list(range(24))
    with pytest.raises(KeyError, match="no city"):
        TRUTH.neuron_of("ada stone", "city")
    with pytest.raises(KeyError, match="no head"):
        TRUTH.expected_pattern(3, 0, [0, 2])


def test_the_patterns_are_those_of_the_rules(model):
    """Forbids a rule in the answer sheet that the head does not follow, asked or not asked."""
    prompt = "in the ada wood and ada stone says dan hill plays the flute now lives in in rome the"
    _, cache = model.run_with_cache(prompt, ["pattern"])
    for head in TRUTH.heads:
        expected = TRUTH.expected_pattern(*head.name, cache.tokens[0].tolist())
        found = cache["pattern", head.layer][0, head.head].numpy()
        assert np.abs(found - expected).max() < 1e-3, head.name


def test_decoys_do_not_change_a_bit(model):
    """Forbids a decoy, head or neuron, that has an effect, however small."""
    prompt = "today ada wood lives in rome and plays the"
    plain = model.run(prompt)
    for layer, head in TRUTH.decoys:
        assert torch.equal(model.run(prompt, [zero("z", layer, heads=[head])]), plain)
    silent = zero("mlp_post", TRUTH.store, neurons=TRUTH.decoy_neurons)
    assert torch.equal(model.run(prompt, [silent]), plain)
    for layer in (0, 2):
        assert torch.equal(model.run(prompt, [zero("mlp_out", layer)]), plain)


@pytest.mark.parametrize("fact", FACTS[::5], ids=lambda fact: fact.prompt)
def test_the_answers_have_the_logits_that_the_arithmetic_says(model, fact):
    """Forbids constants that were left behind when the weights changed, and a fact held twice."""
    assert TRUTH.answer_logit == pytest.approx(32 / 3)
    assert logit(model, fact.prompt, fact.answer) == pytest.approx(TRUTH.answer_logit, abs=1e-4)
    place = model.to_single_token(fact.answer)
    probability = float(model.run(fact.prompt)[0, -1].softmax(-1)[place])
    assert probability == pytest.approx(TRUTH.answer_prob, abs=1e-6)
    own = TRUTH.neuron_of(fact.subject, fact.kind)
    without = {
        neuron: logit(model, fact.prompt, fact.answer, [zero("mlp_post", 1, neurons=[neuron])])
        for neuron in range(len(FACTS))
    }
    assert without.pop(own) == pytest.approx(0, abs=1e-3)
    other = without.pop((own + 12) % 24)
    assert other == pytest.approx(TRUTH.logit_without_other, abs=1e-4)
    assert set(without.values()) == {logit(model, fact.prompt, fact.answer)}


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize(("clean", "corrupted", "answer"), [CITY, INSTRUMENT])
def test_the_carrying_cells_bring_the_whole_answer_and_the_others_nothing(
    model, clean, corrupted, answer, site
):
    """Forbids an early or late site in the answer sheet that is elsewhere in the model."""
    _, cache = model.run_with_cache(clean)
    carrying = set()
    for layer in range(3):
        for position in range(cache.tokens.shape[1]):
            edit = patch(site, layer, cache, positions=[position])
            share = logit(model, corrupted, answer, [edit]) / TRUTH.answer_logit
            assert min(abs(share), abs(share - 1)) < 1e-3
            if share > 0.5:
                carrying.add((layer, ROWS[position]))
    assert carrying == TRUTH.carries(site)


def test_the_movers_read_keys_and_values_from_the_facts_mlp(model):
    """Forbids a wire that carries nothing: against a stranger, keys and values are both needed."""
    _, cache = model.run_with_cache("today ada wood lives in")
    stranger = "today ada stone lives in"
    layer, head = TRUTH.mover("city")
    wires = [patch(site, layer, cache, positions=[3], heads=[head]) for site in ("k", "v")]
    assert logit(model, stranger, "rome", wires) == pytest.approx(TRUTH.answer_logit, abs=1e-3)
    for wire in wires:
        assert abs(logit(model, stranger, "rome", [wire])) < 1e-3
    _, cache = model.run_with_cache("today ada wood lives the")
    other = patch("q", layer, cache, positions=[5], heads=[head])
    assert abs(logit(model, "today ada wood lives in", "rome", [other])) < 1e-3
    assert {edge[1] for edge in TRUTH.edges("city")} >= {"2.0.k", "2.0.v", "2.0.q", "mlp 1"}
