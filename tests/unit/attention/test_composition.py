"""Composition scores are the full matrices' norms, and chance is known."""

from typing import Any

import numpy as np
import pytest
import torch

from lens_core.attention import composition_scores
from lens_core.attention.composition import random_baseline


def folded(model: Any, layer: int, weight: torch.Tensor) -> torch.Tensor:
    """A reading weight of GPT-2 with its LayerNorm in it."""
    gain = model.hf_model.transformer.h[layer].ln_1.weight
    scaled = gain[:, None] * weight
    return scaled - scaled.mean(0, keepdim=True)


def test_scores_are_norms_of_the_full_products(gpt2: Any) -> None:
    """Forbids a transposed circuit, a norm left out, and the earlier head's queries."""
    model = gpt2.hooked
    found = composition_scores(model)
    (first, h), (second, g) = (0, 3), (2, 1)
    value, out = folded(model, first, model.W_V[first, h]), model.W_O[first, h]
    ov = value @ (out - out.mean(1, keepdim=True))
    query, key = (folded(model, second, w[second, g]) for w in (model.W_Q, model.W_K))
    out = model.W_O[second, g]
    later = folded(model, second, model.W_V[second, g]) @ (out - out.mean(1, keepdim=True))
    for kind, read in (("q", query @ key.T), ("k", key @ query.T), ("v", later)):
        expected = float((ov @ read).norm() / (ov.norm() * read.norm()))
        assert found.scores[kind][first, h, second, g] == pytest.approx(expected, abs=1e-5)


def test_only_earlier_heads_feed_later_ones(llama: Any) -> None:
    """Forbids scores within a layer or backwards; every other pair has one, groups included."""
    found = composition_scores(llama.hooked)
    layers = np.arange(3)
    ordered = (layers[:, None] < layers)[:, None, :, None]
    for scores in found.scores.values():
        assert scores.shape == (3, 4, 3, 4)
        assert ((scores > 0) == np.broadcast_to(ordered, scores.shape)).all()
        assert (scores <= 1 + 1e-6).all()
    assert len(found.to_frame()) == 3 * 16
    a, b, c, d = found.strongest("k", 1)[0]
    assert found.scores["k"][a, b, c, d] == found.scores["k"].max()
    above = found.above_baseline("q")
    assert np.isnan(above[1, 0, 1, 0])
    assert above[0, 0, 1, 0] == pytest.approx(found.scores["q"][0, 0, 1, 0] - found.baseline_mean)


def test_grouped_heads_share_keys(llama: Any) -> None:
    """Forbids the keys of another group: heads 0 and 1 of Llama read the same key-value head."""
    model = llama.hooked
    found = composition_scores(model, kinds=["k"]).scores["k"]
    gain = model.hf_model.model.layers[2].input_layernorm.weight[:, None]
    ov = (model.hf_model.model.layers[0].input_layernorm.weight[:, None] * model.W_V[0, 1]) @ (
        model.W_O[0, 2]
    )
    for head in range(4):
        read = (gain * model.W_K[2, head // 2]) @ (gain * model.W_Q[2, head]).T
        expected = float((ov @ read).norm() / (ov.norm() * read.norm()))
        assert found[0, 2, 2, head] == pytest.approx(expected, abs=1e-5)


def test_random_heads_are_at_the_baseline(family_named: Any) -> None:
    """Forbids a baseline that random weights do not have."""
    mean, deviation = random_baseline(256, 32, n_draws=50)
    assert mean == pytest.approx(256**-0.5, rel=0.02)
    assert deviation < 0.1 * mean
    assert random_baseline(256, 32, n_draws=50) == (mean, deviation)


def test_a_head_that_writes_nothing_composes_with_none(gpt2: Any) -> None:
    """Forbids NaN, which no colour scale survives, for heads set to zero."""
    model = gpt2.hooked
    weight = model.hf_model.transformer.h[0].attn.c_proj.weight
    with torch.no_grad():
        kept = weight.clone()
        weight[:8] = 0.0
        found = composition_scores(model)
        weight.copy_(kept)
    assert (found.scores["k"][0, 0] == 0).all()
    assert np.isfinite(found.scores["k"]).all()


def test_another_kind_is_refused(gpt2: Any) -> None:
    """Forbids a KeyError in a plot for a kind that does not exist."""
    with pytest.raises(ValueError, match="q, k or v"):
        composition_scores(gpt2.hooked, kinds=["o"])  # type: ignore[list-item]
