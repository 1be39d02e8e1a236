"""What a sweep found: one number a cell and pair, with its axes, on the raw and a 0 to 1 scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lens_core.bootstrap import Interval, over_documents
from lens_core.patching.errors import PatchingError

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, Any]
PatchWith = Literal["other run", "zero", "mean", "resample", "noise"]
Direction = Literal["denoise", "noise"]
# One index, or several that were patched together.
Label = int | tuple[int, ...]
# A gap between the two runs smaller than this share of their size is no scale to measure by.
_SMALLEST_GAP = 1e-6


class Scaled:
    """Values of patched runs between those of the clean and the corrupted run, pairs last."""

    values: Array
    clean: Array
    corrupted: Array
    seed: int

    @property
    def n_pairs(self) -> int:
        """How many pairs of prompts."""
        return len(self.clean)

    @property
    def mean(self) -> Array:
        """[...], over the pairs."""
        return np.asarray(self.values.mean(-1))

    @property
    def normalised(self) -> Array:
        """[..., pair], clean = 1 and corrupted = 0; NaN where the two runs do not differ."""
        return _normalise(self.values, self.clean, self.corrupted)

    @property
    def normalised_mean(self) -> Array:
        """[...]: the mean value on the scale of the mean runs.

        A mean of ratios would be ruled by the pairs whose two runs hardly differ.
        """
        return _normalise(self.mean, self.clean.mean(), self.corrupted.mean())

    def interval(
        self, *, normalised: bool = True, level: float = 0.95, n_resamples: int = 1000
    ) -> Interval:
        """The mean over pairs with its percentile bootstrap interval: value, low, high [...].

        Raises:
            PatchingError: one pair has no spread.
        """
        if self.n_pairs < 2:
            raise PatchingError("An interval needs at least two pairs of prompts; add some.")

        def statistic(chosen: Array) -> Array:
            mean = np.asarray(self.values[..., chosen].mean(-1))
            if not normalised:
                return mean
            return _normalise(mean, self.clean[chosen].mean(), self.corrupted[chosen].mean())

        return over_documents(
            statistic,
            np.arange(self.n_pairs),
            seed=self.seed,
            n_resamples=n_resamples,
            level=level,
        )


@dataclass(frozen=True, eq=False)
class SweepResult(Scaled):
    """Every cell of a sweep. Values are the metric of the patched run, in its own unit.

    ``values[..., i]`` is pair i; NaN where a position has no counterpart in the other prompt.
    Denoising (the corrupted run is patched) asks what is enough to bring the answer back; noising
    (the clean run is patched) what it cannot do without. On the normalised scale 1 is the clean run
    and 0 the corrupted one, whichever was patched; it may leave that range.

    Attributes:
        axes: names of the axes before the last, for example ("layer", "position").
        labels: for each axis, what each index stands for.
        values: [*axes, pair]; clean, corrupted: [pair], of the unpatched runs.
        token_texts: the tokens of the first pair's patched prompt; empty without a tokenizer.
    """

    site: str
    patch_with: PatchWith
    direction: Direction
    metric: str
    unit: str
    axes: tuple[str, ...]
    labels: Mapping[str, tuple[Label, ...]]
    values: Array
    clean: Array
    corrupted: Array
    token_texts: tuple[str, ...]
    seed: int

    def to_frame(self) -> pd.DataFrame:
        """One line a cell: its labels, the mean value and where it lies between the two runs.

        With two pairs or more, `low` and `high` are the 95% interval of the normalised mean.
        """
        import pandas as pd

        rows = list(product(*(self.labels[axis] for axis in self.axes)))
        frame = pd.DataFrame(rows, columns=list(self.axes))
        frame["value"] = self.mean.ravel()
        frame["normalised"] = self.normalised_mean.ravel()
        if self.n_pairs > 1:
            interval = self.interval()
            frame["low"], frame["high"] = interval.low.ravel(), interval.high.ravel()
        return frame


def _normalise(values: Array, clean: Any, corrupted: Any) -> Array:
    gap = np.asarray(clean - corrupted, dtype=float)
    smallest = _SMALLEST_GAP * np.maximum(np.abs(clean), np.abs(corrupted))
    gap = np.where(np.abs(gap) <= smallest, np.nan, gap)
    return np.asarray((values - corrupted) / gap)
