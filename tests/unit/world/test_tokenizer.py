"""The tokenizer: what must be one token, and what must not be lost."""

import random

import pytest

from lens_core.world import tokenizer as module
from lens_core.world.facts import FACTS
from lens_core.world.lexicon import ALL_WORDS, FOODS, NAMES
from lens_core.world.mix import NATURAL, document
from lens_core.world.tokenizer import BOS, load_or_train, train_tokenizer


@pytest.fixture(scope="module")
def small(module_monkeypatch):
    """A tokenizer of 500 tokens, trained on a few documents."""
    rng = random.Random(0)
    texts = [document(rng, NATURAL)[1] for _ in range(200)] + ["17 32 1732"] * 50
    module_monkeypatch.setattr(module, "training_text", lambda seed, n: texts)
    return train_tokenizer(500)


@pytest.fixture(scope="module")
def module_monkeypatch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def test_names_and_things_are_one_token(tokenizer):
    """Forbids names of two tokens, which make every logit difference compare halves of names."""
    words = [f" {w}" for w in (*ALL_WORDS, *FOODS)] + list(NAMES)
    assert [w for w in words if len(tokenizer.encode(w)) != 1] == []


def test_most_objects_are_one_token(tokenizer):
    """Forbids answers of several tokens but for names that have several words or capitals."""
    split = {f.object for f in FACTS if len(tokenizer.encode(f" {f.object}")) != 1}
    assert [o for o in sorted(split) if " " not in o and not o.isupper()] == []


def test_most_subjects_are_two_or_three_tokens(tokenizer):
    """Forbids subjects cut to pieces, which the last token then has to collect by itself."""
    lengths = [len(tokenizer.encode(f" {s}")) for s in dict.fromkeys(f.subject for f in FACTS)]
    assert sum(lengths) / len(lengths) < 3.5


def test_a_year_is_two_tokens(tokenizer):
    """Forbids years of one token or of single digits: greater-than needs century and year."""
    for year in (1702, 1732, 1999, 2003):
        pieces = [tokenizer.decode(i) for i in tokenizer.encode(f" {year}")]
        assert pieces == [f" {str(year)[:2]}", str(year)[2:]]


def test_numbers_and_acronyms_are_cut_as_the_circuits_need(small):
    """Forbids " 1732" as one token, and "(RMA" as one token, however often they occur."""
    assert [small.decode(i) for i in small.encode(" 1732")] == [" 17", "32"]
    assert [small.decode(i) for i in small.encode("(RMA)")] == ["(", "R", "M", "A", ")"]


def test_any_text_comes_back(small):
    """Forbids a text that the tokenizer cannot spell: a learner types what they like."""
    for text in ("Zoë's café — 東京, ½!", "  two  spaces\n\tand a tab ", "\N{ROCKET}", ""):
        assert small.decode(small.encode(text)) == text


def test_training_documents_come_back(tokenizer, mixed_documents):
    """Forbids documents that change on the way to tokens."""
    for text in mixed_documents[::50]:
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_bos_is_token_zero_and_is_not_added(tokenizer, small):
    """Forbids a BOS at another id than the datasets take, or one that encode() adds unasked."""
    for t in (tokenizer, small):
        assert (t.bos_token, t.bos_token_id) == (BOS, 0)
        assert 0 not in t.encode("The Eiffel Tower")


def test_training_is_deterministic(small):
    """Forbids a tokenizer that differs from run to run, and with it every corpus."""
    assert train_tokenizer(500).get_vocab() == small.get_vocab()


def test_a_saved_tokenizer_is_not_trained_again(small, tmp_path, monkeypatch):
    """Forbids that a resumed run gets another vocabulary than its weights have."""
    small.save_pretrained(tmp_path)
    monkeypatch.setattr(module, "train_tokenizer", lambda *_: pytest.fail("trained again"))
    assert load_or_train(tmp_path, 500).get_vocab() == small.get_vocab()
