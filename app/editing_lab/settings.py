"""What shapes the lab's figures, as the URL holds it: one frozen value with plain fields.

``prompt`` is the selection that travels from lab to lab. The edited layer has a name of its own:
a layer that another lab looked at is no advice on where to edit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from app.lab_settings import LabSettings

R_ROME, ROME, P_ROME = "r-ROME", "ROME", "p-ROME"
MEMIT, FT, FT_L, IN_CONTEXT = "MEMIT", "FT", "FT+L", "in context"
METHODS = {
    R_ROME: "a rank-one change of one MLP; the averaged key everywhere (the correction of 2024)",
    ROME: "the published code of 2022, which mixes two keys in one division",
    P_ROME: "as r-ROME, but with the key of the bare sentence everywhere",
    MEMIT: "the change is shared out over several layers",
    FT: "gradient descent on one MLP matrix, and nothing holds it back",
    FT_L: "the same, each weight kept within a small distance of what it was",
    IN_CONTEXT: "no weight changes: the new fact is written before every prompt",
}
RANK_ONE = (R_ROME, ROME, P_ROME)
ANSWERS, SCORES, NUMBERS, LENS = "answers", "scoreboard", "numbers", "lens"
VIEWS = {
    ANSWERS: "both models on any prompt: top tokens, continuation, free generation",
    SCORES: "what the edit should change and what it should not, with the prompts behind it",
    NUMBERS: "the edit itself: denominator, size, leverage, predicted bleed, the optimisation",
    LENS: "the logit lens of both models",
}
ESSENCE, RELATIONS = "essence", "relations"
KL_PROMPTS = {
    RELATIONS: "the same subject asked for other things; a declared improvement on the paper",
    ESSENCE: "“subject is a”, as published",
}


@dataclass(frozen=True)
class Settings(LabSettings):
    """The lab's state. Field names are the names in the URL, and in lessons.

    Attributes:
        prompt: a text that the fact's object completes; subject: the words of it to edit; new: the
            new answer.
        method: of `METHODS`; edit_layer: the layer that is changed, None for the preset's (MEMIT:
            its last one).
        steps, kl_factor, clamp: of the optimisation of v*, None for the preset's.
        kl_prompts: of `KL_PROMPTS`; covariance: whether keys are weighed by the covariance.
        edit_seed: of contexts and text.
        view: of `VIEWS`.
        ask: the prompt that both models continue, empty for the edited sentence; temperature,
            n_new, draw: how.
    """

    prompt: str = ""
    subject: str = ""
    new: str = ""
    method: str = R_ROME
    edit_layer: int | None = None
    steps: int | None = None
    kl_factor: float | None = None
    clamp: float | None = None
    kl_prompts: str = RELATIONS
    covariance: bool = True
    edit_seed: int = 0
    view: str = ANSWERS
    ask: str = ""
    temperature: float = 0.0
    n_new: int = 20
    draw: int = 0

    CHOICES: ClassVar = {"method": METHODS, "view": VIEWS, "kl_prompts": KL_PROMPTS}
