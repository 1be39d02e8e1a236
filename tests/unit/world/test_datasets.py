"""The labelled datasets: spans are exact, material is held out, and every draw can be repeated."""

import doctest
import random
from collections import Counter
from importlib import import_module

import pandas as pd
import pytest
import torch

from lens_core.world import datasets, slots
from lens_core.world import facts as facts_module
from lens_core.world.datasets import (
    ROLES,
    agreement_prompts,
    counterfactual_edits,
    fact_prompts,
    interval_prompts,
    ioi_prompts,
    known_facts,
    pronoun_prompts,
    repeated_tokens,
    role_tagged_text,
    sentiment_prompts,
    successor_prompts,
)
from lens_core.world.datasets.facts import cloze_frames
from lens_core.world.datasets.records import Records
from lens_core.world.facts import FACTS, entangled, facts_about
from lens_core.world.frames import expansions, fact_frames
from lens_core.world.generators.people import ioi_frames
from lens_core.world.lexicon import GENDER
from lens_core.world.slots import fill
from lens_core.world.splits import frame_unseen, name_held, pair_held, wording_held, year_held

OBJECT = {(f.relation, f.subject): f.object for f in FACTS}
MODULES = ("choices", "edits", "facts", "ioi", "records", "roles", "sequences")
CHOICES = [
    agreement_prompts,
    interval_prompts,
    pronoun_prompts,
    sentiment_prompts,
    successor_prompts,
]


@pytest.fixture(scope="module")
def facts(tokenizer):
    return known_facts(tokenizer, n=300, seed=4)


@pytest.fixture(scope="module")
def edits(tokenizer):
    return counterfactual_edits(tokenizer, n=80, seed=4, single_token_object=False)


def _told(prompt: str, relation: str, subject: str, split: str) -> bool:
    """Whether a frame of the split gives this prompt."""
    lowered = prompt.lower().replace(subject.lower(), "{s}")
    frames = fact_frames(relation, subject)[split]
    return any(lowered == w.lower() for f in frames for w in expansions(f))


def test_character_spans_hold_the_subject(facts):
    """Forbids spans that are off by an article, a quotation mark or a choice."""
    for asked in (*facts, *fact_prompts(1, seed=1)):
        start, end = asked.subject_chars
        assert asked.prompt[start:end].lower() == asked.subject.lower()


def test_token_spans_hold_the_subject_with_bos_counted(facts, tokenizer):
    """Forbids tracing that corrupts the wrong tokens: one too early without BOS."""
    for asked in facts:
        ids = [tokenizer.bos_token_id, *tokenizer.encode(asked.prompt)]
        held = tokenizer.decode(ids[asked.subject_start : asked.subject_end + 1])
        assert held.strip().lower() == asked.subject.lower()
        assert asked.subject_end < len(ids) - 1


def test_facts_are_true_different_and_held_out(facts):
    """Forbids a wrong answer key, a fact twice, and a prompt that training has told."""
    assert len({(f.relation, f.subject) for f in facts}) == len(facts) == 300
    for asked in facts:
        assert asked.object == OBJECT[asked.relation, asked.subject]
        assert wording_held(asked.relation, asked.subject, asked.frame)
        assert not frame_unseen(asked.frame)
        assert not _told(asked.prompt, asked.relation, asked.subject, "train")


def test_fact_prompts_ask_every_fact_in_different_wordings():
    """Forbids facts that the gate never asks, or asks in one wording three times."""
    asked = fact_prompts(2, seed=3, split="unseen")
    counts = Counter((a.relation, a.subject) for a in asked)
    assert set(counts) == set(OBJECT)
    assert set(counts.values()) == {2}
    assert len({(a.subject, a.frame) for a in asked}) == len(asked)
    assert all(frame_unseen(a.frame) for a in asked)


def test_cloze_frames_leave_out_what_another_frame_contains():
    """Forbids "{s} comes from" as held out where "The recipe for {s} comes from" is trained."""
    for fact in FACTS[::150]:
        trained = fact_frames(fact.relation, fact.subject)["train"]
        told = "\n".join(w for f in trained for w in expansions(f))
        for frame in cloze_frames(fact.relation, fact.subject, "held"):
            assert not any(f"{w}\n" in f"{told}\n" for w in expansions(frame)), frame


def test_the_filters_filter(tokenizer):
    """Forbids single-token subjects and halves of objects where they were excluded."""
    asked = known_facts(
        tokenizer, 100, 5, multi_token_subject=True, single_token_object=True, split="unseen"
    )
    for fact in asked:
        assert fact.subject_end > fact.subject_start
        assert len(tokenizer.encode(f" {fact.object}")) == 1
        assert frame_unseen(fact.frame)


