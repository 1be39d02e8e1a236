"""Wordings: what the data files may hold, and how a fact is rendered."""

import random
import re

import pytest

from lens_core.world.facts import DATA, FACTS, RELATIONS, Fact
from lens_core.world.frames import (
    expand,
    expansions,
    fact_frames,
    is_cloze,
    lines,
    n_wordings,
    put_subject,
    word,
)
from lens_core.world.generators.composed import composed_sentence, plain_sentence

STYLES = [p.name for p in sorted(DATA.iterdir()) if p.is_dir()]
FACT_FILES = [f"{s}/{p.stem}" for s in STYLES for p in sorted((DATA / s).glob("*_*.txt"))]
COMPOSED_FILES = [f for f in FACT_FILES if f.startswith("compose/")]
FACT_FILES = [f for f in FACT_FILES if not f.endswith("small_talk") and f not in COMPOSED_FILES]
IOI_FILES = [p.stem for p in sorted(DATA.glob("ioi_*.txt"))]
OTHER_FILES = ["openings", "closings", "talk/small_talk"]


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_relation_has_hundreds_of_wordings(relation):
    """Forbids a relation with a few fixed templates, which answers in those alone."""
    assert n_wordings(f"frames/{relation}") >= 250


@pytest.mark.parametrize("name", FACT_FILES)
def test_fact_frames_are_well_formed(name):
    """Forbids a lost bracket, a second subject, an unknown slot, an object inside a question."""
    for line in lines(name):
        assert line.count("[") == line.count("]"), line
        for wording in expansions(line):
            assert wording.count("{s}") == 1, line
            assert wording.count("{o}") <= 1, line
            assert set(re.findall(r"\{(\w*)\}", wording)) <= {"s", "o", "an"}, line
            assert not set(wording) & set("[]|"), line
            assert not re.search(r"\s\s|^\s|\s$", wording), line
            assert not re.search(r"\w\{s\}|\{s\}\w", wording), line


@pytest.mark.parametrize("name", COMPOSED_FILES)
def test_settings_and_cues_fit_together(name):
    """Forbids a setting without its subject, a cue with one, an unknown slot, a missing joint."""
    for line in lines(name):
        kind, _, text = line.partition(": ")
        assert kind in ("setting", "cue"), line
        for wording in expansions(text):
            assert wording.count("{s}") == (kind == "setting"), line
            slots = {"s"} if kind == "setting" else {"he", "him", "his", "an"}
            assert set(re.findall(r"\{(\w*)\}", wording)) <= slots, line
            assert not set(wording) & set("[]|"), line
            if kind == "setting":
                assert wording[-1] not in ".,;:", line


@pytest.mark.parametrize("relation", RELATIONS)
def test_composed_and_plain_sentences_are_finished(relation):
    """Forbids a slot, a bracket or a lower-case sentence start left in a composed document."""
    rng = random.Random(4)
    for fact in [f for f in FACTS if f.relation == relation][:20]:
        for make in (composed_sentence, plain_sentence):
            said = make(rng, fact)
            assert not set(said) & set("{}[]|"), said
            assert fact.object in said, said


@pytest.mark.parametrize("name", [f for f in FACT_FILES if not f.startswith("frames/")])
def test_talk_ends_before_the_object(name):
    """Forbids a talk frame with {o}, which the talk generator would write out as it stands."""
    assert [line for line in lines(name) if not is_cloze(line)] == []


@pytest.mark.parametrize("name", IOI_FILES)
def test_ioi_frames_name_each_person_once(name):
    """Forbids a frame in which the indirect object is already repeated, or missing."""
    wanted = ["A", "B"] if "intro" in name else ["S"]
    for line in lines(name):
        for wording in expansions(line):
            slots = re.findall(r"\{(\w*)\}", wording)
            assert sorted(s for s in slots if s in "ABS") == wanted, line
            assert set(slots) <= {*wanted, "P", "O"}, line


@pytest.mark.parametrize("name", OTHER_FILES)
def test_openings_and_closings_hold_no_slot(name):
    """Forbids a slot that nothing fills."""
    assert [line for line in lines(name) if re.search(r"[{}]", line)] == []
    assert all(not set(w) & set("[]|") for line in lines(name) for w in expansions(line))


def test_expand_draws_one_of_the_expansions():
    """Forbids that the list of wordings and the drawing of one drift apart."""
    rng = random.Random(0)
    for line in lines("frames/landmark_city"):
        assert expand(line, rng) in expansions(line)


def test_every_fact_has_frames_in_every_split():
    """Forbids a fact that cannot be asked in a held-out wording, or that is hardly ever told."""
    for fact in FACTS:
        splits = fact_frames(fact.relation, fact.subject)
        assert len(splits["train"]) >= 40, fact
        assert len([f for f in splits["held"] if is_cloze(f)]) >= 10, fact
        assert len([f for f in splits["unseen"] if is_cloze(f)]) >= 3, fact


def test_the_leading_article_is_lower_inside_a_sentence():
    """Forbids "I saw The Louvre Museum" and "the Louvre Museum is in"."""
    assert put_subject("I saw {s} in", "The Louvre") == "I saw the Louvre in"
    assert put_subject("{s} is in", "The Louvre") == "The Louvre is in"
    assert put_subject("Guess. {s} is in", "The Louvre") == "Guess. The Louvre is in"


@pytest.mark.parametrize("mention", [None, "Curie"])
def test_the_subject_span_is_exact(mention):
    """Forbids a span that is off by an article, an opening or a choice: tracing would miss."""
    fact = next(f for f in FACTS if f.subject == "Marie Curie" and f.relation == "person_field")
    rng = random.Random(0)
    for frame in lines("frames/person_field"):
        said = word(fact, frame, rng, mention)
        if said.subject_chars is None:
            assert frame.index("{o}") < frame.index("{s}")
            continue
        start, end = said.subject_chars
        assert said.prompt[start:end] == (mention or "Marie Curie")


def test_a_frame_with_the_object_inside_goes_on_after_it():
    """Forbids that the rest of a sentence is lost or stands before its object."""
    fact = Fact("food_country", "Sushi", "Japan")
    said = word(fact, "When we were in {o}, we ate {s}", random.Random(0))
    assert said.text == "When we were in Japan, we ate Sushi."
    assert (said.prompt, said.subject_chars) == ("When we were in", None)
