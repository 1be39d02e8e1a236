"""Read every intermediate state of a prompt through a lens.

    from lens_core import HookedModel
    from lens_core.lens import read_lens

    model = HookedModel.from_pretrained("tiny-world")
    lens = read_lens(model, "The Eiffel Tower is in")
    print(lens.to_frame())

What it answers: at which block the model's own final norm and output head, applied to the state
after that block (as it stands, or carried there by a trained transport), first name the answer.
What it does not answer: whether the later blocks *use* what the lens reads; that takes an
intervention.

After nostalgebraist, "interpreting GPT: the logit lens" (2020), and Belrose et al., "Eliciting
latent predictions from transformers with the tuned lens" (2023, arXiv 2303.08112).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_core.lens.head import head_logits, position_chunks
from lens_core.lens.identity import check_weights
from lens_core.lens.result import Array, LensResult, Parity
from lens_core.lens.statistics import Final, Row, reduce_logits
from lens_core.lens.token_text import token_text
from lens_core.lens.transports import LogitLens, Transport, depth_of
from lens_core.model.errors import TokenError, UnknownSiteError

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.interventions import Intervention

SITES = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
OnStep = Callable[[int, int], None]
Key = tuple[str, int]


def read_lens(
    model: HookedModel,
    prompt_or_tokens: str | Int[Tensor, "1 pos"],
    lens: Transport | None = None,
    *,
    site: str = "resid_post",
    interventions: Iterable[Intervention] = (),
    top_k: int = 10,
    targets: Sequence[int | str] = (),
    n_tracked: int = 6,
    on_step: OnStep | None = None,
) -> LensResult:
    """The states at ``site`` of every block, carried by the lens and read by the model's own head.

    With ``site="resid_post"`` the first row is the embedding, before block 0, and the last one
    equals the model's output (``result.parity`` says how closely). Layers x tokens x vocabulary
    never exists at once: each row is reduced before the next one is made. A part of a block
    (``attn_out``, ``mlp_out``) is carried as the block's input would be; no lens is trained on
    parts.

    Args:
        lens: None is the logit lens. States that the lens has nothing for are left out.
        interventions: what to change while the model runs; the lens reads the changed states.
        targets: token ids, or texts that are exactly one token, to follow at every position.
        n_tracked: most tokens followed of themselves at each position.
        on_step: ``on_step(done, total)`` after each row; what it raises ends the work.

    Raises:
        EmptyPromptError, PromptTooLongError: from the model.
        UnknownSiteError: another site.
        TokenError: a target that is not one token, or more than one prompt at once.
        LensMismatchError: the lens was made for another model, or for other weights of its shape.

    Example:
        >>> lens = read_lens(model, "The Eiffel Tower is in", targets=[" Paris"])  # doctest: +SKIP
        >>> lens.first_hit()  # block after which the answer is the best guess  # doctest: +SKIP
    """
    lens = lens or LogitLens()
    lens.check(model)
    check_weights(lens, model)
    tokens = one_prompt(model, prompt_or_tokens)
    keys = [k for k in row_keys(site, model.cfg.n_layers) if _is_read(lens, k, model)]
    last = ("resid_post", model.cfg.n_layers - 1)
    target_ids = tuple(target_id(model, target) for target in targets)
    with torch.no_grad():
        names = [*dict.fromkeys([*keys, last])]
        logits, cache = model.run_with_cache(tokens, names=names, interventions=interventions)
        parity = _parity(model, cache[last][0], logits[0])
        final = Final.of(logits[0], tokens[0].to(logits.device))
        del logits  # as large as what is reduced at a time
        rows = []
        for done, key in enumerate(keys, start=1):
            rows.append(_reduce_row(model, lens, cache[key], key, final, top_k, target_ids))
            if on_step is not None:
                on_step(done, len(keys))
        tracked = _choose_tracked(rows, final.ids, n_tracked)
        followed = [
            _logprobs_of(model, _carried(model, lens, cache[key], key), row, tracked)
            for key, row in zip(keys, rows, strict=True)
        ]
        norms = torch.stack([cache[key][0].float().norm(dim=-1) for key in keys])
        cosines = torch.stack([_cosine(cache[key][0], cache[last][0]) for key in keys])
    ids = {*tokens[0].tolist(), *final.ids.tolist(), *tracked.unique().tolist(), *target_ids}
    ids = {*ids, *(i for row in rows for i in row.top_ids.unique().tolist())} - {-1}
    return LensResult(
        model_name=model.cfg.name,
        lens_name=lens.name,
        site=site,
        row_layers=tuple(row_layer(site, key) for key in keys),
        token_ids=_numpy(tokens[0]),
        final_ids=_numpy(final.ids),
        **{name: _numpy(torch.stack([getattr(row, name) for row in rows])) for name in _STACKED},
        state_norms=_numpy(norms),
        final_cosines=_numpy(cosines),
        tracked_ids=_numpy(tracked),
        tracked_logprobs=_numpy(torch.stack(followed)),
        target_ids=target_ids,
        parity=parity,
        d_vocab=model.cfg.d_vocab,
        texts={i: token_text(model, i) for i in sorted(ids)},
        provenance=dict(lens.provenance),
    )


_STACKED = tuple(name for name in Row._fields if name != "log_normalisers")


def one_prompt(model: HookedModel, prompt_or_tokens: str | Tensor) -> Int[Tensor, "1 pos"]:
    """The prompt's tokens, without padding on its left. Raises TokenError for several prompts."""
    tokens = (
        model.to_tokens(prompt_or_tokens)
        if isinstance(prompt_or_tokens, str)
        else torch.atleast_2d(prompt_or_tokens)
    )
    if tokens.shape[0] != 1:
        raise TokenError(
            f"The lens reads one prompt at a time; these tokens hold {tokens.shape[0]}."
        )
    mask = model.attention_mask(tokens) if tokens.numel() else None
    return tokens if mask is None else tokens[:, mask[0].bool()]


