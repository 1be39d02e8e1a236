"""The attention components' Python side: what goes to the browser, and what is taken from it."""

import base64
import json

import numpy as np
import pytest

from app.components.edge import Edge, read_edge
from app.components.head_grid import (
    GridOptions,
    HeadGridView,
    HeadPrompt,
    HeadScoreColumn,
    head_grid_data,
    read_grid_options,
)
from app.components.head_view import HeadOptions, HeadView, head_view_data, read_head_options
from app.components.neuron_view import NeuronView, neuron_view_data

EVIL = "</script><img src=x onerror=alert(1)>"
HERE = Edge(layer=0, head=0, dest=1, src=0)


def patterns(n_layers, n_heads, n_tokens, seed=0):
    """Random causal patterns whose rows sum to one."""
    scores = np.random.default_rng(seed).normal(size=(n_layers, n_heads, n_tokens, n_tokens))
    weights = np.tril(np.exp(3 * scores))
    return (weights / weights.sum(-1, keepdims=True)).astype(np.float32)


def grid_of(values, tokens=None, **settings):
    tokens = tokens or [f" t{i}" for i in range(values.shape[-1])]
    return HeadGridView("Heads", (HeadPrompt("a prompt", tokens, values),), **settings)


def unpack(prompt, head):
    """One head's thumbnail as the browser reads it: [pixels, pixels] of weights."""
    side = prompt["pixels"]
    packed = np.frombuffer(base64.b64decode(prompt["shades"]), dtype=np.uint8)
    size = side * (side + 1) // 2
    square = np.zeros((side, side))
    square[np.tril_indices(side)] = (packed[head * size : (head + 1) * size] / 255.0) ** 2
    return square


@pytest.mark.parametrize(
    ("n_layers", "n_heads", "n_tokens"), [(12, 12, 64), (48, 25, 64), (12, 12, 200), (1, 1, 1)]
)
def test_a_grid_takes_at_most_half_a_megabyte(n_layers, n_heads, n_tokens):
    """Forbids a payload that grows with the prompt or with the model until the page is slow."""
    view = grid_of(
        patterns(n_layers, n_heads, n_tokens),
        scores=tuple(HeadScoreColumn(f"s{i}", np.ones((n_layers, n_heads))) for i in range(3)),
    )
    assert len(json.dumps(head_grid_data(view, HERE), allow_nan=False)) <= 500_000


