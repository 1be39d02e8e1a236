"""Two readings laid beside each other, cell by cell.

    from lens_core.lens import TunedLens, LogitLens
    from lens_core.lens.compare import compare_lenses, compare_prompts

    both = compare_prompts(model, "The Eiffel Tower is in", "The Colosseum is in the")
    print(both.to_frame())

What it answers: where two lenses, two prompts, two models, or a clean and an edited run first say
different things, and how far apart their whole distributions are there. What it does not answer:
which of the two is right; a small distance between two lenses can be two equal mistakes.

The distances are made from full distributions, one row of states at a time, so that two readings
never need more memory than two rows. Jensen-Shannon divergence after Lin (1991).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_core.lens.errors import CompareError
from lens_core.lens.head import head_logits, position_chunks
from lens_core.lens.read import OnStep, one_prompt, row_keys, row_layer, target_id
from lens_core.lens.result import Array
from lens_core.lens.statistics import kl_nats
from lens_core.lens.token_text import token_text
from lens_core.lens.transports import LogitLens, Transport, depth_of

if TYPE_CHECKING:
    import pandas as pd

    from lens_core import HookedModel
    from lens_core.interventions import Intervention

Prompt = str | Int[Tensor, "1 pos"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two readings, a and b, of R rows of states (the earliest first) at T tokens.

    Divergences are in nats. ``kl_a_nats`` is KL(final output of a || row of a), the same for b;
    ``kl_between_nats`` is KL(row of a || row of b).
    """

    what: str  # lenses, prompts, interventions or models
    name_a: str
    name_b: str
    site: str
    row_layers_a: tuple[int, ...]  # -1 is the embedding
    row_layers_b: tuple[int, ...]
    token_ids_a: Array  # [T]
    token_ids_b: Array  # [T]
    top_ids_a: Array  # [R, T]
    top_ids_b: Array  # [R, T]
    kl_a_nats: Array  # [R, T]
    kl_b_nats: Array  # [R, T]
    kl_between_nats: Array  # [R, T]
    js_nats: Array  # [R, T], at most ln 2
    total_variation: Array  # [R, T] half the L1 distance, at most 1
    target_ids: tuple[int, ...]
    target_logprobs_a: Array  # [R, T, n]
    target_logprobs_b: Array  # [R, T, n]
    texts: Mapping[int, str]

    @property
    def kl_difference_nats(self) -> Array:
        """How much further b is from its final output than a from its own, [R, T]."""
        return np.asarray(self.kl_b_nats - self.kl_a_nats)

    @property
    def same_top1(self) -> Array:
        """Where both have the same best guess, bool [R, T]."""
        return np.asarray(self.top_ids_a == self.top_ids_b)

    @property
    def target_prob_change(self) -> Array:
        """Probability of each target in b minus that in a, [R, T, n]."""
        return np.asarray(np.exp(self.target_logprobs_b) - np.exp(self.target_logprobs_a))

    def to_frame(self) -> pd.DataFrame:
        """One line a cell."""
        import pandas as pd

        row, position = (i.ravel() for i in np.indices(self.js_nats.shape))
        columns: dict[str, Any] = {
            "what": self.what,
            "a": self.name_a,
            "b": self.name_b,
            "site": self.site,
            "layer_a": np.array(self.row_layers_a)[row],
            "layer_b": np.array(self.row_layers_b)[row],
            "position": position,
            "token_a": [self.texts[int(i)] for i in self.token_ids_a[position]],
            "token_b": [self.texts[int(i)] for i in self.token_ids_b[position]],
            "top1_a": [self.texts[int(i)] for i in self.top_ids_a.ravel()],
            "top1_b": [self.texts[int(i)] for i in self.top_ids_b.ravel()],
            "same_top1": self.same_top1.ravel(),
            "kl_a_nats": self.kl_a_nats.ravel(),
            "kl_b_nats": self.kl_b_nats.ravel(),
            "kl_difference_nats": self.kl_difference_nats.ravel(),
            "kl_between_nats": self.kl_between_nats.ravel(),
            "js_nats": self.js_nats.ravel(),
            "total_variation": self.total_variation.ravel(),
        }
        for j, i in enumerate(self.target_ids):
            change = self.target_prob_change[:, :, j].ravel()
            columns[f"change of prob of {self.texts[i]!r}"] = change
        return pd.DataFrame(columns)


