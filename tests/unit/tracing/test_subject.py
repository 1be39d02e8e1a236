"""Subjects found in prompts, on the shipped model's tokenizer."""

import pytest

from lens_core.interventions import zero
from lens_core.model.errors import PromptTooLongError, TokenError
from lens_core.patching.errors import PatchingError
from lens_core.tracing import TracePrompt, TracingError, causal_trace, control_span, locate
from lens_core.world.datasets import known_facts

PROMPT = "The Eiffel Tower is in the city of"


def test_a_subject_is_found_with_the_tokens_that_it_shares(tiny_world):
    """Forbids spans off by the BOS token, or cut where a token begins with a space."""
    tokens, (first, last) = locate(tiny_world, PROMPT, "Eiffel Tower")
    assert tiny_world.to_string(tokens[0, first : last + 1]).strip() == "Eiffel Tower"
    assert locate(tiny_world, PROMPT, "The Eiffel Tower")[1] == (first - 1, last)
    assert locate(tiny_world, tokens, (first - tokens.shape[1], last))[1] == (first, last)


def test_marked_facts_keep_their_places(tiny_world):
    """Forbids facts of the world whose subject moves on the way into a trace."""
    for fact in known_facts(tiny_world.tokenizer, 5, seed=3):
        asked = TracePrompt.of_fact(tiny_world, fact)
        start = fact.prompt[slice(*fact.subject_chars)]
        assert locate(tiny_world, fact.prompt, start)[1] == asked.subject


@pytest.mark.parametrize("subject", ["Louvre", "eiffel tower", "", "  "])
def test_a_subject_that_is_not_there_is_refused(tiny_world, subject):
    """Forbids tracing some other word in its stead."""
    with pytest.raises(TracingError, match="is not in the prompt"):
        locate(tiny_world, PROMPT, subject)


def test_the_control_never_touches_subject_or_last_token():
    """Forbids a control whose noise is on the subject, on BOS or where the answer is read."""
    for n in range(1, 12):
        for first in range(n):
            for last in range(first, n):
                span = control_span(n, (first, last), first=1)
                if span is None:
                    continue
                chosen = set(range(span[0], span[1] + 1))
                assert chosen
                assert not chosen & set(range(first, last + 1))
                assert 0 not in chosen
                assert n - 1 not in chosen
                assert len(chosen) <= last + 1 - first


def test_questions_that_the_model_cannot_take_are_said_in_a_sentence(tiny_world):
    """Forbids the first half of a two-token answer, and prompts that are cut without a word."""
    with pytest.raises(TokenError, match="not one"):
        causal_trace(tiny_world, PROMPT, "Eiffel Tower", " Paris France")
    with pytest.raises(PromptTooLongError):
        causal_trace(tiny_world, "The Eiffel Tower " * 150, "Eiffel Tower")
    with (
        tiny_world.interventions(zero("z", 0, heads=[1])),
        pytest.raises(PatchingError, match="interventions"),
    ):
        causal_trace(tiny_world, PROMPT, "Eiffel Tower")
