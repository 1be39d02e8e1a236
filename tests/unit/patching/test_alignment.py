"""Pairs of prompts: matched by length, by a marked span, or padded when that is asked for."""

import pytest
import torch

from lens_core.model.errors import EmptyPromptError, TokenError
from lens_core.patching import AlignmentError, prompt_pair


def words(model, n):
    """Words of the model that are one token each."""
    texts = [model.to_string([i]) for i in range(model.cfg.d_vocab)]
    good = [t for t in texts if t.startswith(" ") and t[1:].isalpha() and len(t) > 3]
    return [t.strip() for t in good[:n]]


@pytest.fixture
def some(tiny_world):
    return words(tiny_world, 12)


def test_equal_lengths_match_one_to_one(tiny_world, some):
    """Forbids a pair whose positions are off by its BOS token."""
    a, b, c, d, *_ = some
    pair = prompt_pair(tiny_world, f" {a} {b} {c}", f" {a} {d} {c}", f" {a}", f" {b}")
    assert pair.same_length
    assert len(pair.clean) == len(pair.corrupted)
    assert pair.matches.tolist() == [[i, i] for i in range(len(pair.clean))]
    assert pair.differing == (len(pair.clean) - 2,)
    assert tiny_world.to_string([pair.answer]) == f" {a}"


def test_unequal_lengths_are_refused_with_what_to_do(tiny_world, some):
    """Forbids a sweep that pairs words which do not answer to each other."""
    a, b, c, *_ = some
    with pytest.raises(AlignmentError, match=r"brackets.*pad"):
        prompt_pair(tiny_world, f" {a} {b} {c}", f" {a} {c}", f" {a}")
    with pytest.raises(AlignmentError, match="both prompts"):
        prompt_pair(tiny_world, f" {a} [{b}] {c}", f" {a} {c}", f" {a}")
    with pytest.raises(AlignmentError, match="length"):
        prompt_pair(tiny_world, a, b, f" {a}", align="nonsense")


def test_a_marked_span_matches_from_its_end(tiny_world, some):
    """Forbids a subject's last token that answers to another word."""
    a, b, c, d, e, *_ = some
    pair = prompt_pair(tiny_world, f" {a} [{b} {c}] {d}", f" {a} [{e}] {d}", f" {a}", f" {b}")
    clean = tiny_world.to_tokens(f" {a} {b} {c} {d}")[0]
    assert torch.equal(pair.clean, clean)
    n = len(clean)
    matched = pair.matches.tolist()
    assert [n - 1, n - 2] in matched  # the word after the span
    assert [n - 2, n - 3] in matched  # the span's last word
    assert n - 3 not in [i for i, _ in matched]  # the span's first word has no counterpart
    assert not pair.same_length


def test_prompts_that_differ_outside_of_the_span_are_refused(tiny_world, some):
    """Forbids a match of what comes before or after the mark by guess."""
    a, b, c, d, *_ = some
    with pytest.raises(AlignmentError, match="before"):
        prompt_pair(tiny_world, f" {a} {d} [{b}] {c}", f" {a} [{b}] {c}", f" {a}")
    with pytest.raises(AlignmentError, match="after"):
        prompt_pair(tiny_world, f" {a} [{b}] {c}", f" {a} [{b}] {c} {d}", f" {a}")
    with pytest.raises(AlignmentError, match="one span"):
        prompt_pair(tiny_world, f" [{a}] [{b}]", f" [{a}] [{b}]", f" {a}")


def test_padding_is_on_the_left_and_said(tiny_world, some):
    """Forbids padding nobody asked for, and padding that counts as a word."""
    a, b, c, *_ = some
    pair = prompt_pair(tiny_world, f" {a} {b} {c}", f" {a} {c}", f" {a}", align="pad")
    assert pair.padding == (0, 1)
    assert len(pair.clean) == len(pair.corrupted)
    assert pair.matches[:, 0].min() == 1
    assert torch.equal(pair.corrupted[1:], tiny_world.to_tokens(f" {a} {c}")[0])


def test_answers_are_single_tokens(tiny_world, some):
    """Forbids a two-token answer whose second half nobody measures."""
    a, b, *_ = some
    with pytest.raises(TokenError, match="tokens"):
        prompt_pair(tiny_world, a, a, f" {a} {b}")
    with pytest.raises(TokenError, match="vocabulary"):
        prompt_pair(tiny_world, a, a, 10**6)
    with pytest.raises(EmptyPromptError):
        prompt_pair(tiny_world, "", a, f" {a}")
    ids = tiny_world.to_tokens(f" {a} {b}")
    assert prompt_pair(tiny_world, ids, ids[0].tolist(), 3).answer == 3
    with pytest.raises(AlignmentError, match="one prompt"):
        prompt_pair(tiny_world, ids.expand(2, -1), ids, 3)
