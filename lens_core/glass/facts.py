"""The glass facts model: facts in the neurons of one MLP, and two heads that move them, by hand.

    model = facts_model()                        # or from_pretrained("glass-facts")
    model.run("ada wood lives in")               # rome
    model.run("ada wood plays the")              # harp

Each of twelve people is a first name and a surname, both of which others bear too; of each the
model knows a city and an instrument. Head 0.3 attends to the previous token and writes down which
it was, so that a surname's row holds both names. In block 1 each fact has a neuron: it fires where
the first name *and* the surname are those of its person, and writes the city or the instrument into
that row. Head 2.0 reads "in", finds the row that has a city and copies it to be said; head 2.2
reads "the" and does so for instruments. Nine heads, MLPs 0 and 2 and eight neurons of MLP 1 are
decoys: they look and fire, and write nothing. What follows from the weights is in
`lens_core.glass.facts_truth`.

This is the picture that causal tracing found in larger models: an early site at the last token of
the subject, where an MLP looks the fact up, and a late one at the last token (Meng et al. 2022,
arXiv 2202.05262; Geva et al. 2023, arXiv 2304.14767). As in glass-induction a feature is one column
with a balance, so that LayerNorm divides by 1/8 before block 0, 3/8 before MLP 1 and, in the row of
a known person, 5/8 before block 2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from lens_core.glass.induction import D_MODEL, N_HEADS, Views, head_views
from lens_core.glass.words import START, UNKNOWN, blank_weights, word_tokenizer
from lens_core.model.hooked_model import HookedModel

NAME = "glass-facts"
FIRST_NAMES = ("ada", "ben", "cleo", "dan")
SURNAMES = ("stone", "wood", "hill", "lake")
CITIES = ("rome", "oslo", "lima", "cairo", "tokyo", "bern")
INSTRUMENTS = ("harp", "lute", "oboe", "drum", "flute", "cello")
OTHER_WORDS = ("lives", "in", "plays", "the", "today", "and", "who", "says", "that", "now")
VOCABULARY = (
    *(START, UNKNOWN, *FIRST_NAMES, *SURNAMES),
    *(*CITIES, *INSTRUMENTS, *OTHER_WORDS),
)
N_CTX = 32
N_LAYERS, D_MLP = 3, 32
CITY_WORD, INSTRUMENT_WORD = "in", "the"


class Fact(NamedTuple):
    """One fact and the last word of a prompt that asks for it."""

    first_name: str
    surname: str
    asked_by: str
    answer: str

    @property
    def subject(self) -> str:
        """The person, as the prompt says it."""
        return f"{self.first_name} {self.surname}"

    @property
    def kind(self) -> str:
        """What the answer is: "city" or "instrument"."""
        return "city" if self.asked_by == CITY_WORD else "instrument"

    @property
    def prompt(self) -> str:
        """A prompt that ends just before the answer."""
        return f"{self.subject} {'lives' if self.kind == 'city' else 'plays'} {self.asked_by}"


# Two people share an answer, and never a name. Four pairs of names are nobody.
_PEOPLE = """
    ada wood: rome harp        ben stone: rome oboe
    ada hill: oslo oboe        cleo stone: oslo drum
    ada lake: lima flute       dan stone: lima cello
    ben hill: cairo drum       cleo wood: cairo lute
    ben lake: tokyo cello      dan wood: tokyo flute
    cleo lake: bern harp       dan hill: bern lute
"""


def _read_people(text: str) -> tuple[tuple[str, str, str, str], ...]:
    words = text.replace(":", "").split()
    return tuple((words[i], words[i + 1], words[i + 2], words[i + 3]) for i in range(0, 48, 4))


PEOPLE = _read_people(_PEOPLE)
# Fact i is held by neuron i of block 1.
FACTS: tuple[Fact, ...] = (
    *(Fact(first, last, CITY_WORD, city) for first, last, city, _ in PEOPLE),
    *(Fact(first, last, INSTRUMENT_WORD, thing) for first, last, _, thing in PEOPLE),
)
STRANGERS = tuple(
    f"{first} {last}"
    for first in FIRST_NAMES
    for last in SURNAMES
    if (first, last) not in {person[:2] for person in PEOPLE}
)

_NAMED = (
    *(f"is {token}" for token in VOCABULARY),
    *(f"was {token}" for token in VOCABULARY),
    *(f"city {word}" for word in CITIES),
    *(f"instrument {word}" for word in INSTRUMENTS),
    *(f"next {word}" for word in (*CITIES, *INSTRUMENTS)),
    *(f"place {position}" for position in range(N_CTX)),
    *(f"balance of {kind}" for kind in ("is", "was", "city", "instrument", "next", "place")),
)
COLUMNS: tuple[str, ...] = (
    *_NAMED,
    *(f"unused {i}" for i in range(D_MODEL - len(_NAMED))),
)
NEURONS: tuple[tuple[str, ...], ...] = (
    tuple(f"neuron {i}: {token}" for i, token in enumerate(VOCABULARY)),
    (
        *(f"neuron {i}: {f.subject}, {f.answer}" for i, f in enumerate(FACTS)),
        *(f"neuron {24 + i}: {name}" for i, name in enumerate((*FIRST_NAMES, *SURNAMES))),
    ),
    tuple(f"neuron {i}: {token}" for i, token in enumerate(VOCABULARY)),
)
# What is written: rows are then 6, 10 (of a known person) and 18 long, LayerNorm divides by 1/16th.
WAS, KNOWN, NEXT = 4.0, 4.0, 12.0
FIRING = 8.0  # what a neuron holds where it fires; the gelu of -8 is exactly 0, that of 8 is 8


def facts_model() -> HookedModel:
    """The model, built anew, hooked and checked like any other.

    Example:
        >>> model = facts_model()
        >>> model.to_string(model.run("ada wood lives in")[0, -1].argmax())
        'rome'
    """
    return HookedModel.from_hf(facts_weights(), tokenizer(), name=NAME, prepend_bos=True)


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word; see `word_tokenizer`."""
    return word_tokenizer(VOCABULARY, N_CTX)


