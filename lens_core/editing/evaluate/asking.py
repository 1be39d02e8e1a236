"""Asking a model many questions at once, with an edit or without.

Free decoding and probabilities come from one pass over the prompts: the logits of its first step
are those of every answer's first token, so that only answers of several tokens need a pass of
their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from lens_core.editing.errors import EditingError
from lens_core.editing.evaluate.record import Question
from lens_core.interventions import Intervention, custom, low_rank

if TYPE_CHECKING:
    from lens_core import HookedModel

_TOKENS_AT_ONCE = 4096
_EXTRA_TOKENS = 2  # decoded past the longest answer, to see whether a word ends and what follows


@runtime_checkable
class Editing(Protocol):
    """What an `lens_core.editing.Edit` has that matters here."""

    @property
    def terms(self) -> tuple[Intervention, ...]:
        """What the edit adds to the model's projections."""

    @property
    def prefix(self) -> str:
        """The text that is put before every prompt."""


class Applied(NamedTuple):
    """Edits as one: their terms, merged by place, and the text that comes before every prompt."""

    terms: tuple[Intervention, ...] = ()
    prefix: str = ""


UNEDITED = Applied()
AnyEdit = Editing | Applied | Sequence[Editing] | None


def applied(edit: AnyEdit) -> Applied:
    """One edit, several in their order, or None, as terms and a prefix."""
    if edit is None:
        return UNEDITED
    if isinstance(edit, Applied):
        return edit
    edits = [edit] if isinstance(edit, Editing) else list(edit)
    terms = merged([term for e in edits for term in e.terms])
    return Applied(terms, "".join(e.prefix for e in edits))


def merged(terms: Iterable[Intervention]) -> tuple[Intervention, ...]:
    """The same terms with all low-rank ones of a projection side by side in one.

    A hundred edits one after another are a hundred small products otherwise; past the rank of the
    projection they are one dense matrix.
    """
    places: dict[tuple[str, int | None], list[Intervention]] = {}
    rest = []
    for term in terms:
        if term.op == "low_rank" and not term.selectors:
            places.setdefault((term.site, term.layer), []).append(term)
        else:
            rest.append(term)
    out = []
    for (site, layer), group in places.items():
        assert layer is not None
        if len(group) == 1:
            out.append(group[0])
            continue
        left = torch.cat([t.tensors["left"] for t in group], 1)
        right = torch.cat([t.tensors["right"] for t in group], 0)
        if left.shape[1] > right.shape[1]:
            left, right = left @ right, torch.eye(right.shape[1], dtype=right.dtype)
        out.append(low_rank(site, layer, left, right, name=f"{len(group)} edits"))
    return (*out, *rest)


@dataclass(frozen=True)
class Said:
    """What one model said to one question.

    Attributes:
        text: its own words, by greedy decoding.
        exact: whether they begin with the answer, and the answer's last word ends there.
        p_answer, p_rival: exp of the mean log-probability per token, teacher-forced; NaN without a
            rival.
    """

    text: str
    exact: bool
    p_answer: float
    p_rival: float

    @property
    def prefers_answer(self) -> bool:
        """Whether the answer is likelier than its rival."""
        return self.p_answer > self.p_rival


@torch.no_grad()
def ask(
    model: HookedModel, questions: Sequence[Question], edit: AnyEdit = None
) -> tuple[Said, ...]:
    """What the model, with the edit made, says to each question.

    Raises:
        PromptTooLongError: prompt and answer do not fit into the context.
        EditingError: an answer has no tokens.
    """
    made = applied(edit)
    if not questions:
        return ()
    targets: dict[tuple[str, str], list[int]] = {}
    for q in questions:
        for prompt, target in _measured(q):
            targets.setdefault((prompt, target), _target_ids(model, prompt, target))
    prompts = list(dict.fromkeys(prompt for prompt, _ in targets))
    longest = max(len(ids) for ids in targets.values())
    texts, first = _decode(model, prompts, made, longest + _EXTRA_TOKENS)
    place = {prompt: i for i, prompt in enumerate(prompts)}
    log_p = {
        (prompt, target): float(first[place[prompt], ids[0]])
        for (prompt, target), ids in targets.items()
    }
    several = {key: ids for key, ids in targets.items() if len(ids) > 1}
    log_p |= _forced(model, several, made)
    p = {key: torch.tensor(value).exp().item() for key, value in log_p.items()}
    out = []
    for q in questions:
        text = texts[place[q.prompt]]
        rival = p[q.rival_prompt or q.prompt, q.rival] if q.rival else float("nan")
        out.append(Said(text, begins_with(text, q.answer), p[q.prompt, q.answer], rival))
    return tuple(out)


