"""The logit lens: read every intermediate state as if it were the last one.

    from lens_core import HookedModel
    from lens_core.lens import logit_lens

    model = HookedModel.from_pretrained("tiny-world")
    lens = logit_lens(model, "The Eiffel Tower is in")
    print(lens.to_frame())

What it answers: at which block the model's own final norm and output head, applied to the state
after that block, first name the answer. What it does not answer: whether the later blocks *use*
what the lens reads (that takes an intervention), and whether an early state is already written in
the basis that the head reads; where it is not, the lens shows noise although the information is
there.

After nostalgebraist, "interpreting GPT: the logit lens" (2020).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_core.lens.token_text import token_text
from lens_core.model.errors import TokenError, UnknownSiteError

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel

SITES = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")

# Full-vocabulary rows are made for this many numbers at a time, so that a long prompt on a model
# with a large vocabulary needs 64 MB for it and not gigabytes.
_CHUNK_NUMBERS = 2**24

Array = np.ndarray[Any, Any]
OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class Parity:
    """How far the head, applied by the lens to the last block's output, is from the model's logits.

    ``max_abs`` is the largest difference over positions and vocabulary, ``scale`` the largest
    logit, ``n_same_top1`` of ``n_positions`` positions have the same most likely token.
    """

    max_abs: float
    scale: float
    n_same_top1: int
    n_positions: int

    @property
    def ok(self) -> bool:
        """The lens reads the last state as the model itself does, up to rounding."""
        return self.max_abs <= 1e-4 * max(1.0, self.scale) and self.n_same_top1 == self.n_positions


@dataclass(frozen=True, eq=False)
class LogitLensResult:
    """One prompt through the lens: rows are states (the earliest first), columns its tokens.

    Shapes: R rows, T positions, k guesses, m tracked tokens a position, n targets.
    Log-probabilities, entropy and KL are in nats; ``kl_nats`` is KL(final || row). Ranks count from
    1 and give ties the better place. The *final answer* of a position is the model's own most
    likely next token there. ``tracked_ids[t]`` are the tokens that are the best guess of some row
    at that position, the final answer first, then by highest probability; unused places hold -1.
    """

    model_name: str
    site: str
    row_layers: tuple[int, ...]  # block of each row; -1 is the embedding, before block 0
    token_ids: Array  # [T]
    final_ids: Array  # [T]
    top_ids: Array  # [R, T, k]
    top_logprobs: Array  # [R, T, k]
    entropy_nats: Array  # [R, T]
    kl_nats: Array  # [R, T]
    final_ranks: Array  # [R, T]
    final_logprobs: Array  # [R, T]
    tracked_ids: Array  # [T, m]
    tracked_logprobs: Array  # [R, T, m]
    target_ids: tuple[int, ...]
    target_logprobs: Array  # [R, T, n]
    target_ranks: Array  # [R, T, n]
    parity: Parity
    d_vocab: int
    texts: Mapping[int, str]  # of every token id that occurs above

    @property
    def row_labels(self) -> tuple[str, ...]:
        """``embed`` for the state before block 0, else the block's index, counted from 0."""
        return tuple("embed" if layer < 0 else str(layer) for layer in self.row_layers)

    @property
    def tokens(self) -> tuple[str, ...]:
        """The prompt's tokens as text."""
        return tuple(self.texts[int(i)] for i in self.token_ids)

    @property
    def top_probs(self) -> Array:
        """Probabilities of the k best guesses, [R, T, k]."""
        return np.exp(self.top_logprobs)

    def first_hit(self, position: int = -1) -> int | None:
        """Block after which the final answer is first the best guess; None if in no row."""
        hits = np.flatnonzero(self.top_ids[:, position, 0] == self.final_ids[position])
        return self.row_layers[int(hits[0])] if hits.size else None

    def settles(self, position: int = -1) -> int | None:
        """Block from whose output on the final answer stays best guess; None if it never does."""
        other = np.flatnonzero(self.top_ids[:, position, 0] != self.final_ids[position])
        start = int(other[-1]) + 1 if other.size else 0
        return self.row_layers[start] if start < len(self.row_layers) else None

    def trajectories(self, position: int = -1) -> dict[int, Array]:
        """Probability of each tracked and target token at one position, from row to row."""
        tracked = {
            int(i): np.exp(self.tracked_logprobs[:, position, j])
            for j, i in enumerate(self.tracked_ids[position])
            if i >= 0
        }
        for j, i in enumerate(self.target_ids):
            tracked.setdefault(i, np.exp(self.target_logprobs[:, position, j]))
        return tracked

    def to_frame(self) -> pd.DataFrame:
        """One line a cell: every figure of the grid, and the k best guesses."""
        import pandas as pd

        n_rows, n_positions, k = self.top_ids.shape
        row, position = (i.ravel() for i in np.indices((n_rows, n_positions)))
        columns: dict[str, Any] = {
            "site": self.site,
            "layer": np.array(self.row_layers)[row],
            "row": np.array(self.row_labels)[row],
            "position": position,
            "token": [self.tokens[t] for t in position],
            "final_answer": [self.texts[int(self.final_ids[t])] for t in position],
            "final_answer_rank": self.final_ranks.ravel(),
            "final_answer_prob": np.exp(self.final_logprobs).ravel(),
            "entropy_nats": self.entropy_nats.ravel(),
            "kl_nats": self.kl_nats.ravel(),
        }
        for place in range(k):
            ids = self.top_ids[:, :, place].ravel()
            columns[f"top{place + 1}"] = [self.texts[int(i)] for i in ids]
            columns[f"top{place + 1}_prob"] = self.top_probs[:, :, place].ravel()
        for j, i in enumerate(self.target_ids):
            columns[f"prob of {self.texts[i]!r}"] = np.exp(self.target_logprobs[:, :, j]).ravel()
        return pd.DataFrame(columns)


