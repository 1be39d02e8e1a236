"""Requests are checked in sentences, and found in the tokens of the prompt."""

import pytest

from lens_core import HookedModel
from lens_core.editing import EditingError, EditRequest
from lens_core.glass.facts import facts_model


@pytest.mark.parametrize(
    ("prompt", "subject", "new", "true", "says"),
    [
        ("", "Paris", "Rome", "", "prompt is empty"),
        ("Paris is in", " ", "Rome", "", "subject is empty"),
        ("Paris is in", "London", "Rome", "", "not in the prompt"),
        ("Paris is in", "Paris", "  ", "", "answer is empty"),
        ("Paris is in", "Paris", "Italy", " Italy", "nothing to change"),
    ],
)
def test_a_request_that_asks_for_nothing_is_refused(
    prompt: str, subject: str, new: str, true: str, says: str
) -> None:
    """Forbids an edit of the wrong words, or of none, that runs all the same."""
    with pytest.raises(EditingError, match=says):
        EditRequest(prompt, subject, new, true)


def test_the_subject_is_found_where_it_stands_last(tiny_world: HookedModel) -> None:
    """Forbids editing the first mention, whose key the answer's tokens do not read last."""
    request = EditRequest("Rome is old, and Rome is in the country of", "Rome", "France")
    found = request.tokenize(tiny_world)
    texts = tiny_world.to_str_tokens(found.tokens)
    assert texts[found.subject_end] == " Rome"
    assert request.template == "Rome is old, and {} is in the country of"


def test_an_answer_of_many_tokens_is_kept_whole(tiny_world: HookedModel) -> None:
    """Forbids cutting an answer to its first token."""
    request = EditRequest("The Eiffel Tower is in", "The Eiffel Tower", "the old town of Rome")
    target = request.tokenize(tiny_world).target_ids
    assert tiny_world.to_string(list(target)) == " the old town of Rome"


def test_a_subject_inside_a_word_ends_with_that_word_s_token(tiny_world: HookedModel) -> None:
    """Forbids a position one off where the tokenizer joins the subject with what follows."""
    found = EditRequest("The Eiffel Tower's city is", "The Eiffel Tower", "Rome").tokenize(
        tiny_world
    )
    assert tiny_world.to_str_tokens(found.tokens)[found.subject_end].strip() == "Tower"


def test_words_that_the_model_does_not_have_are_named() -> None:
    """Forbids an edit towards the unknown token."""
    model = facts_model()
    with pytest.raises(EditingError, match="no token for a word"):
        EditRequest("ada wood lives in", "ada wood", "madrid").tokenize(model)


def test_a_prompt_that_is_too_long_is_refused_before_the_run(tiny_world: HookedModel) -> None:
    """Forbids a traceback out of the model's position table."""
    long = " ".join(["and"] * 126)
    with pytest.raises(EditingError, match="shorten"):
        EditRequest(f"Rome {long}", "Rome", "the old town").tokenize(tiny_world)


def test_a_model_without_tokenizer_is_refused(gpt2: object) -> None:
    """Forbids an AttributeError out of None."""
    with pytest.raises(EditingError, match="fast tokenizer"):
        EditRequest("Rome is in", "Rome", "France").tokenize(gpt2.hooked)  # type: ignore[attr-defined]