def _measured(q: Question) -> Iterator[tuple[str, str]]:
    yield q.prompt, q.answer
    if q.rival:
        yield q.rival_prompt or q.prompt, q.rival


def begins_with(text: str, answer: str) -> bool:
    """Whether a text begins with the answer as whole words.

    >>> begins_with(" Rome. It is", "Rome"), begins_with(" Romeo", "Rome")
    (True, False)
    """
    said, wanted = text.strip(), answer.strip()
    return said.startswith(wanted) and not said[len(wanted) : len(wanted) + 1].isalnum()


def _target_ids(model: HookedModel, prompt: str, target: str) -> list[int]:
    """The tokens of a target after its prompt and a space."""
    tokenizer = model._tokenizer()
    before = tokenizer.encode(prompt, add_special_tokens=False)
    both = tokenizer.encode(f"{prompt} {target.strip()}", add_special_tokens=False)
    # Where the last word of the prompt and the answer share a token, the answer is taken alone.
    ids = both[len(before) :] if both[: len(before)] == before else []
    ids = ids or tokenizer.encode(f" {target.strip()}", add_special_tokens=False)
    if not target.strip() or not ids:
        raise EditingError(f"The answer {target!r:.40} to {prompt!r:.60} has no tokens.")
    return [int(i) for i in ids]


def _decode(
    model: HookedModel, prompts: list[str], made: Applied, n_new: int
) -> tuple[list[str], Float[Tensor, "prompt d_vocab"]]:
    """Greedy continuations, and the log-probabilities of their first token."""
    texts = [""] * len(prompts)
    first: list[Tensor] = [torch.empty(0)] * len(prompts)
    tokens = [model.to_tokens(made.prefix + p)[0] for p in prompts]
    for chosen in _batches([len(t) for t in tokens]):
        seen: list[Tensor] = []
        rows = torch.full((len(chosen), max(len(tokens[i]) for i in chosen)), model.pad_id)
        for row, i in enumerate(chosen):
            rows[row, rows.shape[1] - len(tokens[i]) :] = tokens[i]
        longest = rows.shape[1]
        mask = torch.stack([torch.arange(longest) >= longest - len(tokens[i]) for i in chosen])
        full = model.generate(
            rows.to(model.cfg.device),
            n_new,
            interventions=[*made.terms, custom("logits", None, _keep_first(seen))],
            attention_mask=mask.long().to(model.cfg.device),
        )
        log_probs = seen[0].float().log_softmax(-1).cpu()
        for row, i in enumerate(chosen):
            texts[i] = text_of(model, full[row, longest:].tolist())
            first[i] = log_probs[row]
    return texts, torch.stack(first)


def _keep_first(seen: list[Tensor]) -> Any:
    def look(logits: Tensor) -> Tensor:
        if not seen:
            seen.append(logits[:, -1].clone())
        return logits

    return look


def text_of(model: HookedModel, ids: list[int]) -> str:
    """Generated tokens as text, up to the end of the document."""
    ends = {model.bos_id, getattr(model.tokenizer, "eos_token_id", None)} - {None}
    for n, i in enumerate(ids):
        if i in ends:
            ids = ids[:n]
            break
    return model.to_string(ids) if ids else ""


def _forced(
    model: HookedModel, targets: dict[tuple[str, str], list[int]], made: Applied
) -> dict[tuple[str, str], float]:
    """The mean log-probability per token of answers of several tokens."""
    keys = list(targets)
    heads = [model.to_tokens(made.prefix + prompt)[0].tolist() for prompt, _ in keys]
    rows = [head + targets[key][:-1] for head, key in zip(heads, keys, strict=True)]
    out: dict[tuple[str, str], float] = {}
    for chosen in _batches([len(r) for r in rows]):
        batch = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(rows[i]) for i in chosen], batch_first=True, padding_value=model.pad_id
        ).to(model.cfg.device)
        # What stands after the last token cannot change what comes before it.
        resid = model.run(batch, made.terms, stop_at_layer=model.cfg.n_layers)
        where = [
            (row, len(heads[i]) - 1 + n)
            for row, i in enumerate(chosen)
            for n in range(len(targets[keys[i]]))
        ]
        row_index, position = (list(x) for x in zip(*where, strict=True))
        logits = model.unembed(model.ln_final(resid[row_index, position]))
        log_probs = logits.float().log_softmax(-1).cpu()
        done = 0
        for i in chosen:
            ids = targets[keys[i]]
            found = log_probs[range(done, done + len(ids)), ids]
            out[keys[i]] = float(found.mean())
            done += len(ids)
    return out


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices in batches of like length and bounded size, so that little is padding."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    batch: list[int] = []
    for i in order:
        if batch and (len(batch) + 1) * lengths[i] > _TOKENS_AT_ONCE:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