def logit_lens(
    model: HookedModel,
    prompt_or_tokens: str | Int[Tensor, "1 pos"],
    *,
    site: str = "resid_post",
    top_k: int = 10,
    targets: Sequence[int | str] = (),
    n_tracked: int = 6,
    on_step: OnStep | None = None,
) -> LogitLensResult:
    """Apply the model's own final norm and head to the state at ``site`` of every block.

    The final norm's statistics are computed for each state anew; soft-cap, scale and bias of the
    head are the model's. With ``site="resid_post"`` the first row is the embedding, before block 0,
    and the last one equals the model's output (``result.parity`` says how closely). Layers x tokens
    x vocabulary never exists at once: each row is reduced before the next one is made.

    ``targets`` are token ids, or texts that are exactly one token, to follow at every position.
    ``n_tracked`` bounds the tokens followed of themselves at each position.
    ``on_step(done, total)`` is called after each row; what it raises ends the work.

    Raises EmptyPromptError and PromptTooLongError from the model, UnknownSiteError for another site
    and TokenError for a target that is not one token or more than one prompt at once.

    Example:
        >>> lens = logit_lens(model, "The Eiffel Tower is in", targets=[" Paris"])  # doctest: +SKIP
        >>> lens.first_hit()  # block after which the answer is the best guess  # doctest: +SKIP
    """
    tokens = _one_prompt(model, prompt_or_tokens)
    keys = _row_keys(site, model.cfg.n_layers)
    last = ("resid_post", model.cfg.n_layers - 1)
    target_ids = tuple(_token_id(model, target) for target in targets)
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens, names=[*dict.fromkeys([*keys, last])])
        final = _Final.of(logits[0])
        reduced = []
        for done, key in enumerate(keys, start=1):
            reduced.append(_reduce(model, cache[key][0], final, top_k, target_ids))
            if on_step is not None:
                on_step(done, len(keys))
        tops = torch.stack([row.top_ids for row in reduced])
        top_logprobs = torch.stack([row.top_logprobs for row in reduced])
        tracked = _choose_tracked(tops, top_logprobs, final.ids, n_tracked)
        followed = [_logprobs_of(model, cache[key][0], tracked) for key in keys]
        parity = _parity(model, cache[last][0], logits[0])
    tracked_logprobs = torch.stack(followed)
    ids = {*tokens[0].tolist(), *tops.unique().tolist(), *tracked.unique().tolist(), *target_ids}
    ids = {*ids, *final.ids.tolist()} - {-1}
    return LogitLensResult(
        model_name=model.cfg.name,
        site=site,
        row_layers=tuple(
            -1 if k == ("resid_pre", 0) and site != "resid_pre" else k[1] for k in keys
        ),
        token_ids=_numpy(tokens[0]),
        final_ids=_numpy(final.ids),
        top_ids=_numpy(tops),
        top_logprobs=_numpy(top_logprobs),
        entropy_nats=_numpy(torch.stack([row.entropy_nats for row in reduced])),
        kl_nats=_numpy(torch.stack([row.kl_nats for row in reduced])),
        final_ranks=_numpy(torch.stack([row.final_ranks for row in reduced])),
        final_logprobs=_numpy(torch.stack([row.final_logprobs for row in reduced])),
        tracked_ids=_numpy(tracked),
        tracked_logprobs=_numpy(tracked_logprobs),
        target_ids=target_ids,
        target_logprobs=_numpy(torch.stack([row.target_logprobs for row in reduced])),
        target_ranks=_numpy(torch.stack([row.target_ranks for row in reduced])),
        parity=parity,
        d_vocab=model.cfg.d_vocab,
        texts={i: token_text(model, i) for i in sorted(ids)},
    )


