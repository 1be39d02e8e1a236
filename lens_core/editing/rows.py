"""The prompts behind an edit as rows of tokens: where its answer is trained, what is held still."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from lens_core.editing.settings import KLPrompts
from lens_core.editing.world import Mention, is_world_model, other_questions
from lens_core.world.datasets.facts import token_span

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.editing.requests import LocatedRequest

ESSENCE = "{} is a"
# Where a subject's other relations are not known, beginnings that ask for whatever there is.
ANY_RELATION = ("{} is", "{} was", "{} has", "{} and")
MOST_QUESTIONS = 4


@dataclass(frozen=True)
class Row:
    """One prompt as token ids.

    Attributes:
        subject: position of the subject's last token, where the edit acts.
        wanted: positions whose next-token logits are read.
        targets: for each of them the token that should come; () where the model is held still.
        is_context: whether it is the edited prompt in a context, rather than one to hold still.
    """

    ids: tuple[int, ...]
    subject: int
    wanted: tuple[int, ...]
    targets: tuple[int, ...] = ()
    is_context: bool = False

    @property
    def key_only(self) -> Row:
        """The row up to its subject, of which nothing but activations there is read."""
        return Row(self.ids[: self.subject + 1], self.subject, (), (), self.is_context)


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows padded on the left, so that what comes after their subjects lies in the same columns.

    Attributes:
        tokens: Int [row, pos]; mask: Int [row, pos], 0 at padding, None without.
        subject: Int [row], the column of the subject's last token.
        wanted_row, wanted_column: Int [wanted], whose logits are read.
    """

    tokens: Int[Tensor, "row pos"]
    mask: Int[Tensor, "row pos"] | None
    subject: Int[Tensor, " row"]
    wanted_row: Int[Tensor, " wanted"]
    wanted_column: Int[Tensor, " wanted"]

    @classmethod
    def of(cls, rows: Sequence[Row], device: torch.device, pad_id: int) -> Batch:
        """The rows as one batch."""
        width = max(len(row.ids) for row in rows)
        shift = [width - len(row.ids) for row in rows]
        tokens = torch.tensor(
            [[max(pad_id, 0)] * n + list(row.ids) for row, n in zip(rows, shift, strict=True)]
        )
        mask = torch.tensor(
            [[0] * n + [1] * len(row.ids) for row, n in zip(rows, shift, strict=True)]
        )
        at = [(i, shift[i] + column) for i, row in enumerate(rows) for column in row.wanted]
        wanted = torch.tensor(at).reshape(-1, 2)
        subject = torch.tensor([row.subject + n for row, n in zip(rows, shift, strict=True)])
        return cls(
            tokens.to(device),
            mask.to(device) if any(shift) else None,
            subject.to(device),
            wanted[:, 0].to(device),
            wanted[:, 1].to(device),
        )


def answer_rows(model: HookedModel, located: LocatedRequest, prefixes: Iterable[str]) -> list[Row]:
    """The prompt and its new answer after each prefix; a prefix that does not fit is left out.

    The prefixes begin with the empty one, so that the first row is the bare prompt.
    """
    rows, target = [], located.target_ids
    for prefix in prefixes:
        ids, subject = _at_end_of(model, prefix + located.request.prompt, located.request.subject)
        n_ctx = model.cfg.n_ctx
        if n_ctx is not None and len(ids) + len(target) > n_ctx:
            continue
        wanted = tuple(range(len(ids) - 1, len(ids) - 1 + len(target)))
        rows.append(Row((*ids, *target[:-1]), subject, wanted, target, is_context=True))
    return rows


def spelling_rows(model: HookedModel, located: LocatedRequest, rows: Iterable[Row]) -> list[Row]:
    """The subject at the beginning of a text, for its key, if its last token is another one there.

    "Seoul" is three tokens there and one after a space. The prompt and its contexts, ``rows``, have
    the one or both.
    """
    subject = located.request.subject
    ids, at = _at_end_of(model, subject[:1].upper() + subject[1:], subject[1:])
    if ids[at] in {row.ids[row.subject] for row in rows}:
        return []
    return [Row(ids, at, (), is_context=True)]


def still_rows(
    model: HookedModel, located: LocatedRequest, prompts: KLPrompts, seed: int
) -> list[Row]:
    """The prompts about the subject that are to stay as they are (the KL term's)."""
    request = located.request
    if prompts == "essence":
        ids, subject = _at_end_of(model, ESSENCE.format(request.subject), request.subject)
        return [Row(ids, subject, (subject,))]
    if isinstance(prompts, tuple):
        return [_still(model, t, request.subject) for t in prompts]
    if is_world_model(model):
        asked = other_questions(
            request.subject,
            request.target_true or _answer_now(model, located),
            request.relation,
            MOST_QUESTIONS,
            seed,
        )
        rows = []
        for mention in asked:
            ids, subject = _tokens_to(model, mention)
            rows.append(Row(ids, subject, (len(ids) - 1,)))
        if rows:
            return rows
    return [_still(model, t, request.subject) for t in ANY_RELATION]


def _still(model: HookedModel, template: str, subject: str) -> Row:
    ids, at = _at_end_of(model, template.format(subject), subject)
    return Row(ids, at, (len(ids) - 1,))


def _answer_now(model: HookedModel, located: LocatedRequest) -> str:
    """What the model says after the prompt, as far as its tokens go."""
    room = 3 if model.cfg.n_ctx is None else model.cfg.n_ctx - located.tokens.shape[1]
    said = model.generate(located.tokens, max_new_tokens=min(3, max(1, room)))
    return model.to_string(said[0, located.tokens.shape[1] :]).split(".")[0].strip()


def _at_end_of(model: HookedModel, text: str, subject: str) -> tuple[tuple[int, ...], int]:
    return _tokens_to(model, Mention(text, text.rfind(subject) + len(subject)))


def _tokens_to(model: HookedModel, mention: Mention) -> tuple[tuple[int, ...], int]:
    """A text's tokens, and the position of the one in which a mention ends."""
    ids = model._encode(mention.text, None)
    own = model.tokenizer.encode(mention.text, add_special_tokens=False)
    _, last = token_span(model.tokenizer, mention.text, (mention.end - 1, mention.end))
    return tuple(ids), last + len(ids) - len(own) - 1
