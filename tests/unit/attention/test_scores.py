"""Head scores are what their formulas say, and say what they can reach."""

from typing import Any

import numpy as np
import pytest
import torch

from lens_core import HookedModel
from lens_core.attention import (
    ALL,
    KINDS,
    PATTERN_SCORES,
    head_scores,
    largest_half,
    random_twin,
    read_attention,
    repeated_random_tokens,
)
from lens_core.attention.kinds import LINEAR, cells
from lens_core.interventions import zero
from lens_core.model.errors import PromptTooLongError, TokenError

TOKENS = [7, 3, 5, 3, 5, 5, 9, 3]  # 3 three times, 5 three times and once beside itself


def by_hand(name: str, a: np.ndarray, t: list[int]) -> float:
    """The formulas, written once more as loops; ``a`` is [T, T]."""
    n = len(t)
    every = range(1, n)
    copies = {q: [k for k in range(q) if t[k] == t[q]] for q in range(n)}
    repeated = [q for q in range(n) if copies[q]]
    edges = [(q, k + 1) for q in repeated for k in copies[q]]
    values = {
        "previous_token": lambda: [a[q, q - 1] for q in every],
        "current_token": lambda: [a[q, q] for q in every],
        "first_token": lambda: [a[q, 0] for q in every],
        "duplicate_token": lambda: [sum(a[q, k] for k in copies[q]) for q in repeated],
        "induction": lambda: [sum(a[q, k + 1] for k in copies[q]) for q in repeated],
        "prefix_matching": lambda: [a[q, k] for q, k in edges],
        "entropy_nats": lambda: [-sum(p * np.log(p) for p in a[q] if p > 0) for q in every],
        "locality": lambda: [sum(a[q, k] * (q - k) for k in range(q + 1)) for q in every],
    }[name]()
    return float(np.mean(values))


@pytest.mark.parametrize("name", PATTERN_SCORES)
def test_scores_are_their_formulas(gpt2: Any, name: str) -> None:
    """Forbids an offset by one, a mean over the wrong queries, or another head's pattern."""
    tokens = torch.tensor([TOKENS])
    score = head_scores(gpt2.hooked, tokens, names=[name], control=False)[name]
    patterns = read_attention(gpt2.hooked, tokens).pattern.astype(float)
    for layer, head in ((0, 0), (1, 3), (2, 2)):
        expected = by_hand(name, patterns[layer, head], TOKENS)
        assert score.value[layer, head] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", LINEAR)
def test_limits_are_reached_and_not_passed(name: str) -> None:
    """Forbids a ceiling that no pattern reaches, or that one passes."""
    part = cells(name, torch.tensor([TOKENS]))
    least, most, even = (float(limit) for limit in part.limits())
    n, weights = len(TOKENS), part.weights[0].numpy()
    best, worst, flat = np.zeros((3, n, n))
    for q in range(n):
        best[q, weights[q, : q + 1].argmax()] = 1
        worst[q, weights[q, : q + 1].argmin()] = 1
        flat[q, : q + 1] = 1 / (q + 1)
    for pattern, limit in ((best, most), (worst, least), (flat, even)):
        assert by_hand(name, pattern, TOKENS) == pytest.approx(limit, abs=1e-6)
    drawn = np.random.default_rng(0).dirichlet(np.ones(n), size=(200, n))
    drawn = np.tril(drawn) / np.tril(drawn).sum(-1, keepdims=True)
    values = [by_hand(name, pattern, TOKENS) for pattern in drawn]
    assert least - 1e-6 <= min(values) <= max(values) <= most + 1e-6


def test_prefix_matching_has_its_papers_ceiling(tiny_world: HookedModel) -> None:
    """Forbids showing Olsson et al.'s score on four copies as if 1 could be reached: it is 1/2."""
    found = head_scores(
        tiny_world, copies=4, n_sequences=3, names=["prefix_matching", "induction"], control=False
    )
    assert found["prefix_matching"].ceiling == pytest.approx(0.5)
    assert found["induction"].ceiling == pytest.approx(1.0)
    assert found["prefix_matching"].value.max() < 0.5 < found["induction"].value.max()


def test_all_scores_of_the_shipped_model(tiny_world: HookedModel) -> None:
    """Forbids scores outside their limits or interval, and a control that looks like the model."""
    found = head_scores(tiny_world, n_sequences=8)
    assert list(found) == list(ALL)
    assert (found.half, found.copies, len(found.token_ids[0])) == (25, 2, 51)
    for name, score in found.items():
        assert score.kind is KINDS[name]
        assert score.reason is None
        assert score.value.shape == (8, 8)
        assert (score.value >= score.floor - 1e-6).all()
        assert (score.value <= score.ceiling + 1e-6).all()
        assert score.control is not None
        if score.per_sequence is not None:
            assert score.per_sequence.shape == (8, 8, 8)
            assert (score.low <= score.value).all()
            assert (score.value <= score.high).all()
    induction, control = found["induction"], found["induction"].control
    assert induction.value.max() > 0.9
    assert control is not None
    assert control.max() < 0.1
    best = found.ranking("induction")[0]
    assert induction.value[best] == induction.value.max()
    frame = found.to_frame()
    assert len(frame) == len(ALL) * 64
    of_best = frame[(frame.score == "induction") & (frame.layer == best[0])]
    assert of_best.value.max() == induction.value[best]


def test_the_same_seed_is_the_same_result(tiny_world: HookedModel) -> None:
    """Forbids figures that cannot be reproduced from what is shown beside them."""
    first, again, other = (
        head_scores(tiny_world, n_sequences=4, names=["induction"], seed=seed) for seed in (3, 3, 4)
    )
    assert first.token_ids == again.token_ids != other.token_ids
    for attribute in ("value", "low", "high", "control"):
        np.testing.assert_array_equal(
            getattr(first["induction"], attribute), getattr(again["induction"], attribute)
        )


