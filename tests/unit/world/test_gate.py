"""The gate's own instruments: a ruler that is off makes every figure of the model card a lie."""

import pytest
import torch

from lens_core import HookedModel
from lens_core.world.datasets.edits import counterfactual_edits
from lens_core.world.datasets.facts import known_facts
from lens_core.world.gate import mechanism, rank_one
from lens_core.world.gate.answers import answers_whole, last_logits
from lens_core.world.gate.card import table
from lens_core.world.gate.figures import average, median, share


@pytest.fixture(scope="module")
def model() -> HookedModel:
    return HookedModel.from_pretrained("tiny-world")


@pytest.fixture(scope="module")
def facts(model):
    asked = known_facts(model.tokenizer, n=40, seed=3, single_token_object=True)
    return [f for f in mechanism.answered(model, asked, 40) if f.subject_chars[1] < len(f.prompt)]


def test_share_has_wilsons_interval():
    """Forbids the normal interval, which calls 20 of 20 a certainty."""
    figure = share("x", [True] * 20)
    assert figure.value == 100.0
    assert figure.low == pytest.approx(83.9, abs=0.1)
    assert share("x", [True] * 8 + [False] * 2).low == pytest.approx(49.0, abs=0.2)


def test_no_examples_is_an_error():
    """Forbids a figure of 0/0 that passes as a measurement."""
    with pytest.raises(ValueError, match="nothing"):
        share("x", [])


def test_bootstrap_covers_and_repeats():
    """Forbids intervals that change from run to run, or that miss the mean."""
    values = [float(i % 7) for i in range(60)]
    once, again = average("x", values, ""), average("x", values, "")
    assert (once.low, once.high) == (again.low, again.high)
    assert once.low < once.value < once.high
    assert median("x", [1.0, 2.0, 9.0], "").value == 2.0


@pytest.mark.parametrize(("value", "passed"), [(2.0, False), (0.5, True)])
def test_a_bar_from_above_is_met_from_below(value, passed):
    """Forbids a loss bar that is read as an accuracy bar."""
    figure = average("loss", [value] * 3, "nats", at_most=1.0)
    assert figure.passed is passed
    assert ("**no**" in table([figure])) is not passed


def test_padding_changes_no_answer(model):
    """Forbids reading a padded position, or putting sorted batches back in the wrong order."""
    prompts = ["The capital of Japan is", "Paris", "The Eiffel Tower is in the city of"]
    together = last_logits(model, prompts, batch_size=2)
    alone = torch.stack([model.run(model.to_tokens(p))[0, -1] for p in prompts])
    torch.testing.assert_close(together, alone, atol=2e-4, rtol=1e-4)


def test_whole_answers_agree_with_generation(model):
    """Forbids counting a right first token, or a longer word, as the whole answer."""
    prompts = ["The capital of Mexico is", "The capital of Japan is", "The Great Mosque is in"]
    for prompt in prompts:
        said = model.to_string(
            model.generate(model.to_tokens(prompt), max_new_tokens=4)[
                0, len(model.to_tokens(prompt)[0]) :
            ]
        )
        word = said.strip().split(".")[0].split(",")[0]
        ends = said[len(word) + 1 : len(word) + 2]
        assert answers_whole(model, [prompt], [word]) == [not ends.isalnum()]
        assert answers_whole(model, [prompt], [word[:-1]]) == [False]


def test_restoring_the_last_state_restores_the_answer(model, facts):
    """Forbids tracing whose patch misses: the last state of the last token is the answer."""
    figures = {f.name: f for f in mechanism.trace(model, facts[:3], samples=4)}
    clean = figures["tracing: answer's probability, clean"].value
    noised = figures["tracing: answer's probability, subject noised"].value
    by_block = figures["tracing: at the last token, after the first half"].note.split(": ")[1]
    assert float(by_block.split(", ")[-1]) == pytest.approx(clean - noised, abs=0.01)
    assert noised < clean


def test_blinding_the_whole_depth_destroys_facts(model, facts):
    """Forbids a knock-out that hides nothing: with every block blind, no fact may be looked up."""
    survived = 0
    for fact in facts[:12]:
        edits = [
            mechanism.blind_last_token(layer, fact.subject_start, fact.subject_end)
            for layer in range(model.cfg.n_layers)
        ]
        top = model.run(model.to_tokens(fact.prompt), interventions=edits)[0, -1].argmax()
        survived += int(top == model.to_tokens(f" {fact.object}", prepend_bos=False)[0, 0])
    assert survived <= 4


def test_an_edit_says_the_new_object_and_leaves_no_trace(model):
    """Forbids an editor that does nothing, and one that writes into the shared weights."""
    record = counterfactual_edits(model.tokenizer, n=1, seed=4)[0]
    before = last_logits(model, [record.prompt])
    editor = rank_one.Editor(model, rank_one.Editing(covariance_tokens=4000, n_prefixes=4))
    edit = editor.edit(record)
    with model.interventions(edit):
        edited = last_logits(model, [record.prompt])
    new = model.to_tokens(f" {record.new_object}", prepend_bos=False)[0, 0]
    assert edited[0].log_softmax(-1)[new] > before[0].log_softmax(-1)[new] + 1
    assert torch.equal(last_logits(model, [record.prompt]), before)
