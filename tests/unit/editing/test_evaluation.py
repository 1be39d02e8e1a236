"""Many records: means, intervals, going on after a stop, and the command."""

import json
import math

import pytest
import torch

from lens_core.editing import EditingError, EditRequest
from lens_core.editing.evaluate import (
    Applied,
    Evaluation,
    EvaluationRecord,
    Made,
    Method,
    Question,
    Reply,
    Said,
    Scores,
    Sizes,
    UnrelatedEffect,
    UnrelatedText,
    change_of,
    evaluate,
    records,
)
from lens_core.editing.evaluate.checkpoint import Checkpoint
from lens_core.editing.evaluate.table import as_json, markdown
from lens_core.interventions import low_rank


def _change(model, requests):
    """An "edit" that is fixed by its requests and changes something."""
    g = torch.Generator().manual_seed(sum(map(ord, requests[0].prompt)))
    left = 0.05 * torch.randn(1024, 1, generator=g)
    return Applied((low_rank("mlp_out", 2, left, torch.randn(1, 256, generator=g)),), "")


FEW = Sizes(2, 1, 2, 1, 1, 1, 1, 1)
SHAM = Method("sham", "Sham", _change, {"size": 0.05})


@pytest.fixture(scope="module")
def asked(tiny_world):
    """Six development records."""
    return records(tiny_world, 6, seed=2, sizes=FEW)


def test_work_goes_on_where_it_was_stopped(tiny_world, asked, tmp_path):
    """Forbids a long run that begins anew, counts a record twice or mixes two methods' results."""

    class StopError(Exception):
        """The visitor cancels."""

    def stop(done, total):
        if done == 2:
            raise StopError

    path = tmp_path / "x.jsonl"
    with pytest.raises(StopError):
        evaluate(tiny_world, SHAM, asked, checkpoint=path, on_step=stop)
    with path.open("a") as file:
        file.write('{"made": {"seco')  # the program was killed while it wrote
    steps = []
    found = evaluate(
        tiny_world, SHAM, asked, checkpoint=path, on_step=lambda i, n: steps.append((i, n))
    )
    assert steps == [(3, 6), (4, 6), (5, 6), (6, 6)]
    whole = evaluate(tiny_world, SHAM, asked)
    assert [s.record.case_id for s in found.scores] == [r.case_id for r in asked]
    for a, b in zip(found.scores, whole.scores, strict=True):
        assert a.values() == pytest.approx(b.values(), nan_ok=True, abs=1e-6)
    other = Method("sham", "Sham", _change, {"size": 0.06})
    with pytest.raises(EditingError, match="other settings"):
        evaluate(tiny_world, other, asked, checkpoint=path)


def test_an_edit_that_cannot_be_made_is_listed_and_the_rest_runs(tiny_world, asked):
    """Forbids one bad record that ends a run of two hundred."""

    def make(model, requests):
        if requests[0].prompt == asked[1].request.prompt:
            raise EditingError("This one cannot be made.")
        return _change(model, requests)

    found = evaluate(tiny_world, Method("some", "Some", make), asked[:3])
    assert found.failed == ((asked[1].case_id, "This one cannot be made."),)
    assert len(found.scores) == len(found.made) == 2


def test_a_batch_is_one_edit_and_scored_under_it(tiny_world, asked):
    """Forbids scoring a fact of a batch under its own edit alone."""
    sizes = []

    def make(model, requests):
        sizes.append(len(requests))
        return _change(model, requests)

    text = UnrelatedText.of(tiny_world, n_rows=2)
    found = evaluate(tiny_world, Method("b", "B", make), asked, batch=4, unrelated=text)
    assert sizes == [4, 2]
    assert len(found.scores) == 6
    assert sum(s.unrelated is not None for s in found.scores) == 2
    assert found.summary("perplexity_median").n == 2
    with pytest.raises(EditingError, match="one fact"):
        evaluate(tiny_world, SHAM, [asked[0], asked[0]])


