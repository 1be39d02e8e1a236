"""What a cell of a lens can be coloured by, each with one fixed range for every page.

Strong colour always means *closer to a settled answer*: a high probability, a good rank, few bits
of entropy, a small divergence from the final output. So switching never turns the picture over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lens_core.lens import LensResult

Array = np.ndarray[Any, Any]
NATS_PER_BIT = float(np.log(2.0))


@dataclass(frozen=True)
class Quantity:
    """One figure a cell: its name, its values, how they become a shade and how they are written.

    ``shade(values, d_vocab)`` is in [0, 1], 1 the strongest colour; ``ticks(d_vocab)`` are the
    values to write under the colour scale.
    """

    key: str
    label: str
    unit: str
    explain: str
    values: Callable[[LensResult], Array]
    shade: Callable[[Array, int], Array]
    write: Callable[[float], str]
    write_tick: Callable[[float], str]
    ticks: Callable[[int], tuple[float, ...]]


def _percent(value: float) -> str:
    return "<1%" if 0 < value < 0.01 else f"{value:.0%}"


def _count(value: float) -> str:
    return f"{int(value):,}".replace(",", "\N{THIN SPACE}")


def _two_places(value: float) -> str:
    return "∞" if np.isinf(value) else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _short(value: float) -> str:
    return f"{value:.3g}"


def _rank_ticks(d_vocab: int) -> tuple[float, ...]:
    # A power of ten that nearly is the whole vocabulary would be written over its end.
    return (*(float(n) for n in (1, 10, 100, 1000, 10_000) if 4 * n < d_vocab), float(d_vocab))


QUANTITIES = {
    quantity.key: quantity
    for quantity in (
        Quantity(
            "probability",
            "Probability",
            "",
            "How much probability the best guess of this cell has, from 0 to 100%.",
            lambda lens: lens.top_probs[:, :, 0],
            lambda values, d_vocab: np.clip(values, 0, 1),
            _percent,
            _percent,
            lambda d_vocab: (0.0, 0.25, 0.5, 0.75, 1.0),
        ),
        Quantity(
            "rank",
            "Rank of the final answer",
            "",
            "Where the token that the model says in the end stands among all tokens here; 1 is "
            "first. Logarithmic.",
            lambda lens: lens.final_ranks.astype(float),
            lambda values, d_vocab: np.clip(1 - np.log(values) / np.log(d_vocab), 0, 1),
            _count,
            _count,
            _rank_ticks,
        ),
        Quantity(
            "entropy",
            "Entropy",
            "bits",
            "How undecided this cell is: 0 bits is one certain token, each bit doubles the number "
            "of equally likely ones.",
            lambda lens: lens.entropy_nats / NATS_PER_BIT,
            lambda values, d_vocab: np.clip(1 - values / np.log2(d_vocab), 0, 1),
            _two_places,
            _short,
            lambda d_vocab: (0.0, 2.0, 4.0, 8.0, float(np.log2(d_vocab))),
        ),
        Quantity(
            "KL",
            "KL to the final output",
            "nats",
            "How far the model's output is from this cell's distribution, KL(output || cell): 0 is "
            "the same.",
            lambda lens: np.maximum(lens.kl_nats, 0),
            # Divergence has no upper end; this scale has half its colour at 1 nat for every model.
            lambda values, d_vocab: 1 / (1 + np.maximum(values, 0)),
            _two_places,
            _short,
            lambda d_vocab: (0.0, 0.5, 1.0, 2.0, 5.0),
        ),
    )
}
