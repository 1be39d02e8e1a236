"""What shapes the page's figures, as the URL holds it: one frozen value with plain fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from app.answer_controls import FINAL

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
class Settings:
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

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Settings:
        """From texts as a URL or a lesson has them; names of other labs are passed over.

        Raises ValueError for a value that the control does not have.
        """
        known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        settings = cls(**{name: _typed(name, value) for name, value in known.items()})
        choices = {"lens": LENSES, "site": SITES, "compare": COMPARE}
        for name, allowed in choices.items():
            if getattr(settings, name) not in allowed:
                raise ValueError(f"{name} is one of {', '.join(allowed)}, not {values[name]!r}")
        return settings


def _typed(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in ("blocks", "stride", "position"):
        return int(value)
    if name == "close":
        return float(value)
    if name in ("bos", "flip"):
        return value if isinstance(value, bool) else str(value).lower() in ("true", "1", "yes")
    return str(value)
