"""The null twin looks up what follows, and nothing else is in it."""

import pytest
import torch

from lens_core import HookedModel
from lens_core.glass import induction, lookup, lookup_model
from lens_core.interventions import zero


@pytest.fixture(scope="module")
def model() -> HookedModel:
    return lookup_model()


def test_it_passes_the_self_check_with_every_site(model):
    """Forbids a null that no tool can be run on: silent heads must still be readable."""
    assert model.report is not None
    assert model.report.ok
    assert model.sites["pattern"] == model.sites["z"] == model.sites["attn_out"] == (0, 1)


def test_it_has_the_shape_and_the_tokenizer_of_its_twin(model):
    """Forbids a difference by which a tool, or a learner, could tell them apart."""
    twin = HookedModel.from_pretrained(induction.NAME)
    shapes = {name: p.shape for name, p in model.hf_model.named_parameters()}
    assert shapes == {name: p.shape for name, p in twin.hf_model.named_parameters()}
    prompt = "Ant wolf zebra"
    assert torch.equal(model.to_tokens(prompt), twin.to_tokens(prompt))


@pytest.mark.parametrize(("word", "following"), lookup.NEXT_WORD.items())
def test_it_says_the_next_word_whatever_came_before(model, word, following):
    """Forbids a gap in the table, and a context that matters."""
    for before in ("", "owl ", f"{word} pig "):
        probabilities = model.run(before + word)[0, -1].softmax(-1)
        assert model.to_string(probabilities.argmax()) == following
        assert probabilities.max() > 0.998


def test_the_start_and_the_unknown_have_no_row(model):
    """Forbids an opinion that is not in the table."""
    probabilities = model.run("zebra")[0].softmax(-1)
    assert torch.allclose(probabilities, torch.tensor(1 / 34), atol=1e-6)


def test_every_head_attends_to_all_alike_and_writes_exactly_nothing(model):
    """Forbids a pattern or an effect for a tool to find."""
    prompt = "ant bee cat ant bee cat"
    logits, cache = model.run_with_cache(prompt)
    alike = torch.ones(7, 7).tril() / torch.arange(1, 8)[:, None]
    for layer in range(2):
        assert torch.allclose(cache["pattern", layer][0], alike.expand(4, 7, 7), atol=1e-6)
        assert not cache["attn_out", layer].any()
        assert not cache["mlp_out", layer].any()
        assert torch.equal(model.run(prompt, [zero("z", layer)]), logits)
    assert cache["z", 1].any()
