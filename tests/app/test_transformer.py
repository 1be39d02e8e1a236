"""Lesson 1's page as a visitor opens it."""

import json

import pytest

from app.transformer_lab.settings import Settings


def grid(at):
    """The data that the browser would draw the grid of numbers from."""
    for component in at.get("bidi_component"):
        data = json.loads(component.proto.json)
        if "places" in data:
            return data
    raise AssertionError("no grid of numbers")


def chosen(at):
    data = grid(at)
    return data["cells"][data["row"]][data["places"].index(data["place"])]


def words(at):
    return " ".join(element.value for element in [*at.markdown, *at.caption])


def test_it_opens_on_the_first_tensor_and_answers(open_page):
    """Forbids a page that fails as it is first opened, or hides what the model says."""
    at = open_page("transformer")
    assert not at.exception
    assert not at.error
    assert "the model says **bee**" in words(at)
    assert at.selectbox(key="tensor").value == "tokens"


def test_an_address_restores_tensor_cell_sentence_and_weights(open_page):
    """Forbids a shared link that opens with another figure."""
    at = open_page(
        "transformer",
        sentence="ant dog cat ant",
        tensor="pattern.1",
        row="4",
        column="2 dog",
        edits="W_K[1,0,15,4]=30",
    )
    assert not at.exception
    data = grid(at)
    assert data["columns"][2] == "2 dog"
    assert (data["row"], data["place"]) == (4, 2)
    assert chosen(at)["was"] is not None  # the weight moved the pattern
    assert "the model says **ant**" in words(at)


@pytest.mark.parametrize(
    "params",
    [
        {"tensor": "__class__"},
        {"tensor": "pattern.9", "row": "99", "column": "x"},
        {"row": "-3"},
        {"edits": "W_K[9,9,9,9]=1"},
        {"edits": "rm -rf /"},
        {"factor": "nan"},
        {"machine": "other"},
        {"sentence": "</script><img src=x onerror=alert(1)> ![x](https://evil.example/p.png)"},
    ],
)
def test_nonsense_in_the_address_is_no_traceback(open_page, params):
    """Forbids a traceback, or markup, because of a mistyped or hostile address."""
    at = open_page("transformer", **params)
    assert not at.exception
    assert not at.error
    assert grid(at)["cells"]
    unescaped = words(at).replace("\\<", "").replace("\\[", "")
    assert "<img" not in unescaped
    assert "![x](" not in unescaped


def test_nothing_is_marked_as_changed_while_no_weight_is(open_page):
    """Forbids an underlined -∞ (its difference from itself is no number), or rounding shown."""
    data = grid(open_page("transformer", tensor="masked.0"))
    assert all(cell["was"] is None for row in data["cells"] for cell in row)
    assert data["cells"][0][1]["text"] == "−∞"
    assert data["cells"][2][0]["text"] == "0"


def test_next_and_back_walk_through_the_pass(open_page):
    """Forbids a step that cannot be reached, and a column that points outside the next tensor."""
    at = open_page("transformer")
    for expected in ("embed", "pos_embed", "resid_pre.0", "attn_in.0"):
        at.button(key="tensor_next").click().run()
        assert at.selectbox(key="tensor").value == expected
        assert not at.exception
        assert grid(at)["place"] in grid(at)["places"]
    at.button(key="tensor_back").click().run()
    assert at.selectbox(key="tensor").value == "resid_pre.0"


def test_a_weight_is_set_listed_and_undone(open_page):
    """Forbids a set weight that moves nothing, or an undo that leaves something behind."""
    at = open_page("transformer", tensor="probabilities", row="4", column="bee")
    made = chosen(at)["text"]
    at.selectbox(key="weight_table").set_value("W_U").run()
    at.selectbox(key="weight_Row_W_U").set_value("next bee").run()
    at.selectbox(key="weight_Col_W_U").set_value("bee").run()
    field = next(n for n in at.number_input if (n.key or "").startswith("weight_value_W_U"))
    assert field.value == 2
    field.set_value(0.0).run()
    at.button(key="weight_set").click().run()
    assert not at.exception
    assert at.text_input(key="edits").value == "W_U[11,3]=0"
    assert chosen(at)["text"] != made
    assert at.get("plotly_chart")
    at.button(key="weight_undo_0").click().run()
    assert at.text_input(key="edits").value == ""
    assert chosen(at)["text"] == made


def test_an_empty_and_a_long_sentence_are_answered_in_words(open_page):
    """Forbids an error for a learner who clears the box, or types more than nine tokens."""
    at = open_page("transformer")
    at.text_input(key="sentence").set_value(" ").run()
    assert not at.exception
    assert "four words" in " ".join(info.value for info in at.info)
    at.text_input(key="sentence").set_value("ant " * 12).run()
    assert not at.exception
    assert "at most 9" in " ".join(error.value for error in at.error)
    at.text_input(key="sentence").set_value("ant bee").run()
    assert not at.error


def test_the_shapes_of_the_chosen_model(open_page):
    """Forbids the second view failing, or drawing a pattern that is not the model's."""
    at = open_page("transformer", machine="shapes", block="2", head="1")
    assert not at.exception
    assert not at.error
    data = grid(at)
    assert data["cells"][0][0]["text"] == "1"
    assert data["cells"][0][1]["text"] == ""
    assert "8 blocks" in words(at)


def test_settings_read_what_the_lab_writes():
    """Forbids a setting that is lost between the lab and its lesson."""
    settings = Settings("ant", "q.0", 1, "rest", True, "b_Q[1,0,4]=3", 2.0)
    assert Settings.of({**settings.as_dict(), "prompt": "of another lab"}) == settings
