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
_BLOCK = 256


class Final(NamedTuple):
    """What the model itself says, against which every row is compared."""

    logprobs: Float[Tensor, "pos d_vocab"]
    ids: Int[Tensor, " pos"]
    next_ids: Int[Tensor, " pos"]  # -1 at the last position
    entropy_nats: Float[Tensor, " pos"]

    @classmethod
    def of(cls, logits: Float[Tensor, "pos d_vocab"], tokens: Int[Tensor, " pos"]) -> Final:
        """The model's logits, and the tokens it read."""
        logprobs = torch.log_softmax(logits.float(), dim=-1)
        following = torch.cat([tokens[1:], tokens.new_full((1,), -1)])
        entropy = -_expected(logprobs.exp(), logprobs)
        return cls(logprobs, logprobs.argmax(dim=-1), following, entropy)

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


def _expected(
    p: Float[Tensor, "pos n"], values: Float[Tensor, "pos n"], spare: Tensor | None = None
) -> Float[Tensor, " pos"]:
    """The mean of the values under p; what is impossible under p counts as 0."""
    terms = torch.mul(p, values, out=spare)
    total = terms.sum(-1)
    if torch.isfinite(total).all():
        return total
    return terms.nan_to_num(0.0, posinf=math.inf, neginf=-math.inf).sum(-1)


def ranks_of(logprobs: Float[Tensor, "pos d_vocab"], values: Float[Tensor, " pos"]) -> Tensor:
    """1 + how many tokens are strictly likelier."""
    return 1 + (logprobs > values[:, None]).sum(-1)


def reduce_logits(
    logits: Float[Tensor, "pos d_vocab"], final: Final, *, top_k: int, target_ids: Sequence[int]
) -> Row:
    """Every figure of one state at some positions."""
    size = max(1, _CACHE_NUMBERS // logits.shape[-1])
    scratch = logits.new_empty(5, min(size, logits.shape[0]), logits.shape[-1])
    rows = []
    for start in range(0, logits.shape[0], size):
        chunk = slice(start, start + size)
        part = logits[chunk]
        rows.append(_reduce(part, final.at(chunk), top_k, target_ids, scratch[:, : len(part)]))
    return Row.joined(rows)


def _reduce(
    logits: Tensor, final: Final, top_k: int, target_ids: Sequence[int], scratch: Tensor
) -> Row:
    """One chunk. The scratch, [5, pos, d_vocab], is why it is fast: fresh memory costs more."""
    q_log, q, p, gap, spare = scratch.unbind()
    normaliser = _softmax(logits, q, q_log)
    torch.exp(final.logprobs, out=p)
    torch.sub(final.logprobs, q_log, out=gap)
    top_logprobs, top_ids = _top_of(q_log, min(top_k, q_log.shape[-1]))
    is_last = final.next_ids < 0
    of_final = q_log.gather(-1, final.ids[:, None])[:, 0]
    of_next = q_log.gather(-1, final.next_ids.clamp(min=0)[:, None])[:, 0]
    of_targets = q_log[:, torch.tensor(target_ids, dtype=torch.long, device=q_log.device)]
    ranks = [_ranks(q_log, values, spare) for values in (of_final, of_next, *of_targets.unbind(-1))]
    entropy = -_expected(q, q_log, spare)
    kl, kl_reverse = _expected(p, gap, spare), -_expected(q, gap, spare)
    total_variation = torch.sub(p, q, out=spare).abs_().sum(-1) * 0.5
    mix, mix_log = p.add_(q).mul_(0.5), q  # from here on p and q are no more
    # The smallest normal number, so that the logarithm of an impossible token is finite.
    torch.clamp_min(mix, torch.finfo(mix.dtype).tiny, out=mix_log).log_()
    of_mix = -_expected(mix, mix_log, spare)
    return Row(
        top_ids=top_ids,
        top_logprobs=top_logprobs,
        log_normalisers=normaliser,
        entropy_nats=entropy,
        kl_nats=kl,
        kl_reverse_nats=kl_reverse,
        js_nats=(of_mix - 0.5 * (entropy + final.entropy_nats)).clamp(min=0.0),
        total_variation=total_variation,
        final_ranks=ranks[0],
        final_logprobs=of_final,
        next_ranks=ranks[1].masked_fill(is_last, 0),
        next_logprobs=of_next.masked_fill(is_last, math.nan),
        target_logprobs=of_targets,
        target_ranks=torch.stack(ranks[2:], dim=-1) if target_ids else of_targets.long(),
    )


def _softmax(logits: Tensor, q: Tensor, q_log: Tensor) -> Float[Tensor, " pos"]:
    """Writes the probabilities and their logarithms; returns the log-normalisers."""
    most = logits.amax(dim=-1)
    total = torch.sub(logits, most[:, None], out=q).exp_().sum(-1)
    q.div_(total[:, None])
    normaliser = most + total.log()
    torch.sub(logits, normaliser[:, None], out=q_log)
    return normaliser


def _top_of(
    values: Float[Tensor, "pos n"], k: int
) -> tuple[Float[Tensor, "pos k"], Int[Tensor, "pos k"]]:
    """As `torch.topk`: the k largest and where they are.

    They are among the k blocks of the row with the largest maxima, so only those are sorted: half
    the time on a vocabulary of 50,000.
    """
    n_whole = values.shape[-1] // _BLOCK
    if n_whole <= k:
        # Stable, since hand-made models of few words have ties: the lower id first, as in argmax.
        whole = values.sort(dim=-1, descending=True, stable=True)
        return whole.values[:, :k], whole.indices[:, :k]
    blocks = values[:, : n_whole * _BLOCK].unflatten(-1, (n_whole, _BLOCK))
    best = blocks.amax(-1).topk(k, dim=-1).indices
    within = torch.arange(_BLOCK, device=values.device)
    rest = torch.arange(n_whole * _BLOCK, values.shape[-1], device=values.device)
    places = best.new_empty(len(values), k * _BLOCK + len(rest))
    places[:, : k * _BLOCK] = (best[:, :, None] * _BLOCK + within).flatten(1)
    places[:, k * _BLOCK :] = rest
    top = values.gather(-1, places).topk(k, dim=-1)
    return top.values, places.gather(-1, top.indices)


def _ranks(q_log: Tensor, values: Tensor, spare: Tensor) -> Int[Tensor, " pos"]:
    # Summed as floats, which are exact to 2^24: summing truth values is five times slower.
    return 1 + torch.gt(q_log, values[:, None], out=spare).sum(-1).long()
