"""A lesson's file: what it is read as, and the file, line and reason where it is malformed."""

from pathlib import Path

import pytest

from app.lesson import LessonError, lesson_names, load_lesson, parse_lesson
from app.lesson.format import Check, Hint, Mislead, Predict, See, Text, Try
from app.lesson.glossary import terms

FRONT = """\
---
title: T
question: Q?
minutes: 5
difficulty: 1
before: []
sources: []
settings:
  prompt: x
  row: 0
---
"""
AT = FRONT.count("\n")
NUMBER = "question: q\nkind: number\ntruth: {measure: demo_n_tokens}\npasses: truth\nfails: 9\n"
CHOICE = (
    "question: q\nkind: choice\noptions: {a: {text: a}, b: {text: bb}}\n"
    "score: {measure: demo_length}\n"
)
SEE = "text: t\nverdict: {measure: demo_n_tokens, is: '> 1'}\n"


def directive(name, body, label="one"):
    return f":::{{{name}}} {label}\n{body}:::\n"


# reason: (text after the front matter, line after the front matter, words of the message)
MALFORMED = {
    "unknown directive": (directive("quiz", ""), 1, "unknown directive `quiz`"),
    "no name": (":::note\nx\n:::\n", 1, "unknown directive `note`"),
    "never closed": (":::{see} a\ntext: t\n", 1, "never closed"),
    "bad YAML": (directive("see", "text: [\n"), 3, "bad YAML"),
    "no fields": (directive("see", "just text\n"), 1, "must be YAML fields"),
    "missing field": (directive("see", "text: t\n"), 1, "the field `verdict` is missing"),
    "unknown field": (directive("see", SEE + "colour: red\n"), 4, "no field `colour`"),
    "wrong kind of field": (directive("see", "text: 3\n"), 2, "`text` must be str"),
    "unknown measure": (directive("see", SEE.replace("demo_n_tokens", "luck")), 3, "`luck`"),
    "unknown argument": (
        directive("see", SEE.replace("is:", "colour: 1, is:")),
        3,
        "`colour` is neither an argument of demo_n_tokens nor a setting",
    ),
    "missing argument": (
        directive("see", SEE.replace("demo_n_tokens", "demo_length")),
        3,
        "needs the argument `text`",
    ),
    "unknown setting": (directive("try", "color: rank\n"), 2, "unknown setting `color`"),
    "setting of another type": (directive("try", "row: top\n"), 2, "`row` must be int"),
    "nothing set": (directive("try", "{}\n"), 1, "sets nothing"),
    "no label": (directive("try", "row: 1\n", label=""), 1, "a label must follow"),
    "no id": (directive("see", SEE, label="Not An Id"), 1, "an id of small letters"),
    "duplicate id": (directive("see", SEE) + "\n" + directive("see", SEE), 6, "`one` is there"),
    "duplicate step": ("## A\n\nx\n\n## A\n", 5, "`a` is there already"),
    "unknown term": ("Some\n{term}`blorp`.\n", 2, "`blorp` is not in the glossary"),
    "unknown term in a directive": (
        directive("hint", "{term}`blorp`\n"),
        2,
        "`blorp` is not in the glossary",
    ),
    "raw HTML": ("A <b>bold</b> word.\n", 1, "raw HTML"),
    "raw HTML block": ("<script>\n</script>\n", 1, "raw HTML"),
    "raw HTML in a directive": (directive("hint", "a <i>b</i>\n"), 1, "raw HTML"),
    "top heading": ("# Title\n", 1, "a heading of level 1"),
    "heading out of order": ("## A\n\n#### B\n", 3, "a heading of level 4"),
    "no comparison": (directive("see", SEE.replace("'> 1'", "about 1")), 3, "begins with none"),
    "nothing compared": (directive("see", SEE.replace("'> 1'", "'>'")), 3, "needs a value"),
    "not a number": (directive("see", SEE.replace("'> 1'", "'> Paris'")), 3, "needs a number"),
    "no bounds": (directive("see", SEE.replace("'> 1'", "in 3")), 3, "needs two numbers"),
    "unknown kind": (directive("check", "kind: essay\n"), 2, "`kind` must be one of"),
    "no tolerance": (directive("check", NUMBER), 1, "`tolerance`"),
    "negative tolerance": (directive("check", NUMBER + "tolerance: -1\n"), 7, "not be negative"),
    "no worked answer": (
        directive("check", NUMBER.replace("fails: 9\n", "tolerance: 1\n")),
        1,
        "the field `fails` is missing",
    ),
    "worked answer none of the options": (
        directive("check", CHOICE + "passes: c\nfails: a\n"),
        6,
        "none of the options",
    ),
    "one option": (
        directive("check", CHOICE.replace(", b: {text: bb}", "")),
        4,
        "at least two",
    ),
    "number without scale": (
        directive("predict", "question: q\nkind: number\ntruth: {measure: demo_n_tokens}\n"),
        1,
        "the field `scale` is missing",
    ),
}


