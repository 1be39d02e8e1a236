"""Indirect-object prompts by template, for tiny-world and every GPT-2-class tokenizer.

    dataset = ioi_dataset(model, 64)
    # "When Mary and John went to the store, John gave the ring to", answer Mary, foil John

In ABBA the indirect object is named first, in BABA the subject. The reference prompts name three
people ("When Paul and Anna went to the store, Eric gave ..."), so that no one is repeated and no
one is to be found (p_ABC of Wang et al. 2022, arXiv 2211.00593). The templates are ours, not those
of the paper: its figures are for its own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from lens_core.circuits.dataset import TemplateDataset, TemplateGroup
from lens_core.circuits.errors import CircuitError
from lens_core.world.lexicon import NAMES, PLACES, THINGS

if TYPE_CHECKING:
    from lens_core import HookedModel

Order = Literal["ABBA", "BABA"]
Distractor = Literal["clause", "third name", "object again"]

# {A} and {B} are the two named first, {S} the one who acts; {D} is where a distractor stands.
TEMPLATES: tuple[str, ...] = (
    "When {A} and {B} went to the {P}{D}, {S} gave the {O} to",
    "After {A} and {B} had met at the {P}{D}, {S} handed the {O} to",
    "While {A} and {B} were waiting at the {P}{D}, {S} showed the {O} to",
    "As {A} and {B} left the {P}{D}, {S} offered the {O} to",
    "Yesterday {A} and {B} were at the {P}{D}, and {S} gave the {O} to",
    "Once {A} and {B} had found the {P}{D}, {S} passed the {O} to",
    "When {A} and {B} were at the {P}{D}, {S} decided to give the {O} to",
    "Before {A} and {B} reached the {P}{D}, {S} brought the {O} to",
)
# {C} is a third person, {I} the indirect object.
DISTRACTORS: dict[str, str] = {
    "clause": " on a cold and rainy day",
    "third name": " with {C}",
    "object again": " because {I} was tired",
}
N_REFERENCE = 64  # a template
_FEWEST_WORDS = 8


@dataclass(frozen=True)
class _Words:
    """The fillers that are one token each in this model."""

    names: tuple[str, ...]
    places: tuple[str, ...]
    things: tuple[str, ...]


def ioi_dataset(
    model: HookedModel,
    n: int = 64,
    *,
    orders: Sequence[Order] = ("ABBA", "BABA"),
    distractor: Distractor | None = None,
    templates: Sequence[str] = TEMPLATES,
    n_reference: int = N_REFERENCE,
    seed: int = 0,
) -> TemplateDataset:
    """Indirect-object prompts, spread evenly over templates and orders.

    Args:
        n: how many prompts.
        orders: "ABBA", "BABA" or both; they become the dataset's kinds.
        distractor: what stands between the introduction and the giving: a "clause" without names,
            a "third name", or the indirect "object again", which makes both names repeat.
        n_reference: how many three-name prompts a template.
        seed: decides names and words.

    Named positions: "io", "s1", "s1+1", "s2", "end".

    Raises:
        CircuitError: the model's tokenizer splits names, or a template lacks a slot.

    Example:
        >>> from lens_core import HookedModel
        >>> dataset = ioi_dataset(HookedModel.from_pretrained("tiny-world"), 16)
        >>> len(dataset), len(dataset.groups)
        (16, 8)
    """
    if n < 1 or not orders or not templates or n_reference < 1:
        raise CircuitError("An IOI dataset needs at least one prompt, order, template, reference.")
    _check_distractor(distractor)
    words, rng = _words(model), random.Random(seed)
    plan = [(i % len(templates), orders[(i // len(templates)) % len(orders)]) for i in range(n)]
    made = [_prompt(rng, words, templates[t], order, distractor) for t, order in plan]
    groups = []
    for place, template in enumerate(templates):
        rows = [i for i, (t, _) in enumerate(plan) if t == place]
        if rows:
            others = [
                _prompt(rng, words, template, orders[0], distractor, three=True)
                for _ in range(n_reference)
            ]
            own = [made[i] for i in rows]
            groups.append(_group(model, template, rows, own, [other.text for other in others]))
    one = model.to_single_token
    return TemplateDataset(
        name=f"IOI with {distractor}" if distractor else "IOI",
        texts=tuple(said.text for said in made),
        kinds=tuple(order for _, order in plan),
        answer=torch.tensor([one(f" {said.io}") for said in made]),
        foil=torch.tensor([one(f" {said.subject}") for said in made]),
        groups=tuple(groups),
        candidates=torch.tensor([one(f" {name}") for name in words.names]),
    )


def swapped(model: HookedModel, dataset: TemplateDataset) -> TemplateDataset:
    """The same prompts with the other person acting, so that right and wrong change places.

    "When Mary and John went to the store, Mary gave the ring to": token by token the original but
    for one name, which makes the two runs a pair for patching. What was ABBA is now BABA.

    Raises:
        CircuitError: a dataset that is not one of `ioi_dataset`.
    """
    if not {"io", "s1", "s1+1", "s2"} <= dataset.position_names:
        raise CircuitError(f"{dataset.name!r} names no one twice; use one made by ioi_dataset.")
    texts = []
    for text, io, subject in zip(dataset.texts, dataset.answer, dataset.foil, strict=True):
        before, _, after = text.rpartition(model.to_string(subject[None]))
        texts.append(f"{before}{model.to_string(io[None])}{after}")
    other = {"ABBA": "BABA", "BABA": "ABBA"}
    return replace(
        dataset,
        name=f"{dataset.name}, swapped",
        texts=tuple(texts),
        kinds=tuple(other[kind] for kind in dataset.kinds),
        answer=dataset.foil,
        foil=dataset.answer,
        groups=tuple(_swapped_group(group, dataset.answer) for group in dataset.groups),
    )


def _swapped_group(group: TemplateGroup, answer: Tensor) -> TemplateGroup:
    tokens, at = group.tokens.clone(), group.positions
    tokens[torch.arange(len(tokens)), at["s2"]] = answer[group.rows]
    positions = {**at, "io": at["s1"], "s1": at["io"], "s1+1": at["io"] + 1}
    return replace(group, tokens=tokens, positions=positions)


@dataclass(frozen=True)
class _Said:
    text: str
    io: str
    subject: str


def _check_distractor(distractor: str | None) -> None:
    if distractor is not None and distractor not in DISTRACTORS:
        raise CircuitError(
            f"There is no distractor {distractor!r:.40}; there are {', '.join(DISTRACTORS)}."
        )


def _prompt(
    rng: random.Random,
    words: _Words,
    template: str,
    order: str,
    distractor: str | None,
    *,
    three: bool = False,
) -> _Said:
    """One prompt; with `three`, the one who acts is none of the two who were named."""
    io, subject, third, actor = rng.sample(words.names, 4)
    first, second = (io, subject) if order == "ABBA" else (subject, io)
    between = (
        DISTRACTORS[distractor].format(C=third, I=third if three else io) if distractor else ""
    )
    try:
        text = template.format(
            A=first,
            B=second,
            S=actor if three else subject,
            D=between,
            P=rng.choice(words.places),
            O=rng.choice(words.things),
        )
    except (KeyError, IndexError) as error:
        raise CircuitError(f"A template has the slots A, B, S, D, P and O, not {error}.") from error
    return _Said(text, io, subject)


def _group(
    model: HookedModel, template: str, rows: list[int], own: list[_Said], others: list[str]
) -> TemplateGroup:
    tokens = _stack(model, [said.text for said in own], template)
    reference = _stack(model, others, template)
    if tokens.shape[1] != reference.shape[1]:
        raise CircuitError(f"The prompts of {template!r} differ in length; use one-token words.")
    io = torch.tensor([model.to_single_token(f" {said.io}") for said in own])
    subject = torch.tensor([model.to_single_token(f" {said.subject}") for said in own])
    is_subject = tokens == subject[:, None]
    if not bool((is_subject.sum(dim=1) == 2).all()):
        raise CircuitError(f"The template {template!r} must name the subject twice: A or B, and S.")
    s1 = is_subject.long().argmax(dim=1)
    last = tokens.shape[1] - 1
    s2 = last - is_subject.flip(1).long().argmax(dim=1)
    positions = {
        "io": (tokens == io[:, None]).long().argmax(dim=1),
        "s1": s1,
        "s1+1": s1 + 1,
        "s2": s2,
        "end": torch.full_like(s1, last),
    }
    return TemplateGroup(template, torch.tensor(rows), tokens, positions, reference)


def _stack(model: HookedModel, texts: Sequence[str], template: str) -> Tensor:
    tokens = [model.to_tokens(text)[0].cpu() for text in texts]
    if len({len(row) for row in tokens}) != 1:
        raise CircuitError(f"The prompts of {template!r} differ in length; use one-token words.")
    return torch.stack(tokens)


def _words(model: HookedModel) -> _Words:
    lists = [
        tuple(word for word in words if _is_one(model, word)) for words in (NAMES, PLACES, THINGS)
    ]
    if min(len(words) for words in lists) < _FEWEST_WORDS:
        raise CircuitError(
            f"{model.cfg.name} splits names into several tokens, so the positions of one template "
            "would not match; choose tiny-world or a model with a GPT-2-class tokenizer."
        )
    return _Words(*lists)


def _is_one(model: HookedModel, word: str) -> bool:
    """Whether a word after a space is one token of its own, and not the unknown one."""
    ids = model.to_tokens(f" {word}", prepend_bos=False)[0]
    return len(ids) == 1 and model.to_string(ids).strip() == word
