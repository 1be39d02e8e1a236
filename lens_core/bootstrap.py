"""Intervals over documents or prompts, and rank statistics.

Tokens of one document are not independent, so whole documents are drawn again (the cluster
bootstrap; Cameron, Gelbach and Miller 2008); an interval over tokens would be several times too
narrow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
N_RESAMPLES = 400


class Interval(NamedTuple):
    """A statistic and its interval; arrays of equal shape."""

    value: Array
    low: Array
    high: Array
    n: int  # documents

    def at(self, place: int) -> Interval:
        """One of several statistics."""
        return Interval(self.value[place], self.low[place], self.high[place], self.n)


def over_documents(
    statistic: Callable[[Array], Any],
    documents: Array,
    *,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
    level: float = 0.95,
) -> Interval:
    """A statistic of tokens with its percentile interval.

    Args:
        statistic: from the numbers of the chosen tokens (with repeats) to a number or an array.
        documents: Int [token], which document each token belongs to.

    >>> values = np.arange(10.0)
    >>> interval = over_documents(lambda i: values[i].mean(), np.arange(10) // 2)
    >>> float(interval.value), interval.n
    (4.5, 5)
    """
    names, owner = np.unique(documents, return_inverse=True)
    order = np.argsort(owner, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(owner))[:-1])
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(n_resamples):
        chosen = rng.integers(0, len(names), len(names))
        drawn.append(statistic(np.concatenate([members[i] for i in chosen])))
    tail = 100 * (1 - level) / 2
    low, high = np.nanpercentile(np.stack(drawn), [tail, 100 - tail], axis=0)
    return Interval(np.asarray(statistic(np.arange(len(owner)))), low, high, len(names))


def mean_over_documents(values: Array, documents: Array, *, seed: int = 0) -> Interval:
    """The mean over tokens, [..., token] to [...], with its interval."""
    return over_documents(lambda i: values[..., i].mean(-1), documents, seed=seed)


def ranks(values: Array) -> Array:
    """Ranks from 1 along the last axis, ties at their mean.

    >>> ranks(np.array([3.0, 1.0, 3.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    import pandas as pd

    return np.asarray(pd.DataFrame(np.atleast_2d(values)).rank(axis=1)).reshape(np.shape(values))


def spearman(x: Array, y: Array) -> float:
    """Rank correlation; 0 where one of them does not vary.

    >>> spearman(np.array([1.0, 2.0, 9.0]), np.array([1.0, 5.0, 6.0]))
    1.0
    """
    a, b = ranks(x), ranks(y)
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / norm) if norm else 0.0


def spearman_over_documents(x: Array, y: Array, documents: Array, *, seed: int = 0) -> Interval:
    """Rank correlation over tokens, [token] each; of [k, token], over k means of the tokens."""

    def rho(i: Array) -> float:
        a, b = x[..., i], y[..., i]
        return spearman(a, b) if a.ndim == 1 else spearman(a.mean(-1), b.mean(-1))

    return over_documents(rho, documents, seed=seed)


def auroc(normal: Array, anomalous: Array) -> float:
    """Chance that an anomalous score is above a normal one, ties half: the area under the ROC.

    >>> auroc(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
    0.875
    """
    rank = ranks(np.concatenate([normal, anomalous]))[len(normal) :]
    n, m = len(normal), len(anomalous)
    return float((rank.sum() - m * (m + 1) / 2) / (n * m))
