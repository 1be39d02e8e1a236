"""The glass model: a GPT-2 of two blocks whose every weight is set here, by hand, for a reason.

    model = glass_model()
    model.run("ant bee cat ant")        # after the second ant it says bee

It knows four words and does three things. Block 0's head copies the previous word into the
columns ``was ...``. Block 1's head looks for a word that came after the word just read, and copies
that one into ``next ...`` (an induction head; Elhage et al. 2021, Olsson et al. 2022). The one
neuron of each MLP holds a habit: after dog, cat; after cat, dog. A word that has neither a past nor
a habit leaves the head resting on the start token, whose value is zero, and the model has next to
no opinion.

Three choices keep the numbers fit for paper. A feature is one column, so most numbers are 0. What
is written into a row is also subtracted from its column ``balance``, so every row sums to 0 and
LayerNorm, whose gain is 1 and bias 0, only divides by the row's root mean square: by 0.5 exactly
in block 0. And there is one head a block, with as many dimensions as the residual stream.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from lens_core.glass.words import START, UNKNOWN, blank_weights, word_tokenizer
from lens_core.model.hooked_model import HookedModel

NAME = "glass-copy"
WORDS = ("ant", "bee", "cat", "dog")
VOCABULARY = (START, UNKNOWN, *WORDS)
HABITS = (("dog", "cat"), ("cat", "dog"))  # of block 0's neuron and of block 1's
N_CTX = 9

COLUMNS: tuple[str, ...] = (
    *(f"is {token}" for token in VOCABULARY),
    *(f"was {word}" for word in WORDS),
    *(f"next {word}" for word in WORDS),
    *(f"place {position}" for position in range(N_CTX)),
    "balance",
)
D_MODEL = len(COLUMNS)
# What the first dimensions of queries and keys, and of values, are for in each block; others are 0.
QK_COLUMNS: tuple[tuple[str, ...], ...] = (
    tuple(f"place {position}" for position in range(N_CTX)),
    (*WORDS, "rest"),
)
V_COLUMNS: tuple[tuple[str, ...], ...] = (WORDS, WORDS)


def glass_model() -> HookedModel:
    """The glass model, built anew, hooked and checked like any other.

    Example:
        >>> model = glass_model()
        >>> model.to_string(model.run("ant bee cat ant")[0, -1].argmax())
        'bee'
    """
    return HookedModel.from_hf(glass_weights(), glass_tokenizer(), name=NAME, prepend_bos=True)


def glass_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word; see `word_tokenizer`."""
    return word_tokenizer(VOCABULARY, N_CTX)


@torch.no_grad()
def glass_weights() -> GPT2LMHeadModel:
    """A GPT2LMHeadModel whose weights are zero but for those that the functions below set."""
    model = blank_weights(len(VOCABULARY), N_CTX, D_MODEL, n_heads=1)
    _embed(model)
    _attend_to_the_previous_word(model.transformer.h[0].attn)
    _attend_to_what_came_after_this_word(model.transformer.h[1].attn)
    for block, (seen, said) in zip(model.transformer.h, HABITS, strict=True):
        block.mlp.c_fc.weight[column(f"is {seen}"), 0] = 1
        _write(block.mlp.c_proj.weight, 0, f"next {said}", 1)
    _unembed(model)
    return model


def column(name: str) -> int:
    """The place of a named column in the residual stream."""
    return COLUMNS.index(name)


def _write(weight: Tensor, row: int, name: str, value: float) -> None:
    """Let a row of a writing matrix add to one column, and take the same from ``balance``."""
    weight[row, column(name)] += value
    weight[row, column("balance")] -= value


def _embed(model: GPT2LMHeadModel) -> None:
    """A token is a 1 in its own column, a position a 1 in its own."""
    for i, token in enumerate(VOCABULARY):
        _write(model.transformer.wte.weight, i, f"is {token}", 1)
    for position in range(N_CTX):
        _write(model.transformer.wpe.weight, position, f"place {position}", 1)


def _attend_to_the_previous_word(attention: Any) -> None:
    """The query of place p matches the key of place p - 1; words are copied from ``is`` to ``was``.

    Only words: to come after the start token leaves no trace.
    """
    query, key, value = _views(attention)
    for position in range(N_CTX):
        key[column(f"place {position}"), position] = 3
        if position > 0:
            query[column(f"place {position}"), position - 1] = 3
    for i, word in enumerate(WORDS):
        value[column(f"is {word}"), i] = 1
        _write(attention.c_proj.weight, i, f"was {word}", 0.5)


def _attend_to_what_came_after_this_word(attention: Any) -> None:
    """The query of a word matches the key of a place whose previous word it was.

    Every query also matches, less well, the key of the start token: there the head rests. Words are
    copied from ``is`` to ``next``.
    """
    query, key, value = _views(attention)
    for i, word in enumerate(WORDS):
        query[column(f"is {word}"), i] = 5
        key[column(f"was {word}"), i] = 4
        value[column(f"is {word}"), i] = 1
        _write(attention.c_proj.weight, i, f"next {word}", 3)
    rest = QK_COLUMNS[1].index("rest")
    attention.c_attn.bias[rest] = 2
    key[column(f"is {START}"), rest] = 5


def _unembed(model: GPT2LMHeadModel) -> None:
    """The logit of a word is twice its column ``next``; the start token and ``?`` get 0."""
    for word in WORDS:
        model.lm_head.weight[VOCABULARY.index(word), column(f"next {word}")] = 2


def _views(attention: Any) -> tuple[Tensor, Tensor, Tensor]:
    """W_Q, W_K and W_V, [d_model, d_model] each, as views into GPT-2's one fused matrix."""
    query, key, value = attention.c_attn.weight.split(D_MODEL, dim=1)
    return query, key, value
