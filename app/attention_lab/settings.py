"""What shapes the lab's figures, as the URL holds it: one frozen value with plain fields.

``prompt, layer, head, dest, src, position, target, foil`` are the selection: they are the same in
every view and travel to the other labs. ``layer``, ``position``, ``target`` and ``foil`` mean here
what they mean in the lens lab.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from app.answer_controls import FINAL
from app.lab_settings import LabSettings

GRID, HEAD, SCORES, ANSWER, BLOCK = (
    "grid",
    "head",
    "what heads do",
    "who wrote the answer",
    "block it",
)
VIEWS = {
    GRID: "every head of the model at once",
    HEAD: "one head: where each token looks, and why",
    SCORES: "what kind of head each is, measured, with its control",
    ANSWER: "what each part adds to the answer's logit",
    BLOCK: "take a head or an edge away and see what becomes of the answer",
}
SHOWS = {
    "pattern": "how each token divides its attention; each row adds up to 1",
    "scores": "what the softmax is given: query times key, scaled; they compare within a row",
    "value-weighted": "the pattern times the length of what is carried over from the source: a "
    "glance at nothing weighs nothing",
}
DRAWN = {
    "pattern": "token by token, as a grid or as lines",
    "neuron view": "the products of a query and a key that add up to one score",
    "weights": "what the head's weights alone say of one token, without any prompt",
    "averaged": "the mean pattern over several prompts of equally many tokens",
    "CircuitsVis": "the same block drawn by CircuitsVis, within its limits",
}
MEASURED = {
    "scores": "how much each head's attention looks like a rule",
    "composition": "which earlier heads write where the chosen one reads",
    "loss of a repeat": "how well the model predicts random tokens and their repetition, with and "
    "without the chosen head",
}
RANDOM_TOKENS, THIS_PROMPT = "repeated random tokens", "this prompt"
SCORED_ON = {
    RANDOM_TOKENS: "sequences of random tokens, each twice in a row",
    THIS_PROMPT: "your own prompt; what needs a repeated token is left out where there is none",
}
INTO = {
    "q": "its queries: what it looks for",
    "k": "its keys: by what it is found",
    "v": "its values: what it carries over",
}
PARTS = {
    "components": "embedding, attention and MLP of each block",
    "heads": "each head alone, layer by head",
    "sources": "the chosen head's part, by the token that it came from",
    "neurons": "the neurons of the chosen layer's MLP",
    "accumulated": "the answer's logit after each component, as a waterfall",
}
BLOCKED = {
    "head": "the whole chosen head",
    "edge": "the head's attention from the chosen destination to the chosen source",
    "column": "the head's attention to the chosen source, from everywhere",
    "row": "the head's attention at the chosen destination, to everything",
    "other parts": "heads and MLPs that you list",
}
KINDS = {
    "zero": "nothing in its place: simple, but the model has never seen nothing",
    "mean": "in its place the mean of what it writes over other texts",
    "resample": "in its place what it writes on another text",
}
ANSWER_AS = {
    "difference": "the logit of the target minus that of the foil",
    "logit": "the logit of the target alone, most of which every token shares",
}


@dataclass(frozen=True)
class Settings(LabSettings):
    """The lab's state. Field names are the names in the URL, and in lessons.

    Attributes:
        layer, head: the chosen head, counted from 0.
        dest, src: the chosen edge: the token that looks, and the one looked at. None: the last
            token, and what it looks at most.
        position: where the answer is read; None for the last token.
        target, foil: *final answer*, *next token* or a word; an empty foil is the runner-up.
        shows: what the grid and the head's view draw, of `SHOWS`.
        sort: a head score that orders the grid; empty for the model's own order.
        together: the grid has all heads of the model on one screen; grid_lines: each as lines.
        other_prompt: a second prompt, whose heads stand beside the first's in the grid.
        drawn: how the head is drawn, of `DRAWN`.
        lines: from token to token, in place of the matrix; heads: those of the layer that the lines
            draw ("0 3"), empty for the chosen one.
        mass: each token's strongest edges, until they hold this share of its attention.
        show_bos: the first token is drawn too; swap: sources down, destinations across.
        prompts: the prompts of the averaged pattern, one a line.
        token: the token that the head's weights are asked about; empty for the chosen source's.
        measured: what is measured of all heads, of `MEASURED`; score: which score.
        scored_on: on which tokens, of `SCORED_ON`; seed: of tokens, intervals and draws.
        into: what of the chosen head earlier ones write into, of `INTO`.
        parts: how the answer is taken apart, of `PARTS`; answer_as: of `ANSWER_AS`.
        blocked: what is taken away, of `BLOCKED`; kind: what comes in its place, of `KINDS`.
        renormalise: the rest of a blocked row is scaled up to 1 again.
        listed: the parts to take away ("L4H7 L5H1 mlp3").
    """

    prompt: str = ""
    view: str = GRID
    layer: int = 0
    head: int = 0
    dest: int | None = None
    src: int | None = None
    position: int | None = None
    target: str = FINAL
    foil: str = ""
    bos: bool | None = None
    shows: str = "pattern"
    sort: str = ""
    together: bool = False
    grid_lines: bool = False
    other_prompt: str = ""
    drawn: str = "pattern"
    lines: bool = False
    heads: str = ""
    mass: float = 1.0
    show_bos: bool = True
    swap: bool = False
    prompts: str = ""
    token: str = ""
    measured: str = "scores"
    score: str = "induction"
    scored_on: str = RANDOM_TOKENS
    seed: int = 0
    into: str = "k"
    parts: str = "components"
    answer_as: str = "difference"
    blocked: str = "head"
    kind: str = "zero"
    renormalise: bool = False
    listed: str = ""

    CHOICES: ClassVar = {
        "view": VIEWS,
        "shows": SHOWS,
        "drawn": DRAWN,
        "measured": MEASURED,
        "scored_on": SCORED_ON,
        "into": INTO,
        "parts": PARTS,
        "answer_as": ANSWER_AS,
        "blocked": BLOCKED,
        "kind": KINDS,
    }
