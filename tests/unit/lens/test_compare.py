"""Comparisons: identities, bounds, the same figures as two single readings, and refusals."""

import math

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config

from lens_core import HookedModel
from lens_core.interventions import zero
from lens_core.lens import CompareError, LastBlocksLens, LogitLens, TunedLens, read_lens
from lens_core.lens.compare import (
    compare_intervened,
    compare_lenses,
    compare_models,
    compare_prompts,
)
from tests.unit.lens.conftest import GPT2, byte_tokenizer

PROMPT = "The cat sat."


def random_tuned(model, seed=0):
    """Translators that change every reading."""
    g = torch.Generator().manual_seed(seed)
    n, d = model.cfg.n_layers, model.cfg.d_model
    return TunedLens(torch.randn(n, d, d, generator=g) / d, torch.randn(n, d, generator=g))


def test_a_lens_compared_with_itself_is_zero(gpt2):
    """Forbids the two sides reading different states or normalising differently."""
    same = compare_lenses(gpt2, PROMPT, LogitLens(), LogitLens(), targets=["a"])
    for figure in (same.js_nats, same.total_variation, same.kl_between_nats):
        np.testing.assert_allclose(figure, 0, atol=1e-6)
    np.testing.assert_array_equal(same.kl_difference_nats, 0)
    np.testing.assert_array_equal(same.target_prob_change, 0)
    assert same.same_top1.all()


def test_two_lenses_give_the_figures_of_two_readings(gpt2):
    """Forbids a and b swapped, and rows out of step with those of `read_lens`."""
    tuned = random_tuned(gpt2)
    both = compare_lenses(gpt2, PROMPT, LogitLens(), tuned, targets=[5])
    a = read_lens(gpt2, PROMPT, LogitLens(), targets=[5])
    b = read_lens(gpt2, PROMPT, tuned, targets=[5])
    assert both.row_layers_a == both.row_layers_b == a.row_layers
    np.testing.assert_allclose(both.kl_a_nats, a.kl_nats, atol=1e-5)
    np.testing.assert_allclose(both.kl_b_nats, b.kl_nats, atol=1e-5)
    np.testing.assert_array_equal(both.top_ids_b, b.top_ids[:, :, 0])
    change = np.exp(b.target_logprobs) - np.exp(a.target_logprobs)
    np.testing.assert_allclose(both.target_prob_change, change, atol=1e-6)


def test_divergences_are_symmetric_and_bounded(gpt2):
    """Forbids half a Jeffreys divergence for JS and the largest difference for total variation."""
    ab = compare_lenses(gpt2, PROMPT, LogitLens(), random_tuned(gpt2))
    ba = compare_lenses(gpt2, PROMPT, random_tuned(gpt2), LogitLens())
    np.testing.assert_allclose(ab.js_nats, ba.js_nats, atol=1e-6)
    np.testing.assert_allclose(ab.total_variation, ba.total_variation, atol=1e-6)
    assert 0.1 < ab.js_nats.max() <= math.log(2) + 1e-6
    assert 0.1 < ab.total_variation.max() <= 1 + 1e-6
    # Pinsker's inequality ties the two; the largest difference of a token alone breaks it rarely,
    # half a Jeffreys divergence often.
    assert (ab.js_nats <= math.log(2) * ab.total_variation + 1e-6).all()
    assert (ab.js_nats >= ab.total_variation**2 / 2 - 1e-6).all()


def test_prompts_of_different_length_are_refused_with_lengths_and_place(gpt2):
    """Forbids cells beside each other that stand at different tokens."""
    with pytest.raises(CompareError, match=r"3 tokens and the second 4 .*token 2, 'c' against 'x'"):
        compare_prompts(gpt2, "abc", "abxy")


def test_bos_on_one_side_only_is_refused(gpt2):
    """Forbids a shift by one that equal lengths hide."""
    with_bos = gpt2.to_tokens("ab", prepend_bos=True)
    without = gpt2.to_tokens("abc", prepend_bos=False)
    with pytest.raises(CompareError, match="first prompt begins with the start token"):
        compare_prompts(gpt2, with_bos, without)


def test_two_prompts_differ_only_after_their_first_difference(gpt2):
    """Forbids aligning the wrong ends: a causal model cannot see what comes later."""
    both = compare_prompts(gpt2, "The cat sat.", "The car sat.")
    assert both.same_top1[:, :6].all()
    np.testing.assert_allclose(both.js_nats[:, :6], 0, atol=1e-6)
    assert (both.js_nats[0, 7:] < 1e-6).all()  # the embedding row sees its own token alone
    assert both.js_nats[-1, 6:].max() > 1e-4


def test_an_intervention_shows_from_its_layer_on(gpt2):
    """Forbids the edit reaching the clean side, or neither."""
    both = compare_intervened(gpt2, PROMPT, [zero("mlp_out", 1)], LogitLens())
    np.testing.assert_allclose(both.js_nats[:2], 0, atol=1e-6)  # embedding, block 0
    assert both.js_nats[2].max() > 1e-3
    clean = read_lens(gpt2, PROMPT)
    np.testing.assert_allclose(both.kl_a_nats, clean.kl_nats, atol=1e-5)
    with pytest.raises(CompareError):
        compare_intervened(gpt2, PROMPT, [])


def test_two_lenses_under_an_intervention_read_the_same_edited_run(gpt2):
    """Forbids an edit that reaches one lens only."""
    both = compare_lenses(
        gpt2, PROMPT, LogitLens(), LogitLens(), interventions=[zero("mlp_out", 1)]
    )
    np.testing.assert_array_equal(both.kl_difference_nats, 0)
    edited = read_lens(gpt2, PROMPT, interventions=[zero("mlp_out", 1)])
    np.testing.assert_allclose(both.kl_a_nats, edited.kl_nats, atol=1e-5)


def deeper(n_layers, vocab=300):
    """A GPT-2 of another depth, and perhaps with a padded head, with the same tokenizer."""
    torch.manual_seed(1)
    config = GPT2Config(**{**GPT2, "n_layer": n_layers, "vocab_size": vocab}, bos_token_id=0)
    hf_model = AutoModelForCausalLM.from_config(config)
    return HookedModel.from_hf(hf_model, byte_tokenizer(), name=f"deep-{n_layers}")


def test_models_of_two_depths_and_padded_heads(gpt2):
    """Forbids pairing the last row of one with a middle row of the other; shapes that clash."""
    both = compare_models(gpt2, deeper(5, vocab=320), PROMPT)
    assert both.row_layers_a == (-1, 0, 1, 2)
    assert both.row_layers_b[0] == -1
    assert both.row_layers_b[-1] == 4
    np.testing.assert_allclose(both.kl_b_nats[-1], 0, atol=1e-4)
    assert both.top_ids_b.max() < 300


def test_models_with_different_tokenizers_are_refused(gpt2):
    """Forbids one id standing for two texts."""
    other = deeper(3)
    other.tokenizer.add_tokens(["<extra>"])
    with pytest.raises(CompareError, match="different tokenizers"):
        compare_models(gpt2, other, PROMPT)


def test_lenses_without_a_common_state_are_refused_and_progress_ends_the_work(gpt2):
    """Forbids an empty grid, and a cancel that is not heard."""
    frame = compare_lenses(gpt2, PROMPT, LogitLens(), LastBlocksLens(1), targets=["a"]).to_frame()
    assert len(frame) == 4 * len(gpt2.to_tokens(PROMPT)[0])
    assert frame.loc[0, "token_a"] == "T"

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare_lenses(gpt2, PROMPT, LogitLens(), LogitLens(), on_step=stop)
