"""The corpus: rows that are full, begin right, and are the same from the same seed."""

import copy
import random

import numpy as np
import pytest

from lens_core.world import corpus as module
from lens_core.world.corpus import Corpus
from lens_core.world.mix import GENERATORS, PHASES, RANDOM_REPEATS, document

N_ROWS, N_CTX = 400, 128


@pytest.fixture(scope="module")
def corpus(tokenizer):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS_PER_CHUNK", N_ROWS)
        yield Corpus(tokenizer, seed=0, n_ctx=N_CTX)


@pytest.fixture(scope="module", params=list(PHASES))
def chunk(corpus, request):
    return corpus.chunk(3, phase=request.param)


def test_rows_are_full(corpus, chunk):
    """Forbids padding: the loss counts every position."""
    assert chunk.shape == (N_ROWS, N_CTX)
    assert chunk.dtype == np.int64
    assert chunk.min() >= 0
    assert chunk.max() < len(corpus.tokenizer)
    assert not (chunk[:, -6:] == corpus.bos).all(1).any()


def test_most_rows_begin_with_bos(corpus, chunk):
    """Forbids that a prompt with BOS, or one without, is never trained."""
    assert 0.84 < (chunk[:, 0] == corpus.bos).mean() < 0.96


def test_documents_are_parted_by_one_bos(corpus, chunk):
    """Forbids documents that run together or stand apart by several BOS inside a row."""
    inside = chunk[:, : N_CTX - 5]
    assert not ((inside[:, :-1] == corpus.bos) & (inside[:, 1:] == corpus.bos)).any()
    assert 1.5 < (chunk == corpus.bos).sum(1).mean() < 12


def test_a_row_reads_as_documents(corpus, chunk):
    """Forbids rows that decode to something the generators did not write."""
    text = corpus.tokenizer.decode(chunk.ravel())
    assert text.count(" the ") > 300


def test_random_repeats_repeat(corpus):
    """Forbids a "repeat" that is cut before its second copy: it would teach nothing but noise."""
    rng = np.random.RandomState(0)
    for copying in (True, False):
        for _ in range(100):
            ids = corpus._random_repeat(rng, copying)
            assert len(ids) <= N_CTX - 1
            period = next(p for p in range(3, 61) if ids[p:] == ids[:-p])
            assert len(ids) >= 2 * period or len(ids) == N_CTX - 1
            assert corpus.bos not in ids


def test_the_same_seed_gives_the_same_rows(tokenizer, corpus):
    """Forbids hidden state: a run that resumes in the middle must see what it would have seen."""
    again = Corpus(tokenizer, seed=0, n_ctx=N_CTX)
    first = corpus.chunk(7, phase="copying")
    assert not np.array_equal(corpus.chunk(8, phase="copying"), first)
    assert np.array_equal(again.chunk(7, phase="copying"), first)
    other = copy.copy(again)
    other.seed = 1
    assert not np.array_equal(other.chunk(7, phase="copying"), first)


def test_documents_depend_on_their_generator_alone():
    """Forbids the module-level ``random`` in a generator: two runs would differ."""
    for kind, generate in GENERATORS.items():
        random.seed(1)
        first = [generate(random.Random(i)) for i in range(20)]
        random.seed(2)
        assert [generate(random.Random(i)) for i in range(20)] == first, kind
        assert len(set(first)) > 10, kind


@pytest.mark.parametrize("phase", list(PHASES))
def test_the_shares_of_a_phase_add_up(phase):
    """Forbids a kind of document that no generator makes, and shares that are no shares."""
    shares = PHASES[phase]
    assert set(shares) <= set(GENERATORS)
    assert sum(shares.values()) == pytest.approx(1.0, abs=0.05)
    assert 0 < RANDOM_REPEATS[phase] < 0.2
    rng = random.Random(0)
    drawn = {document(rng, shares)[0] for _ in range(1500)}
    assert drawn == set(shares)


def test_no_document_shows_a_template(mixed_documents):
    """Forbids slots and choices that nobody filled."""
    for text in mixed_documents:
        assert text.strip()
        assert not any(mark in text for mark in ("{", "}", "[", "]", "|.", "  the")), text
