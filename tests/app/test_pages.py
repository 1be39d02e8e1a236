"""The pages as a visitor opens them: navigation, deep links, the empty state, the code."""

import json

import pytest

from app.lens_lab import SITES
from app.presets import PRESETS
from app.syllabus import LABS
from lens_core.plots import QUANTITIES


def grid(at):
    """The data that the browser would draw the lens grid from."""
    component = at.get("bidi_component")[0].proto
    return json.loads(component.json)


def texts(at):
    return " ".join(element.value for element in at.markdown)


@pytest.mark.parametrize("page", ["home", "logit_lens"])
def test_every_page_runs(open_page, page):
    """Forbids a page that fails as it is first opened."""
    at = open_page(page)
    assert not at.exception
    assert not at.error
    assert len(at.title) == 1


def test_every_planned_lab_is_listed_and_only_open_ones_are_links(open_page):
    """Forbids a lab that nobody finds, and a link that leads nowhere."""
    at = open_page("home")
    sidebar = " ".join(element.value for element in at.sidebar.get("html"))
    links = [link.proto.label for link in at.sidebar.get("page_link")]
    for lab in LABS:
        assert (lab.title in links) == (lab.page is not None)
        assert (lab.title in sidebar) == (lab.page is None)


def test_the_grid_is_drawn_for_the_prompt_of_the_address(open_page):
    """Forbids a shared link that opens with another prompt, colour or cell."""
    at = open_page(
        "logit_lens", prompt="The capital of Japan is", color="rank", layer="4", position="2"
    )
    data = grid(at)
    assert data["prompt"] == "The capital of Japan is"
    assert data["quantity"]["label"] == QUANTITIES["rank"].label
    assert data["selected"] == {"row": 5, "column": 2}
    assert data["tokens"][2] == "·capital"
    assert at.selectbox(key="layer").value == "4"


@pytest.mark.parametrize(
    "params",
    [
        {"layer": "99"},
        {"layer": "x", "position": "many"},
        {"position": "500"},
        {"position": "-3"},
        {"color": "hue"},
        {"site": "../../etc"},
        {"model": "/etc/passwd"},
        {"model": "nobody/nothing"},
    ],
)
def test_nonsense_in_the_address_falls_back_to_the_default(open_page, params):
    """Forbids a traceback, or a file opened, because of a mistyped or hostile address."""
    at = open_page("logit_lens", **params)
    assert not at.exception
    assert not at.error
    assert grid(at)["selected"] == {"row": 8, "column": len(grid(at)["tokens"]) - 1}


def test_a_chosen_cell_is_kept_until_the_prompt_changes(open_page):
    """Forbids a cell that points outside a shorter prompt, or stays on a token that has moved."""
    at = open_page("logit_lens")
    at.selectbox(key="layer").set_value("3").run()
    at.number_input(key="position").set_value(1).run()
    assert grid(at)["selected"] == {"row": 4, "column": 1}
    at.text_input(key="prompt").set_value("Paris is").run()
    data = grid(at)
    assert data["selected"] == {"row": 4, "column": len(data["tokens"]) - 1}
    assert not at.exception


def test_presets_fill_the_prompt_and_say_why(open_page):
    """Forbids an example that does nothing, or gives no reason to look at it."""
    at = open_page("logit_lens")
    preset = PRESETS[2]
    (examples,) = [group for group in at.get("button_group") if group.key == "preset"]
    examples.set_value(preset.name).run()
    assert at.text_input(key="prompt").value == preset.prompt
    assert grid(at)["prompt"] == preset.prompt
    assert any(preset.why[:20] in caption.value for caption in at.caption)


def test_no_prompt_is_an_invitation_and_no_error(open_page):
    """Forbids an error message for a learner who has just cleared the box."""
    at = open_page("logit_lens")
    at.text_input(key="prompt").set_value("").run()
    assert not at.error
    assert "Nothing to look into yet" in texts(at)
    at.button(key=f"begin_{PRESETS[1].name}").click().run()
    assert grid(at)["prompt"] == PRESETS[1].prompt


@pytest.mark.parametrize("site", SITES)
def test_every_site_can_be_read(open_page, site):
    """Forbids a setting that breaks the page."""
    at = open_page("logit_lens", site=site)
    assert not at.exception
    assert not at.error
    assert len(grid(at)["rows"]) == (9 if site == "resid_post" else 8)


def test_the_parity_badge_gives_its_figure(open_page):
    """Forbids a badge without the number that it stands for."""
    assert "largest difference" in texts(open_page("logit_lens"))


def test_hostile_tokens_reach_the_browser_as_data_only(open_page):
    """Forbids user text in Markdown or HTML: it may be data of a component or a chart, or code."""
    prompt = "</script><img src=x onerror=alert(1)> ![x](https://evil.example/p.png)"
    at = open_page("logit_lens", prompt=prompt)
    assert not at.exception
    assert grid(at)["prompt"] == prompt
    rendered = [*at.markdown, *at.caption, *at.error]
    for element in rendered:
        assert "<img" not in element.value
        assert "![x](" not in element.value


def test_words_to_follow_are_lines_of_the_figure(open_page):
    """Forbids trajectories of the rows' guesses alone: the learner asks how a rival fared."""
    at = open_page("logit_lens", prompt="The Eiffel Tower is in", follow="Rome, Zqxwv")
    assert not at.exception
    assert not at.error
    charts = [json.loads(chart.proto.spec) for chart in at.get("plotly_chart")]
    assert "·Rome" in [line.get("name") for line in charts[1]["data"]]
    assert any("Zqxwv" in caption.value for caption in at.caption)
