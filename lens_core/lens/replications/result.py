"""What a replication returns: figures with intervals, a criterion, and whether it was met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from lens_core.bootstrap import Interval
from lens_core.lens.evaluation import Estimate, LensEvaluation

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Figure:
    """One measured number with its interval (95%, over documents) and the size of its sample.

    ``series`` says what was measured ("tuned", "random basis"), ``quantity`` what of it; ``n``
    counts documents, the units that were resampled. ``depth`` is None where there is none.
    """

    quantity: str
    series: str
    value: float
    low: float
    high: float
    n: int
    unit: str = ""
    depth: int | None = None

    @classmethod
    def of(
        cls, quantity: str, series: str, at: Interval, unit: str = "", depth: int | None = None
    ) -> Figure:
        """A single number's interval, named."""
        value, low, high = float(at.value), float(at.low), float(at.high)
        return cls(quantity, series, value, low, high, at.n, unit, depth)


@dataclass(frozen=True)
class Claim:
    """What was claimed, how it is measured here, and what the measurement cannot show."""

    key: str
    title: str
    claim: str
    formula: str
    source: str
    control: str
    criterion: str
    does_not_show: str


@dataclass(frozen=True)
class Replication:
    """One claim, measured. ``replicates`` is the criterion, computed from the figures."""

    claim: Claim
    figures: tuple[Figure, ...]
    replicates: bool
    verdict: str
    model_name: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def judged(
        cls,
        claim: Claim,
        figures: Sequence[Figure],
        holds: bool,
        shown: str,
        model_name: str,
        settings: Mapping[str, Any],
    ) -> Replication:
        """With the sentence that says what was found, or that it was not found at this size."""
        if holds:
            verdict = f"Replicates: {shown}"
        else:
            verdict = (
                f"Does not replicate at this size: {shown} The criterion was: {claim.criterion}"
            )
        return cls(claim, tuple(figures), holds, verdict, model_name, settings)

    def of(self, quantity: str, series: str) -> tuple[Figure, ...]:
        """The figures of one quantity and series, by depth."""
        found = [f for f in self.figures if (f.quantity, f.series) == (quantity, series)]
        return tuple(sorted(found, key=lambda f: -1 if f.depth is None else f.depth))

    def to_frame(self) -> pd.DataFrame:
        """One line a figure."""
        import pandas as pd

        frame = pd.DataFrame([asdict(figure) for figure in self.figures])
        frame.insert(0, "replication", self.claim.key)
        frame["depth"] = frame["depth"].astype("Int64")
        return frame

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Replication:
        """A stored replication. Raises KeyError or TypeError where it is not one."""
        return cls(
            claim=Claim(**data["claim"]),
            figures=tuple(Figure(**figure) for figure in data["figures"]),
            replicates=bool(data["replicates"]),
            verdict=str(data["verdict"]),
            model_name=str(data["model_name"]),
            settings=dict(data["settings"]),
        )


def estimates(
    quantity: str, series: str, found: Estimate, evaluation: LensEvaluation, unit: str
) -> tuple[Figure, ...]:
    """An evaluation's estimate as one figure a depth."""
    return tuple(
        Figure(quantity, series, float(m), float(a), float(b), evaluation.n_documents, unit, depth)
        for depth, m, a, b in zip(evaluation.depths, *found, strict=True)
    )
