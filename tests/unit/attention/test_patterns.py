"""Attention patterns are the model's own, and what is derived from them is what it says."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lens_core import HookedModel
from lens_core.attention import mean_attention, read_attention, strongest_edges
from lens_core.interventions import zero
from lens_core.model.errors import EmptyPromptError, TokenError


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "gpt_neo", "bloom", "falcon-alibi"])
def test_pattern_is_transformers_own(family_named: Callable[[str], Any], name: str) -> None:
    """Forbids patterns that differ from what plain transformers returns, transposed or shifted."""
    family = family_named(name)
    theirs = family.plain(family.tokens[:1], output_attentions=True).attentions
    ours = read_attention(family.hooked, family.tokens[:1]).pattern
    assert ours.shape == (len(theirs), *theirs[0].shape[1:])
    np.testing.assert_allclose(ours, torch.stack(theirs)[:, 0].numpy(), atol=1e-6)


def test_scores_give_the_pattern_and_are_nan_where_masked(llama: Any) -> None:
    """Forbids scores of another run, or -inf in a result that is to be drawn."""
    found = read_attention(llama.hooked, llama.tokens[:1], scores=True)
    assert found.scores is not None
    masked = ~np.tril(np.ones(found.scores.shape[-2:], bool))
    assert np.isnan(found.scores[..., masked]).all()
    assert np.isfinite(found.scores[..., ~masked]).all()
    rows = torch.tensor(found.scores).nan_to_num(-torch.inf).softmax(-1)
    np.testing.assert_allclose(rows.numpy(), found.pattern, atol=1e-6)


@pytest.mark.parametrize("name", ["gpt2", "llama", "granite"])
def test_value_weighted_is_the_length_of_what_each_edge_writes(
    family_named: Callable[[str], Any], name: str
) -> None:
    """Forbids the wrong key-value head of a group, and a forgotten residual multiplier."""
    family = family_named(name)
    found = read_attention(family.hooked, family.tokens[:1], value_weighted=True)
    assert found.value_weighted is not None
    _, cache = family.hooked.run_with_cache(family.tokens[:1])
    layer, head, dest = 1, 3, 6
    v = cache["v", layer][0, :, family.hooked.kv_head(head)]
    edges = cache["pattern", layer][0, head, dest][:, None] * (v @ family.hooked.W_O[layer, head])
    scale = family.hooked.spec.layers[layer].attn_scale
    expected = (edges * scale).norm(dim=-1).numpy()
    np.testing.assert_allclose(found.value_weighted[layer, head, dest], expected, atol=1e-5)
    np.testing.assert_allclose(found.v_norms[layer, head], v.norm(dim=-1).numpy(), atol=1e-5)
    total = edges.sum(0) * scale
    np.testing.assert_allclose(total, cache["head_out", layer][0, dest, head], atol=1e-5)


def test_interventions_change_what_is_read(gpt2: Any) -> None:
    """Forbids patterns of the unchanged model beside an ablation."""
    edit = zero("z", 0, heads=[1])
    plain = read_attention(gpt2.hooked, gpt2.tokens[:1]).pattern
    changed = read_attention(gpt2.hooked, gpt2.tokens[:1], interventions=[edit]).pattern
    np.testing.assert_array_equal(plain[0], changed[0])
    assert not np.allclose(plain[1:], changed[1:], atol=1e-4)


def test_guesses_and_frame(tiny_world: HookedModel) -> None:
    """Forbids a frame whose edges, tokens or guesses belong to other places."""
    found = read_attention(tiny_world, "The Eiffel Tower is in", scores=True, value_weighted=True)
    logits = tiny_world.run("The Eiffel Tower is in")[0]
    np.testing.assert_array_equal(found.top_ids[:, 0], logits.argmax(-1).numpy())
    assert found.top_tokens[-1][0] == tiny_world.to_string([int(found.top_ids[-1, 0])])
    frame = found.to_frame()
    n = len(found.token_ids)
    assert len(frame) == found.n_layers * found.n_heads * n * (n + 1) // 2
    line = frame[(frame.layer == 4) & (frame["head"] == 7) & (frame.dest == 5) & (frame.src == 2)]
    assert line.pattern.item() == found.pattern[4, 7, 5, 2]
    assert (line.dest_token.item(), line.src_token.item()) == (found.tokens[5], found.tokens[2])


def test_mean_attention_is_the_mean_of_prompts(gpt2: Any, monkeypatch: Any) -> None:
    """Forbids an average that depends on how prompts are put into batches."""
    monkeypatch.setattr("lens_core.attention.patterns._HELD_NUMBERS", 3 * 4 * 81 * 2)
    tokens = torch.randint(1, 120, (5, 9), generator=torch.Generator().manual_seed(3))
    one_by_one = np.stack([read_attention(gpt2.hooked, row[None]).pattern for row in tokens])
    found = mean_attention(gpt2.hooked, tokens)
    np.testing.assert_allclose(found.pattern, one_by_one.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.std, one_by_one.std(0), atol=1e-5)
    assert found.to_frame()["std"].max() > 0


def test_mean_attention_labels_what_prompts_share(tiny_world: HookedModel) -> None:
    """Forbids a label that shows one prompt's word as if all had it."""
    found = mean_attention(tiny_world, ["The cat is in", "The dog is in"])
    assert found.labels[1] == "The"
    assert found.labels[2] == " cat ...|2"


def test_mean_attention_refuses_other_lengths(tiny_world: HookedModel) -> None:
    """Forbids averaging columns that are different places, and an empty average."""
    with pytest.raises(TokenError, match="same number of tokens; these have 5, 6"):
        mean_attention(tiny_world, ["The cat is in", "The cat is in there"])
    with pytest.raises(TokenError, match="none"):
        mean_attention(tiny_world, [])


def test_one_prompt_at_a_time(gpt2: Any, tiny_world: HookedModel) -> None:
    """Forbids a result that silently shows the first of several prompts, or of none."""
    with pytest.raises(TokenError):
        read_attention(gpt2.hooked, gpt2.tokens)
    with pytest.raises(EmptyPromptError):
        read_attention(tiny_world, "")


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), mass=st.floats(0.05, 0.95))
def test_strongest_edges_are_enough_and_no_more(seed: int, mass: float) -> None:
    """Forbids keeping too little attention, or an edge that is not needed for the share."""
    pattern = np.random.default_rng(seed).dirichlet(np.full(6, 0.4), size=(2, 6)).astype("f4")
    kept = strongest_edges(pattern, mass)
    held = (pattern * kept).sum(-1)
    assert (held >= mass - 1e-5).all()
    weakest = np.where(kept, pattern, np.inf).min(-1)
    assert (held - weakest < mass + 1e-5).all()
    assert (np.where(kept, -np.inf, pattern).max(-1) <= weakest).all()


def test_strongest_edges_at_the_ends() -> None:
    """Forbids drawing edges of weight 0 at 100%, or any at 0%; NaN is no edge."""
    pattern = np.array([[1.0, 0.0, np.nan], [0.5, 0.5, 0.0]])
    assert not strongest_edges(pattern, 0.0).any()
    np.testing.assert_array_equal(
        strongest_edges(pattern, 1.0), [[True, False, False], [True, True, False]]
    )
    np.testing.assert_array_equal(strongest_edges(pattern, 0.5)[1], [True, False, False])
    with pytest.raises(ValueError, match="0 to 1"):
        strongest_edges(pattern, 1.2)