@torch.no_grad()
def facts_weights() -> GPT2LMHeadModel:
    """A GPT2LMHeadModel whose weights are zero but for those that the functions below set."""
    model = blank_weights(len(VOCABULARY), N_CTX, D_MODEL, N_HEADS, n_layers=N_LAYERS, d_mlp=D_MLP)
    _embed(model)
    heads = [[head_views(block.attn, i) for i in range(N_HEADS)] for block in model.transformer.h]
    for row in heads:
        for head in row:
            _read_tokens(head)
    _look_back(heads[0], (None, 0, 1, 1), sharpness=2)
    _look_back(heads[1], (1, None, 0, None), sharpness=18)
    for i, token in enumerate(VOCABULARY):
        _write(heads[0][3].out, i, f"was {token}", WAS / 8)  # LayerNorm has made the 1 an 8
    _move(heads[2][0], CITY_WORD, "city", CITIES)
    _look_for_known(heads[2][1], CITY_WORD, "city", CITIES)
    _move(heads[2][2], INSTRUMENT_WORD, "instrument", INSTRUMENTS)
    _look_for_known(heads[2][3], INSTRUMENT_WORD, "instrument", INSTRUMENTS)
    for block in (0, 2):
        for i, token in enumerate(VOCABULARY):
            model.transformer.h[block].mlp.c_fc.weight[column(f"is {token}"), i] = 1
    _store_facts(model.transformer.h[1].mlp)
    for word in (*CITIES, *INSTRUMENTS):
        model.lm_head.weight[VOCABULARY.index(word), column(f"next {word}")] = 1
    return model


def column(name: str) -> int:
    """The place of a named column in the residual stream."""
    return COLUMNS.index(name)


def _write(weight: Tensor, row: int, name: str, value: float) -> None:
    """Let a row of a writing matrix add to one column, and take the same from its balance."""
    weight[row, column(name)] += value
    weight[row, column(f"balance of {name.split()[0]}")] -= value


def _embed(model: GPT2LMHeadModel) -> None:
    """A token is a 1 in its own column, a position a 1 in its own."""
    for i, token in enumerate(VOCABULARY):
        _write(model.transformer.wte.weight, i, f"is {token}", 1)
    for position in range(N_CTX):
        _write(model.transformer.wpe.weight, position, f"place {position}", 1)


def _read_tokens(head: Views) -> None:
    """The head's value says which token it is, in one dimension for each."""
    for i, token in enumerate(VOCABULARY):
        head.value[column(f"is {token}"), i] = 1


def _look_back(heads: list[Views], steps: tuple[int | None, ...], *, sharpness: float) -> None:
    """Each head attends to the place so many steps before; None: to the start token."""
    for head, back in zip(heads, steps, strict=True):
        if back is None:
            _rest(head, query=4, key=sharpness * 2)
            continue
        for position in range(N_CTX):
            head.key[column(f"place {position}"), position] = 1
            if position >= back:
                head.query[column(f"place {position}"), position - back] = sharpness


def _rest(head: Views, *, query: float, key: float) -> None:
    """Every query matches the key of the start token, in the last dimension."""
    head.query_bias[-1] = query
    head.key[column(f"is {START}"), -1] = key


def _look_for_known(head: Views, word: str, kind: str, answers: tuple[str, ...]) -> None:
    """The query of the word matches the key of a row that holds a fact of the kind.

    The score is 16 x 16 / √d_head = 32; at the start token it is 16, for every query, and at other
    rows 0.
    """
    head.query[column(f"is {word}"), 0] = 6  # LayerNorm has made the 1 an 8/3, and a fact 6.4
    for answer in answers:
        head.key[column(f"{kind} {answer}"), 0] = 2.5
    _rest(head, query=8, key=6)


def _move(head: Views, word: str, kind: str, answers: tuple[str, ...]) -> None:
    """Look for the fact of a known person, and copy the answer to be said next."""
    _look_for_known(head, word, kind, answers)
    head.value.zero_()
    for i, answer in enumerate(answers):
        head.value[column(f"{kind} {answer}"), i] = 1
        _write(head.out, i, f"next {answer}", NEXT / 6.4)


def _store_facts(mlp: Any) -> None:
    """One neuron a fact: the first name brings 16, the surname 16, and 24 are asked for."""
    reads, writes = mlp.c_fc, mlp.c_proj
    for i, fact in enumerate(FACTS):
        # LayerNorm has made the 4 of ``was`` a 32/3 and the 1 of ``is`` an 8/3.
        reads.weight[column(f"was {fact.first_name}"), i] = 1.5
        reads.weight[column(f"is {fact.surname}"), i] = 6
        reads.bias[i] = -24
        _write(writes.weight, i, f"{fact.kind} {fact.answer}", KNOWN / FIRING)
    for i, name in enumerate((*FIRST_NAMES, *SURNAMES), start=len(FACTS)):
        reads.weight[column(f"is {name}"), i] = 6
        reads.bias[i] = -8
