"""The glass facts model holds each fact in one neuron, and two heads of twelve move them."""

import pytest
import torch

from lens_core import HookedModel
from lens_core.glass import explain, facts, facts_model, forward_steps
from lens_core.glass.facts import FACTS, FIRST_NAMES, PEOPLE, STRANGERS, SURNAMES, VOCABULARY
from lens_core.glass.labels import column_labels


@pytest.fixture(scope="module")
def model() -> HookedModel:
    return facts_model()


def answer(model: HookedModel, prompt: str) -> tuple[str, float]:
    probabilities = model.run(prompt)[0, -1].softmax(-1)
    return model.to_string(probabilities.argmax()), float(probabilities.max())


def test_it_passes_the_self_check_with_every_site(model):
    """Forbids silent parts whose sites are switched off, so that no tool could say so."""
    assert model.report is not None
    assert model.report.ok
    assert model.disabled_sites == {}


def test_every_word_is_one_token(model):
    """Forbids prompts of the lessons that fall into pieces or into the unknown token."""
    assert len(set(VOCABULARY)) == len(VOCABULARY) == 32
    assert [model.to_single_token(f" {word}") for word in VOCABULARY[2:]] == list(range(2, 32))
    assert model.to_str_tokens("Ada Wood who") == ["<s>", "ada", "wood", "who"]


def test_no_name_alone_tells_an_answer():
    """Forbids a fact that a single name gives away, and names or answers that stand out."""
    assert len(PEOPLE) == 12
    assert len(STRANGERS) == 4
    for place, answers in ((2, facts.CITIES), (3, facts.INSTRUMENTS)):
        for word in answers:
            one, other = (person for person in PEOPLE if person[place] == word)
            assert one[0] != other[0]
            assert one[1] != other[1]
    # Nor does the city tell the instrument.
    assert len({person[2:] for person in PEOPLE}) == 12
    for name in (*FIRST_NAMES, *SURNAMES):
        assert sum(name in person[:2] for person in PEOPLE) == 3


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.prompt)
@pytest.mark.parametrize("prompt", ["{}", "today {}", "now ben says that {}", "in the now {}"])
def test_every_fact_is_known_wherever_it_is_asked(model, fact, prompt):
    """Forbids a fact without its neuron, and a place at which it is not found."""
    word, probability = answer(model, prompt.format(fact.prompt))
    assert word == fact.answer
    assert probability > 0.999


def test_facts_are_moved_over_what_lies_between(model):
    """Forbids a mover with a short reach, or that is led astray by what was asked before."""
    assert answer(model, "ada wood lives in rome and now who plays the")[0] == "harp"
    far = "ada wood " + "today " * 27 + "lives in"
    assert answer(model, far)[0] == "rome"


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("asked", ["lives in", "plays the"])
def test_a_stranger_gets_no_opinion(model, stranger, asked):
    """Forbids a neuron that fires at one of the two names."""
    probabilities = model.run(f"{stranger} {asked}")[0].softmax(-1)
    assert torch.allclose(probabilities, torch.tensor(1 / 32), atol=1e-4)


@pytest.mark.parametrize("prompt", ["wood ada lives in", "ada and wood plays the", "ada lives in"])
def test_names_that_are_no_name_get_no_opinion(model, prompt):
    """Forbids facts that come from names out of order, apart or missing."""
    assert float(model.run(prompt)[0].softmax(-1).max()) < 1 / 31


def test_two_people_share_the_answer(model):
    """Forbids what the README says about two known people in one prompt."""
    logits = model.run("ada wood and ben hill lives in")[0, -1]
    one, other = (logits[model.to_single_token(word)] for word in ("rome", "cairo"))
    assert one == pytest.approx(float(other), abs=1e-4)
    assert one > 5


def test_rows_sum_to_zero_and_the_norms_divide_by_what_the_docstring_says(model):
    """Forbids a writer that forgets the balance, and a row of another length."""
    _, cache = model.run_with_cache("today ada wood lives in")
    for layer in range(3):
        assert cache["resid_post", layer].sum(dim=-1).abs().max() < 1e-4
    assert torch.allclose(cache["attn_in", 0], 8 * cache["resid_pre", 0], atol=1e-5)
    assert torch.allclose(cache["mlp_in", 1], 8 / 3 * cache["resid_mid", 1], atol=1e-4)
    known = cache["resid_pre", 2][0, 3] * 8 / 5
    assert torch.allclose(cache["attn_in", 2][0, 3], known, atol=1e-4)


def test_only_the_facts_neurons_fire(model):
    """Forbids facts spread over neurons, and neurons that hold a speck where they are off."""
    _, cache = model.run_with_cache("ada wood lives in", ["mlp_post", "mlp_out"])
    surname = cache["mlp_post", 1][0, 2]
    held = set(surname.nonzero()[:, 0].tolist())
    assert held == {0, 12, 24 + (*FIRST_NAMES, *SURNAMES).index("wood")}
    assert torch.allclose(surname[[0, 12]], torch.tensor(facts.FIRING), atol=1e-3)
    assert cache["mlp_out", 1][0, 2].any()
    assert not cache["mlp_out", 1][0, [0, 1, 3, 4]].any()
    assert cache["mlp_post", 0].any()
    assert not cache["mlp_out", 0].any()
    assert not cache["mlp_out", 2].any()


def test_its_numbers_can_be_worked_out_by_name(model):
    """Forbids columns and neurons without their names."""
    steps = forward_steps(model, "ada wood lives in")
    assert steps["mlp_post.1"].columns[12] == "neuron 12: ada wood, harp"
    assert len(column_labels(model, "mlp_pre", 0, (), 32)) == 32
    place = steps["mlp_pre.1"].columns.index("neuron 0: ada wood, rome")
    told = explain(model, steps, "mlp_pre.1", position=2, column=place)
    assert told.worked() == pytest.approx(8, abs=1e-3)
    assert {term.label for term in told.terms} >= {"was ada × weight", "is wood × weight"}