def _scores(i, hits, ratio):
    request = EditRequest("The Eiffel Tower is in", "The Eiffel Tower", "Rome", "Paris")
    groups = ("edit", "paraphrase", "neighbour")
    replies = tuple(
        Reply(g, Question("q", "a", "b"), Said("", True, 0.2, 0.5), Said("", h, 0.9 * h, 0.5))
        for g, row in zip(groups, hits, strict=True)
        for h in row
    )
    effect = UnrelatedEffect(10.0, 10.0 * ratio, 0.01, 100)
    return Scores(EvaluationRecord(f"r{i}", request, "x", {}), replies, effect)


def _evaluation():
    hits = [
        ([True], [True, True], [True, False]),
        ([True], [True, False], [True]),
        ([False], [False, False], []),
    ]
    ratios = [1.01, 1.02, 1.5]
    scores = tuple(_scores(i, h, r) for i, (h, r) in enumerate(zip(hits, ratios, strict=True)))
    made = tuple(Made(1.0, 0.1) for _ in scores)
    return Evaluation("m", "x", "X", {"layer": 0}, 1, scores, made, (("r9", "Why."),))


def test_means_are_over_records_and_intervals_hold_them():
    """Forbids means over questions where the papers average records, and S of averaged S."""
    found = _evaluation()
    assert found.summary("efficacy").value == pytest.approx(2 / 3)
    assert found.summary("paraphrase").value == pytest.approx((1 + 0.5 + 0) / 3)
    assert found.summary("neighbourhood").value == pytest.approx((0.5 + 1) / 2)
    assert found.summary("neighbourhood").n == 2
    expected = 3 / (1.5 + 2 + 1 / 0.75)
    s = found.summary("s")
    assert s.value == pytest.approx(expected)
    assert s.low <= s.value <= s.high
    assert found.summary("efficacy").before == 0.0


def test_perplexity_is_median_and_worst_and_counts_the_disabled():
    """Forbids a mean that hides the one edit that ruined the model."""
    found = _evaluation()
    assert found.summary("perplexity_median").value == pytest.approx(0.02)
    assert found.summary("perplexity_worst").value == pytest.approx(0.5)
    assert found.summary("disabling").value == pytest.approx(1 / 3)
    assert UnrelatedEffect(10.0, math.nan, 0.0, 1).disabling
    assert UnrelatedEffect(10.0, math.inf, 0.0, 1).disabling


def test_the_table_says_what_it_cannot_be_compared_with():
    """Forbids an S that is read beside the papers', and JSON that only Python reads."""
    table = markdown([_evaluation()])
    assert "not comparable" in table
    assert "| Efficacy | 0.0 | 66.7 [" in table
    assert "x" not in table.split("unedited")[0]
    content = json.loads(as_json(_evaluation(), {"date": "today"}), parse_constant=pytest.fail)
    assert content["failed"] == [["r9", "Why."]]
    assert len(content["records"]) == 3


def test_the_size_of_a_change_is_that_of_the_dense_matrix(tiny_world):
    """Forbids norms of factors in place of the norm of their product."""
    terms = [_change(tiny_world, [EditRequest(p, p, "x")]).terms[0] for p in ("a", "b")]
    dense = sum(t.tensors["left"] @ t.tensors["right"] for t in terms)
    expected = float(dense.norm() / tiny_world.W_out[2].norm())
    assert change_of(tiny_world, terms) == {2: pytest.approx(expected, rel=1e-4)}


def test_a_checkpoint_keeps_whole_lines_only(tmp_path):
    """Forbids a file that half a line has spoilt for good."""
    path = tmp_path / "c.jsonl"
    Checkpoint(path, {"a": 1}).add({"n": 1})
    path.write_text(path.read_text() + '{"n": ')
    again = Checkpoint(path, {"a": 1})
    assert again.pieces == [{"n": 1}]
    again.add({"n": 2})
    assert Checkpoint(path, {"a": 1}).pieces == [{"n": 1}, {"n": 2}]
    with pytest.raises(EditingError):
        Checkpoint(path, {"a": 2})
