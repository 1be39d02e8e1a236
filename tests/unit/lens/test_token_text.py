"""Tokens that are no text by themselves."""

import pytest

from lens_core.lens.token_text import token_text


@pytest.mark.parametrize("text", ["a", " ", "\n", "~"])
def test_plain_bytes_are_their_text(gpt2, text):
    """Forbids showing the vocabulary's stand-in letters (a space as G with a dot) to a reader."""
    assert token_text(gpt2, gpt2.to_single_token(text)) == text


def test_half_a_character_is_shown_as_its_bytes(gpt2):
    """Forbids the replacement character, under which all broken tokens look the same."""
    ids = gpt2.to_tokens("€", prepend_bos=False)[0].tolist()
    assert [token_text(gpt2, i) for i in ids] == ["<0xE2>", "<0x82>", "<0xAC>"]


def test_rows_of_the_head_without_a_token_are_named_by_id(gpt2):
    """Forbids an empty cell for a padded row of the vocabulary."""
    assert token_text(gpt2, 299) == "id:299"
