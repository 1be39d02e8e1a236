"""Distances and ranks between a reading and the model's own distribution, in fp32 and in nats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

# So many numbers of a vocabulary row stay in a processor's cache while every figure is made.
_CACHE_NUMBERS = 2**18


class Final(NamedTuple):
    """What the model itself says, against which every row is compared."""

    logprobs: Float[Tensor, "pos d_vocab"]
    ids: Int[Tensor, " pos"]
    next_ids: Int[Tensor, " pos"]  # -1 at the last position

    @classmethod
    def of(cls, logits: Float[Tensor, "pos d_vocab"], tokens: Int[Tensor, " pos"]) -> Final:
        """The model's logits, and the tokens it read."""
        logprobs = torch.log_softmax(logits.float(), dim=-1)
        following = torch.cat([tokens[1:], tokens.new_full((1,), -1)])
        return cls(logprobs, logprobs.argmax(dim=-1), following)

    def at(self, chunk: slice) -> Final:
        """Some of the positions."""
        return Final(*(column[chunk] for column in self))


class Row(NamedTuple):
    """One state at every position, reduced. The units are those of `LensResult`."""

    top_ids: Int[Tensor, "pos k"]
    top_logprobs: Float[Tensor, "pos k"]
    log_normalisers: Float[Tensor, " pos"]
    entropy_nats: Float[Tensor, " pos"]
    kl_nats: Float[Tensor, " pos"]
    kl_reverse_nats: Float[Tensor, " pos"]
    js_nats: Float[Tensor, " pos"]
    total_variation: Float[Tensor, " pos"]
    final_ranks: Int[Tensor, " pos"]
    final_logprobs: Float[Tensor, " pos"]
    next_ranks: Int[Tensor, " pos"]
    next_logprobs: Float[Tensor, " pos"]
    target_logprobs: Float[Tensor, "pos n"]
    target_ranks: Int[Tensor, "pos n"]

    @classmethod
    def joined(cls, parts: Sequence[Row]) -> Row:
        """Pieces of the positions in order."""
        return cls(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def kl_nats(p_log: Tensor, q_log: Tensor) -> Tensor:
    """KL(p || q) over the last axis of log-probabilities; 0 log 0 is 0."""
    return _expected(p_log.exp(), p_log - q_log)


def _expected(p: Float[Tensor, "pos n"], values: Float[Tensor, "pos n"]) -> Float[Tensor, " pos"]:
    """The mean of the values under p; what is impossible under p counts as 0."""
    terms = p * values
    total = terms.sum(-1)
    if torch.isfinite(total).all():
        return total
    return terms.nan_to_num(0.0, posinf=math.inf, neginf=-math.inf).sum(-1)


def _entropy_nats(p: Float[Tensor, "pos n"]) -> Float[Tensor, " pos"]:
    # The smallest normal number, so that the logarithm of an impossible token is finite.
    return -_expected(p, p.clamp_min(torch.finfo(p.dtype).tiny).log())


def ranks_of(logprobs: Float[Tensor, "pos d_vocab"], values: Float[Tensor, " pos"]) -> Tensor:
    """1 + how many tokens are strictly likelier."""
    return 1 + (logprobs > values[:, None]).sum(-1)


def reduce_logits(
    logits: Float[Tensor, "pos d_vocab"], final: Final, *, top_k: int, target_ids: Sequence[int]
) -> Row:
    """Every figure of one state at some positions."""
    size = max(1, _CACHE_NUMBERS // logits.shape[-1])
    starts = range(0, logits.shape[0], size)
    return Row.joined(
        [
            _reduce(logits[a : a + size], final.at(slice(a, a + size)), top_k, target_ids)
            for a in starts
        ]
    )


def _reduce(logits: Tensor, final: Final, top_k: int, target_ids: Sequence[int]) -> Row:
    normaliser = logits.logsumexp(dim=-1)
    q_log = logits - normaliser[:, None]
    q = q_log.exp()
    top = q_log.topk(min(top_k, q_log.shape[-1]), dim=-1)
    p = final.logprobs.exp()
    mix = (p + q).mul_(0.5)
    entropy = -_expected(q, q_log)
    gap = final.logprobs - q_log
    of_final = q_log.gather(-1, final.ids[:, None])[:, 0]
    is_last = final.next_ids < 0
    of_next = q_log.gather(-1, final.next_ids.clamp(min=0)[:, None])[:, 0]
    of_targets = q_log[:, torch.tensor(target_ids, dtype=torch.long, device=q_log.device)]
    return Row(
        top_ids=top.indices,
        top_logprobs=top.values,
        log_normalisers=normaliser,
        entropy_nats=entropy,
        kl_nats=_expected(p, gap),
        kl_reverse_nats=-_expected(q, gap),
        js_nats=(_entropy_nats(mix) - 0.5 * (entropy - _expected(p, final.logprobs))).clamp(
            min=0.0
        ),
        total_variation=(p - q).abs_().sum(-1) * 0.5,
        final_ranks=ranks_of(q_log, of_final),
        final_logprobs=of_final,
        next_ranks=ranks_of(q_log, of_next).masked_fill(is_last, 0),
        next_logprobs=of_next.masked_fill(is_last, math.nan),
        target_logprobs=of_targets,
        target_ranks=torch.stack(
            [ranks_of(q_log, values) for values in of_targets.unbind(-1)], dim=-1
        )
        if target_ids
        else of_targets.long(),
    )