class _Final(NamedTuple):
    """What the model itself says, against which every row is compared."""

    logprobs: Float[Tensor, "pos d_vocab"]
    ids: Int[Tensor, " pos"]

    @classmethod
    def of(cls, logits: Float[Tensor, "pos d_vocab"]) -> _Final:
        # Half precision would underflow below 6e-8 and tie often; all statistics are made in fp32.
        logprobs = torch.log_softmax(logits.float(), dim=-1)
        return cls(logprobs, logprobs.argmax(dim=-1))


class _Row(NamedTuple):
    """One state at every position, reduced."""

    top_ids: Int[Tensor, "pos k"]
    top_logprobs: Float[Tensor, "pos k"]
    entropy_nats: Float[Tensor, " pos"]
    kl_nats: Float[Tensor, " pos"]
    final_ranks: Int[Tensor, " pos"]
    final_logprobs: Float[Tensor, " pos"]
    target_logprobs: Float[Tensor, "pos n"]
    target_ranks: Int[Tensor, "pos n"]


def _one_prompt(model: HookedModel, prompt_or_tokens: str | Tensor) -> Int[Tensor, "1 pos"]:
    tokens = (
        model.to_tokens(prompt_or_tokens)
        if isinstance(prompt_or_tokens, str)
        else torch.atleast_2d(prompt_or_tokens)
    )
    if tokens.shape[0] != 1:
        raise TokenError(
            f"The lens reads one prompt at a time; these tokens hold {tokens.shape[0]}."
        )
    return tokens


def _token_id(model: HookedModel, target: int | str) -> int:
    if isinstance(target, str):
        return model.to_single_token(target)
    if not 0 <= target < model.cfg.d_vocab:
        raise TokenError(
            f"Token {target} is not in the vocabulary; ids go from 0 to {model.cfg.d_vocab - 1}."
        )
    return target


def _row_keys(site: str, n_layers: int) -> list[tuple[str, int]]:
    if site not in SITES:
        raise UnknownSiteError(f"The lens reads {', '.join(SITES)}; there is no site {site!r}.")
    keys = [(site, layer) for layer in range(n_layers)]
    return [("resid_pre", 0), *keys] if site == "resid_post" else keys


def _head(model: HookedModel, states: Float[Tensor, "pos d_model"]) -> Float[Tensor, "pos d_vocab"]:
    # The head gets the batch axis that the model itself gives it.
    return model.unembed(model.ln_final(states[None]))[0].float()


