"""The glass model does what it says, and nothing where nothing was planted."""

from itertools import permutations

import pytest
import torch

from lens_core import HookedModel
from lens_core.glass import copying, glass_model
from lens_core.interventions import zero

WORDS = copying.WORDS


@pytest.fixture(scope="module")
def model() -> HookedModel:
    return glass_model()


def probabilities(model: HookedModel, prompt: str, **run) -> dict[str, float]:
    last = model.run(prompt, **run)[0, -1].softmax(-1)
    return dict(zip(copying.VOCABULARY, last.tolist(), strict=True))


def test_it_passes_the_self_check(model):
    """Forbids a part that does nothing, and so a site that would be switched off."""
    assert model.report is not None
    assert model.report.ok
    assert model.disabled_sites == {}


def test_the_shipped_model_is_this_one(model):
    """Forbids a folder that loads with another tokenizer or without its start token."""
    loaded = HookedModel.from_pretrained(copying.NAME)
    assert torch.equal(loaded.run("ant bee cat ant"), model.run("ant bee cat ant"))
    assert loaded.to_str_tokens("Ant zebra") == ["<s>", "ant", "?"]


def test_few_weights_are_not_zero(model):
    """Forbids a model that is no longer readable: gains aside, under 120 of 5,690 weights."""
    parameters = model.hf_model.named_parameters()
    n = sum(int((p != 0).sum()) for name, p in parameters if ".ln_" not in name)
    assert n < 120


def test_rows_sum_to_zero_and_the_first_norm_divides_by_a_half(model):
    """Forbids a writer that forgets the balance: LayerNorm would then shift every zero."""
    _, cache = model.run_with_cache("ant bee cat dog ant bee cat dog")
    for layer in range(2):
        for site in ("resid_pre", "resid_mid", "resid_post"):
            assert cache[site, layer].sum(dim=-1).abs().max() < 1e-5
    assert torch.allclose(cache["attn_in", 0], 2 * cache["resid_pre", 0], atol=1e-6)


def test_the_first_head_attends_to_the_previous_token(model):
    """Forbids a previous-token head that is none at some position (planted: > .9 everywhere)."""
    _, cache = model.run_with_cache("ant bee cat dog dog cat bee ant")
    pattern = cache["pattern", 0][0, 0]
    assert pattern.diagonal(offset=-1).min() > 0.9
    assert pattern[0, 0] == 1


@pytest.mark.parametrize(("a", "b", "c"), list(permutations(WORDS, 3)))
def test_the_second_head_completes_a_repetition(model, a, b, c):
    """Forbids an induction head that works for some words only, or that looks elsewhere."""
    prompt = f"{a} {b} {c} {a}"
    found = probabilities(model, prompt)
    assert max(found, key=found.__getitem__) == b
    assert found[b] > 0.8
    _, cache = model.run_with_cache(prompt)
    assert cache["pattern", 1][0, 0, -1].argmax() == 2


@pytest.mark.parametrize("prompt", ["ant bee", "cat ant bee", "dog cat bee ant", "dog bee cat ant"])
def test_without_a_repetition_nothing_is_completed(model, prompt):
    """Forbids a circuit that also fires on the control, and a rest that has an opinion."""
    assert max(probabilities(model, prompt).values()) < 0.25
    _, cache = model.run_with_cache(prompt)
    assert cache["pattern", 1][0, 0, -1].argmax() == 0


@pytest.mark.parametrize("block", [0, 1])
def test_both_heads_are_needed(model, block):
    """Forbids a completion that comes from somewhere else than the planted circuit."""
    cut = probabilities(model, "ant bee dog ant", interventions=[zero("z", block)])
    assert cut["bee"] < 0.25


@pytest.mark.parametrize(("block", "habit"), list(enumerate(copying.HABITS)))
def test_each_neuron_holds_its_habit(model, block, habit):
    """Forbids a habit that sits in another MLP than the page says."""
    seen, said = habit
    found = probabilities(model, f"ant {seen}")
    assert max(found, key=found.__getitem__) == said
    assert found[said] > 0.5
    cut = probabilities(model, f"ant {seen}", interventions=[zero("mlp_post", block)])
    assert max(cut.values()) < 0.25