def compare_lenses(
    model: HookedModel,
    prompt: Prompt,
    a: Transport,
    b: Transport,
    *,
    site: str = "resid_post",
    interventions: Iterable[Intervention] = (),
    targets: Sequence[int | str] = (),
    on_step: OnStep | None = None,
) -> Comparison:
    """One prompt through two lenses; only states that both of them read.

    Raises:
        CompareError: there is no state that both lenses read.
        LensMismatchError, UnknownSiteError, TokenError: as `read_lens`.

    Example:
        >>> both = compare_lenses(model, "The sun is", LogitLens(), tuned)  # doctest: +SKIP
        >>> both.kl_difference_nats.min()  # below 0: tuned is closer  # doctest: +SKIP
    """
    tokens, edits = one_prompt(model, prompt), tuple(interventions)
    sides = _Side(model, tokens, a, edits, a.name), _Side(model, tokens, b, edits, b.name)
    return _compare("lenses", *sides, site=site, targets=targets, on_step=on_step)


def compare_prompts(
    model: HookedModel,
    prompt_a: Prompt,
    prompt_b: Prompt,
    lens: Transport | None = None,
    *,
    site: str = "resid_post",
    targets: Sequence[int | str] = (),
    on_step: OnStep | None = None,
) -> Comparison:
    """Two prompts of equal length through one lens, token beside token.

    Raises:
        CompareError: they have not the same number of tokens, or one alone begins with BOS.
        LensMismatchError, UnknownSiteError, TokenError: as `read_lens`.
    """
    first, second = one_prompt(model, prompt_a), one_prompt(model, prompt_b)
    _check_aligned(model, first, second)
    lens = lens or LogitLens()
    sides = _Side(model, first, lens, (), "prompt a"), _Side(model, second, lens, (), "prompt b")
    return _compare("prompts", *sides, site=site, targets=targets, on_step=on_step)


def compare_intervened(
    model: HookedModel,
    prompt: Prompt,
    interventions: Iterable[Intervention],
    lens: Transport | None = None,
    *,
    site: str = "resid_post",
    targets: Sequence[int | str] = (),
    on_step: OnStep | None = None,
) -> Comparison:
    """The clean run (a) against the one with the interventions (b), through one lens.

    Raises:
        CompareError: there are no interventions.
        InterventionError, InterventionNotAppliedError: from the model.
    """
    edits = tuple(interventions)
    if not edits:
        raise CompareError("There is no intervention to compare the clean run with; give one.")
    tokens, lens = one_prompt(model, prompt), lens or LogitLens()
    sides = _Side(model, tokens, lens, (), "clean"), _Side(model, tokens, lens, edits, "intervened")
    return _compare("interventions", *sides, site=site, targets=targets, on_step=on_step)


def compare_models(
    model_a: HookedModel,
    model_b: HookedModel,
    prompt: Prompt,
    lens_a: Transport | None = None,
    lens_b: Transport | None = None,
    *,
    site: str = "resid_post",
    targets: Sequence[int | str] = (),
    on_step: OnStep | None = None,
) -> Comparison:
    """One prompt through two models that share a tokenizer.

    Models of different depth are paired at equal shares of their depth, first with first and last
    with last. Rows that only one head has (padding of the vocabulary) are left out of both.

    Raises:
        CompareError: their tokenizers are not the same.
    """
    _check_one_tokenizer(model_a, model_b)
    tokens = one_prompt(model_a, prompt)
    sides = (
        _Side(model_a, tokens, lens_a or LogitLens(), (), model_a.cfg.name),
        _Side(model_b, tokens, lens_b or LogitLens(), (), model_b.cfg.name),
    )
    return _compare("models", *sides, site=site, targets=targets, on_step=on_step)


