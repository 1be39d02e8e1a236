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
