"""What shapes the lab's figures, as the URL holds it: one frozen value with plain fields.

``prompt, target, foil, layer, head`` are the selection that travels from lab to lab. The prompt is
the clean one. ``at`` is the patched position; the answer is always read at the last token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from app.answer_controls import FINAL
from app.lab_settings import LabSettings

PLACES, HEADS, WIRES, ATTRIBUTION, MANY = (
    "layers and positions",
    "heads",
    "wires",
    "two passes",
    "many pairs",
)
VIEWS = {
    PLACES: "the chosen activation, at every layer and every token",
    HEADS: "what each head writes, or one of its inputs",
    WIRES: "what each part tells one reader: a head's query, key or value, an MLP, the logits",
    ATTRIBUTION: "every patch estimated at once from gradients, beside the real patches",
    MANY: "the same map, averaged over many pairs of prompts, with intervals",
}
SITES = {
    "resid_pre": "the residual stream in front of a block: all that is known at this token so far",
    "resid_mid": "the residual stream between the attention and the MLP of a block",
    "resid_post": "the residual stream behind a block",
    "attn_out": "what the attention of a block adds",
    "mlp_out": "what the MLP of a block adds",
}
PARTS = {
    "z": "what the head writes",
    "q": "its queries: what it looks for",
    "k": "its keys: by what it is found",
    "v": "its values: what it can carry over",
    "pattern": "its attention pattern: where it looks, and nothing else",
}
ALL_POSITIONS, ONE_POSITION = "all positions", "the chosen position"
OVER = {
    ALL_POSITIONS: "the head is patched at every token at once",
    ONE_POSITION: "the head is patched at one token only",
}
LOGITS, MLP = "logits", "mlp"
READS = {
    LOGITS: "the answer itself, which hears every part",
    "q": "the queries of the chosen head",
    "k": "the keys of the chosen head",
    "v": "the values of the chosen head",
    MLP: "the MLP of the chosen block",
}
PASS_ON, HELD_STILL = "pass it on", "are held still"
BETWEEN = {
    PASS_ON: "heads are held still, MLPs between sender and reader react, as in the paper",
    HELD_STILL: "nothing between sender and reader reacts: the bare wire",
}
DIRECTIONS = {
    "denoise": "a clean activation into the corrupted run: is it enough to bring the answer back?",
    "noise": "a corrupted activation into the clean run: does the answer need it?",
}
PATCH_WITH = {
    "other run": "what stood there in the other prompt's run",
    "zero": "nothing: simple, but the model has never seen nothing there",
    "mean": "the mean over other texts",
    "resample": "what stood there in another text's run",
    "noise": "itself, plus noise of its own size",
}
METRICS = {
    "logit_difference": "the logit of the target minus that of the foil",
    "logit": "the logit of the target alone",
    "probability": "the probability of the target",
    "log_probability": "the logarithm of that, in nats",
    "kl": "how far the whole prediction is from that of the clean run, in nats",
    "rank": "the place of the target among all tokens; 1 is first",
}
SCALES = {
    "normalised": "1 is the clean run and 0 the corrupted one",
    "raw": "the metric itself, in its own unit",
}
ALIGN = {
    "length": "both prompts have equally many tokens",
    "pad": "the shorter prompt is padded in front, so that positions count from the end",
}
GRADIENTS = {
    "gradient": "one gradient, taken in the run that is patched",
    "integrated": "the mean of gradients on the way from one run to the other",
}
OWN_PAIRS = "your own"
FAMILIES = {
    "who gets it": "one of two people gives the other a thing; corrupted: the other one gives",
    "capitals": "the capital of a country; corrupted: another country",
    OWN_PAIRS: "pairs from a CSV file, or typed: clean, corrupted and, if you like, target, foil",
}


@dataclass(frozen=True)
class Settings(LabSettings):
    """The lab's state. Field names are the names in the URL, and in lessons.

    Attributes:
        prompt, corrupted: the clean and the corrupted prompt. A part of both in [brackets] is a
            marked span, whose length may differ.
        target: *final answer* (of the clean run) or a word; foil: a word, empty for what the model
            says after the corrupted prompt.
        view: of `VIEWS`.
        site: what is patched in the map, of `SITES`; part: in the heads' map, of `PARTS`; over: at
            which positions there, of `OVER`.
        reads: who reads in the view of wires, of `READS`; of a head or MLP, the chosen one; sender:
            the chosen one there, such as *L0H2*, *MLP 3* or *embeddings*, empty for the strongest;
            between: what the MLPs on the way do, of `BETWEEN`.
        layer, at: the chosen cell of the map; head: with the layer, the chosen head. ``at`` counts
            from 0, or from the end if negative; None: the first token that differs.
        direction: of `DIRECTIONS`; patch_with: of `PATCH_WITH`; metric: of `METRICS`; scale: of
            `SCALES`; align: of `ALIGN`.
        gradient: of `GRADIENTS`, for the view of two passes.
        family: where the pairs of the view of many come from, of `FAMILIES`; n_pairs: how many;
            own_pairs: the visitor's own, as a CSV file has them.
        seed: of pairs, draws, noise and intervals.
        bos: the prompts begin with the model's start token; None: as the model was trained.
    """

    prompt: str = ""
    corrupted: str = ""
    target: str = FINAL
    foil: str = ""
    view: str = PLACES
    site: str = "resid_pre"
    part: str = "z"
    over: str = ALL_POSITIONS
    reads: str = LOGITS
    sender: str = ""
    between: str = PASS_ON
    layer: int = 0
    at: int | None = None
    head: int = 0
    direction: str = "denoise"
    patch_with: str = "other run"
    metric: str = "logit_difference"
    scale: str = "normalised"
    align: str = "length"
    gradient: str = "gradient"
    family: str = "who gets it"
    own_pairs: str = ""
    n_pairs: int = 16
    seed: int = 0
    bos: bool | None = None

    CHOICES: ClassVar = {
        "view": VIEWS,
        "site": SITES,
        "part": PARTS,
        "over": OVER,
        "reads": READS,
        "between": BETWEEN,
        "direction": DIRECTIONS,
        "patch_with": PATCH_WITH,
        "metric": METRICS,
        "scale": SCALES,
        "align": ALIGN,
        "gradient": GRADIENTS,
        "family": FAMILIES,
    }