class _Side(NamedTuple):
    model: HookedModel
    tokens: Int[Tensor, "1 pos"]
    lens: Transport
    interventions: tuple[Intervention, ...]
    name: str


class _Run(NamedTuple):
    """One side after its forward pass: its states by key, and its own final distribution."""

    side: _Side
    states: Callable[[tuple[str, int]], Tensor]
    final_logprobs: Float[Tensor, "pos d_vocab"]

    def logprobs(self, key: tuple[str, int], chunk: slice, n_vocab: int) -> Tensor:
        """What the lens says of one row of states at some positions."""
        carried = self.side.lens.carry(self.side.model, self.states(key), depth_of(*key))[0, chunk]
        return torch.log_softmax(head_logits(self.side.model, carried)[:, :n_vocab], dim=-1)


class _Cells(NamedTuple):
    """Both sides of one row, reduced."""

    top_ids_a: Tensor
    top_ids_b: Tensor
    kl_a_nats: Tensor
    kl_b_nats: Tensor
    kl_between_nats: Tensor
    js_nats: Tensor
    total_variation: Tensor
    target_logprobs_a: Tensor
    target_logprobs_b: Tensor


def _compare(
    what: str,
    a: _Side,
    b: _Side,
    *,
    site: str,
    targets: Sequence[int | str],
    on_step: OnStep | None,
) -> Comparison:
    target_ids = tuple(target_id(a.model, target) for target in targets)
    n_vocab = min(a.model.cfg.d_vocab, b.model.cfg.d_vocab)
    pairs = _paired_keys(a, b, site)
    with torch.no_grad():
        run_a = _forward(a, [key for key, _ in pairs], n_vocab)
        same_run = a.model is b.model and a.tokens is b.tokens and not b.interventions
        run_b = _Run(b, run_a.states, run_a.final_logprobs)
        if not same_run or a.interventions:
            run_b = _forward(b, [key for _, key in pairs], n_vocab)
        rows = []
        for done, (key_a, key_b) in enumerate(pairs, start=1):
            rows.append(_cells(run_a, run_b, key_a, key_b, n_vocab, target_ids))
            if on_step is not None:
                on_step(done, len(pairs))
    stacked = {
        name: torch.stack([getattr(row, name) for row in rows]).cpu().numpy()
        for name in _Cells._fields
    }
    ids = {*a.tokens[0].tolist(), *b.tokens[0].tolist(), *target_ids}
    ids |= {*stacked["top_ids_a"].ravel().tolist(), *stacked["top_ids_b"].ravel().tolist()}
    return Comparison(
        what=what,
        name_a=a.name,
        name_b=b.name,
        site=site,
        row_layers_a=tuple(row_layer(site, key) for key, _ in pairs),
        row_layers_b=tuple(row_layer(site, key) for _, key in pairs),
        token_ids_a=a.tokens[0].cpu().numpy(),
        token_ids_b=b.tokens[0].cpu().numpy(),
        target_ids=target_ids,
        texts={i: token_text(a.model, i) for i in sorted(ids)},
        **stacked,
    )


