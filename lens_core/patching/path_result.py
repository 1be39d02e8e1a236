"""What path patching found: one number a path and pair, from each sender to each receiver."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from lens_core.patching.result import Array, Direction, Scaled

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class PathResult(Scaled):
    """Every sender with every receiver. Values are the metric, in its own unit.

    NaN where no sender comes before a receiver. Scales and intervals as of `SweepResult`.

    Attributes:
        senders, receivers: names, several joined by " + ".
        values: [sender, receiver, pair]; clean, corrupted: [pair], of the unpatched runs.
        through_mlps: whether the MLPs in between passed the change on.
    """

    senders: tuple[str, ...]
    receivers: tuple[str, ...]
    direction: Direction
    through_mlps: bool
    metric: str
    unit: str
    values: Array
    clean: Array
    corrupted: Array
    seed: int = 0

    @property
    def moved(self) -> Array:
        """[sender, receiver]: the share of the way that a path moves the patched run to the other.

        0 is nothing and 1 all of it, in either direction; below 0 it moves away.
        """
        share = self.normalised_mean
        return share if self.direction == "denoise" else 1 - share

    def strongest(self, n: int) -> tuple[tuple[str, str], ...]:
        """Sender and receiver of the paths that move the answer most, signs aside.

        >>> result = PathResult(("0.0", "0.1"), ("logits",), "denoise", True, "logit", "logits",
        ...     np.array([[[0.1]], [[-0.9]]]), np.array([1.0]), np.array([0.0]))
        >>> result.strongest(1)
        (('0.1', 'logits'),)
        """
        sizes = np.nan_to_num(np.abs(self.moved), nan=-1.0).ravel()
        order = [i for i in np.argsort(-sizes, kind="stable") if sizes[i] >= 0][:n]
        width = len(self.receivers)
        return tuple((self.senders[i // width], self.receivers[i % width]) for i in order)

    def to_frame(self) -> pd.DataFrame:
        """One line a path; `low` and `high` are the normalised mean's interval over pairs."""
        import pandas as pd

        frame = pd.DataFrame(
            list(product(self.senders, self.receivers)), columns=["sender", "receiver"]
        )
        frame["value"] = self.mean.ravel()
        frame["normalised"] = self.normalised_mean.ravel()
        if self.n_pairs > 1:
            interval = self.interval()
            frame["low"], frame["high"] = interval.low.ravel(), interval.high.ravel()
        return frame
