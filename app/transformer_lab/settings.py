"""What shapes the lab's figures: the names are the widgets' keys, the URL's and the lessons'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

GLASS, SHAPES = "glass", "shapes"
MACHINES = {
    GLASS: "the glass model: every number of the pass",
    SHAPES: "the model chosen at the left: the same steps, their shapes, and one head",
}


@dataclass(frozen=True)
class Settings:
    """The lab as it stands on the glass model.

    Attributes:
        sentence: the words that it reads.
        tensor: the step shown, a key of `ForwardSteps`.
        row: the position of the chosen cell; column: the label of its column.
        zeros: columns that are 0 in every row are drawn too.
        edits: changed weights, as `lens_core.glass.parse_edits` reads them.
        factor: the last state is multiplied by it.
    """

    sentence: str = "ant bee cat ant"
    tensor: str = "tokens"
    row: int = 0
    column: str = ""
    zeros: bool = False
    edits: str = ""
    factor: float = 1.0

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Settings:
        """From values as the page or a lesson has them; other names are passed over."""
        known = {f.name: values[f.name] for f in fields(cls) if values.get(f.name) is not None}
        return cls(**known)

    def as_dict(self) -> dict[str, Any]:
        """As a plain dict of URL values."""
        return asdict(self)
