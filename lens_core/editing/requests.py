"""What an edit is asked to change: a prompt, its subject, and the answer that it should have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Int
from torch import Tensor

from lens_core.editing.errors import EditingError
from lens_core.model.errors import LensError
from lens_core.world.datasets.facts import token_span

if TYPE_CHECKING:
    from lens_core import HookedModel


@dataclass(frozen=True)
class LocatedRequest:
    """A request as one model's tokens.

    Attributes:
        tokens: Int [1, pos], the prompt; BOS counts where the model has one.
        subject_start, subject_end: positions of the subject's first and last token, inclusive.
        target_ids: the new answer, as it stands after the prompt.
        true_ids: the old answer likewise; empty where the request does not name it.
    """

    request: EditRequest
    tokens: Int[Tensor, "1 pos"]
    subject_start: int
    subject_end: int
    target_ids: tuple[int, ...]
    true_ids: tuple[int, ...]


@dataclass(frozen=True)
class EditRequest:
    """One fact to change: after ``prompt``, the model should say ``target_new``.

    A subject that stands in the prompt twice is edited where it stands last.

    Attributes:
        prompt: the text before the answer, without a space at its end.
        subject: the words of the prompt that the fact is about, letter by letter.
        target_new: the answer that the edit should give; of one token or many.
        target_true: the answer that is right now; "" where it is not known.
        relation: a name of what is asked of the subject; "" where it has none.

    Raises:
        EditingError: nothing to change, or the subject is not in the prompt.

    Example:
        >>> EditRequest("The Eiffel Tower is in", "The Eiffel Tower", "Rome").target_new
        'Rome'
    """

    prompt: str
    subject: str
    target_new: str
    target_true: str = ""
    relation: str = ""

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise EditingError("The prompt is empty; write the words that the answer follows.")
        if not self.subject.strip():
            raise EditingError("The subject is empty; name the words that the fact is about.")
        if self.subject not in self.prompt:
            raise EditingError(
                f"The subject {self.subject!r:.60} is not in the prompt {self.prompt!r:.80}; "
                "copy it letter by letter."
            )
        if not self.target_new.strip():
            raise EditingError("The new answer is empty; write what the model should say.")
        if self.target_new.strip() == self.target_true.strip():
            raise EditingError(
                f"The new answer {self.target_new.strip()!r:.60} is the old one; "
                "there is nothing to change."
            )

    def __str__(self) -> str:
        old = f" (was: {self.target_true.strip()})" if self.target_true.strip() else ""
        return f"{self.prompt} {self.target_new.strip()}{old}"

    @property
    def template(self) -> str:
        """The prompt with ``{}`` where the subject stood last."""
        before, _, after = self.prompt.rpartition(self.subject)
        return f"{before}{{}}{after}"

    def tokenize(self, model: HookedModel) -> LocatedRequest:
        """The request as tokens of one model.

        Raises:
            EditingError: the model's tokenizer does not know a word or cannot say where words are,
                the prompt with its answer is too long, or both answers are the same tokens.
        """
        if not getattr(model.tokenizer, "is_fast", False):
            raise EditingError(
                f"The tokenizer of {model.cfg.name} cannot say where a word's tokens are; "
                "editing needs a fast tokenizer."
            )
        start = self.prompt.rfind(self.subject)
        try:
            tokens = model.to_tokens(self.prompt)
        except LensError as error:
            raise EditingError(str(error)) from None
        span = token_span(model.tokenizer, self.prompt, (start, start + len(self.subject)))
        own = model.tokenizer.encode(self.prompt, add_special_tokens=False)
        shift = tokens.shape[1] - len(own) - 1  # token_span counts one token before the text
        new = self._answer(model, self.target_new, own)
        true = self._answer(model, self.target_true, own) if self.target_true.strip() else ()
        if new == true:
            raise EditingError(
                f"{model.cfg.name} writes {self.target_new!r:.60} and {self.target_true!r:.60} "
                "with the same tokens; choose another answer."
            )
        n_ctx = model.cfg.n_ctx
        if n_ctx is not None and tokens.shape[1] + len(new) > n_ctx:
            raise EditingError(
                f"The prompt and its new answer have {tokens.shape[1] + len(new)} tokens and "
                f"{model.cfg.name} reads at most {n_ctx}; shorten them."
            )
        return LocatedRequest(self, tokens, span[0] + shift, span[1] + shift, new, true)

    def _answer(self, model: HookedModel, answer: str, prompt_ids: list[int]) -> tuple[int, ...]:
        """The tokens of an answer that follows the prompt after a space."""
        ids: list[int] = model.tokenizer.encode(
            f"{self.prompt.rstrip()} {answer.strip()}", add_special_tokens=False
        )
        n = len(prompt_ids)
        if ids[:n] != prompt_ids or len(ids) == n:
            raise EditingError(
                f"{model.cfg.name} joins the end of the prompt {self.prompt!r:.80} with the answer "
                f"{answer.strip()!r:.60}; end the prompt with a whole word and no space."
            )
        unknown = model.tokenizer.unk_token_id
        if unknown is not None and unknown in ids:
            raise EditingError(
                f"{model.cfg.name} has no token for a word of {self.prompt!r:.80} {answer!r:.60}; "
                "use other words."
            )
        return tuple(ids[n:])


def as_requests(requests: EditRequest | Sequence[EditRequest]) -> tuple[EditRequest, ...]:
    """One request or several, as a tuple.

    Raises:
        EditingError: there is none, or one is no request.
    """
    many = (requests,) if isinstance(requests, EditRequest) else tuple(requests)
    if not many:
        raise EditingError("There is nothing to edit; give at least one request.")
    for request in many:
        if not isinstance(request, EditRequest):
            raise EditingError(f"{request!r:.60} is not an EditRequest.")
    return many