@pytest.mark.parametrize("reason", MALFORMED)
def test_a_malformed_lesson_says_file_line_and_reason(reason, registered):
    """Forbids a lesson that silently lacks a piece, and an error that does not say where."""
    text, line, words = MALFORMED[reason]
    with pytest.raises(LessonError) as caught:
        parse_lesson(FRONT + text, "lessons/bad.md", registered)
    assert str(caught.value).startswith(f"lessons/bad.md:{AT + line}: ")
    assert words in str(caught.value)


FRONTS = {
    "none": ("# Just text\n", "front matter"),
    "bad YAML": (FRONT.replace("title: T", "title: ["), "bad YAML"),
    "missing": (FRONT.replace("minutes: 5\n", ""), "`minutes` is missing"),
    "unknown": (FRONT.replace("title: T", "title: T\nmood: good"), "no field `mood`"),
    "kind": (FRONT.replace("minutes: 5", "minutes: five"), "`minutes` must be int"),
    "range": (FRONT.replace("difficulty: 1", "difficulty: 6"), "1 to 5"),
}


@pytest.mark.parametrize("reason", FRONTS)
def test_malformed_front_matter_says_what_is_wrong(reason):
    """Forbids a lesson without title, cost or sources on the page."""
    text, words = FRONTS[reason]
    with pytest.raises(LessonError, match=r"bad\.md:[0-9]+: ") as caught:
        parse_lesson(text, "bad.md")
    assert words in str(caught.value)


def test_a_lesson_is_read_in_order(demo):
    """Forbids pieces that are lost, merged or moved."""
    kinds = [[type(block) for block in step.blocks] for step in demo.steps]
    assert kinds == [
        [Text, Try, Predict, Predict, Predict, See, Text, See],
        [Check, Check, Check, Check],
        [Mislead, Hint],
    ]
    assert [step.id for step in demo.steps] == [
        "look-and-guess",
        "show-what-you-found",
        "how-this-could-mislead-you",
    ]
    assert isinstance(demo.intro[0], Text)


def test_yes_and_no_are_words_in_a_lesson():
    """Forbids YAML's reading of `yes:` and `no` as truth values."""
    text = FRONT.replace("prompt: x", "prompt: no")
    lesson = parse_lesson(text + directive("see", SEE + "yes: it is\nno: it is not\n"), "good.md")
    [see] = lesson.intro
    assert (see.yes, see.no) == ("it is", "it is not")
    assert lesson.settings["prompt"] == "no"


def test_terms_survive_their_other_forms():
    """Forbids a term whose inflected form is looked up instead of its entry."""
    parse_lesson(FRONT + "{term}`Blocks<block>` and {term}`Logit lens`.\n", "good.md")


def test_every_definition_is_plain_text():
    """Forbids Markdown or HTML in what is shown and read out as it stands."""
    for term, definition in terms().items():
        assert term == term.lower()
        assert definition.endswith(".")
        assert not set("<>`*_[]$") & set(definition)


@pytest.mark.parametrize("name", lesson_names())
def test_every_lesson_is_well_formed(name, registered):
    """Forbids a lesson that breaks the page."""
    lesson = load_lesson(name, measures=registered)
    assert set(lesson.before) <= set(lesson_names())
    assert lesson.sources


def test_a_lesson_is_read_once_and_again_when_it_changes(tmp_path):
    """Forbids a parse on every run of a page, and an author who does not see what they wrote."""
    file = tmp_path / "mine.md"
    file.write_text(FRONT + "First.\n")
    first = load_lesson("mine", tmp_path)
    assert load_lesson("mine", tmp_path) is first
    file.write_text(FRONT + "Second.\n")
    assert load_lesson("mine", tmp_path).intro != first.intro


def test_the_format_says_what_there_is():
    """Forbids a directive that no author can find."""
    from app.lesson.directives import NAMES

    readme = (Path(__file__).resolve().parents[3] / "content/lessons/README.md").read_text("utf-8")
    for name in NAMES:
        assert f"{{{name}}}" in readme
