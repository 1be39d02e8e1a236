"""Facts asked in wordings that training did not use for them, with the subject's place marked."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from transformers import PreTrainedTokenizerBase

from lens_core.world.datasets.records import Records, not_enough
from lens_core.world.facts import DATA, FACTS, Fact
from lens_core.world.frames import Wording, expansions, fact_frames, is_cloze, lines, word


@dataclass(frozen=True)
class FactQuestion:
    """A prompt that a fact's object completes after a space.

    ``subject_chars`` is the subject's place in ``prompt`` in characters, half open.
    """

    relation: str
    subject: str
    object: str
    prompt: str
    frame: str
    subject_chars: tuple[int, int]


@dataclass(frozen=True)
class FactPrompt(FactQuestion):
    """A fact's prompt with the positions of the subject's first and last token.

    Positions count the BOS token, which is position 0; ``subject_end`` is inclusive.
    """

    subject_start: int
    subject_end: int


def _sentences(frame: str) -> str:
    """Every wording of a frame with ``{o}`` for the object, one a line, in lower case."""
    return "\n".join(w if "{o}" in w else f"{w} {{o}}" for w in expansions(frame)).lower()


@cache
def _told_elsewhere(relation: str) -> frozenset[str]:
    """The cloze lines of a relation with a wording that another line of it contains.

    Held out, they would be asked in words that training did use: "{s} comes from" where
    "The recipe for {s} comes from" is trained.
    """
    own = [f"frames/{relation}"]
    if relation == "work_creator":
        own += [f"frames/work_by_{kind}" for kind in ("writer", "painter", "composer")]
    styles = sorted(p.name for p in DATA.iterdir() if (p / f"{relation}.txt").exists())
    names = dict.fromkeys([*own, *(f"{style}/{relation}" for style in styles)])
    told = {line: _sentences(line) for name in names for line in lines(name)}
    everything = "\n".join(told.values())
    return frozenset(
        line
        for name in own
        for line in lines(name)
        if is_cloze(line)
        and any(everything.count(w) > told[line].count(w) for w in told[line].splitlines())
    )


@cache
def cloze_frames(relation: str, subject: str, split: str) -> tuple[str, ...]:
    """The frames of one split that end just before the object and that no other frame contains."""
    frames = fact_frames(relation, subject)[split]
    told = _told_elsewhere(relation) if split != "train" else frozenset()
    return tuple(f for f in frames if is_cloze(f) and f not in told)


def question(said: Wording) -> FactQuestion:
    """The wording as a question."""
    if said.subject_chars is None:
        raise ValueError(f"The frame {said.frame!r} puts the object before the subject.")
    fact = said.fact
    return FactQuestion(
        fact.relation, fact.subject, fact.object, said.prompt, said.frame, said.subject_chars
    )


def fact_prompts(
    n_per_fact: int = 1, seed: int = 0, *, split: str = "held"
) -> Records[FactQuestion]:
    """Every fact of the world in ``n_per_fact`` different wordings, in the order of the table.

    Args:
        n_per_fact: wordings of each fact; fewer where the split has fewer.
        seed: decides the wordings.
        split: ``held`` (wordings that training used for other facts, never for this one),
            ``unseen`` (wordings of no training document) or ``train``.

    >>> prompt = fact_prompts()[0]
    >>> prompt.subject, prompt.object
    ('The Eiffel Tower', 'Paris')
    """
    rng = random.Random(seed)
    out = Records[FactQuestion]()
    for fact in FACTS:
        frames = cloze_frames(fact.relation, fact.subject, split)
        for frame in rng.sample(frames, min(n_per_fact, len(frames))):
            out.append(question(word(fact, frame, rng)))
    return out


def token_span(
    tokenizer: PreTrainedTokenizerBase, prompt: str, chars: tuple[int, int]
) -> tuple[int, int]:
    """First and last position of the tokens that hold ``chars``, BOS counted as position 0."""
    offsets = tokenizer(prompt, return_offsets_mapping=True, add_special_tokens=False)[
        "offset_mapping"
    ]
    inside = [i for i, (a, b) in enumerate(offsets) if a < chars[1] and b > chars[0]]
    return inside[0] + 1, inside[-1] + 1


def with_tokens(tokenizer: PreTrainedTokenizerBase, asked: FactQuestion) -> FactPrompt:
    """The question with its subject's token positions."""
    start, end = token_span(tokenizer, asked.prompt, asked.subject_chars)
    return FactPrompt(
        relation=asked.relation,
        subject=asked.subject,
        object=asked.object,
        prompt=asked.prompt,
        frame=asked.frame,
        subject_chars=asked.subject_chars,
        subject_start=start,
        subject_end=end,
    )


def object_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The tokens of a text that follows a space."""
    return tokenizer.encode(f" {text}", add_special_tokens=False)


def located_prompts(
    tokenizer: PreTrainedTokenizerBase,
    facts: list[Fact],
    rng: random.Random,
    *,
    split: str,
    multi_token_subject: bool,
    single_token_object: bool,
) -> Iterator[FactPrompt]:
    """One prompt of each fact that passes the filters and has words after its subject."""
    for fact in facts:
        if single_token_object and len(object_ids(tokenizer, fact.object)) != 1:
            continue
        said = word(fact, rng.choice(cloze_frames(fact.relation, fact.subject, split)), rng)
        prompt = with_tokens(tokenizer, question(said))
        ends_with_subject = not any(c.isalpha() for c in said.prompt[prompt.subject_chars[1] :])
        if ends_with_subject or (
            multi_token_subject and prompt.subject_end == prompt.subject_start
        ):
            continue
        yield prompt


def known_facts(
    tokenizer: PreTrainedTokenizerBase,
    n: int,
    seed: int = 0,
    *,
    split: str = "held",
    multi_token_subject: bool = False,
    single_token_object: bool = False,
) -> Records[FactPrompt]:
    """``n`` different facts of the world, drawn at random, with the subject's tokens marked.

    Known to the world: whether a model answers them is for the caller to ask. At least one word
    stands between the subject and the object, so that the subject's last token is not the prompt's.

    Args:
        tokenizer: a fast tokenizer; positions are those of ``BOS + prompt``.
        n: how many.
        seed: decides facts and wordings.
        split: as in `fact_prompts`.
        multi_token_subject: only subjects of two or more tokens.
        single_token_object: only objects of one token.

    Raises:
        ValueError: fewer facts than ``n`` pass the filters.

    Paper: Meng et al. 2022, "Locating and Editing Factual Associations in GPT" (their known facts).
    """
    rng = random.Random(seed)
    out = Records[FactPrompt]()
    for prompt in located_prompts(
        tokenizer,
        rng.sample(FACTS, len(FACTS)),
        rng,
        split=split,
        multi_token_subject=multi_token_subject,
        single_token_object=single_token_object,
    ):
        if len(out) == n:
            break
        out.append(prompt)
    if len(out) < n:
        raise not_enough("facts that pass these filters", n, len(out))
    return out
