"""Readers of CounterFact, zsRE and RippleEdits, on small files written in the published form."""

import json

import pytest

from lens_core.editing import EditingError
from lens_core.editing.evaluate import load_counterfact, load_ripple_edits, load_zsre

COUNTERFACT = {
    "case_id": 7,
    "pararel_idx": 1,
    "requested_rewrite": {
        "prompt": "The mother tongue of {} is",
        "relation_id": "P103",
        "target_new": {"str": "English", "id": "Q1860"},
        "target_true": {"str": "French", "id": "Q150"},
        "subject": "Danielle Darrieux",
    },
    "paraphrase_prompts": ["It rained. Danielle Darrieux, a native"],
    "neighborhood_prompts": ["The mother tongue of Leon Blum is", "Henri Barbusse, a native"],
    "attribute_prompts": ["J. R. R. Tolkien is a native speaker of"],
    "generation_prompts": ["Danielle Darrieux was born in"],
}
ZSRE = {
    "subject": "Watts Humphrey",
    "src": "What university did Watts Humphrey attend?",
    "pred": "Trinity College",
    "rephrase": "What university did Watts Humphrey take part in?",
    "alt": "University of Michigan",
    "answers": ["Illinois Institute of Technology"],
    "loc": "nq question: who played desmond doss father in hacksaw ridge",
    "loc_ans": "Hugo Weaving",
    "cond": "Trinity College >> University of Michigan || What university did he attend?",
}


def _query(prompt, answer):
    return {
        "prompt": prompt,
        "answers": [{"value": answer, "aliases": []}],
        "query_type": "regular",
        "subject_id": "Q1",
        "relation": "X",
        "target_ids": ["Q2"],
        "phrase": None,
    }


def _test(prompt, answer):
    return {
        "test_queries": [_query(prompt, answer)],
        "test_condition": "OR",
        "condition_queries": [],
    }


def _ripple(prompt, earlier=None):
    edit = {"prompt": prompt, "subject_id": "Q1", "relation": "X", "target_id": "Q9"}
    if earlier:
        edit["original_fact"] = {**edit, "prompt": earlier}
    return {
        "example_type": "popular",
        "edit": edit,
        "Relation_Specificity": [_test("The gender of Leo Brand is", "male")],
        "Logical_Generalization": [_test("The name of the child of Ann Lee is", "Leo Brand")],
        "Subject_Aliasing": [_test("The name of the mother of L. Brand is", "Ann Lee")],
        "Compositionality_I": [_test("The place of birth of the mother of Leo Brand is", "Oslo")],
        "Compositionality_II": [],
        "Forgetfulness": [],
    }


@pytest.fixture
def written(tmp_path):
    """Writes a list of records to a file."""

    def write(content):
        path = tmp_path / "data.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    return write


def test_counterfact_is_read_as_published(written):
    """Forbids a neighbour scored for the new answer, and a template read with its braces."""
    loaded = load_counterfact(written([COUNTERFACT]))
    (record,) = loaded.records
    assert record.request.prompt == "The mother tongue of Danielle Darrieux is"
    assert (record.request.target_new, record.request.target_true) == ("English", "French")
    neighbour = record.questions["neighbour"][1]
    assert (neighbour.answer, neighbour.rival) == ("French", "English")
    assert record.questions["paraphrase"][0].answer == "English"
    plus = [q.prompt for group, q in record.asked if group == "neighbour after the edit"]
    assert plus[0].startswith("The mother tongue of Danielle Darrieux is English. The mother")
    assert record.generation_prompts == ("Danielle Darrieux was born in",)


def test_zsre_asks_for_the_right_answer_as_rome_does(written):
    """Forbids the alternative answer, with which ROME's figures could not be compared."""
    (record,) = load_zsre(written([ZSRE])).records
    assert record.request.target_new == "Illinois Institute of Technology"
    assert record.request.target_true == ""
    assert record.questions["other subject"][0].prompt.startswith("who played desmond")
    assert record.questions["other subject"][0].answer == "Hugo Weaving"


def test_ripple_edits_are_cut_before_the_answer(written):
    """Forbids a prompt that already says the answer: the file gives whole sentences."""
    sentences = [
        ("The name of the mother of Leo Brand is Ann Lee.", "Leo Brand"),
        ("The place of birth of Leo Brand is Ann Lee.", "Leo Brand"),
        ("The name of the country which Leo Brand is associated with is Ann Lee.", "Leo Brand"),
        ("The name of the country of citizenship of Leo Brand is Ann Lee.", "Leo Brand"),
        ("The names of the siblings of Leo Brand are Ann Lee.", "Leo Brand"),
        ("The name of the position held by Leo Brand is Ann Lee.", "Leo Brand"),
        ("The occupation of Leo Brand is Ann Lee.", "Leo Brand"),
        ("Song of Songs is followed by Ann Lee.", "Song of Songs"),
        ("The name of the author of The Lord of the Flies is Ann Lee.", "The Lord of the Flies"),
    ]
    content = [_ripple(s, s.replace("Ann Lee", "Eva Sol")) for s, _ in sentences]
    loaded = load_ripple_edits(written(content))
    assert not loaded.bad
    for record, (sentence, subject) in zip(loaded.records, sentences, strict=True):
        r = record.request
        assert (r.subject, r.target_new, r.target_true) == (subject, "Ann Lee", "Eva Sol")
        assert f"{r.prompt} Ann Lee." == sentence
    questions = loaded.records[0].questions
    assert questions["two-hop"][0].answer == "Oslo"
    assert questions["same subject"][0].answer == "male"
    assert questions["reversed"][0].prompt.startswith("The name of the child")
    assert questions["paraphrase"][0].answer == "Ann Lee"


def test_bad_records_are_listed_and_the_rest_is_read(written):
    """Forbids one bad line that loses a file of twenty thousand, and one that is lost silently."""
    no_prompt = json.loads(json.dumps(COUNTERFACT))
    del no_prompt["requested_rewrite"]["prompt"]
    same = json.loads(json.dumps(COUNTERFACT))
    same["requested_rewrite"]["target_new"]["str"] = "French"
    no_place = json.loads(json.dumps(COUNTERFACT))
    no_place["requested_rewrite"]["prompt"] = "The mother tongue is"
    odd = {**COUNTERFACT, "paraphrase_prompts": "one text"}
    content = [no_prompt, COUNTERFACT, same, "text", None, no_place, odd, COUNTERFACT]
    loaded = load_counterfact(written(content))
    assert len(loaded.records) == 2
    assert [number for number, _ in loaded.bad] == [0, 2, 3, 4, 5, 6]
    assert "'prompt'" in loaded.bad[0][1]
    assert all(why.endswith(".") for _, why in loaded.bad)
    ripple = load_ripple_edits(written([{"edit": {"prompt": "Nothing."}}, _ripple("A follows B.")]))
    assert [n for n, _ in ripple.bad] == [0]


@pytest.mark.parametrize("content", ["not json", '{"a": 1}', "[]", "[1, 2]", "\x00\xff"])
def test_a_file_of_another_kind_is_refused_in_a_sentence(tmp_path, content):
    """Forbids a traceback for a wrong file."""
    path = tmp_path / "x.json"
    path.write_bytes(content.encode("latin-1"))
    for load in (load_counterfact, load_zsre, load_ripple_edits):
        with pytest.raises(EditingError):
            load(path)
    with pytest.raises(EditingError, match="no file"):
        load_counterfact(tmp_path / "absent.json")


def test_only_so_many_are_read(written):
    """Forbids reading 20,000 records to use ten."""
    assert len(load_counterfact(written([COUNTERFACT] * 5), n=3).records) == 3
