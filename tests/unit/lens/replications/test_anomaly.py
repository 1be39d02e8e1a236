"""Anomaly detection: prompts, trajectories, detectors with planted truth."""

import sys

import numpy as np
import pytest

from lens_core.bootstrap import auroc
from lens_core.lens import LensDataError, LogitLens, read_lens
from lens_core.lens.replications.anomaly import (
    conflict_prompts,
    local_outlier_scores,
    mahalanobis_scores,
    trajectories,
)
from lens_core.model.errors import MissingDependencyError


def test_prompts_differ_in_the_object_alone():
    """Forbids a control sentence that is worded otherwise: length alone would tell them apart."""
    prompts = conflict_prompts(60, seed=1)
    assert len({q.subject for q in prompts}) == 60
    for q in prompts:
        assert q.true.endswith(f". {q.bare}")
        assert q.false.endswith(f". {q.bare}")
        assert q.true != q.false
        shared = len(q.bare) + 2
        first, second = q.true[:-shared].split(), q.false[:-shared].split()
        start = next(i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
        assert first[:start] == second[:start]
        assert q.subject.split()[-1] not in q.mismatched or q.subject not in q.mismatched
    assert conflict_prompts(60, seed=1) == prompts
    with pytest.raises(LensDataError):
        conflict_prompts(10**6)


def test_trajectories_are_those_of_the_lens_at_the_last_token(gpt2):
    """Forbids padding read for a token where prompts of a batch differ in length."""
    prompts = ["ab", "The cat sat.", "x"]
    seen = trajectories(gpt2, LogitLens(), prompts, k=3)
    assert seen.logprobs.shape == (3, 4, 3)
    assert seen.features.shape == (3, 12)
    for n, prompt in enumerate(prompts):
        lens = read_lens(gpt2, prompt, targets=[])
        final = lens.top_ids[-1, -1, :3]
        again = read_lens(gpt2, prompt, targets=[int(i) for i in final])
        np.testing.assert_allclose(seen.logprobs[n], again.target_logprobs[:, -1], atol=1e-4)
        assert seen.answers[n] == final[0]
    assert len(seen.to_frame()) == 12


def test_planted_outliers_are_found_and_equal_samples_are_not():
    """Forbids scores turned round, and a detector fitted to what it is asked about."""
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    normal, held, far = (
        rng.normal(size=(300, 5)),
        rng.normal(size=(200, 5)),
        rng.normal(size=(80, 5)),
    )
    far[:, 0] += 6
    for scores in (local_outlier_scores, mahalanobis_scores):
        base = scores(normal, held)
        assert auroc(base, scores(normal, far)) > 0.95
        assert abs(auroc(base, scores(normal, rng.normal(size=(200, 5)))) - 0.5) < 0.12


def test_columns_of_different_size_count_alike():
    """Forbids distances that the column with the largest numbers decides alone."""
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    normal, far = rng.normal(size=(300, 2)), rng.normal(size=(80, 2))
    far[:, 0] += 6
    scale = np.array([1.0, 1e4])
    small, large = (
        local_outlier_scores(normal, far),
        local_outlier_scores(normal * scale, far * scale),
    )
    np.testing.assert_allclose(small, large, rtol=1e-3)


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    """Forbids a bare ModuleNotFoundError on the page."""
    monkeypatch.setitem(sys.modules, "sklearn.neighbors", None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        local_outlier_scores(np.zeros((30, 2)), np.zeros((1, 2)))
