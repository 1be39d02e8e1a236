"""The products of a query and a key add up to the score, in every family."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from lens_core import HookedModel
from lens_core.attention import query_key
from lens_core.attention.query_key import score_scale
from lens_core.interventions import add, zero
from lens_core.model.errors import TokenError, UnknownSiteError

PLACES = ((8, 6), (8, 7), (5, 3), (3, 3), (0, 0))
BIASED = ("bloom", "falcon-alibi", "mpt")  # ALiBi
SHIFTED = ("gpt_oss",)  # takes the row's maximum away before the softmax


def test_products_add_up_to_the_score(family: Any) -> None:
    """Forbids queries or keys that are not those the model multiplies (bias, rotary, groups)."""
    for layer in range(family.hooked.cfg.n_layers):
        for dest, src in PLACES:
            found = query_key(family.hooked, family.tokens[:1], layer, 3, dest, src)
            if found.masked:
                continue
            explained = found.contributions.sum(dtype=np.float64) + found.remainder
            assert explained == pytest.approx(found.score, abs=1e-4)
            if family.name not in (*BIASED, *SHIFTED):
                assert found.remainder == pytest.approx(0.0, abs=1e-4)


def test_row_is_the_softmax_of_its_scores(family: Any) -> None:
    """Forbids a row of another head or destination."""
    found = query_key(family.hooked, family.tokens[:1], -1, 2, 8, 7)
    _, cache = family.hooked.run_with_cache(family.tokens[:1])
    layer = family.hooked.cfg.n_layers - 1
    np.testing.assert_array_equal(found.row, cache["pattern", layer][0, 2, 8].numpy())
    assert found.weight == found.row[7]
    scores = torch.tensor(found.row_scores).nan_to_num(-torch.inf)
    without_sink = scores.softmax(-1).numpy() * (1 - found.sink)
    np.testing.assert_allclose(without_sink, found.row, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("gpt2", 8**-0.5), ("gpt_neo", 1.0), ("granite", 1.0), ("gemma2", 256**-0.5), ("opt", 1.0)],
)
def test_scale_is_the_models_own(family_named: Any, name: str, expected: float) -> None:
    """Forbids 1/sqrt(d_head) where a family has another factor (or has put it into q)."""
    hooked = family_named(name).hooked
    assert score_scale(hooked, 1, 2) == pytest.approx(expected, rel=1e-3)


def test_scale_in_half_precision() -> None:
    """Forbids a factor that is a little off, and products that do not add up, in bf16."""
    model = HookedModel.from_pretrained("tiny-world", dtype="bfloat16")
    found = query_key(model, "The cat sat on the", 4, 7, -1, 2)
    assert found.scale == 32**-0.5
    assert found.remainder == pytest.approx(0.0, abs=0.02)


def test_alibi_is_the_remainder(family_named: Any) -> None:
    """Forbids hiding a bias in the products: ALiBi's falls by the same step from key to key."""
    bloom = family_named("bloom")
    left = [query_key(bloom.hooked, bloom.tokens[:1], 0, 0, 8, src).remainder for src in range(9)]
    steps = np.diff(left)
    np.testing.assert_allclose(steps, 2.0**-2, atol=1e-4)  # the first of four heads' slopes


def test_a_masked_cell_says_so(family_named: Any, gpt2: Any) -> None:
    """Forbids a number for a score that does not exist: after the query, or outside the window."""
    ahead = query_key(gpt2.hooked, gpt2.tokens[:1], 0, 0, 2, 5)
    outside = query_key(
        family_named("mistral").hooked, family_named("mistral").tokens[:1], 0, 0, 8, 1
    )
    for found in (ahead, outside):
        assert found.masked
        assert found.weight == 0.0
        assert found.score == found.remainder == -math.inf


def test_negative_positions_count_from_the_end(gpt2: Any) -> None:
    """Forbids -1 that means something else here than elsewhere."""
    last = query_key(gpt2.hooked, gpt2.tokens[:1], -1, 0, -1, -2)
    assert (last.layer, last.dest, last.src) == (2, 8, 7)
    assert len(last.to_frame()) == gpt2.hooked.cfg.d_head


def test_interventions_before_and_after_the_layer(gpt2: Any) -> None:
    """Forbids an error for an edit in a later layer, and a scale changed by one around the call."""
    later = zero("z", 2, heads=[0])
    earlier = add("resid_pre", 0, torch.arange(32.0) / 32)
    plain = query_key(gpt2.hooked, gpt2.tokens[:1], 1, 0, 8, 3)
    after = query_key(gpt2.hooked, gpt2.tokens[:1], 1, 0, 8, 3, interventions=[later])
    assert after.score == plain.score
    with gpt2.hooked.interventions(zero("mlp_out", 0), later):
        inside = query_key(gpt2.hooked, gpt2.tokens[:1], 1, 0, 8, 3)
    before = query_key(gpt2.hooked, gpt2.tokens[:1], 1, 0, 8, 3, interventions=[earlier])
    for changed in (inside, before):
        assert changed.score != plain.score
        assert changed.remainder == pytest.approx(0.0, abs=1e-4)


def test_places_that_are_not_there(gpt2: Any, tiny_world: HookedModel) -> None:
    """Forbids an IndexError in front of a learner."""
    with pytest.raises(UnknownSiteError):
        query_key(gpt2.hooked, gpt2.tokens[:1], 3, 0, 1, 0)
    with pytest.raises(UnknownSiteError):
        query_key(gpt2.hooked, gpt2.tokens[:1], 0, 4, 1, 0)
    with pytest.raises(TokenError, match="positions 0 to 8"):
        query_key(gpt2.hooked, gpt2.tokens[:1], 0, 0, 9, 0)
    assert query_key(tiny_world, "The cat", 4, 7, -1, 0).tokens[-1] == " cat"