def test_too_many_records_are_refused(tokenizer, monkeypatch):
    """Forbids a dataset that is smaller than its n says."""
    monkeypatch.setattr("lens_core.world.datasets.choices._ATTEMPTS", 4)
    with pytest.raises(ValueError, match="ask for fewer"):
        known_facts(tokenizer, n=10_000)
    with pytest.raises(ValueError, match="ask for fewer"):
        successor_prompts(2000)


def test_an_edit_names_another_object_of_its_relation(edits, tokenizer):
    """Forbids edits to the truth, to another kind of thing, or to the same first token."""
    for edit in edits:
        assert edit.old_object == OBJECT[edit.relation, edit.subject]
        assert edit.new_object in {o for (r, _), o in OBJECT.items() if r == edit.relation}
        first = [tokenizer.encode(f" {o}")[0] for o in (edit.old_object, edit.new_object)]
        assert first[0] != first[1]


def test_an_edits_prompts_are_about_what_they_say(edits, tokenizer):
    """Forbids neighbours that the edit may rightly change, and facts that must change with it."""
    for edit in edits:
        ids = [tokenizer.bos_token_id, *tokenizer.encode(edit.prompt)]
        held = tokenizer.decode(ids[edit.subject_start : edit.subject_end + 1])
        assert held.strip().lower() == edit.subject.lower()
        assert edit.paraphrases
        for prompt in edit.paraphrases:
            assert edit.subject.lower() in prompt.lower()
            assert prompt != edit.prompt
        assert all(answer == edit.old_object for _, answer in edit.same_object)
        others = {answer for _, answer in edit.other_objects}
        assert not others & {edit.old_object, edit.new_object}
        kept = {
            f.object
            for f in facts_about(edit.subject)
            if f.relation != edit.relation and not entangled(f.relation, edit.relation)
        }
        assert {answer for _, answer in edit.other_relations} == kept
        assert edit.other_subjects == edit.same_object + edit.other_objects


def test_an_edits_prompts_are_held_out(edits):
    """Forbids paraphrases that training has told: generalisation would be memory."""
    for edit in edits:
        for prompt in (edit.prompt, *edit.paraphrases):
            assert not _told(prompt, edit.relation, edit.subject, "train"), prompt


def test_ioi_prompts_have_held_names_in_both_orders():
    """Forbids names that met in training, and a set that copying the first name would solve."""
    prompts = ioi_prompts(200, seed=2)
    assert Counter(p.order for p in prompts) == {"ABBA": 100, "BABA": 100}
    for p in prompts:
        a, b = p.indirect_object, p.subject
        assert pair_held(a, b) or name_held(a) or name_held(b)


@pytest.mark.parametrize("held", [True, False])
def test_ioi_slots_are_exact(held):
    """Forbids that a patch at "S2" hits another word, or that the answer is repeated."""
    for p in ioi_prompts(150, seed=3, held=held):
        words = {s.name: p.prompt[s.start : s.end] for s in p.slots}
        assert words["io"] == p.indirect_object
        assert words["s1"] == words["s2"] == p.subject
        order = [s.name for s in p.slots if s.name in ("io", "s1", "s2")]
        assert order == (["io", "s1", "s2"] if p.order == "ABBA" else ["s1", "io", "s2"])


def test_held_ioi_frames_are_held():
    """Forbids that ``held`` chooses among all frames."""
    for part in ("intro", "give"):
        assert not set(ioi_frames(part, True)) & set(ioi_frames(part, False))


def test_repeated_tokens_repeat_after_bos():
    """Forbids a copy that is off by one, and BOS or an id out of range among the tokens."""
    tokens = repeated_tokens(50, 20, d_vocab=30, seed=1)
    assert tokens.shape == (50, 41)
    assert tokens.dtype == torch.long
    assert (tokens[:, 0] == 0).all()
    assert torch.equal(tokens[:, 1:21], tokens[:, 21:])
    assert set(tokens[:, 1:].unique().tolist()) == set(range(1, 30))
    other = repeated_tokens(50, 20, d_vocab=30, seed=1, bos_id=29)
    assert set(other[:, 1:].unique().tolist()) == set(range(29))


@pytest.mark.parametrize("prompts", CHOICES)
def test_choices_are_different_and_have_two_sides(prompts):
    """Forbids prompts that count twice, and a right word that is also wrong."""
    found = prompts(150, seed=6)
    assert len({c.prompt for c in found}) == 150
    for choice in found:
        assert choice.right
        assert choice.wrong
        assert not set(choice.right) & set(choice.wrong)
        assert choice.prompt == choice.prompt.strip()


