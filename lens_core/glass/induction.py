"""The glass induction model: two layers of four heads, two of which do everything, set by hand.

    model = induction_model()                    # or from_pretrained("glass-induction")
    model.run("fox owl bee fox")                 # after the second fox it says owl

Head 0.2 attends to the previous token and writes down which it was. Head 1.1 finds the place whose
previous token was the one just read (K-composition with 0.2) and copies the word there: an
induction head (Elhage et al. 2021; Olsson et al. 2022, arXiv 2209.11895). The other six heads are
decoys: they look at something, one of them at exactly what 1.1 looks at, and write nothing. The
MLPs write nothing either. What follows from the weights is in `lens_core.glass.truth`.

A feature is one column, and what is written into it is taken from a balance column of its kind, so
that every row sums to 0 and LayerNorm, whose gain is 1 and bias 0, only divides by the row's root
mean square: by exactly 1/8 before block 0 and 3/8 before block 1, at every position.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from lens_core.glass.words import START, UNKNOWN, blank_weights, word_tokenizer
from lens_core.model.hooked_model import HookedModel

NAME = "glass-induction"
_ANIMALS = """
    ant bat bee cat cow crab crow deer dog dove duck eel elk emu fly fox
    frog goat hare hawk hen ibis jay lamb lion mole moth newt owl pig seal wolf
"""
WORDS = tuple(_ANIMALS.split())
VOCABULARY = (START, UNKNOWN, *WORDS)
N_CTX = 64
N_HEADS, D_HEAD = 4, 64
D_MODEL = N_HEADS * D_HEAD

_NAMED = (
    *(f"is {token}" for token in VOCABULARY),
    *(f"was {token}" for token in VOCABULARY),
    *(f"next {word}" for word in WORDS),
    *(f"place {position}" for position in range(N_CTX)),
    *(f"balance of {kind}" for kind in ("is", "was", "next", "place")),
)
COLUMNS: tuple[str, ...] = (
    *_NAMED,
    *(f"unused {i}" for i in range(D_MODEL - len(_NAMED))),
)
# How much the heads write: rows are then 6 and 18 long, and LayerNorm divides by 3/8 and 9/8.
WAS, NEXT = 4.0, 12.0


class Views(NamedTuple):
    """One head's weights as views: [d_model, d_head] but `out`, which is [d_head, d_model]."""

    query: Tensor
    key: Tensor
    value: Tensor
    out: Tensor
    query_bias: Tensor
    key_bias: Tensor


def induction_model() -> HookedModel:
    """The model, built anew, hooked and checked like any other.

    Example:
        >>> model = induction_model()
        >>> model.to_string(model.run("fox owl bee fox")[0, -1].argmax())
        'owl'
    """
    return HookedModel.from_hf(induction_weights(), tokenizer(), name=NAME, prepend_bos=True)


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word; see `word_tokenizer`."""
    return word_tokenizer(VOCABULARY, N_CTX)


@torch.no_grad()
def induction_weights() -> GPT2LMHeadModel:
    """A GPT2LMHeadModel whose weights are zero but for those that the functions below set."""
    model = blank_weights(len(VOCABULARY), N_CTX, D_MODEL, N_HEADS)
    embed(model)
    first, second = (block.attn for block in model.transformer.h)
    _rest(head_views(first, 0), 4, 4)
    _match_places(head_views(first, 1), back=0, sharpness=2)
    _match_places(head_views(first, 2), back=1, sharpness=2)
    _write_what_was(head_views(first, 2))
    _match_tokens(head_views(first, 3))
    _match_places(head_views(second, 0), back=1, sharpness=18)
    _match_what_was(head_views(second, 1))
    _write_what_is_next(head_views(second, 1))
    _rest(head_views(second, 2), 6, 9)
    _match_what_was(head_views(second, 3))
    for block, head in ((0, 0), (0, 1), (0, 3), (1, 0), (1, 2), (1, 3)):
        read_tokens(head_views(model.transformer.h[block].attn, head))
    for word in WORDS:
        model.lm_head.weight[VOCABULARY.index(word), column(f"next {word}")] = 1
    mute_neurons(model)
    return model


def column(name: str) -> int:
    """The place of a named column in the residual stream."""
    return COLUMNS.index(name)


def embed(model: GPT2LMHeadModel) -> None:
    """A token is a 1 in its own column, a position a 1 in its own; each has its balance."""
    for i, token in enumerate(VOCABULARY):
        _write(model.transformer.wte.weight, i, f"is {token}", 1)
    for position in range(N_CTX):
        _write(model.transformer.wpe.weight, position, f"place {position}", 1)


def mute_neurons(model: GPT2LMHeadModel) -> None:
    """The one neuron of each MLP reads the column ``is ?`` and writes nothing."""
    for block in model.transformer.h:
        block.mlp.c_fc.weight[column(f"is {UNKNOWN}"), 0] = 1


def read_tokens(head: Views, tokens: Iterable[str] = VOCABULARY) -> None:
    """The head's value says which token it is, in one dimension for each."""
    for i, token in enumerate(tokens):
        head.value[column(f"is {token}"), i] = 1


def head_views(attention: Any, head: int) -> Views:
    """The weights of one head, as views into GPT-2's fused matrices."""
    own = slice(head * D_HEAD, (head + 1) * D_HEAD)
    query, key, value = attention.c_attn.weight.split(D_MODEL, dim=1)
    query_bias, key_bias, _ = attention.c_attn.bias.split(D_MODEL)
    return Views(
        query[:, own],
        key[:, own],
        value[:, own],
        attention.c_proj.weight[own],
        query_bias[own],
        key_bias[own],
    )


def _write(weight: Tensor, row: int, name: str, value: float) -> None:
    """Let a row of a writing matrix add to one column, and take the same from its balance."""
    weight[row, column(name)] += value
    weight[row, column(f"balance of {name.split()[0]}")] -= value


def _rest(head: Views, query: float, key: float) -> None:
    """Every query matches the key of the start token, in the last dimension, and nothing else."""
    head.query_bias[-1] = query
    head.key[column(f"is {START}"), -1] = key


def _match_places(head: Views, *, back: int, sharpness: float) -> None:
    """The query of a place matches the key of the place so many steps before it."""
    for position in range(N_CTX):
        head.key[column(f"place {position}"), position] = 1
        if position >= back:
            head.query[column(f"place {position}"), position - back] = sharpness


def _match_tokens(head: Views) -> None:
    """The query of a token matches the key of the same token, itself and earlier ones alike."""
    for i, token in enumerate(VOCABULARY):
        head.query[column(f"is {token}"), i] = 2
        head.key[column(f"is {token}"), i] = 1


def _match_what_was(head: Views) -> None:
    """The query of a word matches the key of a place whose previous token it was.

    Every query also matches, less well, the key of the start token: there the head rests.
    """
    for i, word in enumerate(WORDS):
        head.query[column(f"is {word}"), i] = 2
        head.key[column(f"was {word}"), i] = 3
    _rest(head, 4, 9)


def _write_what_was(head: Views) -> None:
    """Copy tokens from ``is`` to ``was``, the start token too: all rows keep one length."""
    read_tokens(head)
    for i, token in enumerate(VOCABULARY):
        _write(head.out, i, f"was {token}", WAS / 8)  # LayerNorm has made the 1 an 8


def _write_what_is_next(head: Views) -> None:
    """Copy words from ``is`` to ``next``; the start token's value is zero."""
    read_tokens(head, WORDS)
    for i, word in enumerate(WORDS):
        _write(head.out, i, f"next {word}", NEXT * 3 / 8)  # LayerNorm has made the 1 an 8/3
