"""One measured figure: its value, its interval, how many examples, and what it had to reach."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Z95 = 1.959964


@dataclass(frozen=True)
class Figure:
    """A figure about many examples.

    ``low`` and ``high`` bound the 95% interval; ``at_least``/``at_most`` is what the gate asks for.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    unit: str = "%"
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def passed(self) -> bool | None:
        """Whether the gate is met; None for a figure that is printed without a bar."""
        if self.at_least is not None:
            return self.value >= self.at_least
        if self.at_most is not None:
            return self.value <= self.at_most
        return None


def share(name: str, hits: Sequence[bool | float], **gate: float | str | None) -> Figure:
    """A share of hits in percent with Wilson's interval; no hits at all measured is an error."""
    n = len(hits)
    if n == 0:
        raise ValueError(f"{name}: there is nothing to measure.")
    p = sum(map(float, hits)) / n
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n))
    return Figure(name, 100 * p, 100 * (centre - half), 100 * (centre + half), n, "%", **gate)  # type: ignore[arg-type]


def average(
    name: str, values: Sequence[float], unit: str, *, seed: int = 0, **gate: float | str | None
) -> Figure:
    """A mean with a bootstrap interval over the examples (2,000 resamples)."""
    x = np.asarray(values, dtype=float)
    draws = np.random.RandomState(seed).randint(0, len(x), (2000, len(x)))
    low, high = np.percentile(x[draws].mean(1), [2.5, 97.5])
    return Figure(name, float(x.mean()), float(low), float(high), len(x), unit, **gate)  # type: ignore[arg-type]


def median(
    name: str, values: Sequence[float], unit: str, *, seed: int = 0, **gate: float | str | None
) -> Figure:
    """A median with a bootstrap interval over the examples (2,000 resamples)."""
    x = np.asarray(values, dtype=float)
    draws = np.random.RandomState(seed).randint(0, len(x), (2000, len(x)))
    low, high = np.percentile(np.median(x[draws], 1), [2.5, 97.5])
    return Figure(name, float(np.median(x)), float(low), float(high), len(x), unit, **gate)  # type: ignore[arg-type]
