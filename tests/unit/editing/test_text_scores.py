"""Fluency and consistency, against figures made by hand and against scikit-learn."""

import math

import pytest

from lens_core.editing.evaluate.text_scores import fluency, ngram_entropy_bits, tfidf_cosine


def test_entropy_is_that_of_the_ngrams():
    """Forbids entropies in nats, and n-grams that wrap around or are counted once."""
    words = ["a", "b", "a", "b", "a", "c"]  # pairs: ab ba ab ba ac
    expected = -2 * 0.4 * math.log2(0.4) - 0.2 * math.log2(0.2)
    assert ngram_entropy_bits(words, 2) == pytest.approx(expected)


def test_fluency_weighs_triples_twice_and_is_their_mean():
    """Forbids the plain mean: the published code weighs pairs 2/3 and triples 4/3, then halves."""
    text = "one two three four five"
    expected = (2 / 3 * math.log2(4) + 4 / 3 * math.log2(3)) / 2
    assert fluency(text) == pytest.approx(expected)


def test_a_text_that_repeats_itself_scores_low():
    """Forbids a score that a broken model, which says one word for ever, could win."""
    assert fluency("Rome " * 40) == 0.0
    assert fluency("") == 0.0


def test_consistency_is_scikit_learns():
    """Forbids another smoothing or another idea of a word than the paper's library has."""
    text = pytest.importorskip("sklearn.feature_extraction.text")
    pairs = [
        ("The tower stands in Rome, a city.", "Rome is a city; the tower, in Italy, stands."),
        ("I saw it", "nothing in common here"),
    ]
    for a, b in pairs:
        matrix = text.TfidfVectorizer().fit_transform([a, b])
        assert tfidf_cosine(a, b) == pytest.approx(float((matrix[0] @ matrix[1].T).sum()))
    assert tfidf_cosine("", "words") == 0.0
