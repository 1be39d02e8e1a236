"""Held-out material stays out: whatever leaks makes every figure of the model card too good."""

import random
import re
from collections.abc import Iterable

import pytest

from lens_core.world.datasets.facts import cloze_frames
from lens_core.world.datasets.ioi import TOLD_OTHERWISE, wording_pattern
from lens_core.world.facts import DATA, FACTS
from lens_core.world.frames import expansions, lines, put_subject
from lens_core.world.generators import giving, people
from lens_core.world.generators.fact_docs import fact_sentence
from lens_core.world.generators.grammar import INTERVAL_FRAMES_UNSEEN
from lens_core.world.generators.people import (
    PRONOUN_FRAMES,
    SENTIMENT_FRAMES,
    draw_names,
    ioi_frames,
)
from lens_core.world.lexicon import NAMES, NOUNS, PREPOSITIONS, REVIEWED
from lens_core.world.splits import (
    frame_unseen,
    name_held,
    nouns_held,
    pair_held,
    pronoun_held,
    sentiment_held,
    year_held,
)

FRAME_FILES = [
    f"{folder.name}/{path.stem}"
    # Parts of composed sentences are no frames: all of them are in training.
    for folder in sorted(p for p in DATA.iterdir() if p.is_dir() and p.name != "compose")
    for path in sorted(folder.glob("*.txt"))
    if path.stem != "small_talk"  # everyday sentences ask for nothing and have no splits
]
LONG_ENOUGH = 15  # characters that two frames do not share by chance


def pieces(frames: Iterable[str]) -> set[str]:
    """The stretches between the slots of every wording, without the first letter, in lower case."""
    parts = (p for f in frames for w in expansions(f) for p in re.split(r"\{\w+\}", w))
    return {p.strip()[1:].lower() for p in parts if len(p.strip()) > LONG_ENOUGH}


def telling(held: list[str], trained: list[str]) -> list[str]:
    """Stretches of held-out frames that no trained frame holds."""
    everything = "\n".join(w for f in trained for w in expansions(f)).lower()
    return [p for p in sorted(pieces(held)) if p not in everything]


def names_in(text: str) -> set[str]:
    return set(re.findall(r"[A-Z][a-z]+", text)) & set(NAMES)


def test_an_unseen_frame_is_in_no_document(mixed_documents):
    """Forbids "wordings in no document" that a generator does write."""
    frames = [line for name in FRAME_FILES for line in lines(name)]
    composed = [f"compose/{path.stem}" for path in (DATA / "compose").glob("*.txt")]
    parts = [line.replace("{his}", "his") for name in composed for line in lines(name)]
    marks = telling(
        [f for f in frames if frame_unseen(f)], [f for f in frames if not frame_unseen(f)] + parts
    )
    assert len(marks) > 200
    text = "\n".join(mixed_documents).lower()
    assert [m for m in marks if m in text] == []


def test_trained_frames_are_in_the_documents(mixed_documents):
    """The control of the test above: forbids marks that would miss what is there."""
    frames = [line for name in FRAME_FILES for line in lines(name) if not frame_unseen(line)]
    text = "\n".join(mixed_documents).lower()
    some = random.Random(0).sample(sorted(pieces(frames)), 500)
    assert sum(p in text for p in some) > 100


def test_no_wording_belongs_to_an_unseen_and_a_trained_frame():
    """Forbids a line whose twin in the same file is trained on."""
    for name in FRAME_FILES:
        seen = {w for f in lines(name) if not frame_unseen(f) for w in expansions(f)}
        unseen = {w for f in lines(name) if frame_unseen(f) for w in expansions(f)}
        assert not seen & unseen, name


@pytest.mark.parametrize("index", range(0, len(FACTS), 200))
def test_a_held_wording_is_never_used_for_its_fact(index):
    """Forbids that a fact is told in the wordings in which it will be asked."""
    fact, rng = FACTS[index], random.Random(index)
    told = "\n".join(fact_sentence(fact, rng, mention=fact.subject) for _ in range(400)).lower()
    frames = [f for s in ("held", "unseen") for f in cloze_frames(fact.relation, fact.subject, s)]
    asked = [f"{put_subject(w, fact.subject)} {fact.object}" for f in frames for w in expansions(f)]
    assert len(asked) > 20
    assert [sentence for sentence in asked if sentence.lower() in told] == []


def test_held_names_are_in_no_giving_and_no_name_document(documents):
    """Forbids a "held-out name" that the model has seen give and take."""
    text = "\n".join(documents("ioi") + documents("wide ioi") + documents("names"))
    assert len(names_in(text)) > 100
    assert [n for n in names_in(text) if name_held(n)] == []


