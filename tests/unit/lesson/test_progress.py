"""Progress is kept, saved and read back, and a bad file changes nothing."""

import copy
import json

import pytest

from app.lesson import progress
from app.lesson.progress import MAX_BYTES, ProgressError

RECORD = {"guess": 7, "truth": 9, "score": 0.5, "model": "tiny-world"}


def some():
    kept: progress.Progress = {}
    part = progress.of_lesson(kept, "lesson_demo")
    progress.commit(part, "n-tokens", RECORD)
    progress.answered(part, "count", passed=False)
    progress.answered(part, "count", passed=True)
    progress.answered(part, "count", passed=False)
    progress.mark(part, "opened", "hint-a")
    progress.mark(part, "opened", "hint-a")
    return kept


def test_what_is_saved_comes_back():
    """Forbids anything being lost between two visits."""
    assert progress.load(progress.dump(some()).encode()) == some()


def test_the_first_guess_counts_and_a_pass_stays():
    """Forbids a score made better by guessing again, and a pass that is taken back."""
    part = some()["lesson_demo"]
    progress.commit(part, "n-tokens", {**RECORD, "guess": 9, "score": 1.0})
    assert part["predictions"]["n-tokens"]["guess"] == 7
    assert part["checks"]["count"] == {"passed": True, "tries": 2}
    assert part["opened"] == ["hint-a"]


def test_a_truth_that_is_no_number_can_be_saved():
    """Forbids a file that its own reader refuses."""
    kept: progress.Progress = {}
    record = {**RECORD, "truth": float("nan"), "score": 0.0}
    progress.commit(progress.of_lesson(kept, "a"), "p", record)
    assert progress.load(progress.dump(kept).encode()) == kept


def test_merging_keeps_both():
    """Forbids an upload that undoes what was done in this visit."""
    here = some()
    there = some()
    there["lesson_demo"]["predictions"]["n-tokens"] = {**RECORD, "guess": 1}
    there["lesson_demo"]["predictions"]["longest"] = {**RECORD, "guess": "a"}
    there["other"] = {"opened": ["hint-b"]}
    there["lesson_demo"]["checks"] = {"count": {"passed": False, "tries": 5}}
    progress.merge(here, progress.load(progress.dump(there).encode()))
    part = here["lesson_demo"]
    assert part["predictions"]["n-tokens"]["guess"] == 7
    assert part["predictions"]["longest"]["guess"] == "a"
    assert part["checks"]["count"] == {"passed": True, "tries": 5}
    assert here["other"]["opened"] == ["hint-b"]


def changed(**part):
    saved = json.loads(progress.dump(some()))
    saved["lessons"]["lesson_demo"].update(part)
    return json.dumps(saved).encode()


BAD = {
    "empty": b"",
    "binary": b"\xff\xfe\x00",
    "no JSON": b"{",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "another file": b'{"cells": []}',
    "newer": b'{"lens_lab_progress": 2, "lessons": {}}',
    "true is no version": b'{"lens_lab_progress": true, "lessons": {}}',
    "too large": b" " * (MAX_BYTES + 1),
    "score": changed(predictions={"p": {**RECORD, "score": 7}}),
    "no score": changed(predictions={"p": {"guess": 1}}),
    "infinite": changed(predictions={"p": {**RECORD, "truth": float("inf")}}),
    "nested": changed(predictions={"p": {**RECORD, "guess": {"a": 1}}}),
    "long": changed(predictions={"p": {**RECORD, "guess": "x" * 5000}}),
    "check": changed(checks={"c": True}),
    "tries": changed(checks={"c": {"passed": True, "tries": -1}}),
    "marks": changed(opened=[1]),
    "unknown part": changed(grades={}),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_sentence_and_changes_nothing(name):
    """Forbids a traceback, and half of a file being taken over."""
    before = some()
    kept = copy.deepcopy(before)
    with pytest.raises(ProgressError, match="nothing was changed") as caught:
        progress.merge(kept, progress.load(BAD[name]))
    assert kept == before
    assert str(caught.value).count(".") == 1


def test_steps_are_done_when_what_they_ask_is(demo):
    """Forbids a step counted as done because it was looked at."""
    part = progress.of_lesson({}, demo.id)
    look, show, mislead = demo.steps
    assert not any(progress.is_done(part, step) for step in demo.steps)
    for name in ("n-tokens", "first-layer", "longest"):
        progress.commit(part, name, RECORD)
    progress.answered(part, "count", passed=True)
    progress.mark(part, "tried", mislead.blocks[0].id)
    assert progress.is_done(part, look)
    assert not progress.is_done(part, show)
    assert progress.is_done(part, mislead)
    summary = progress.summary(part, demo)
    assert (summary["steps_done"], summary["steps"]) == (2, 3)
    assert (summary["predictions"], summary["score"]) == (3, 0.5)
    assert (summary["checks_passed"], summary["checks"]) == (1, 4)
