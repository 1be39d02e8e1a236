"""What causal tracing found: one prompt's maps, and their average over many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lens_core.tracing.corruption import Corruption

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, Any]
TraceKind = Literal["state", "mlp", "attn", "state_mlp_severed", "state_attn_severed"]
Direction = Literal["denoise", "noise"]
ROLES = (
    "first subject token",
    "middle subject tokens",
    "last subject token",
    "first subsequent token",
    "further tokens",
    "last token",
)


@dataclass(frozen=True, eq=False)
class CausalTrace:
    """One prompt traced. All values are the metric's, one for each sample of the corruption.

    Attributes:
        token_ids, tokens: the clean prompt.
        subject: first and last position that was corrupted, inclusive.
        answer_id, answer_text, foil_id: what the metric looks at.
        metric, unit: of every value.
        corruption, noise_std: how; the noise's standard deviation, None for other tokens.
        direction: "denoise": clean states restored in the corrupted runs; "noise": corrupted states
            put into the clean run.
        clean: the metric of the clean run; corrupted: [sample], of the corrupted ones.
        control_span, control: another span of the prompt and the metric with that one corrupted,
            [sample]; None where the prompt has no other words.
        windows: for each kind of map, how many layers are restored together.
        values: for each kind, [layer, position, sample], the metric with the state (or the window
            around the layer) changed there.
    """

    model_name: str
    token_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    subject: tuple[int, int]
    answer_id: int
    answer_text: str
    foil_id: int | None
    metric: str
    unit: str
    corruption: Corruption
    noise_std: float | None
    direction: Direction
    clean: float
    corrupted: Array
    control_span: tuple[int, int] | None
    control: Array | None
    windows: Mapping[TraceKind, int]
    values: Mapping[TraceKind, Array]

    @property
    def total_effect(self) -> float:
        """The clean value less the mean corrupted one."""
        return self.clean - float(self.corrupted.mean())

    @property
    def control_effect(self) -> float | None:
        """The same with the control span corrupted."""
        return None if self.control is None else self.clean - float(self.control.mean())

    def indirect_effect(self, kind: TraceKind = "state") -> Array:
        """[layer, position]: what restoring the state wins back, or what spoiling it loses.

        Means over samples: value less corrupted; for "noise", clean less value.
        """
        values = self.values[kind].mean(-1)
        if self.direction == "denoise":
            return np.asarray(values - self.corrupted.mean())
        return np.asarray(self.clean - values)

    def to_frame(self) -> pd.DataFrame:
        """One line a kind, layer and position."""
        import pandas as pd

        n_layers, n_positions = next(iter(self.values.values())).shape[:2]
        layer, position = (i.ravel() for i in np.indices((n_layers, n_positions)))
        frames = []
        for kind, values in self.values.items():
            effect = self.indirect_effect(kind).ravel()
            columns = {
                "kind": kind,
                "window": self.windows[kind],
                "layer": layer,
                "position": position,
                "token": [self.tokens[i] for i in position],
                "in_subject": (position >= self.subject[0]) & (position <= self.subject[1]),
                "value": values.mean(-1).ravel(),
                "sd_over_samples": values.std(-1).ravel(),
                "indirect_effect": effect,
                "share_of_total_effect": effect / (self.total_effect or np.nan),
            }
            frames.append(pd.DataFrame(columns))
        return pd.concat(frames, ignore_index=True)


@dataclass(frozen=True, eq=False)
class Estimate:
    """A mean over prompts with its bootstrap interval; ``n`` prompts had such a position."""

    mean: Array
    low: Array
    high: Array
    n: Array


@dataclass(frozen=True, eq=False)
class AverageTrace:
    """Many prompts traced and averaged by the role of a token.

    Attributes:
        traces: of each prompt that the model answers; skipped: how many it does not.
        clean, corrupted, total_effect, control_effect: of the metric.
        indirect_effect: for each kind, [layer, role], the roles being `ROLES`.
    """

    traces: tuple[CausalTrace, ...]
    skipped: int
    clean: Estimate
    corrupted: Estimate
    total_effect: Estimate
    control_effect: Estimate | None
    indirect_effect: Mapping[TraceKind, Estimate]

    def to_frame(self) -> pd.DataFrame:
        """One line a kind, layer and role."""
        import pandas as pd

        frames = []
        for kind, found in self.indirect_effect.items():
            layer, role = (i.ravel() for i in np.indices(found.mean.shape))
            columns = {
                "kind": kind,
                "window": self.traces[0].windows[kind],
                "layer": layer,
                "role": [ROLES[i] for i in role],
                "indirect_effect": found.mean.ravel(),
                "low": found.low.ravel(),
                "high": found.high.ravel(),
                "prompts": np.broadcast_to(found.n, found.mean.shape).ravel(),
            }
            frames.append(pd.DataFrame(columns))
        return pd.concat(frames, ignore_index=True)
