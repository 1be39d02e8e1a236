"""The glass induction model does what was written into it, by two heads of eight and no other."""

import random

import pytest
import torch

from lens_core import HookedModel
from lens_core.glass import explain, forward_steps, induction, induction_model
from lens_core.interventions import zero

WORDS, N_CTX = induction.WORDS, induction.N_CTX
DECOYS = ((0, 0), (0, 1), (0, 3), (1, 0), (1, 2), (1, 3))


@pytest.fixture(scope="module")
def model() -> HookedModel:
    return induction_model()


def repeated(seed: int, half: int = 25) -> str:
    words = random.Random(seed).sample(WORDS, half)
    return " ".join(words * 2)


def test_it_passes_the_self_check_with_every_site(model):
    """Forbids a silent MLP whose sites are switched off, so that no tool could say so."""
    assert model.report is not None
    assert model.report.ok
    assert model.sites["mlp_post"] == model.sites["mlp_out"] == model.sites["pattern"] == (0, 1)


def test_every_word_is_one_token(model):
    """Forbids prompts of the lessons that fall into pieces or into the unknown token."""
    assert len(WORDS) == len(set(WORDS)) == 32
    assert [model.to_single_token(f" {word}") for word in WORDS] == list(range(2, 34))
    assert model.to_str_tokens("Ant zebra") == ["<s>", "ant", "?"]


@pytest.mark.parametrize("seed", range(3))
def test_rows_sum_to_zero_and_the_norms_divide_by_what_the_docstring_says(model, seed):
    """Forbids a writer that forgets the balance, and a position whose row has another length."""
    _, cache = model.run_with_cache(repeated(seed, half=31))
    for layer in range(2):
        assert cache["resid_post", layer].sum(dim=-1).abs().max() < 1e-4
    assert torch.allclose(cache["attn_in", 0], 8 * cache["resid_pre", 0], atol=1e-5)
    assert torch.allclose(cache["attn_in", 1], 8 / 3 * cache["resid_pre", 1], atol=1e-4)


@pytest.mark.parametrize("head", [(0, 2), (1, 0)])
def test_the_previous_token_patterns(model, head):
    """Forbids a position at which the planted pattern is another one."""
    _, cache = model.run_with_cache(" ".join((WORDS * 2)[: N_CTX - 1]))
    pattern = cache["pattern", head[0]][0, head[1]]
    assert pattern.diagonal(offset=-1).min() > 0.999


@pytest.mark.parametrize("head", [(1, 1), (1, 3)])
def test_the_induction_patterns_find_repeats_and_else_rest(model, head):
    """Forbids an induction head that rests or wanders on a repeat, or finds one where none is."""
    half = 31
    _, cache = model.run_with_cache(repeated(0, half))
    pattern = cache["pattern", head[0]][0, head[1]]
    assert pattern[half + 1 :].diagonal(offset=2).min() > 0.999
    assert pattern[: half + 1, 0].min() > 0.999


@pytest.mark.parametrize("head", [(0, 0), (1, 2)])
def test_the_resting_patterns(model, head):
    """Forbids a sink that leaks."""
    _, cache = model.run_with_cache(repeated(1, 31))
    assert cache["pattern", head[0]][0, head[1], :, 0].min() > 0.999


def test_the_current_and_the_same_token_patterns(model):
    """Forbids decoys that do not look at what the README says."""
    _, cache = model.run_with_cache("ant bee ant cat ant")
    assert cache["pattern", 0][0, 1].diagonal().min() > 0.999
    assert torch.allclose(
        cache["pattern", 0][0, 3, -1], torch.tensor([0, 1, 0, 1, 0, 1]) / 3, atol=1e-4
    )


@pytest.mark.parametrize("word", WORDS)
def test_every_word_is_copied_after_every_distance(model, word):
    """Forbids a word without a row in the induction head, and positions beyond its reach."""
    others = [w for w in WORDS if w not in ("owl", word)]
    for n_between in (0, 7, 28):
        start = "owl" if word != "owl" else "pig"
        prompt = " ".join([start, word, *others[:n_between], start])
        probabilities = model.run(prompt)[0, -1].softmax(-1)
        assert model.to_string(probabilities.argmax()) == word
        assert probabilities.max() > 0.999


@pytest.mark.parametrize("prompt", ["ant", "ant bee cat dog", "zebra ant zebra", "zebra zebra"])
def test_without_a_repetition_it_is_uniform(model, prompt):
    """Forbids an opinion where nothing was read before."""
    probabilities = model.run(prompt)[0].softmax(-1)
    assert torch.allclose(probabilities, torch.tensor(1 / 34), atol=1e-4)


def test_the_mlps_write_exactly_nothing(model):
    """Forbids a model that is not attention-only."""
    _, cache = model.run_with_cache("ant zebra ant zebra")
    assert not any(cache["mlp_out", layer].any() for layer in range(2))
    assert cache["mlp_post", 0].any()


@pytest.mark.parametrize("head", DECOYS)
def test_decoys_write_exactly_nothing(model, head):
    """Forbids a decoy with an effect, however small."""
    _, cache = model.run_with_cache(repeated(2))
    assert not cache["head_out", head[0]][:, :, head[1]].any()
    layer, index = head
    cut = model.run(repeated(2), [zero("z", layer, heads=[index])])
    assert torch.equal(cut, model.run(repeated(2)))


@pytest.mark.parametrize("head", [(0, 2), (1, 1)])
def test_both_heads_of_the_circuit_are_needed(model, head):
    """Forbids a completion that comes from somewhere else than the planted circuit."""
    cut = model.run(repeated(3), [zero("z", head[0], heads=[head[1]])])[0].softmax(-1)
    assert torch.allclose(cut, torch.tensor(1 / 34), atol=1e-3)


def test_its_numbers_can_be_worked_out_by_name(model):
    """Forbids columns without their names, and a second head's arithmetic that is the first's."""
    steps = forward_steps(model, "fox owl bee fox")
    stream = dict(zip(steps["resid_post.1"].columns, steps["resid_post.1"].tensor[-1], strict=True))
    written = {name: float(value) for name, value in stream.items() if abs(value) > 0.1}
    assert set(written) == {
        *("is fox", "was bee", "next owl", "place 4"),
        *(f"balance of {kind}" for kind in ("is", "was", "next", "place")),
    }
    assert written["was bee"] == pytest.approx(induction.WAS, abs=1e-3)
    assert written["next owl"] == pytest.approx(induction.NEXT, abs=1e-2)
    told = explain(model, steps, "scores.1", position=4, column=2, head=1)
    assert told.worked() == pytest.approx(64 / 3, abs=1e-3)
