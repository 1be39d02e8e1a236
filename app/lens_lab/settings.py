"""What shapes the page's figures, as the URL holds it: one frozen value with plain fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from app.answer_controls import FINAL
from app.lab_settings import LabSettings

SITES = {
    "resid_post": "the state after the block (the residual stream)",
    "resid_pre": "the state before the block",
    "resid_mid": "the state between attention and MLP",
    "attn_out": "what the attention adds, alone",
    "mlp_out": "what the MLP adds, alone",
}
LENSES = {
    "logit": "the head reads the state as it stands; nothing is learned",
    "tuned": "a learned affine step for each block first carries the state to where the head reads",
    "bias-only": "as tuned, but the learned step only adds a constant vector",
    "jacobian": "the state is multiplied by the mean Jacobian of the last state in it",
    "last blocks": "the model's own last blocks are run on the state, those between are skipped",
    "trained here": "the lens that you train on this page, for this visit",
}
NOTHING, OTHER_LENS, OTHER_PROMPT = "nothing", "another lens", "another prompt"
COMPARE = {
    NOTHING: "one grid",
    OTHER_LENS: "the same prompt through a second lens, and the difference",
    OTHER_PROMPT: "a second prompt of as many tokens through the same lens, and the difference",
}


@dataclass(frozen=True)
class Settings(LabSettings):
    """The lab's state. Field names are the names in the URL, and in lessons."""

    prompt: str = ""
    lens: str = "logit"
    blocks: int = 1
    color: str = "probability"
    site: str = "resid_post"
    bos: bool | None = None
    target: str = FINAL
    foil: str = ""
    follow: str = ""
    compare: str = NOTHING
    other_lens: str = "tuned"
    other_prompt: str = ""
    stride: int = 1
    flip: bool = False
    close: float = 1.0
    layer: str | None = None
    position: int | None = None

    CHOICES: ClassVar = {"lens": LENSES, "site": SITES, "compare": COMPARE}
