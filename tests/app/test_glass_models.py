"""The glass models are chosen like any other."""

import json

import pytest

from app.models import needs, offered
from lens_core.glass.truth import INDUCTION_TRUTH, LOOKUP_TRUTH


@pytest.mark.parametrize("truth", [INDUCTION_TRUTH, LOOKUP_TRUTH])
def test_the_lens_page_opens_with_a_glass_model(open_page, truth):
    """Forbids a shipped model that the picker lacks, or on which a page fails."""
    assert truth.name in offered()
    assert needs(truth.name).endswith("ships with the lab")
    at = open_page("logit_lens", model=truth.name, prompt="fox owl bee fox")
    assert not at.exception
    assert not at.error
    grid = json.loads(at.get("bidi_component")[0].proto.json)
    assert grid["vocab"][grid["final"][-1]] == ("owl" if truth.circuit else "frog")


def test_a_prompt_in_unknown_words_is_explained_with_a_way_out(open_page):
    """Forbids a page full of question marks that does not say why."""
    name = INDUCTION_TRUTH.name
    at = open_page("logit_lens", model=name, prompt="fox owl Paris fox")
    assert any("reads 1 word of this prompt as" in info.value for info in at.info)
    at.button(key="known_words").click().run()
    assert not [info for info in at.info if "reads" in info.value]
    assert not at.exception
