"""Evaluation records from the world: what they ask, and which facts they may use."""

import pytest

from lens_core.editing import EditingError, EditRequest
from lens_core.editing.evaluate import EvaluationRecord, record_of, records, split_of
from lens_core.world.facts import FACTS, facts_about, facts_of, subjects
from lens_core.world.frames import capital, expansions, fact_frames, put_subject

KEPT = ("neighbour", "other subject", "near", "same subject")


@pytest.fixture(scope="module")
def found(tiny_world):
    """A few records of the development split: these tests must not look at the test split."""
    return records(tiny_world, 40, seed=3)


def _true(subject, relation):
    return {f.object for f in facts_about(subject) if f.relation == relation}


def test_splits_share_no_subject_and_are_large_enough(tiny_world):
    """Forbids tuning on what is reported: the key of an edit is the subject, not the fact."""
    of = {
        split: {s for s in subjects() if split_of(s) == split} for split in ("development", "test")
    }
    assert not of["development"] & of["test"]
    assert sum(f.subject in of["development"] for f in FACTS) > 200
    assert sum(f.subject in of["test"] for f in FACTS) > 1000
    names = {r.subject for r in records(tiny_world, 50)}
    assert names <= of["development"]


def test_facts_are_known_different_and_the_same_from_a_seed(tiny_world, found):
    """Forbids two edits of one fact, and records that change from run to run."""
    keys = [(r.subject, r.request.relation) for r in found]
    assert len(set(keys)) == len(keys)
    assert [r.case_id for r in records(tiny_world, 40, seed=3)] == [r.case_id for r in found]
    for r in found:
        assert r.request.target_true in _true(r.subject, r.request.relation)
        assert r.request.target_new not in _true(r.subject, r.request.relation)
        assert r.request.target_new in {f.object for f in facts_of(r.request.relation)}


def test_no_question_is_in_a_wording_that_training_used_for_the_fact(found):
    """Forbids recall of trained sentences that passes for generalisation."""
    for r in found[:12]:
        for group in ("paraphrase", *KEPT, "two-hop"):
            for q in r.questions.get(group, ()):
                trained = {
                    capital(put_subject(wording, q.subject))
                    for frame in fact_frames(q.relation, q.subject)["train"]
                    for wording in expansions(frame)
                    if "{s}" in wording
                }
                asked = (q.prompt, q.prompt.rpartition(". ")[2])
                assert not trained.intersection(asked), q.prompt


def test_what_should_stay_is_what_the_world_says(found):
    """Forbids a neighbour whose answer is wrong, or that is the edited subject itself."""
    for r in found:
        for group in KEPT:
            for q in r.questions.get(group, ()):
                assert q.answer in _true(q.subject, q.relation)
                assert (q.subject == r.subject) == (group == "same subject")
        for q in r.questions.get("neighbour", ()):
            assert (q.answer, q.rival) == (r.request.target_true, r.request.target_new)
        for q in r.questions.get("same subject", ()):
            assert q.relation != r.request.relation


def test_near_subjects_share_a_token_of_the_name(tiny_world, found):
    """Forbids subjects that share nothing but an article."""
    seen = 0
    for r in found:
        own = set(tiny_world.tokenizer.encode(f" {r.subject}"))
        for q in r.questions.get("near", ()):
            shared = own & set(tiny_world.tokenizer.encode(f" {q.subject}"))
            assert any(len(tiny_world.to_string([i]).strip()) > 2 for i in shared)
            seen += 1
    assert seen > 10


def test_two_hops_follow_from_the_edit(tiny_world):
    """Forbids an implied answer that is the old one, or that does not follow."""
    edit = EditRequest("The Eiffel Tower is in", "The Eiffel Tower", "Rome", "Paris")
    hops = record_of(tiny_world, edit).questions["two-hop"]
    assert {(q.answer, q.rival, q.relation) for q in hops} == {
        ("Italy", "France", "landmark_country")
    }
    person = next(f for f in FACTS if f.relation == "person_nationality" and f.object == "German")
    edit = EditRequest(f"{person.subject} was", person.subject, "Polish", "German")
    hops = record_of(tiny_world, edit).questions["two-hop"]
    assert {(q.answer, q.rival) for q in hops} == {("Poland", "Germany")}


def test_reversed_questions_differ_in_the_answer_only(found):
    """Forbids comparing the subject after two different sentences."""
    seen = 0
    for r in found:
        for q in r.questions.get("reversed", ()):
            new, old = r.request.target_new, r.request.target_true
            assert capital(q.prompt.replace(capital(new), new).replace(new, old)) == q.rival_prompt
            assert q.answer == q.rival
            seen += 1
    assert seen > 10


def test_a_visitors_own_edit_is_asked_about_as_far_as_the_world_knows_it(tiny_world):
    """Forbids a page without a scoreboard for a fact that somebody wrote themselves."""
    lower = EditRequest("We saw the Eiffel Tower in", "Eiffel Tower", "Rome", "Paris")
    assert "neighbour" in record_of(tiny_world, lower).questions
    strange = EditRequest("The moon is made of", "The moon", "cheese")
    assert [g for g, _ in record_of(tiny_world, strange).asked] == ["edit"]
    mecca = EditRequest("The Eiffel Tower is in", "The Eiffel Tower", "Nowhere", "Paris")
    assert "two-hop" not in record_of(tiny_world, mecca).questions


def test_records_survive_json(found):
    """Forbids a checkpoint that cannot be read back."""
    for r in found[:5]:
        assert EvaluationRecord.from_json(r.to_json()) == r
    with pytest.raises(EditingError):
        EvaluationRecord.from_json({"case_id": "x"})


def test_too_many_are_refused(tiny_world):
    """Forbids records that are used twice to fill up."""
    with pytest.raises(EditingError, match="ask for fewer"):
        records(tiny_world, 2000, only_known=False)
    with pytest.raises(EditingError, match="split"):
        records(tiny_world, 1, split="train")