def test_held_pairs_never_meet(documents, monkeypatch):
    """Forbids a held-out pair of names in one name document or one giving item."""
    for text in documents("names"):
        names = sorted(names_in(text))
        assert not any(pair_held(a, b) for a in names for b in names if a < b), text
    rng = random.Random(0)
    for _ in range(1000):
        a, b, c = draw_names(rng, 3)
        assert not any(pair_held(*pair) for pair in ((a, b), (a, c), (b, c)))
    for module in (people, giving):
        monkeypatch.setattr(module, "draw_names", lambda rng, k: ["Mary", "John", "Anna"][:k])
    for _ in range(300):
        assert names_in(people.wide_ioi_doc(rng)) <= {"Mary", "John", "Anna"}
        assert {"Mary", "John"} <= names_in(giving.giving_sentence(rng))


def test_held_giving_frames_are_in_no_document(mixed_documents):
    """Forbids held-out introductions and giving clauses that are trained on."""
    text = "\n".join(mixed_documents[::2])
    held = [f for part in ("intro", "give") for f in ioi_frames(part, held=True)]
    wordings = [w for f in held for w in expansions(f)]
    assert len(wordings) > 60
    told = {w for w in wordings if wording_pattern(w).search(text)}
    assert told <= set(TOLD_OTHERWISE)


def test_trained_giving_frames_are_in_the_documents(mixed_documents):
    """The control of the test above: forbids patterns that would miss what is there."""
    text = "\n".join(mixed_documents[::2])
    trained = [f for part in ("intro", "give") for f in ioi_frames(part, held=False)]
    some = random.Random(0).sample(trained, 60)
    assert sum(any(wording_pattern(w).search(text) for w in expansions(f)) for f in some) > 30


def test_held_nouns_are_in_no_agreement_sentence(documents):
    """Forbids a head and a distractor that the model has seen together in this order."""
    base = {form: nouns[0] for nouns in NOUNS for form in nouns}
    near = "|".join(PREPOSITIONS)
    phrase = re.compile(
        rf"The (\w+) (?:(?:{near}) the (\w+)|that the (\w+) \w+|that \w+ the (\w+)) "
    )
    met = [
        (base[m[1]], base[m[2] or m[3] or m[4]])
        for text in documents("agreement")
        for m in phrase.finditer(text)
    ]
    assert len(met) > 1000
    assert [pair for pair in met if nouns_held(*pair)] == []


def test_held_years_start_no_interval(documents):
    """Forbids a start year that training has; and an interval that ends before it starts."""
    text = " ".join(documents("intervals"))
    years = re.findall(r"\b(\d\d)(\d\d)\b", text)
    assert len(years) > 1000
    for (century, start), (end_century, end) in zip(years[::2], years[1::2], strict=True):
        assert not year_held(int(century), int(start))
        assert century == end_century
        assert start < end
    for frame in INTERVAL_FRAMES_UNSEEN:
        assert not _pattern(frame, {"c": r"\d\d", "y": r"\d\d", "z": r"\d\d"}).search(text)


def _pattern(frame: str, groups: dict[str, str]) -> re.Pattern[str]:
    """The frame as a regular expression; a slot is a group, and the same word each time."""
    out, seen = "", set()
    for part in re.split(r"(\{\w+\})", frame.replace("| ", "")):
        slot = part[1:-1]
        if not part.startswith("{"):
            out += re.escape(part)
        elif slot in seen:
            out += f"(?P={slot})"
        else:
            out += f"(?P<{slot}>{groups.get(slot, '[^.!]+?')})"
            seen.add(slot)
    return re.compile(out)


def test_held_names_are_not_in_their_pronoun_frame(documents):
    """Forbids a name in the very frame in which its pronoun will be asked."""
    text = " ".join(documents("pronouns"))
    met = [
        (m["n"], frame)
        for frame in PRONOUN_FRAMES
        for m in _pattern(frame, {"n": "[A-Z][a-z]+"}).finditer(text)
    ]
    assert len(met) > 1000
    assert [pair for pair in met if pronoun_held(*pair)] == []


def test_held_adjectives_lead_no_review_of_their_thing(documents):
    """Forbids a review that training has word for word."""
    text = " ".join(documents("sentiment"))
    groups = {"a": "[a-z]+", "t": "|".join(REVIEWED), "n": "[A-Z][a-z]+"}
    met = [
        (m["a"], m["t"])
        for frame, _ in SENTIMENT_FRAMES
        for m in _pattern(frame, groups).finditer(text)
    ]
    assert len(met) > 800
    assert [pair for pair in met if sentiment_held(*pair)] == []


def test_the_splits_are_as_large_as_they_say():
    """Forbids a hash that holds out everything or nothing."""
    frames = [line for name in FRAME_FILES for line in lines(name)]
    assert sum(map(frame_unseen, frames)) / len(frames) == pytest.approx(1 / 12, abs=0.02)
    assert 5 <= sum(map(name_held, NAMES)) <= 20
    pairs = [(a, b) for a in NAMES for b in NAMES if a < b]
    assert sum(pair_held(*p) for p in pairs) / len(pairs) == pytest.approx(1 / 5, abs=0.02)