def test_every_edge_of_64_tokens_has_its_own_pixel():
    """Forbids thumbnails that lose edges within the size that is promised, or mix heads up."""
    values = patterns(12, 12, 64)
    prompt = head_grid_data(grid_of(values), HERE)["prompts"][0]
    assert prompt["pixels"] == 64
    for head in (0, 29, 143):
        found = unpack(prompt, head)
        assert np.abs(found - values[head // 12, head % 12]).max() < 0.004


def test_a_long_prompt_keeps_its_strongest_edges():
    """Forbids a stripe that vanishes from a thumbnail because only some of its pixels are drawn."""
    n = 200
    stripe = np.full((1, 2, n, n), 1e-4)
    stripe[0, 1, np.arange(1, n), np.arange(n - 1)] = 1
    prompt = head_grid_data(grid_of(stripe), HERE)["prompts"][0]
    found = unpack(prompt, 1)
    assert prompt["pixels"] <= 64
    assert (found.diagonal() > 0.99).all()
    assert unpack(prompt, 0).max() < 0.01


def test_nothing_above_the_diagonal_is_shown():
    """Forbids a masked cell's leftover (nan, or a value after the token) in a thumbnail or sum."""
    values = patterns(1, 1, 70)
    values[..., np.triu(np.ones((70, 70), dtype=bool), 1)] = 1
    clean = patterns(1, 1, 70)
    dirty = head_grid_data(grid_of(values), HERE)["prompts"][0]
    assert dirty == head_grid_data(grid_of(clean), HERE)["prompts"][0]


def test_value_weighted_patterns_are_scaled_to_the_strongest():
    """Forbids a grid all in the deepest colour because its values are above one."""
    data = head_grid_data(grid_of(40 * patterns(2, 2, 8), kind="value-weighted"), HERE)
    assert data["top"] == pytest.approx(40, rel=1e-5)
    assert unpack(data["prompts"][0], 0)[0, 0] == pytest.approx(1, abs=0.01)
    dead = head_grid_data(grid_of(np.zeros((1, 1, 3, 3)), kind="value-weighted"), HERE)
    assert dead["top"] == 1


def test_wrong_values_are_refused_with_a_sentence():
    """Forbids a picture of something else: scores as patterns, or another prompt's tokens."""
    with pytest.raises(ValueError, match="patterns"):
        head_grid_data(grid_of(patterns(1, 1, 3), kind="scores"), HERE)
    with pytest.raises(ValueError, match="3 tokens"):
        head_grid_data(grid_of(patterns(1, 1, 4), tokens=["a", "b", "c"]), HERE)
    with pytest.raises(ValueError, match="head 5"):
        head_view_data(HeadView("t", "p", ["a", "b"], 0, 5, patterns(1, 2, 2)[0]), HERE)


def test_two_prompts_of_different_lengths_stand_side_by_side():
    """Forbids a comparison that only works for prompts of one length."""
    prompts = tuple(HeadPrompt(f"p{n}", ["t"] * n, patterns(2, 3, n)) for n in (5, 9))
    data = head_grid_data(HeadGridView("Heads", prompts), HERE)
    assert [p["pixels"] for p in data["prompts"]] == [5, 9]


def test_hostile_tokens_arrive_as_the_text_they_are():
    """Forbids a token that is lost or changed on its way; the browser sets it as text alone."""
    tokens, values = [EVIL, " <b>", "\n"], patterns(1, 1, 3)
    grid = head_grid_data(grid_of(values, tokens=tokens), HERE)
    view = HeadView("t", EVIL, tokens, 0, 0, values[0], next_tokens=tokens, next_probs=[0.1] * 3)
    head = head_view_data(view, HERE)
    neuron = neuron_view_data(
        NeuronView(tokens, 0, 0, 2, 0, np.ones(4), np.ones(4), 0.5, 0.0, 2.0, np.ones(3) / 3)
    )
    for shown in (grid["prompts"][0]["tokens"], head["tokens"], head["next"], neuron["tokens"]):
        assert json.loads(json.dumps(shown)) == [EVIL, "·<b>", "⏎"]


def test_a_head_view_is_exact_and_has_nan_as_nothing():
    """Forbids masked scores that become a number, and JSON that a browser cannot read."""
    values = np.random.default_rng(0).normal(size=(2, 3, 3)) * 10
    values[:, np.triu(np.ones((3, 3), dtype=bool), 1)] = np.nan
    values[1, 2, 0] = -np.inf
    data = head_view_data(HeadView("t", "p", ["a", "b", "c"], 1, 1, values, kind="scores"), HERE)
    assert "NaN" not in json.dumps(data, allow_nan=False)
    sent = data["values"]["1"]
    assert sent[3] is None
    assert sent[4] == pytest.approx(values[1, 2, 1], abs=1e-4)
    assert data["top"] == pytest.approx(np.nanmax(np.abs(values[1][np.isfinite(values[1])])))


def test_only_a_short_prompt_brings_all_heads():
    """Forbids a payload of a whole layer for a prompt too long for lines."""
    short = HeadView("t", "p", ["a"] * 25, 0, 2, patterns(1, 4, 25)[0])
    long = HeadView("t", "p", ["a"] * 26, 0, 2, patterns(1, 4, 26)[0])
    assert sorted(head_view_data(short, HERE)["values"]) == ["0", "1", "2", "3"]
    assert list(head_view_data(long, HERE)["values"]) == ["2"]
    largest = HeadView("t", "p", ["a"] * 200, 0, 0, patterns(1, 1, 200)[0])
    assert len(json.dumps(head_view_data(largest, HERE))) < 250_000


def test_the_products_are_those_of_query_and_key():
    """Forbids bars that do not add up to the score that is written below them."""
    q, k = np.random.default_rng(0).normal(size=(2, 64))
    score = float(q @ k / 8 - 0.5)
    data = neuron_view_data(
        NeuronView(["a", "b"], 0, 0, 1, 0, q, k, 1 / 8, -0.5, score, np.array([0.3, 0.7]))
    )
    total = sum(data["products"]) * data["scale"] + data["remainder"]
    assert total == pytest.approx(data["score"], abs=2e-3)
    with pytest.raises(ValueError, match="not one edge"):
        neuron_view_data(NeuronView(["a", "b"], 0, 0, 1, 0, q, k, 1, 0, 0, np.array([1.0])))


@pytest.mark.parametrize(
    "sent",
    [
        None, "x", [], {}, {"layer": 0}, {"layer": "0", "head": 0, "dest": 1, "src": 0},
        {"layer": 2, "head": 0, "dest": 1, "src": 0}, {"layer": 0, "head": -1, "dest": 1, "src": 0},
        {"layer": 0, "head": 0, "dest": 5, "src": 0}, {"layer": 0, "head": 0, "dest": 1, "src": 2},
        {"layer": 0, "head": 0.5, "dest": 1, "src": 0},
        {"layer": True, "head": 0, "dest": 1, "src": 0},
        {"layer": float("nan"), "head": 0, "dest": 1, "src": 0},
        {"layer": float("inf"), "head": 0, "dest": 1, "src": 0},
    ],
)  # fmt: skip
def test_an_edge_that_is_none_is_not_taken(sent):
    """Forbids an index out of what a visitor may choose, which would end in a traceback."""
    assert read_edge(sent, 2, 3, 5) is None


def test_a_true_edge_is_taken_as_whole_numbers():
    """Forbids a float for an index: JSON has one kind of number."""
    edge = read_edge({"layer": 1.0, "head": 2, "dest": 4, "src": 4, "more": 1}, 2, 3, 5)
    assert edge == Edge(layer=1, head=2, dest=4, src=4)
    assert isinstance(edge["layer"], int)


def test_options_from_the_browser_are_checked():
    """Forbids a score, a head or a share that a visitor made up."""
    assert read_grid_options({"order": "induction", "block": True}, ["induction"]) == GridOptions(
        order="induction", block=True
    )
    assert read_grid_options({"order": "made up"}, ["induction"]) is None
    assert read_grid_options("x", []) is None
    sent = {"lines": True, "mass": 0.9, "swap": False, "bos": True, "heads": [2, 0, 2]}
    assert read_head_options(sent, 4) == HeadOptions(lines=True, mass=0.9, bos=True, heads=(0, 2))
    for wrong in ({"mass": 0}, {"mass": float("nan")}, {"mass": "1"}, {"heads": [4]}, {"heads": 1}):
        assert read_head_options({**sent, **wrong}, 4) is None
