"""What the glass models share: a tokenizer of whole words, and weights that are zero at first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

START, UNKNOWN = "<s>", "?"


def word_tokenizer(vocabulary: Sequence[str], n_ctx: int) -> PreTrainedTokenizerFast:
    """One token a word, split at spaces, in small letters; a word it does not know is ``?``."""
    vocab = {token: i for i, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(WordLevel(vocab, unk_token=UNKNOWN))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=START, unk_token=UNKNOWN, model_max_length=n_ctx
    )


@torch.no_grad()
def blank_weights(
    d_vocab: int, n_ctx: int, d_model: int, n_heads: int, *, n_layers: int = 2, d_mlp: int = 1
) -> GPT2LMHeadModel:
    """A GPT-2 of so many blocks and neurons, whose weights are 0 and LayerNorm gains 1."""
    config = GPT2Config(
        vocab_size=d_vocab,
        n_positions=n_ctx,
        n_embd=d_model,
        n_layer=n_layers,
        n_head=n_heads,
        n_inner=d_mlp,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        layer_norm_epsilon=1e-10,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=None,
    )
    model = GPT2LMHeadModel(config)
    for name, parameter in model.named_parameters():
        is_gain = ".ln_" in name and name.endswith("weight")
        parameter.fill_(1.0 if is_gain else 0.0)
    return model.eval()
