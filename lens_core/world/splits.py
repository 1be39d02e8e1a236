"""What the model never sees: every held-out split of the corpus, defined by hashes alone.

A generator asks these functions before it writes, an evaluation asks them before it measures, so
the two cannot drift apart. The hashes are of the text itself: adding a frame or a name moves no
other.
"""

import hashlib


def bucket(text: str) -> int:
    """A stable integer of a text (the same on every machine and Python version)."""
    return int(hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:8], 16)


def frame_unseen(frame: str) -> bool:
    """A wording that occurs in no training document at all (about one in twelve)."""
    return bucket("unseen|" + frame) % 12 == 0


def wording_held(relation: str, subject: str, frame: str) -> bool:
    """A wording that training used for others and never for this fact (about one in four)."""
    return bucket(f"{relation}|{subject}|{frame}") % 4 == 0


def pair_held(first: str, second: str) -> bool:
    """A pair of names that never meet in an indirect-object item or a name document (one in five).

    They may stand in two items of one document, and in stories, lists and copies.
    """
    return bucket("|".join(sorted((first, second)))) % 5 == 0


def name_held(name: str) -> bool:
    """A name in no indirect-object or name document (about one in twelve).

    Stories, reviews and pronouns do use it.
    """
    return bucket("name|" + name) % 12 == 0


def nouns_held(head: str, distractor: str) -> bool:
    """An ordered pair of nouns never used as subject and distractor of an agreement sentence."""
    return bucket(f"{head}~{distractor}") % 6 == 0


def year_held(century: int, year: int) -> bool:
    """A start year (century, two digits) that no interval document begins with."""
    return bucket(f"y{century}{year}") % 8 == 0


def pronoun_held(name: str, frame: str) -> bool:
    """A name never used in this pronoun frame (one in four)."""
    return bucket(f"pron|{name}|{frame}") % 4 == 0


def sentiment_held(adjective: str, thing: str) -> bool:
    """An adjective that never leads a review of this thing (one in five).

    It may be the second of two adjectives in a review of it: the corpus does not look there.
    """
    return bucket(f"sent|{adjective}|{thing}") % 5 == 0
