"""One run of a prompt, with what attribution reads from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lens_core.attention.prompt import one_prompt, one_token
from lens_core.attribution.errors import AttributionError
from lens_core.attribution.frozen import FrozenHead, FrozenNorm, exact, freeze_head
from lens_core.attribution.result import Question
from lens_core.lens.token_text import token_text
from lens_core.model.cache import ActivationCache
from lens_core.model.spec import module_at

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.interventions import Intervention

Vector = Float[Tensor, " d"]
STREAM = ("embed", "pos_embed", "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "z")
_AFTER_THE_STREAM = ("ln_final", "logits")


@dataclass(frozen=True, eq=False)
class Trace:
    """A run, the question asked of it, and the head as a linear map at the question's position."""

    model: HookedModel
    question: Question
    tokens: Int[Tensor, "1 pos"]
    cache: ActivationCache
    logits: Float[Tensor, " d_vocab"]
    head: FrozenHead
    interventions: tuple[Intervention, ...]

    @property
    def value(self) -> float:
        """The model's own logit or logit difference."""
        return question_value(self.question, self.logits)

    def at(self, site: str, layer: int | None = None) -> Tensor:
        """What was recorded at the question's position, in double precision on the CPU."""
        return exact(self.cache[site, layer][0, self.question.position])

    def share(self, site: str, layer: int | None = None) -> float:
        """The share of the value that a vector in the residual stream has."""
        return float(self.at(site, layer) @ self.head.direction)

    def attention_norm(self, layer: int) -> FrozenNorm | None:
        """The norm between the heads' sum and the residual stream, frozen; None without one."""
        spec = self.model.spec.layers[layer]
        if spec.attn_out in (spec.w_o, spec.attn):
            return None
        z = self.cache["z", layer][0, self.question.position]
        written = torch.einsum("hd,hdm->m", z, self.model.W_O[layer]) + self.model.b_O[layer]
        return FrozenNorm.at(self._block_part(layer, spec.attn_out), written)

    def mlp_norm(self, layer: int) -> FrozenNorm | None:
        """The norm between the MLP and the residual stream, frozen; None without one."""
        spec = self.model.spec.layers[layer]
        if spec.mlp_out in (spec.w_out, spec.mlp_in):
            return None
        post = self.cache["mlp_post", layer][0, self.question.position]
        written = post @ self.model.W_out[layer] + self.model.b_out[layer]
        return FrozenNorm.at(self._block_part(layer, spec.mlp_out), written)

    def attention_direction(self, layer: int) -> tuple[Vector, float]:
        """What gives an attention output, before any post-norm, its share; and the norm's bias."""
        scale = self.model.spec.layers[layer].attn_scale
        return _pulled(self.head.direction * scale, self.attention_norm(layer))

    def mlp_direction(self, layer: int) -> tuple[Vector, float]:
        """What gives an MLP's output, before any post-norm, its share; and the norm's bias."""
        scale = self.model.spec.layers[layer].mlp_scale
        return _pulled(self.head.direction * scale, self.mlp_norm(layer))

    def _block_part(self, layer: int, path: str | None) -> nn.Module:
        assert path is not None  # its output is a site of this layer
        return module_at(self.model.hf_model, f"{self.model.spec.blocks}.{layer}.{path}")


def _pulled(direction: Vector, norm: FrozenNorm | None) -> tuple[Vector, float]:
    return (direction, 0.0) if norm is None else norm.pull(direction)


def trace(
    model: HookedModel,
    prompt_or_tokens: str | Int[Tensor, "1 pos"],
    target: int | str | None,
    foil: int | str | None,
    position: int,
    interventions: Iterable[Intervention] = (),
    sites: Sequence[str | tuple[str, int]] = STREAM,
) -> Trace:
    """Run a prompt, record `sites` (those that the model has) and freeze the head.

    Raises:
        AttributionError, TokenError: as `direct_logit_attribution`.
    """
    tokens = one_prompt(model, prompt_or_tokens)
    place = resolve_position(position, tokens.shape[1])
    edits = tuple(interventions)
    for edit in (*model._ambient(), *edits):
        if edit.site in _AFTER_THE_STREAM:
            raise AttributionError(
                f"{edit} changes what comes after the parts are added up; leave it out to see them."
            )
    last = place == tokens.shape[1] - 1
    present = model.sites
    wanted = [s for s in sites if (s if isinstance(s, str) else s[0]) in present]
    end = ("resid_post", model.cfg.n_layers - 1)
    logits, cache = model.run_with_cache(tokens, [*wanted, end], edits, last_logits_only=last)
    row = logits[0, -1 if last else place].float()
    question = ask(model, tokens, place, row, target, foil)
    head = freeze_head(model, cache[end][0, place], row, question.target_id, question.foil_id)
    return Trace(model, question, tokens, cache, row, head, edits)


def ask(
    model: HookedModel,
    tokens: Int[Tensor, "1 pos"],
    position: int,
    logits: Float[Tensor, " d_vocab"],
    target: int | str | None,
    foil: int | str | None,
) -> Question:
    """The question as token ids and texts; without a target, about the model's best guess."""
    wanted = int(logits.argmax()) if target is None else one_token(model, target)
    other = None if foil is None else one_token(model, foil)
    if wanted == other:
        raise AttributionError(
            f"Target and foil are the same token, {token_text(model, wanted)!r}; choose two."
        )
    ids = tuple(tokens[0].tolist())
    return Question(
        model_name=model.cfg.name,
        token_ids=ids,
        tokens=tuple(token_text(model, i) for i in ids),
        position=position,
        target_id=wanted,
        target_text=token_text(model, wanted),
        foil_id=other,
        foil_text=None if other is None else token_text(model, other),
    )


def question_value(question: Question, logits: Float[Tensor, " d_vocab"]) -> float:
    """The logit or logit difference that a question asks for."""
    value = float(logits[question.target_id])
    return value if question.foil_id is None else value - float(logits[question.foil_id])


def resolve_position(position: int, n_positions: int) -> int:
    """A position counted from the start.

    Raises:
        AttributionError: the prompt has no such position.
    """
    if not -n_positions <= position < n_positions:
        raise AttributionError(
            f"The prompt has {n_positions} tokens, so there is no position {position}; "
            f"positions go from 0 to {n_positions - 1}."
        )
    return position % n_positions


def part_layer(model: HookedModel, layer: int, site: Literal["z", "mlp_post"]) -> int:
    """A layer, counted from the start, whose heads or neurons can be told apart.

    Raises:
        AttributionError: they cannot.
        UnknownSiteError: there is no such layer.
    """
    layer = model.resolve_layer(layer)
    if not model.has_site(site, layer):
        what = "heads" if site == "z" else "neurons"
        raise AttributionError(
            f"The {what} of layer {layer} of {model.cfg.name} cannot be told apart: "
            f"{model.why_missing(site, layer)}."
        )
    return layer
