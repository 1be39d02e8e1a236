"""The tools of lens_core.attention find in glass what was put there, and nothing in its null."""

import math

import numpy as np
import pytest

from lens_core import HookedModel
from lens_core.attention import (
    ALL,
    WEIGHT_SCORES,
    HeadScores,
    composition_scores,
    copying_direct,
    copying_eigenvalues,
    head_scores,
    ov_promoted,
    query_key,
    read_attention,
)
from lens_core.glass import induction
from lens_core.glass.truth import INDUCTION_TRUTH, LOOKUP_TRUTH, GlassTruth

HALF = 12
TRUTHS = (INDUCTION_TRUTH, LOOKUP_TRUTH)
HEADS = [(truth, head.name) for truth in TRUTHS for head in truth.heads]


@pytest.fixture(scope="module")
def models() -> dict[str, HookedModel]:
    return {truth.name: HookedModel.from_pretrained(truth.name) for truth in TRUTHS}


@pytest.fixture(scope="module")
def scored(models) -> dict[str, HeadScores]:
    return {name: head_scores(m, half=HALF, n_sequences=4) for name, m in models.items()}


def means(pattern: np.ndarray, tokens: tuple[int, ...]) -> dict[str, float]:
    """The scores of one pattern, worked out edge by edge from their definitions."""
    queries = range(1, len(tokens))
    repeats = [q for q in queries if tokens[q] in tokens[:q]]
    edges = {q: [k for k in range(1, q + 1) if tokens[k - 1] == tokens[q]] for q in repeats}
    entropies = [-sum(a * math.log(a) for a in pattern[q] if a > 0) for q in queries]
    copies = {q: [k for k in range(q) if tokens[k] == tokens[q]] for q in repeats}
    return {
        "previous_token": np.mean([pattern[q, q - 1] for q in queries]),
        "current_token": np.mean([pattern[q, q] for q in queries]),
        "first_token": np.mean([pattern[q, 0] for q in queries]),
        "duplicate_token": np.mean([pattern[q, copies[q]].sum() for q in repeats]),
        "induction": np.mean([pattern[q, edges[q]].sum() for q in repeats]),
        "prefix_matching": np.mean([pattern[q, k] for q in repeats for k in edges[q]]),
        "entropy_nats": np.mean(entropies),
        "locality": np.mean([sum(pattern[q, k] * (q - k) for k in range(q)) for q in queries]),
    }


@pytest.mark.parametrize(("truth", "head"), HEADS)
def test_every_pattern_score_of_every_head_is_that_of_its_rule(scored, truth: GlassTruth, head):
    """Forbids a score that counts other edges than its definition says, in any head."""
    found = scored[truth.name]
    per_sequence = [
        means(truth.expected_pattern(*head, tokens), tokens) for tokens in found.token_ids
    ]
    for name in set(ALL) - set(WEIGHT_SCORES):
        expected = np.mean([one[name] for one in per_sequence])
        slack = 1e-2 if name in ("entropy_nats", "locality") else 1e-3
        assert found[name].value[head] == pytest.approx(expected, abs=slack), name


@pytest.mark.parametrize("name", set(ALL) - {"duplicate_token", "entropy_nats", "locality"})
def test_exactly_the_planted_heads_reach_the_ceiling(scored, name):
    """Forbids a detector that misses a planted head or finds one that was not planted."""
    for truth in TRUTHS:
        found = scored[truth.name][name]
        high = {divmod(int(i), 4) for i in np.flatnonzero(found.value > 0.9 * found.ceiling)}
        assert high == truth.with_top(name)


def test_in_the_null_twin_no_head_is_above_even_attention(scored):
    """Forbids a score that sees a head where every head looks at everything alike."""
    for name, found in scored[LOOKUP_TRUTH.name].items():
        expected = 0.0 if name in WEIGHT_SCORES else found.uniform
        assert np.allclose(found.value, expected, atol=1e-6), name


def test_copying_is_found_in_the_induction_head_alone(models):
    """Forbids a silent head that counts as copying because all its numbers are equal."""
    words = range(2, len(induction.VOCABULARY))
    for truth in TRUTHS:
        expected = np.zeros((2, 4))
        if truth.circuit:
            expected[truth.circuit["induction"]] = 1.0
        model = models[truth.name]
        assert np.allclose(copying_eigenvalues(model).score, expected, atol=1e-5)
        direct = copying_direct(model, words)
        assert np.array_equal(direct.top1, expected)
        assert np.array_equal(direct.top5, expected)


@pytest.mark.parametrize("word", ["ant", "fox", "wolf"])
def test_the_induction_head_promotes_the_word_that_it_reads(models, word):
    """Forbids an OV circuit read the wrong way round, and one read into a decoy."""
    model = models[INDUCTION_TRUTH.name]
    written = ov_promoted(model, *INDUCTION_TRUTH.circuit["induction"], word, k=2)
    assert written.promoted[0].strip() == word
    assert written.promoted_logits[0] > 10 * abs(written.promoted_logits[1])
    for layer, head in INDUCTION_TRUTH.decoys:
        silent = ov_promoted(model, layer, head, word)
        assert not np.any(silent.promoted_logits)
        assert not np.any(silent.suppressed_logits)


@pytest.mark.parametrize("kind", ["q", "k", "v"])
def test_composition_is_what_the_weights_say_and_zero_elsewhere(models, kind):
    """Forbids composition between heads that share no column, and a silent head's 0 / 0."""
    for truth in TRUTHS:
        expected = np.zeros((2, 4, 2, 4))
        for known in truth.composition:
            if known.kind == kind:
                expected[(*known.earlier, *known.later)] = known.score
        found = composition_scores(models[truth.name])
        assert np.allclose(found.scores[kind], expected, atol=1e-5)
        if expected.any():
            assert expected.max() > found.baseline_mean + 50 * found.baseline_std


def test_attention_that_writes_nothing_has_no_weighted_pattern(models):
    """Forbids a value-weighted pattern that shows a decoy as if it moved something."""
    prompt = "fox owl bee fox"
    for truth in TRUTHS:
        found = read_attention(models[truth.name], prompt, value_weighted=True)
        for head in truth.heads:
            assert np.any(found.value_weighted[head.name]) == (head.writes is not None)


def test_a_match_is_made_of_one_dimension(models):
    """Forbids a sum of products that is not the score, or that is spread over idle dimensions."""
    model = models[INDUCTION_TRUTH.name]
    tokens = model.to_tokens("fox owl bee fox")
    layer, head = INDUCTION_TRUTH.circuit["induction"]
    match = query_key(model, tokens, layer, head, dest=4, src=2)
    used = np.abs(match.products) > 1e-4 * np.abs(match.products).max()
    assert np.flatnonzero(used).tolist() == [induction.WORDS.index("fox")]
    total = match.products.sum() * match.scale + match.remainder
    assert total == pytest.approx(match.score, abs=1e-4)