def target_id(model: HookedModel, target: int | str) -> int:
    """A token's id, given as such or as its text. Raises TokenError if it is not one token."""
    if isinstance(target, str):
        return model.to_single_token(target)
    if not 0 <= target < model.cfg.d_vocab:
        raise TokenError(
            f"Token {target} is not in the vocabulary; ids go from 0 to {model.cfg.d_vocab - 1}."
        )
    return target


def row_keys(site: str, n_layers: int) -> list[Key]:
    """What to record for each row of a site; for ``resid_post`` the embedding comes first."""
    if site not in SITES:
        raise UnknownSiteError(f"The lens reads {', '.join(SITES)}; there is no site {site!r}.")
    keys = [(site, layer) for layer in range(n_layers)]
    return [("resid_pre", 0), *keys] if site == "resid_post" else keys


def row_layer(site: str, key: Key) -> int:
    """The block that a row is labelled with; -1 is the embedding."""
    return -1 if key == ("resid_pre", 0) and site != "resid_pre" else key[1]


def _is_read(lens: Transport, key: Key, model: HookedModel) -> bool:
    return lens.reads(depth_of(*key), model.cfg.n_layers)


def _carried(
    model: HookedModel, lens: Transport, states: Float[Tensor, "1 pos d_model"], key: Key
) -> Float[Tensor, "pos d_model"]:
    return lens.carry(model, states, depth_of(*key))[0]


def _reduce_row(
    model: HookedModel,
    lens: Transport,
    states: Float[Tensor, "1 pos d_model"],
    key: Key,
    final: Final,
    top_k: int,
    target_ids: Sequence[int],
) -> Row:
    carried = _carried(model, lens, states, key)
    return Row.joined(
        [
            reduce_logits(
                head_logits(model, carried[chunk]),
                final.at(chunk),
                top_k=top_k,
                target_ids=target_ids,
            )
            for chunk in position_chunks(model, carried.shape[0])
        ]
    )


def _choose_tracked(
    rows: Sequence[Row], final_ids: Int[Tensor, " pos"], n_tracked: int
) -> Int[Tensor, "pos m"]:
    """At each position the final answer and the other rows' best guesses, likeliest first."""
    best_ids = torch.stack([row.top_ids[:, 0] for row in rows]).cpu()
    best_logprobs = torch.stack([row.top_logprobs[:, 0] for row in rows]).cpu()
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
    return torch.tensor(padded, dtype=torch.long, device=final_ids.device).reshape(
        len(chosen), width
    )


def _logprobs_of(
    model: HookedModel,
    carried: Float[Tensor, "pos d_model"],
    row: Row,
    ids: Int[Tensor, "pos m"],
) -> Float[Tensor, "pos m"]:
    """Log-probability of each position's own tokens; -inf in unused places.

    Their columns of the unembedding are enough, since the row's normalisers are known. A head that
    does more than multiply (a soft-cap, a scale) gives other best guesses than the row has, and is
    then run whole.
    """
    unused, some = ids < 0, ids.clamp(min=0)
    normed = model.ln_final(carried[None].to(model.cfg.dtype))[0].float()
    if normed.shape[-1] == model.W_U.shape[0]:
        wanted = torch.cat([some, row.top_ids[:, :1]], dim=-1)
        columns = model.W_U.T[wanted].to(normed)
        logits = torch.einsum("pd,pmd->pm", normed, columns) + model.b_U[wanted].to(normed)
        logprobs = logits - row.log_normalisers[:, None]
        if torch.allclose(logprobs[:, -1], row.top_logprobs[:, 0], atol=1e-4, rtol=1e-4):
            return logprobs[:, :-1].masked_fill(unused, -torch.inf)
    chunks = position_chunks(model, carried.shape[0])
    parts = [head_logits(model, carried[c]).gather(-1, some[c]) for c in chunks]
    return (torch.cat(parts) - row.log_normalisers[:, None]).masked_fill(unused, -torch.inf)


def _parity(
    model: HookedModel, state: Float[Tensor, "pos d_model"], logits: Float[Tensor, "pos d_vocab"]
) -> Parity:
    max_abs, same = 0.0, 0
    for chunk in position_chunks(model, state.shape[0]):
        ours, theirs = head_logits(model, state[chunk]), logits[chunk].float()
        same += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
        max_abs = max(max_abs, ours.sub_(theirs).abs_().max().item())
    least, most = (extreme.item() for extreme in logits.aminmax())
    return Parity(max_abs, max(most, -least), same, state.shape[0])


def _cosine(state: Tensor, other: Tensor) -> Tensor:
    return torch.cosine_similarity(state.float(), other.float(), dim=-1)


def _numpy(tensor: Tensor) -> Array:
    return tensor.cpu().numpy()
