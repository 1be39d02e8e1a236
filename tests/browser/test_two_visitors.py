"""Two visitors at once, each with a model, a lens, a colour and a prompt of their own."""

from urllib.parse import urlencode

from lens_core import HookedModel
from lens_core.lens import LastBlocksLens, read_lens
from lens_core.plots import visible

PROMPTS = {"tiny-world": "Paris is the capital of", "glass-copy": "bee fox owl bee"}


def guesses(there, rows, columns):
    return [[there.cell(r, c).inner_text() for c in range(columns)] for r in range(rows)]


def expected(lens):
    return [[visible(lens.texts[int(i)]) for i in row] for row in lens.top_ids[:, :, 0]]


def test_each_sees_their_own(visit):
    """Forbids one visitor's model, lens, colour, prompt or cell on the other's page."""
    world = read_lens(HookedModel.from_pretrained("tiny-world"), PROMPTS["tiny-world"])
    glass = read_lens(
        HookedModel.from_pretrained("glass-copy"), PROMPTS["glass-copy"], LastBlocksLens(1)
    )
    first, second = visit(), visit()
    own = {"prompt": PROMPTS["tiny-world"], "color": "entropy"}
    other = {"prompt": PROMPTS["glass-copy"], "model": "glass-copy", "lens": "last blocks"}
    # Both are sent off before either is waited for.
    first.page.goto(first.address + "/logit-lens?" + urlencode(own))
    second.page.goto(second.address + "/logit-lens?" + urlencode(other))
    first.grid(PROMPTS["tiny-world"])
    second.grid(PROMPTS["glass-copy"])

    # They choose at the same moment, and again.
    first.cell(2, 1).click()
    second.cell(1, 2).click()
    first.page.wait_for_url("**position=1**")
    second.page.wait_for_url("**position=2**")
    for there, lens in ((first, world), (second, glass)):
        there.grid()
        assert guesses(there, len(lens.row_labels), len(lens.tokens)) == expected(lens)
    assert first.selected() == (2, 1)
    assert second.selected() == (1, 2)
    assert "Entropy" in first.page.locator(".legend-label").inner_text()
    assert "Entropy" not in second.page.locator(".legend-label").inner_text()
    assert "tiny-world" in first.page.locator(".lens .title").inner_text()
    assert "glass-copy" in second.page.locator(".lens .title").inner_text()
    assert first.page.get_by_label("Your prompt").input_value() == PROMPTS["tiny-world"]
    assert second.page.get_by_label("Your prompt").input_value() == PROMPTS["glass-copy"]
    assert "glass-copy" not in first.page.url
