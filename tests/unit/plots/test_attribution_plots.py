"""Figures of attributions: the numbers that they show, and tokens as text."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lens_core.attribution import (
    ablate,
    accumulated,
    direct_logit_attribution,
    neuron_attribution,
    source_attribution,
)
from lens_core.plots import (
    accumulated_lines,
    component_bars,
    effect_bars,
    head_heatmap,
    neuron_bars,
    source_bars,
    waterfall,
)

EVIL = '<a href="https://evil.example">x</a><b>'


@pytest.fixture
def found(gpt2):
    """A logit difference taken apart, every token of it markup."""
    whole = direct_logit_attribution(gpt2.hooked, gpt2.tokens[:1], 5, 7)
    tokens = (EVIL,) * len(whole.question.tokens)
    question = replace(whole.question, tokens=tokens, target_text=EVIL, foil_text=EVIL)
    return replace(whole, question=question)


def test_bars_hold_every_part_once(found):
    """Forbids a stack that leaves a part out, so that it does not reach the answer."""
    figure = component_bars(found)
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert sum(sum(trace.y) for trace in bars) == pytest.approx(found.total)
    (sums,) = [trace for trace in figure.data if trace.name == "sum"]
    assert sum(sums.y) == pytest.approx(found.total)
    assert list(sums.y[1:-1]) == pytest.approx(found.by_layer.tolist())
    attention = next(trace for trace in bars if trace.name == "attention")
    assert list(attention.customdata[5]) == ["L1H0", 1, 0]


def test_the_waterfall_ends_at_the_sum(found):
    """Forbids a last column that is not what the steps come to."""
    (steps,) = waterfall(found).data
    assert sum(steps.y[:-1]) == pytest.approx(found.total)
    assert list(steps.measure[-2:]) == ["relative", "total"]


def test_the_heat_map_is_centred_on_zero_and_keeps_what_is_missing():
    """Forbids a colour for zero effect that depends on the data, and NaN shown as a number."""
    values = np.array([[1.0, -3.0], [np.nan, 0.5]])
    (cells,) = head_heatmap(values, title="t").data
    assert (cells.zmin, cells.zmax) == (-3, 3)
    assert cells.text[1][0] == ""
    (empty,) = head_heatmap(np.full((2, 2), np.nan), title="t").data
    assert (empty.zmin, empty.zmax) == (-1, 1)


@pytest.mark.parametrize("dark", [False, True])
def test_figures_show_markup_as_text(gpt2, found, dark):
    """Forbids a token that plotly would read as a link or as bold text."""
    model, tokens, question = gpt2.hooked, gpt2.tokens[:1], found.question
    inside = source_attribution(model, tokens, 5, 7, layer=1, head=2)
    neurons = neuron_attribution(model, tokens, 5, 7, layer=1)
    path = accumulated(model, tokens, 5, 7)
    effect = ablate(model, tokens, [(1, 2)], 5, 7)
    figures = [
        component_bars(found, dark=dark),
        waterfall(found, dark=dark),
        source_bars(replace(inside, question=question), dark=dark),
        neuron_bars(replace(neurons, question=question), dark=dark),
        accumulated_lines(replace(path, question=question), dark=dark),
        effect_bars(replace(effect, question=question), dark=dark),
        head_heatmap(found.by_head, title=EVIL, dark=dark),
    ]
    for figure in figures:
        data = json.loads(figure.to_json())
        text = json.dumps([data["layout"].get(axis, {}) for axis in ("title", "xaxis", "yaxis")])
        text += json.dumps([trace.get("text", "") for trace in data["data"]])
        assert "<a" not in text
        assert "<b>" not in text


def test_source_bars_stop_at_the_position(gpt2):
    """Forbids bars for tokens that the head cannot see."""
    inside = source_attribution(gpt2.hooked, gpt2.tokens[:1], 5, 7, layer=1, head=2, position=4)
    weights, brought = source_bars(inside).data
    assert len(weights.x) == len(brought.x) == 5
    assert sum(brought.x) == pytest.approx(inside.value, abs=1e-6)
