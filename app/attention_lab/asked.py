"""From settings to what is asked: tokens, the answer's token and its foil, and the chosen edge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from app.answer_controls import FINAL, NEXT
from app.attention_cache import Answer, TokenIds, ask
from app.attention_lab.settings import Settings
from app.components.edge import Edge
from app.lens_lab.request import one_token
from lens_core.attention import AttentionResult, read_attention
from lens_core.model.errors import TokenError

if TYPE_CHECKING:
    from lens_core import HookedModel


@dataclass(frozen=True)
class Scene:
    """What every view draws from.

    Attributes:
        attention: the patterns of the prompt, and the model's guesses.
        edge: the chosen head and edge, whole.
        position: where the answer is read, from 0; target_id, foil_id: its tokens. The foil is None
            when the target's logit is asked about alone.
        notes: what could not be had, and what is shown instead.
    """

    model: HookedModel
    settings: Settings
    token_ids: TokenIds
    read: Answer[AttentionResult]
    edge: Edge
    position: int
    target_id: int
    foil_id: int | None
    notes: tuple[str, ...]

    @property
    def attention(self) -> AttentionResult:
        """The patterns of the prompt, and the model's guesses."""
        return self.read.result

    @property
    def question(self) -> dict[str, Any]:
        """Target, foil and position as the analyses of `lens_core.attribution` take them."""
        return {"target": self.target_id, "foil": self.foil_id, "position": self.position}

    @property
    def where(self) -> dict[str, Any]:
        """The chosen head as analyses of one head take it."""
        return {"layer": self.edge["layer"], "head": self.edge["head"]}

    @property
    def has_bos(self) -> bool:
        """The first token is the model's start token."""
        return self.model.bos_id == self.token_ids[0]

    def text(self, token_id: int) -> str:
        """A token's text."""
        return self.model.to_str_tokens([token_id])[0]


def scene_of(model: HookedModel, settings: Settings, token_ids: TokenIds) -> Scene:
    """Settle edge, position and words; what cannot be had is replaced, and a note says so."""
    read = ask(model, read_attention, token_ids, heavy=True)
    notes: list[str] = []
    last = len(token_ids) - 1
    position = last if settings.position is None else min(max(settings.position, 0), last)
    target_id = _target(model, settings, read.result, token_ids, position, notes)
    foil_id = _foil(model, settings, read.result, position, target_id, notes)
    return Scene(
        model=model,
        settings=settings,
        token_ids=token_ids,
        read=read,
        edge=edge_of(settings, read.result),
        position=position,
        target_id=target_id,
        foil_id=None if settings.answer_as == "logit" else foil_id,
        notes=tuple(dict.fromkeys(notes)),
    )


def edge_of(settings: Settings, attention: AttentionResult) -> Edge:
    """The chosen edge: without a destination the last token, without a source its strongest."""
    last = len(attention.tokens) - 1
    layer = min(max(settings.layer, 0), attention.n_layers - 1)
    head = min(max(settings.head, 0), attention.n_heads - 1)
    dest = last if settings.dest is None else min(max(settings.dest, 0), last)
    row = attention.pattern[layer, head, dest, : dest + 1]
    src = int(np.argmax(row)) if settings.src is None else min(max(settings.src, 0), dest)
    return Edge(layer=layer, head=head, dest=dest, src=src)


def _target(
    model: HookedModel,
    settings: Settings,
    attention: AttentionResult,
    token_ids: TokenIds,
    position: int,
    notes: list[str],
) -> int:
    final = int(attention.top_ids[position, 0])
    if settings.target == FINAL:
        return final
    if settings.target == NEXT:
        if position + 1 < len(token_ids):
            return token_ids[position + 1]
        notes.append("No token follows the last one. Shown instead: the final answer.")
        return final
    try:
        return one_token(model, settings.target)
    except TokenError as error:
        notes.append(f"{error} Shown instead: the final answer.")
        return final


def _foil(
    model: HookedModel,
    settings: Settings,
    attention: AttentionResult,
    position: int,
    target_id: int,
    notes: list[str],
) -> int:
    guesses = attention.top_ids[position].tolist()
    runner_up = next(int(i) for i in guesses if i != target_id)
    if not settings.foil.strip():
        return runner_up
    try:
        foil_id = one_token(model, settings.foil)
    except TokenError as error:
        notes.append(f"{error} Shown instead: the runner-up.")
        return runner_up
    if foil_id == target_id:
        notes.append("Target and foil are the same token. Shown instead: the runner-up as foil.")
        return runner_up
    return foil_id
