"""The table of facts: what the world is."""

from collections import Counter

import pytest

from lens_core.world.facts import (
    FACTS,
    NATIONALITY_COUNTRY,
    RELATIONS,
    entangled,
    facts_about,
    load_world,
    short_names,
    subjects,
)


def test_there_are_enough_facts_and_relations():
    """Forbids a section that the parser skips."""
    assert len(FACTS) >= 600
    assert len(RELATIONS) >= 10
    assert min(Counter(f.relation for f in FACTS).values()) >= 40


def test_a_subject_has_one_object_in_a_relation():
    """Forbids two answers to one question: training would contradict itself."""
    counts = Counter((f.relation, f.subject) for f in FACTS)
    assert [key for key, n in counts.items() if n > 1] == []


def test_many_subjects_have_several_relations():
    """Forbids a world in which "the subject's other facts" of an edit cannot be measured."""
    assert sum(len(facts_about(s)) >= 2 for s in subjects()) >= 200


def test_no_field_holds_remains_of_the_file_format():
    """Forbids brackets, colons and stray spaces that the parser should have taken away."""
    for fact in FACTS:
        for text in (fact.subject, fact.object):
            assert text
            assert text == text.strip()
            assert not set(text) & set("():;,#|{}[]\n"), fact


def test_derived_facts_agree_with_their_sources():
    """Forbids a landmark in another country than its city, a person in another than their own."""
    country = {f.subject: f.object for f in FACTS if f.relation == "city_country"}
    for fact in FACTS:
        about = {f.relation: f.object for f in facts_about(fact.subject)}
        if fact.relation == "landmark_country":
            assert fact.object == country[about["landmark_city"]]
        if fact.relation == "person_country":
            assert fact.object == NATIONALITY_COUNTRY[about["person_nationality"]]


def test_every_person_and_performer_has_a_gender():
    """Forbids "It" for a person in a paragraph."""
    people = [f.subject for f in FACTS if f.relation.startswith(("person", "athlete", "musician"))]
    assert set(people) <= set(load_world().gender)
    assert set(load_world().gender.values()) == {"m", "f"}


def test_a_short_name_means_one_person():
    """Forbids "James" for two people, or a short name that is another subject's full name."""
    short = short_names()
    assert len(set(short.values())) == len(short)
    assert not set(short.values()) & set(subjects())


def test_relations_that_move_together_are_entangled():
    """Forbids counting a landmark's country as damage when its city was edited."""
    assert entangled("landmark_city", "landmark_country")
    assert not entangled("person_field", "person_country")


def test_an_unreadable_person_is_named(monkeypatch, tmp_path):
    """Forbids a typing error in the table that drops a person in silence."""
    (tmp_path / "facts.txt").write_text("# person\nphysicist: Marie Curie (Polish)\n")
    monkeypatch.setattr("lens_core.world.facts.DATA", tmp_path)
    with pytest.raises(ValueError, match="Marie Curie"):
        load_world.__wrapped__()
