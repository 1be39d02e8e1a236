"""Text to tokens: the BOS rule, padding, single tokens, errors."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lens_core import HookedModel
from lens_core.model.errors import EmptyPromptError, MissingTokenizerError, TokenError
from lens_core.model.tokens import choose_pad_id


def close(a, b, tolerance=1e-4):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def word_tokenizer(**special):
    """A tokenizer of words, to have one without byte-level letters."""
    words = ["<s>", "<pad>", "<unk>", "a", "b", "c", "d"]
    core = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", **special)


def test_the_bos_rule_is_explicit(tiny_world):
    """Forbids BOS tokens that come or go silently (TransformerLens #1418, #74, #369)."""
    bos = tiny_world.bos_id
    default = tiny_world.to_tokens("The Eiffel Tower")
    assert default[0, 0] == bos
    assert torch.equal(default, tiny_world.to_tokens("The Eiffel Tower", prepend_bos=True))
    without = tiny_world.to_tokens("The Eiffel Tower", prepend_bos=False)
    assert torch.equal(default[:, 1:], without)
    twice = tiny_world.to_tokens(tiny_world.to_string([bos]) + "The")
    assert twice[0].tolist().count(bos) == 1


def test_tokens_and_strings_go_round(tiny_world):
    """Forbids spaces that get lost on the way."""
    text = "The capital of France is Paris."
    tokens = tiny_world.to_tokens(text, prepend_bos=False)
    assert tiny_world.to_string(tokens[0]) == text
    pieces = tiny_world.to_str_tokens(text, prepend_bos=False)
    assert "".join(pieces) == text
    assert pieces == tiny_world.to_str_tokens(tokens)
    assert tiny_world.to_string(int(tokens[0, 0])) == pieces[0]
    paris = tiny_world.to_single_token(" Paris")
    assert tiny_world.to_string([paris]) == " Paris"
    with pytest.raises(TokenError, match="not one"):
        tiny_world.to_single_token(" Paris is")
    with pytest.raises(TokenError, match="one row"):
        tiny_world.to_str_tokens(torch.zeros(2, 3, dtype=torch.long))


def test_a_padded_batch_of_texts_equals_the_texts_alone(tiny_world):
    """Forbids padding that is taken for text: here BOS, EOS and padding could be one token."""
    texts = ["The capital of France is", "Paris", "The Eiffel Tower is located in the city of"]
    tokens = tiny_world.to_tokens(texts)
    for batch in (tokens, texts):
        logits = tiny_world.run(batch)
        for row, text in enumerate(texts):
            alone = tiny_world.run(text)[0]
            close(logits[row, -alone.shape[0] :], alone)
    generated = tiny_world.generate(tokens, 3, stop_at_eos=False)
    for row, text in enumerate(texts):
        alone = tiny_world.generate(text, 3, stop_at_eos=False)[0]
        assert torch.equal(generated[row, -alone.shape[0] :], alone)


def test_the_pad_token_is_one_that_no_text_contains(tiny_world):
    """Forbids padding with a token that a prompt may hold."""
    text = "".join(chr(n) for n in range(32, 1024))
    assert tiny_world.pad_id not in tiny_world.to_tokens(text[:60])[0].tolist()
    assert choose_pad_id(word_tokenizer(bos_token="<s>", pad_token="<pad>")) == 1
    assert choose_pad_id(None) == -1


def test_padding_with_bos_itself_keeps_the_last_one(gpt2):
    """Forbids masking the real BOS when a tokenizer has no other token to pad with."""
    tokenizer = word_tokenizer(bos_token="<s>", eos_token="<s>")
    model = HookedModel.from_hf(gpt2.hooked.hf_model, tokenizer, prepend_bos=True)
    assert model.pad_id == model.bos_id == 0
    tokens = model.to_tokens(["a b c", "d"])
    assert tokens.tolist() == [[0, 3, 4, 5], [0, 0, 0, 6]]
    assert model.attention_mask(tokens).tolist() == [[1, 1, 1, 1], [0, 0, 1, 1]]
    assert model.attention_mask(tokens[:1]) is None


def test_prompts_without_tokens_are_refused(tiny_world, gpt2):
    """Forbids an empty tensor that fails somewhere inside the model."""
    for text in ("", [], ["The", ""]):
        with pytest.raises(EmptyPromptError):
            tiny_world.to_tokens(text)
    with pytest.raises(MissingTokenizerError):
        gpt2.hooked.run("The")
    nothing = HookedModel.from_hf(gpt2.hooked.hf_model, word_tokenizer())
    with pytest.raises(TokenError, match="BOS"):
        nothing.to_tokens("a", prepend_bos=True)
