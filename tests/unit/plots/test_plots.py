"""Colours, scales and figures of the lens pages."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lens_core.lens import LensResult, Parity
from lens_core.plots import (
    DARK,
    LIGHT,
    QUANTITIES,
    Aim,
    difference_shade,
    lens_heatmap,
    plotly_text,
    template,
    top_k_bars,
    trajectories,
    visible,
)

CONFIG = Path(__file__).resolve().parents[3] / ".streamlit" / "config.toml"
EVIL = '<a href="https://evil.example">x</a><b>'


@pytest.fixture
def lens():
    """Two rows, three tokens, one of which is markup and one of which occurs twice."""
    top_ids = np.array([[[0, 1], [1, 2], [2, 0]], [[1, 0], [1, 2], [0, 1]]])
    probs = np.array([[[0.9, 0.1], [0.6, 0.2], [0.5, 0.3]], [[0.7, 0.2], [0.8, 0.1], [1.0, 0.0]]])
    with np.errstate(divide="ignore"):
        logprobs = np.log(probs)
    return LensResult(
        model_name="m",
        lens_name="logit",
        site="resid_post",
        row_layers=(-1, 0),
        token_ids=np.array([0, 2, 2]),
        final_ids=np.array([1, 1, 0]),
        top_ids=top_ids,
        top_logprobs=logprobs,
        entropy_nats=np.array([[0.3, 0.9, 1.0], [0.8, 0.6, 0.0]]),
        kl_nats=np.array([[2.0, np.inf, 9.0], [0.0, 0.0, -1e-9]]),
        kl_reverse_nats=np.zeros((2, 3)),
        js_nats=np.zeros((2, 3)),
        total_variation=np.zeros((2, 3)),
        next_ranks=np.ones((2, 3), int),
        next_logprobs=logprobs[:, :, 0],
        state_norms=np.ones((2, 3)),
        final_cosines=np.ones((2, 3)),
        final_ranks=np.array([[2, 1, 2], [1, 1, 1]]),
        final_logprobs=logprobs[:, :, 0],
        tracked_ids=np.array([[1, 0], [1, -1], [0, 2]]),
        tracked_logprobs=np.log(np.full((2, 3, 2), 0.5)),
        target_ids=(),
        target_logprobs=np.zeros((2, 3, 0)),
        target_ranks=np.zeros((2, 3, 0)),
        parity=Parity(0.0, 1.0, 3, 3),
        d_vocab=3,
        texts={0: " a", 1: EVIL, 2: "\n"},
    )


@pytest.mark.parametrize("key", QUANTITIES)
def test_shades_are_in_range_and_strong_colour_means_settled(key, lens):
    """Forbids a scale that turns over between quantities, leaves [0, 1], or fails at infinity."""
    quantity = QUANTITIES[key]
    shades = quantity.shade(quantity.of(lens), lens.d_vocab)
    assert (((shades >= 0) & (shades <= 1)) | np.isnan(shades)).all()
    ticks = np.array(quantity.ticks(50_257))
    tick_shades = quantity.shade(ticks, 50_257)
    assert len(set(np.round(tick_shades, 3))) == len(ticks)
    settled = {"probability": 1.0, "rank": 1.0, "target minus foil": 1e9}.get(key, 0.0)
    assert quantity.shade(np.array([settled]), 50_257) == pytest.approx(1.0)


def test_differences_are_centred_on_zero(lens):
    """Forbids a diverging scale whose middle is not zero, and one that depends on the data."""
    odds = QUANTITIES["target minus foil"]
    assert odds.diverging
    assert odds.shade(np.array([0.0]), 100) == pytest.approx(0.5)
    assert odds.shade(np.array([-3.0, 3.0]), 100).sum() == pytest.approx(1.0)
    for quantity in QUANTITIES.values():
        values = quantity.of(lens)
        same = difference_shade(quantity, values, values, lens.d_vocab)
        assert np.nan_to_num(same, nan=0.5) == pytest.approx(0.5)


def test_a_quantity_is_about_the_token_that_is_aimed_at(lens):
    """Forbids a rank or a difference of the final answer under the name of another token."""
    followed = replace(
        lens,
        target_ids=(2, 0),
        target_logprobs=np.stack([np.full((2, 3), -1.0), np.full((2, 3), -3.0)], axis=-1),
        target_ranks=np.stack([np.full((2, 3), 4), np.full((2, 3), 9)], axis=-1),
    )
    assert (QUANTITIES["rank"].of(followed, Aim(2)) == 4).all()
    assert (QUANTITIES["target minus foil"].of(followed, Aim(2, foil=0)) == 2).all()
    assert (QUANTITIES["target probability"].of(followed, Aim(0)) == -3).all()


def test_the_theme_of_the_app_has_the_colours_of_the_figures():
    """Forbids a grid and a chart on one page in two different colour scales."""
    theme = tomllib.loads(CONFIG.read_text(encoding="utf-8"))["theme"]
    for section, colors in (("light", LIGHT), ("dark", DARK)):
        mine = theme[section]
        assert mine["backgroundColor"] == colors.background
        assert mine["secondaryBackgroundColor"] == colors.panel
        assert mine["textColor"] == colors.ink
        assert mine["primaryColor"] == colors.accent
        assert tuple(mine["chartSequentialColors"]) == colors.sequential
        assert tuple(mine["chartDivergingColors"]) == colors.diverging
        assert tuple(mine["chartCategoricalColors"]) == colors.categorical


def luminance(color):
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colors", [LIGHT, DARK])
def test_text_and_lines_stand_out(colors):
    """Forbids text below 4.5 to 1 and lines below 3 to 1 on their background, in both themes."""
    for background in (colors.background, colors.panel):
        assert contrast(colors.ink, background) >= 4.5
        assert contrast(colors.muted, background) >= 4.5
    for color in (*colors.categorical, colors.accent):
        assert contrast(color, colors.background) >= 3
    for color in colors.sequential:
        assert max(contrast(color, "#000000"), contrast(color, "#ffffff")) >= 4.5


@pytest.mark.parametrize("colors", [LIGHT, DARK])
def test_sequential_ramp_only_grows(colors):
    """Forbids a ramp in which two shades swap places in grey print."""
    steps = np.diff([luminance(color) for color in colors.sequential])
    assert (steps < 0).all() or (steps > 0).all()


def test_whitespace_of_tokens_is_visible():
    """Forbids `` Paris`` and ``Paris`` looking the same."""
    assert visible(" Paris") == "·Paris"
    assert visible("Paris") == "Paris"
    assert visible("  ") == "··"
    assert visible("\n\n") == "⏎⏎"
    assert visible("") == "∅"
    assert visible("a b ") == "a b·"


def test_figures_show_markup_as_text(lens):
    """Forbids a token that plotly would read as a link or as bold text."""
    figures = [
        *(lens_heatmap(lens, key) for key in QUANTITIES),
        top_k_bars(lens, 1, 0),
        trajectories(lens, 0, row=1, dark=True),
    ]
    for figure in figures:
        data = json.loads(figure.to_json())
        # Our own line breaks and plotly's <extra> are in templates, never in texts.
        text = json.dumps([trace.get("text", "") for trace in data["data"]])
        text += json.dumps([trace.get("name", "") for trace in data["data"]])
        text += json.dumps([data["layout"].get(axis, {}) for axis in ("xaxis", "yaxis", "title")])
        assert "<a" not in text
        assert "<b>" not in text
    assert plotly_text(EVIL).startswith("&lt;a href")


def test_a_token_that_occurs_twice_keeps_both_columns(lens):
    """Forbids merging equal labels into one category."""
    figure = lens_heatmap(lens)
    assert list(figure.layout.xaxis.tickvals) == [0, 1, 2]
    assert np.array(figure.data[0].z).shape == (2, 3)
    assert list(figure.layout.yaxis.ticktext) == ["embed", "0"]


def test_templates_differ_in_ink_only(lens):
    """Forbids a chart that is dark on dark."""
    assert template(dark=True).layout.font.color == DARK.ink
    assert template().layout.font.color == LIGHT.ink
    assert template().layout.paper_bgcolor == "rgba(0,0,0,0)"