def _chunks(model: HookedModel, n_positions: int) -> list[slice]:
    size = max(1, _CHUNK_NUMBERS // model.cfg.d_vocab)
    return [slice(start, start + size) for start in range(0, n_positions, size)]


def _reduce(
    model: HookedModel,
    states: Float[Tensor, "pos d_model"],
    final: _Final,
    top_k: int,
    target_ids: Sequence[int],
) -> _Row:
    targets = torch.tensor(target_ids, dtype=torch.long, device=states.device)
    parts = []
    for chunk in _chunks(model, states.shape[0]):
        logprobs = torch.log_softmax(_head(model, states[chunk]), dim=-1)
        top = logprobs.topk(min(top_k, logprobs.shape[-1]), dim=-1)
        final_logprobs = logprobs.gather(-1, final.ids[chunk, None])
        of_targets = logprobs[:, targets]
        parts.append(
            _Row(
                top_ids=top.indices,
                top_logprobs=top.values,
                entropy_nats=-(logprobs.exp() * logprobs).nan_to_num(0.0).sum(-1),
                kl_nats=_kl_nats(final.logprobs[chunk], logprobs),
                final_ranks=1 + (logprobs > final_logprobs).sum(-1),
                final_logprobs=final_logprobs[:, 0],
                target_logprobs=of_targets,
                target_ranks=1 + (logprobs[:, None, :] > of_targets[:, :, None]).sum(-1),
            )
        )
    return _Row(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def _kl_nats(
    p_log: Float[Tensor, "pos d_vocab"], q_log: Float[Tensor, "pos d_vocab"]
) -> Float[Tensor, " pos"]:
    # 0 log 0 is 0; a log-probability of -inf would otherwise make NaN.
    return (p_log.exp() * (p_log - q_log)).nan_to_num(0.0, posinf=torch.inf).sum(-1)


def _choose_tracked(
    top_ids: Int[Tensor, "row pos k"],
    top_logprobs: Float[Tensor, "row pos k"],
    final_ids: Int[Tensor, " pos"],
    n_tracked: int,
) -> Int[Tensor, "pos m"]:
    """At each position the final answer and the other rows' best guesses, likeliest first."""
    best_ids, best_logprobs = top_ids[:, :, 0].cpu(), top_logprobs[:, :, 0].cpu()
    chosen = []
    for position, final_id in enumerate(final_ids.tolist()):
        peak: dict[int, float] = {}
        column = zip(
            best_ids[:, position].tolist(), best_logprobs[:, position].tolist(), strict=True
        )
        for token_id, logprob in column:
            peak[token_id] = max(logprob, peak.get(token_id, -np.inf))
        peak.pop(final_id, None)
        others = sorted(peak, key=lambda i: -peak[i])
        chosen.append([final_id, *others][:n_tracked])
    width = max((len(ids) for ids in chosen), default=0)
    padded = [ids + [-1] * (width - len(ids)) for ids in chosen]
    return torch.tensor(padded, dtype=torch.long, device=top_ids.device).reshape(len(chosen), width)


def _logprobs_of(
    model: HookedModel, states: Float[Tensor, "pos d_model"], ids: Int[Tensor, "pos m"]
) -> Float[Tensor, "pos m"]:
    """Log-probability of each position's own tokens; -inf in unused places."""
    parts = []
    for chunk in _chunks(model, states.shape[0]):
        logprobs = torch.log_softmax(_head(model, states[chunk]), dim=-1)
        wanted = ids[chunk]
        parts.append(logprobs.gather(-1, wanted.clamp(min=0)).masked_fill(wanted < 0, -torch.inf))
    return torch.cat(parts)


def _parity(
    model: HookedModel, state: Float[Tensor, "pos d_model"], logits: Float[Tensor, "pos d_vocab"]
) -> Parity:
    max_abs, same = 0.0, 0
    for chunk in _chunks(model, state.shape[0]):
        ours, theirs = _head(model, state[chunk]), logits[chunk].float()
        max_abs = max(max_abs, (ours - theirs).abs().max().item())
        same += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
    return Parity(max_abs, logits.abs().max().item(), same, state.shape[0])


def _numpy(tensor: Tensor) -> Array:
    return tensor.cpu().numpy()
