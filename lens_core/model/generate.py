"""Generation token by token with a key-value cache, under interventions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import DynamicCache

from lens_core.interventions.edit import Intervention
from lens_core.model.errors import PromptTooLongError, TokenError
from lens_core.model.execute import check_applied, check_mask, forward, plan_interventions
from lens_core.model.run import Run, active

if TYPE_CHECKING:
    from lens_core.model.hooked_model import HookedModel
    from lens_core.model.tokens import Tokens


def generate(
    model: HookedModel,
    tokens: Tokens,
    max_new_tokens: int,
    interventions: Sequence[Intervention],
    *,
    temperature: float,
    seed: int,
    attention_mask: Tensor | None,
    stop_at_eos: bool,
) -> Tensor:
    """See `HookedModel.generate`."""
    prompt = model._as_tokens(tokens)
    n_total = prompt.shape[1] + max_new_tokens
    if max_new_tokens < 1 or temperature < 0:
        raise TokenError("Generate at least one token, at a temperature of 0 or more.")
    n_ctx = model.cfg.n_ctx
    if n_ctx is not None and n_total > n_ctx:
        raise PromptTooLongError(
            f"{prompt.shape[1]} prompt tokens and {max_new_tokens} new ones exceed the {n_ctx} "
            f"that {model.cfg.name} reads; ask for at most {max(n_ctx - prompt.shape[1], 0)}."
        )
    mask = check_mask(model, prompt, attention_mask)
    run = Run(batch=prompt.shape[0], copied=model.spec.copied, standing=model._standing_terms)
    plan_interventions(model, run, interventions, prompt.shape, n_total)
    sampler = torch.Generator().manual_seed(seed)
    eos = getattr(model.tokenizer, "eos_token_id", None) if stop_at_eos else None
    done = torch.zeros(prompt.shape[0], dtype=torch.bool, device=prompt.device)
    # Without a config every layer keeps all its keys, so that positions in k and v stay absolute.
    past, full, new = DynamicCache(), prompt, prompt
    with torch.no_grad(), active(None if run.idle else run):
        for _ in range(max_new_tokens):
            run.offset = full.shape[1] - new.shape[1]
            logits = forward(model, new, mask, last_only=True, past=past, offset=run.offset)
            run.offset = full.shape[1] - 1
            logits = run.visit("logits", None, logits)
            new = _choose(logits[:, -1], temperature, sampler)[:, None]
            if eos is not None:
                new = torch.where(done[:, None], eos, new)
                done |= new[:, 0] == eos
            full = torch.cat([full, new], dim=1)
            if mask is not None:
                mask = torch.cat([mask, mask.new_ones(mask.shape[0], 1)], dim=1)
            if bool(done.all()):
                break
    check_applied(run)
    return full


def _choose(logits: Tensor, temperature: float, sampler: torch.Generator) -> Tensor:
    if temperature == 0:
        return logits.argmax(dim=-1)
    # On the CPU in float32, so that a seed means the same draw on every device.
    probabilities = (logits.float().cpu() / temperature).softmax(dim=-1)
    drawn = torch.multinomial(probabilities, 1, generator=sampler)[:, 0]
    return drawn.to(logits.device)