def test_batches_do_not_change_scores(gpt2: Any, monkeypatch: Any) -> None:
    """Forbids a value that depends on how many sequences fit into memory at once."""
    tokens = repeated_random_tokens(gpt2.hooked, n_sequences=5, half=6)
    whole = head_scores(gpt2.hooked, tokens, control=False)
    monkeypatch.setattr("lens_core.attention.raw_scores._HELD_NUMBERS", 2 * 12 * 144)
    parts = head_scores(gpt2.hooked, tokens, control=False)
    for name in PATTERN_SCORES:
        np.testing.assert_allclose(parts[name].value, whole[name].value, atol=1e-6)


def test_own_text_without_repeats_has_no_value_and_a_reason(tiny_world: HookedModel) -> None:
    """Forbids 0 for a score that there is nothing to measure on."""
    found = head_scores(tiny_world, text="The cat sat", control=False)
    for name, score in found.items():
        if KINDS[name].needs_repeats:
            assert np.isnan(score.value).all()
            assert score.reason == "No token comes twice in this text."
            assert found.ranking(name) == []
        else:
            assert np.isfinite(score.value).all()
        assert np.isnan(score.low).all()  # one text gives no interval


def test_texts_of_different_lengths(tiny_world: HookedModel) -> None:
    """Forbids padding that is attended to, and a text without repeats that pulls the mean down."""
    texts = ["Ann met Bob. Ann met", "The cat sat", "a b a b a b a b"]
    found = head_scores(tiny_world, text=texts, names=["induction", "locality"], control=False)
    one = [head_scores(tiny_world, text=t, names=["induction"], control=False) for t in texts]
    parts = np.stack([score["induction"].value for score in one])
    np.testing.assert_allclose(found["induction"].value, np.nanmean(parts, axis=0), atol=1e-6)
    assert np.isfinite(found["induction"].low).all()
    assert found.origin == "text"
    assert found.half is None


def test_interventions_are_scored(tiny_world: HookedModel) -> None:
    """Forbids scores of the unchanged model beside an ablation, and an error for a late edit."""
    plain = head_scores(tiny_world, n_sequences=4, names=["induction"], control=False)
    edits = [*(zero("z", layer) for layer in range(4)), zero("ln_final", None)]
    changed = head_scores(
        tiny_world, n_sequences=4, names=["induction"], control=False, interventions=edits
    )
    assert changed["induction"].value.max() < plain["induction"].value.max() - 0.2


def test_sequences_repeat_and_hold_no_special_tokens(tiny_world: HookedModel) -> None:
    """Forbids BOS in the middle, a token twice in a half, and copies that differ."""
    tokens = repeated_random_tokens(tiny_world, n_sequences=20, half=25, copies=3, seed=1)
    assert tokens.shape == (20, 76)
    assert (tokens[:, 0] == tiny_world.bos_id).all()
    assert (tokens[:, 1:] != tiny_world.bos_id).all()
    first = tokens[:, 1:26]
    for copy in (1, 2):
        assert torch.equal(first, tokens[:, 1 + 25 * copy : 26 + 25 * copy])
    assert all(len(set(row.tolist())) == 25 for row in first)
    assert largest_half(tiny_world, 2) == 63


def test_small_vocabularies_get_shorter_halves() -> None:
    """Forbids a failure on the glass model of four words; the result says what was done."""
    model = HookedModel.from_pretrained("glass-copy")
    found = head_scores(model, n_sequences=4, names=["induction"], control=False)
    assert found.half == largest_half(model)
    with pytest.raises(TokenError, match="use a half of at most"):
        repeated_random_tokens(model, half=60)


def test_what_does_not_fit_is_refused(gpt2: Any) -> None:
    """Forbids positions that the model does not have, and a typing error that scores nothing."""
    with pytest.raises(PromptTooLongError, match="at most 32"):
        repeated_random_tokens(gpt2.hooked, half=33)
    with pytest.raises(ValueError, match="previous_token"):
        head_scores(gpt2.hooked, names=["previous"])
    with pytest.raises(TokenError, match="not both"):
        head_scores(gpt2.hooked, gpt2.tokens, text="a")
    with pytest.raises(TokenError, match="at least one"):
        head_scores(gpt2.hooked, text=[])


def test_scores_of_any_family(family: Any) -> None:
    """Forbids a family (windows, groups, sinks, offloaded parts) in which scoring fails."""
    found = head_scores(family.hooked, n_sequences=2, half=5, control=False, names=PATTERN_SCORES)
    for score in found.values():
        assert np.isfinite(score.value).all()
        assert (score.value <= score.ceiling + 1e-5).all()


@pytest.mark.parametrize("name", ["gpt2", "llama", "bloom", "gemma2"])
def test_twin_has_the_sizes_and_nothing_else(family_named: Any, name: str) -> None:
    """Forbids a control that shares weights with the model, or changes it, or differs each time."""
    model = family_named(name).hooked
    before = {key: value.clone() for key, value in model.hf_model.state_dict().items()}
    twin, again = random_twin(model, 1), random_twin(model, 1)
    assert all(torch.equal(before[k], v) for k, v in model.hf_model.state_dict().items())
    tokens = family_named(name).tokens
    assert torch.equal(twin.run(tokens), again.run(tokens))
    assert not torch.equal(twin.run(tokens), random_twin(model, 2).run(tokens))
    for layer in range(model.cfg.n_layers):
        ours, theirs = model.W_O[layer], twin.W_O[layer]
        assert float(theirs.norm() / ours.norm()) == pytest.approx(1.0, abs=0.1)
        cosine = torch.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0)
        assert abs(float(cosine)) < 0.15
