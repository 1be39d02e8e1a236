"""A finished edit: interventions, with what they were made for and how they came about."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from lens_core.editing.requests import EditRequest
from lens_core.interventions import Intervention

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class OptimisationStep:
    """The loss of one request before one step of the optimiser, all in nats.

    Attributes:
        request: number of the request in the edit; step: from 0.
        nll: mean negative log-probability of the new answer's tokens over the contexts.
        kl: divergence on the KL prompts, decay: size of the change; both with their factors.
        total: their sum.
        p_new: probability of the whole new answer after the bare prompt, under all of the change
            as it was at this step.
    """

    request: int
    step: int
    nll: float
    kl: float
    decay: float
    total: float
    p_new: float


@dataclass(frozen=True, eq=False)
class LayerDiagnostic:
    """What one request did to one layer's W_out.

    Attributes:
        request, layer: of which request, in which layer.
        denominator: the key that scales the edit times the direction C^-1 k of the edit. Near 0 it
            makes the edit huge.
        delta_norm: Frobenius norm of this request's change of the layer's weight; weight_norm: of
            the weight before the edit.
        leverage: k^T C^-1 k, which averages to d_mlp over the tokens of C's texts; NaN without C.
        write_fraction: share of the wanted change that the new weight writes for the key; 1 is all.
        key: Float [d_mlp]; value_before: what the weight gave for it, value_wanted: v*, and
            value_written: what the edited weight gives, Float [d_model] each.
        z_error: of an edit spread over layers, the distance from z that is left after this layer
            and those before it, as a share of the whole; NaN elsewhere.
    """

    request: int
    layer: int
    denominator: float
    delta_norm: float
    weight_norm: float
    leverage: float
    write_fraction: float
    key: Float[Tensor, " d_mlp"]
    value_before: Float[Tensor, " d_model"]
    value_wanted: Float[Tensor, " d_model"]
    value_written: Float[Tensor, " d_model"]
    z_error: float = math.nan


@dataclass(frozen=True, eq=False)
class EditTrace:
    """How an edit came about: every step of every request, and what each layer was given."""

    steps: tuple[OptimisationStep, ...] = ()
    diagnostics: tuple[LayerDiagnostic, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """One line a request and step of the optimiser."""
        import pandas as pd

        columns = ["request", "step", "nll", "kl", "decay", "total", "p_new"]
        return pd.DataFrame([vars(step) for step in self.steps], columns=columns)

    def diagnostics_frame(self) -> pd.DataFrame:
        """One line a request and edited layer, without the vectors."""
        import pandas as pd

        columns = [
            "request",
            "layer",
            "denominator",
            "delta_norm",
            "weight_norm",
            "leverage",
            "write_fraction",
            "z_error",
        ]
        rows = [[getattr(d, column) for column in columns] for d in self.diagnostics]
        return pd.DataFrame(rows, columns=columns)

    def last_step(self, request: int) -> OptimisationStep | None:
        """The last step of a request, None if it took none."""
        return next((s for s in reversed(self.steps) if s.request == request), None)


@dataclass(frozen=True, eq=False)
class Edit:
    """One edit of a model, of one request or of many; the model itself is not touched.

        logits = model.run(prompt, interventions=edit.interventions)

    Attributes:
        method: its name: "rome", "memit", ...
        requests: what it changes; layers: where.
        terms: the interventions that make it, in the order in which they apply.
        trace: how it came about.
        settings: the method's own.
        model_name, fingerprint: the model it was made for and the hash of its weights.
        prefix: a text that is put before every prompt; "" but for in-context edits.
        name: for lists; by default method, subject and new answer.
    """

    method: str
    requests: tuple[EditRequest, ...]
    layers: tuple[int, ...]
    terms: tuple[Intervention, ...]
    trace: EditTrace
    settings: Any
    model_name: str
    fingerprint: str
    prefix: str = ""
    name: str = field(default="")

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self._default_name())

    @property
    def interventions(self) -> tuple[Intervention, ...]:
        """What to give to a run of the model."""
        return self.terms

    def _default_name(self) -> str:
        first = self.requests[0]
        others = f" and {len(self.requests) - 1} more" if len(self.requests) > 1 else ""
        return f"{self.method}: {first.subject} -> {first.target_new.strip()}{others}"

    def to_frame(self) -> pd.DataFrame:
        """One line a request: what it asked, and the last step of its optimisation if it had one.

        With several layers, ``delta_norm`` is that of all of the request's changes together.
        """
        import pandas as pd

        rows = []
        for number, request in enumerate(self.requests):
            last = self.trace.last_step(number)
            norms = [d.delta_norm for d in self.trace.diagnostics if d.request == number]
            rows.append(
                {
                    "request": number,
                    "prompt": request.prompt,
                    "subject": request.subject,
                    "target_new": request.target_new.strip(),
                    "target_true": request.target_true.strip(),
                    "relation": request.relation,
                    "method": self.method,
                    "steps": 0 if last is None else last.step,
                    "p_new": None if last is None else last.p_new,
                    "delta_norm": sum(n**2 for n in norms) ** 0.5 if norms else None,
                }
            )
        return pd.DataFrame(rows)
