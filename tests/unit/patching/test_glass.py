"""The planted circuit of the glass model is found, and found by each method for itself."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lens_core import HookedModel
from lens_core.model.errors import PromptTooLongError
from lens_core.patching import attribution_patching, path_patching, prompt_pair, sweep, verify


@pytest.fixture(scope="module")
def glass():
    return HookedModel.from_pretrained("glass-induction")


@pytest.fixture
def pair(glass):
    return prompt_pair(glass, "fox owl bee fox", "cat owl bee fox", " owl", " bee")


def test_the_two_planted_heads_alone_carry_the_answer(glass, pair):
    """Forbids a map that points at another head, layer or position than the planted ones."""
    scale = sweep(glass, pair, "z", positions="all").normalised_mean
    planted = [(0, 2), (1, 1)]  # the previous-token head, and the induction head that reads it
    for head in planted:
        assert scale[head] == pytest.approx(1, abs=0.05)
        scale[head] = 0
    assert np.abs(scale).max() < 0.05
    where = sweep(glass, pair, "z", layers=[1], heads=[1])
    assert where.normalised_mean[0, -1, 0] == pytest.approx(1, abs=0.05)
    assert np.abs(where.normalised_mean[0, :-1, 0]).max() < 1e-6


def test_the_previous_token_head_speaks_to_its_key(glass, pair):
    """Forbids a path that ends at the query or value of the head that reads it."""
    heads = [f"0.{head}" for head in range(glass.cfg.n_heads)]
    receivers = ["1.1.q", "1.1.k", "1.1.v"]
    found = path_patching(glass, pair, heads, receivers, direction="denoise")
    scale = found.normalised_mean
    best = np.unravel_index(np.nanargmax(scale), scale.shape)
    assert (found.senders[best[0]], found.receivers[best[1]]) == ("0.2", "1.1.k")
    assert scale[best] > 0.9
    others = np.delete(scale.ravel(), np.ravel_multi_index(best, scale.shape))
    assert np.abs(others).max() < 0.1


def test_estimates_of_a_saturated_softmax_are_shown_to_be_wrong(glass, pair):
    """Forbids a check that takes the estimate's word: here the gradient is all but zero."""
    estimate = attribution_patching(glass, pair, "k", positions="all")
    true = sweep(glass, pair, "k", positions="all")
    checked = verify(glass, pair, estimate, top=2, random=8)
    for cell, effect in zip(checked.cells, checked.true, strict=True):
        assert effect == pytest.approx(float(true.values[cell][0] - true.corrupted[0]), abs=1e-3)


def test_two_visitors_sweep_one_model_at_once(glass, pair):
    """Forbids rows of one visitor's sweep in another's."""
    other = prompt_pair(glass, "bee fox owl bee", "owl fox owl bee", " fox", " owl")
    alone = [sweep(glass, p, "resid_pre").values for p in (pair, other)]
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(sweep, glass, p, "resid_pre") for p in (pair, other) * 6]
        found = [job.result().values for job in jobs]
    for i, values in enumerate(found):
        assert np.array_equal(values, alone[i % 2])


def test_a_prompt_that_is_too_long_is_refused_in_words(tiny_world):
    """Forbids a traceback from the position embedding."""
    long = " one" * (tiny_world.cfg.n_ctx + 1)
    with pytest.raises(PromptTooLongError, match="shorten"):
        prompt_pair(tiny_world, long, long, " one")