def test_agreement_follows_the_head_noun():
    """Forbids an answer key that agrees with the distractor."""
    for choice in agreement_prompts(200, seed=1):
        head = choice.prompt.split()[1]
        plural = head.endswith("s") or head in ("children", "men", "women")
        assert ("are" in choice.right) == plural
        assert choice.kind in ("prepositional", "object relative", "subject relative")


def test_intervals_begin_in_held_years():
    """Forbids a start year of training, and later years that are not later."""
    for choice in interval_prompts(200, seed=1):
        assert year_held(choice.century, choice.year)
        assert choice.prompt.endswith(f" {choice.century}")
        assert f"{choice.century}{choice.year:02d}" in choice.prompt
        assert min(map(int, choice.right)) == choice.year + 1
        assert max(map(int, choice.wrong)) == choice.year


def test_pronouns_have_the_names_gender():
    """Forbids an answer key with the genders exchanged."""
    for choice in pronoun_prompts(200, seed=1):
        name = next(w.strip(",") for w in choice.prompt.split() if w.strip(",.") in GENDER)
        male = choice.right[0].lower() in ("he", "his", "himself")
        assert GENDER[name.strip(".")] == ("m" if male else "f")


def test_role_spans_hold_their_words():
    """Forbids labels that have slipped by a character, overlap, or name a role nobody knows."""
    tagged = role_tagged_text(240, seed=2)
    assert len({t.kind for t in tagged}) == 6
    assert {s.role for t in tagged for s in t.spans} == set(ROLES)
    for text in tagged:
        ends = 0
        for span in sorted(text.spans, key=lambda s: s.start):
            word = text.text[span.start : span.end]
            assert span.start >= ends
            assert word == word.strip()
            assert word
            assert not text.text[span.end : span.end + 1].isalnum()
            ends = span.end
        assert text.words("verb") == () or text.kind == "agreement"
    said = next(t for t in tagged if t.kind == "agreement")
    features = {s.role: s.feature for s in said.spans}
    assert features["head_noun"] == features["verb"]


def test_fact_roles_are_subject_and_object():
    """Forbids an object span that points behind the object."""
    for text in role_tagged_text(120, seed=5):
        if text.kind == "fact":
            relation = text.spans[0].feature
            subject, answer = text.words("fact_subject")[0], text.words("fact_object")[0]
            names = {s.lower(): o for (r, s), o in OBJECT.items() if r == relation}
            assert names[subject.lower()] == answer


@pytest.mark.parametrize(
    "make", [*CHOICES, ioi_prompts, role_tagged_text], ids=lambda f: f.__name__
)
def test_datasets_are_the_same_from_the_same_seed(make):
    """Forbids figures that cannot be rerun."""
    assert make(30, seed=9) == make(30, seed=9)
    assert make(30, seed=9) != make(30, seed=10)


def test_token_datasets_are_the_same_from_the_same_seed(tokenizer):
    """Forbids figures that cannot be rerun, and draws from the module-level ``random``."""
    for make in (known_facts, counterfactual_edits):
        first = make(tokenizer, 20, seed=9)
        random.random()
        assert make(tokenizer, 20, seed=9) == first
        assert make(tokenizer, 20, seed=10) != first


def test_every_dataset_is_a_table(facts, edits):
    """Forbids a table that loses a column or a row."""
    for records in (facts, edits, ioi_prompts(3), role_tagged_text(3), interval_prompts(3)):
        frame = records.to_frame()
        assert isinstance(frame, pd.DataFrame)
        assert len(frame) == len(records)
        assert set(frame.columns) == set(vars(records[0]))
    with pytest.raises(TypeError, match="dataclass"):
        Records([1]).to_frame()


@pytest.mark.parametrize(
    "module",
    [facts_module, slots, *(import_module(f"{datasets.__name__}.{m}") for m in MODULES)],
    ids=lambda m: m.__name__,
)
def test_the_examples_of_the_docstrings_run(module):
    """Forbids documentation that has fallen behind."""
    assert doctest.testmod(module).failed == 0


def test_fill_finds_every_slot():
    """Forbids a span that counts the braces."""
    text, slots = fill("{a} and {b} and {a}.", {"a": "x", "b": "yy"})
    assert text == "x and yy and x."
    assert [text[s.start : s.end] for s in slots] == ["x", "yy", "x"]
    with pytest.raises(KeyError):
        fill("{c}", {"a": "x"})
