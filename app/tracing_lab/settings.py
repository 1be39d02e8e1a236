"""What shapes the lab's figures, as the URL holds it: one frozen value with plain fields.

``prompt, target, foil, layer`` are the selection that travels from lab to lab. ``at`` is the
restored position; the answer is always read at the last token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from app.answer_controls import FINAL
from app.lab_settings import LabSettings

if TYPE_CHECKING:
    from lens_core.tracing import TraceKind

ONE, MANY = "one fact", "many facts"
VIEWS = {
    ONE: "one prompt, every layer and token, in three maps",
    MANY: "the average over many facts, by the role of a token, with intervals",
}
KINDS = {
    "state": "one state: the residual stream behind one block",
    "state_mlp_severed": "one state, its way on through the later MLPs of its token cut off",
    "state_attn_severed": "one state, its way on through the later attentions of its token cut off",
    "mlp": "the outputs of the MLPs of a window of layers",
    "attn": "the outputs of the attentions of a window of layers",
}
NOTHING = "nothing"
SEVERED = {
    NOTHING: "whatever comes after the restored state may read it",
    "MLPs": "a second map of states, with what the later MLPs write at that token held as it is "
    "without the restored state",
    "attentions": "a second map of states, with what the later attentions write at that token "
    "held so",
}
SEVERED_KINDS: Mapping[str, TraceKind] = {
    "MLPs": "state_mlp_severed",
    "attentions": "state_attn_severed",
}
NOISE, OTHER_SUBJECT = "noise", "other subject"
CORRUPTIONS = {
    NOISE: "Gaussian noise is added to the embeddings of the subject's tokens",
    OTHER_SUBJECT: "another subject of equally many tokens stands in its place",
}
DIRECTIONS = {
    "denoise": "clean states are restored in the corrupted runs, as in the paper",
    "noise": "corrupted states are put into the clean run",
}
METRICS = {
    "probability": "the probability of the answer, as in the paper",
    "log_probability": "the logarithm of that, in nats",
    "logit": "the logit of the answer",
    "logit_difference": "the logit of the answer minus that of the foil",
}


@dataclass(frozen=True)
class Settings(LabSettings):
    """The lab's state. Field names are the names in the URL, and in lessons.

    Attributes:
        prompt: a text that the fact's object completes; subject: the words of it to corrupt.
        target: *final answer* (what the model says) or a word; foil: a word, empty for what the
            model says next; for the logit difference alone.
        view: of `VIEWS`.
        severed: which later parts are cut off from the restored state in a map of its own, of
            `SEVERED`.
        kind, layer, at: the chosen map (of `KINDS`) and its chosen cell. ``at`` counts from 0, or
            from the end if negative; None: the subject's last token.
        corruption: of `CORRUPTIONS`; sigmas: the noise in multiples of the standard deviation of
            the subject's embeddings; samples: draws of it; other_subject: the other subject.
        window: layers restored together in the maps of MLPs and attentions; None: a fifth of the
            layers, as in the paper.
        direction: of `DIRECTIONS`; metric: of `METRICS`.
        n_facts: how many, in the view of many facts; seed: of noise, facts and intervals.
    """

    prompt: str = ""
    subject: str = ""
    target: str = FINAL
    foil: str = ""
    view: str = ONE
    severed: str = NOTHING
    kind: str = "state"
    layer: int = 0
    at: int | None = None
    corruption: str = NOISE
    sigmas: float = 3.0
    samples: int = 10
    other_subject: str = ""
    window: int | None = None
    direction: str = "denoise"
    metric: str = "probability"
    n_facts: int = 20
    seed: int = 0

    CHOICES: ClassVar = {
        "view": VIEWS,
        "severed": SEVERED,
        "kind": KINDS,
        "corruption": CORRUPTIONS,
        "direction": DIRECTIONS,
        "metric": METRICS,
    }
