"""Where a subject's tokens are in a prompt, and another word to corrupt as a control."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from jaxtyping import Int
from torch import Tensor

from lens_core.attention.prompt import one_prompt
from lens_core.tracing.errors import TracingError
from lens_core.world.datasets.facts import token_span

if TYPE_CHECKING:
    from lens_core import HookedModel

# First and last position, both inclusive; BOS counts.
Span = tuple[int, int]


class MarkedFact(Protocol):
    """A fact's prompt with its subject's place, such as `lens_core.world.datasets.known_facts`."""

    @property
    def prompt(self) -> str:
        """The text that the object completes after a space."""

    @property
    def object(self) -> str:
        """The fact's object."""

    @property
    def subject_start(self) -> int:
        """Position of the subject's first token; BOS counts."""

    @property
    def subject_end(self) -> int:
        """Position of its last token, inclusive."""


@dataclass(frozen=True)
class TracePrompt:
    """One prompt to trace.

    Attributes:
        prompt: a text, or Int [1, pos].
        subject: the words to corrupt, as they stand in the prompt, or the positions of their first
            and last token (BOS counts; negative ones count from the end).
        answer: a token id, or a text that is exactly one token; None: what the model says.
        foil: a wrong answer, for the logit difference.
    """

    prompt: str | Int[Tensor, "1 pos"]
    subject: str | Span
    answer: str | int | None = None
    foil: str | int | None = None

    @classmethod
    def of_fact(cls, model: HookedModel, fact: MarkedFact) -> TracePrompt:
        """A marked fact; its answer is the first token of the object after a space."""
        answer = int(model.to_tokens(f" {fact.object}", prepend_bos=False)[0, 0])
        # Marked facts count one token of BOS, which this model may not have.
        shift = len(model.to_tokens(fact.prompt)[0]) - _length(model, fact.prompt) - 1
        return cls(fact.prompt, (fact.subject_start + shift, fact.subject_end + shift), answer)


def locate(
    model: HookedModel, prompt: str | Int[Tensor, "1 pos"], subject: str | Span
) -> tuple[Int[Tensor, "1 pos"], Span]:
    """The prompt's tokens, and the first and last position of its subject.

    Of a subject that stands in the prompt more than once, the first.

    Raises:
        TracingError: the subject is not in the prompt, or has no such positions; the sentence says
            which there are.
        EmptyPromptError, PromptTooLongError, TokenError: as `to_tokens`.

    Example:
        >>> from lens_core import HookedModel
        >>> model = HookedModel.from_pretrained("tiny-world")
        >>> locate(model, "The Eiffel Tower is in", "Eiffel Tower")[1]
        (2, 3)
    """
    tokens = one_prompt(model, prompt)
    if isinstance(subject, str):
        return tokens, _find(model, prompt, subject, tokens.shape[1])
    n, (first, last) = tokens.shape[1], subject
    if not (-n <= first < n and -n <= last < n and first % n <= last % n):
        raise TracingError(
            f"The subject's positions {(first, last)} do not fit the prompt, whose tokens have the "
            f"positions 0 to {n - 1}; give the first and the last one."
        )
    return tokens, (first % n, last % n)


def _find(
    model: HookedModel, prompt: str | Int[Tensor, "1 pos"], subject: str, n_positions: int
) -> Span:
    if not isinstance(prompt, str):
        raise TracingError("For a prompt of token ids, give the subject's positions, not its text.")
    start = prompt.find(subject) if subject.strip() else -1
    if start < 0:
        raise TracingError(
            f"The subject {subject!r:.60} is not in the prompt {prompt!r:.80}; "
            "copy it letter by letter."
        )
    if not getattr(model.tokenizer, "is_fast", False):
        raise TracingError(
            f"The tokenizer of {model.cfg.name} cannot say where a word's tokens are; give the "
            "positions of the subject's first and last token."
        )
    first, last = token_span(model.tokenizer, prompt, (start, start + len(subject)))
    shift = n_positions - _length(model, prompt) - 1
    return first + shift, last + shift


def _length(model: HookedModel, prompt: str) -> int:
    """Tokens of the text itself."""
    return len(model._tokenizer().encode(prompt, add_special_tokens=False))


def control_span(n_positions: int, subject: Span, *, first: int = 0) -> Span | None:
    """A run of as many tokens outside of the subject, for the control: noise on other words.

    The tokens right after the subject, else those right before it; never the last token, which is
    where the answer is read, nor those before `first`. If there is no room for as many, the longer
    of the two gaps; None if there is none at all.

    >>> control_span(10, (1, 3), first=1)
    (4, 6)
    >>> control_span(6, (3, 4), first=1)
    (1, 2)
    """
    length = subject[1] - subject[0] + 1
    after = (subject[1] + 1, min(subject[1] + length, n_positions - 2))
    before = (max(first, subject[0] - length), subject[0] - 1)
    longest = max((after, before), key=lambda span: span[1] - span[0])
    return longest if longest[0] <= longest[1] else None
