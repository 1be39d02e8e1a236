"""The null twin of the glass induction model: it looks up what follows, and no head does a thing.

    model = lookup_model()                       # or from_pretrained("glass-lookup")
    model.run("fox owl bee fox")                 # after fox it says frog, whatever came before

Shape, tokenizer, embeddings and values are those of `lens_core.glass.induction`. The unembedding
reads the token just seen and says the next word of the list; wolf goes on with ant. Every head
attends to all tokens alike and writes nothing; nor do the MLPs. A tool that finds a head here, or
anything but the embedding that speaks for the answer, is wrong.
"""

from __future__ import annotations

import torch
from transformers import GPT2LMHeadModel

from lens_core.glass.induction import (
    D_MODEL,
    N_CTX,
    N_HEADS,
    VOCABULARY,
    WORDS,
    column,
    embed,
    head_views,
    mute_neurons,
    read_tokens,
    tokenizer,
)
from lens_core.glass.words import blank_weights
from lens_core.model.hooked_model import HookedModel

NAME = "glass-lookup"
NEXT_WORD: dict[str, str] = dict(zip(WORDS, (*WORDS[1:], WORDS[0]), strict=True))


def lookup_model() -> HookedModel:
    """The model, built anew, hooked and checked like any other.

    Example:
        >>> model = lookup_model()
        >>> model.to_string(model.run("fox owl bee fox")[0, -1].argmax())
        'frog'
    """
    return HookedModel.from_hf(lookup_weights(), tokenizer(), name=NAME, prepend_bos=True)


@torch.no_grad()
def lookup_weights() -> GPT2LMHeadModel:
    """A GPT2LMHeadModel whose weights are zero but for those set here."""
    model = blank_weights(len(VOCABULARY), N_CTX, D_MODEL, N_HEADS)
    embed(model)
    for block in model.transformer.h:
        for index in range(N_HEADS):
            head = head_views(block.attn, index)
            # One score for every pair, but a product of ones: noise on q or k still moves it.
            head.query_bias[-1] = head.key_bias[-1] = 1
            read_tokens(head)
    for word, following in NEXT_WORD.items():
        model.lm_head.weight[VOCABULARY.index(following), column(f"is {word}")] = 1.25
    mute_neurons(model)
    return model