def _paired_keys(a: _Side, b: _Side, site: str) -> list[tuple[tuple[str, int], tuple[str, int]]]:
    for side in (a, b):
        side.lens.check(side.model)
    keys_a = row_keys(site, a.model.cfg.n_layers)
    keys_b = row_keys(site, b.model.cfg.n_layers)
    n = min(len(keys_a), len(keys_b))
    places = [np.linspace(0, len(keys) - 1, n).round().astype(int) for keys in (keys_a, keys_b)]
    pairs = [(keys_a[i], keys_b[j]) for i, j in zip(*places, strict=True)]
    read = [
        (i, j)
        for i, j in pairs
        if a.lens.reads(depth_of(*i), a.model.cfg.n_layers)
        and b.lens.reads(depth_of(*j), b.model.cfg.n_layers)
    ]
    if not read:
        raise CompareError(
            f"There is no state at {site} that both {a.lens.name} and {b.lens.name} read."
        )
    return read


def _forward(side: _Side, keys: list[tuple[str, int]], n_vocab: int) -> _Run:
    logits, cache = side.model.run_with_cache(
        side.tokens, names=keys, interventions=side.interventions
    )
    final = torch.log_softmax(logits[0, :, :n_vocab].float(), dim=-1)
    return _Run(side, cache.__getitem__, final)


def _cells(
    a: _Run,
    b: _Run,
    key_a: tuple[str, int],
    key_b: tuple[str, int],
    n_vocab: int,
    target_ids: Sequence[int],
) -> _Cells:
    """One row of both sides, from full distributions that are gone when it returns."""
    parts = []
    for chunk in position_chunks(a.side.model, a.side.tokens.shape[1]):
        p_log = a.logprobs(key_a, chunk, n_vocab)
        q_log = b.logprobs(key_b, chunk, n_vocab).to(p_log.device)
        p, q = p_log.exp(), q_log.exp()
        mix_log = ((p + q) / 2).log()
        wanted = torch.tensor(target_ids, dtype=torch.long, device=p_log.device)
        parts.append(
            _Cells(
                top_ids_a=p_log.argmax(-1),
                top_ids_b=q_log.argmax(-1),
                kl_a_nats=kl_nats(a.final_logprobs[chunk], p_log),
                kl_b_nats=kl_nats(b.final_logprobs[chunk].to(q_log.device), q_log),
                kl_between_nats=kl_nats(p_log, q_log),
                js_nats=((kl_nats(p_log, mix_log) + kl_nats(q_log, mix_log)) / 2).clamp(min=0),
                total_variation=(p - q).abs().sum(-1) / 2,
                target_logprobs_a=p_log[:, wanted],
                target_logprobs_b=q_log[:, wanted],
            )
        )
    return _Cells(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def _check_aligned(model: HookedModel, first: Tensor, second: Tensor) -> None:
    a, b = first[0].tolist(), second[0].tolist()
    bos = model.bos_id
    if bos is not None and (a[0] == bos) != (b[0] == bos):
        begins, other = ("first", "second") if a[0] == bos else ("second", "first")
        raise CompareError(
            f"The {begins} prompt begins with the start token {token_text(model, bos)!r} and the "
            f"{other} does not; begin both with it, or neither."
        )
    if len(a) == len(b):
        return
    place = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    where = (
        "one is the beginning of the other"
        if place is None
        else f"they first differ at token {place}, {token_text(model, a[place])!r} against "
        f"{token_text(model, b[place])!r}"
    )
    raise CompareError(
        f"The first prompt has {len(a)} tokens and the second {len(b)} ({where}). They are laid "
        "beside each other token by token: reword one so that both have the same number."
    )


def _check_one_tokenizer(a: HookedModel, b: HookedModel) -> None:
    names = f"{a.cfg.name} and {b.cfg.name}"
    if a.tokenizer is None or b.tokenizer is None:
        raise CompareError(f"{names}: both models need a tokenizer to be compared on one prompt.")
    ours, theirs = a.tokenizer.get_vocab(), b.tokenizer.get_vocab()
    if ours == theirs:
        return
    differing = sum(theirs.get(token) != i for token, i in ours.items())
    raise CompareError(
        f"{names} have different tokenizers ({len(ours)} and {len(theirs)} tokens, {differing} of "
        "the first with another number or none in the second). Compare models of one family."
    )
