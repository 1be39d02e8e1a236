"""Intervals over documents, rank statistics, Aitchison geometry: identities and planted truth."""

import numpy as np
import pytest
import torch

from lens_core.bootstrap import (
    auroc,
    mean_over_documents,
    over_documents,
    spearman,
    spearman_over_documents,
)
from lens_core.lens.replications import aitchison_cosine
from lens_core.lens.replications.difficulty import _settled, partial_spearman


def test_tokens_of_one_document_are_drawn_together():
    """Forbids intervals over tokens: here they would be ten times too narrow."""
    rng = np.random.default_rng(0)
    of_document = rng.normal(size=40)
    values = np.repeat(of_document, 100)
    clustered = mean_over_documents(values, np.repeat(np.arange(40), 100))
    naive = mean_over_documents(values, np.arange(4000))
    assert clustered.n == 40
    assert (clustered.high - clustered.low) > 5 * (naive.high - naive.low)
    wanted = 2 * 1.96 * of_document.std() / np.sqrt(40)
    assert float(clustered.high - clustered.low) == pytest.approx(wanted, rel=0.25)


def test_documents_need_not_be_in_order():
    """Forbids taking runs of equal names for documents."""
    values, documents = np.arange(12.0), np.array([3, 1, 2] * 4)
    order = np.argsort(documents)
    mixed = mean_over_documents(values, documents, seed=4)
    sorted_ = mean_over_documents(values[order], documents[order], seed=4)
    assert float(mixed.low) == pytest.approx(float(sorted_.low))
    assert float(mixed.value) == pytest.approx(values.mean())


def test_arrays_have_one_interval_each():
    """Forbids one interval for all depths."""
    values = np.stack([np.zeros(20), np.arange(20.0)])
    at = mean_over_documents(values, np.arange(20))
    assert at.low.shape == (2,)
    assert at.low[0] == at.high[0] == 0
    assert at.low[1] < 9.5 < at.high[1]


def test_spearman_sees_order_alone_and_shares_ties():
    """Forbids Pearson, ties in order of appearance, and a division by zero."""
    x = np.array([1.0, 2.0, 3.0, 4.0])
    assert spearman(x, np.exp(9 * x)) == pytest.approx(1)
    assert spearman(x, -x) == pytest.approx(-1)
    assert spearman(x, np.ones(4)) == 0
    assert spearman(np.array([1.0, 1.0, 2.0]), np.array([2.0, 1.0, 3.0])) == pytest.approx(
        np.corrcoef([1.5, 1.5, 3], [2, 1, 3])[0, 1]
    )


def test_spearman_over_documents_of_matrices_is_over_their_means():
    """Forbids correlating tokens where directions are meant."""
    rng = np.random.default_rng(0)
    x = np.arange(5.0)[:, None] + rng.normal(size=(5, 300)) * 0.1
    at = spearman_over_documents(x, x**3, np.arange(300))
    assert float(at.value) == pytest.approx(1)
    assert float(at.low) == pytest.approx(1)


def test_partial_correlation_removes_what_a_third_explains():
    """Forbids reporting the entropy's correlation as the depth's own."""
    rng = np.random.default_rng(0)
    entropy = rng.normal(size=2000)
    depth, loss = (entropy + 0.5 * rng.normal(size=2000) for _ in range(2))
    assert spearman(depth, loss) > 0.6
    assert abs(partial_spearman(depth, loss, entropy)) < 0.1
    assert partial_spearman(depth, loss + depth, entropy) > 0.3
    assert partial_spearman(entropy, loss, entropy) == pytest.approx(0, abs=1e-6)


def test_auroc_of_equal_distributions_is_a_half_and_of_apart_ones_one():
    """Forbids a score turned round, and ties counted as wins."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 300))
    same = over_documents(lambda i: auroc(a[i], b[i]), np.arange(300))
    assert same.low < 0.5 < same.high
    assert auroc(np.zeros(5), np.ones(7)) == 1
    assert auroc(np.ones(5), np.zeros(7)) == 0
    assert auroc(np.ones(5), np.ones(7)) == 0.5


def test_aitchison_cosine_knows_no_constants_and_no_sizes():
    """Forbids a plain cosine of log-probabilities, which the normaliser would drive."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 6, 50, generator=generator)
    w = torch.rand(6, 50, generator=generator).softmax(-1)
    cosine = aitchison_cosine(x, y, w)
    torch.testing.assert_close(aitchison_cosine(3 * x + 7, y - 2, w), cosine)
    torch.testing.assert_close(aitchison_cosine(x, -y, w), -cosine)
    torch.testing.assert_close(aitchison_cosine(x, x, w), torch.ones(6))
    assert (cosine.abs() <= 1).all()
    assert aitchison_cosine(torch.zeros(1, 50), y[:1], w[:1]).item() == 0


def test_settled_is_the_first_row_from_which_all_agree():
    """Forbids the first hit in its place."""
    agrees = np.array([[True, False, True], [False, False, True], [True, False, True]])
    assert _settled(agrees).tolist() == [2, 3, 0]
