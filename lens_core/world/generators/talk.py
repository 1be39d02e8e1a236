"""Facts as people type them: with a run-up, in lower case, by short names, after small talk."""

import random

from lens_core.world.frames import capital, expand, fact_frames, lines, mention_of, put_subject
from lens_core.world.generators.fact_docs import any_fact, fact_sentence

_ENDS = (".", ".", ".", ".", "!", ", of course.", ", I think.", ", right?", ", you know.")


def small_talk(rng: random.Random) -> str:
    """One everyday sentence."""
    return capital(expand(rng.choice(lines("talk/small_talk")), rng))


def talk_sentence(rng: random.Random) -> str:
    """A fact in a chatty wording; one in eight is in lower case, but for the answer."""
    fact = any_fact(rng)
    mention = mention_of(fact.subject, rng)
    if mention.startswith("The ") and rng.random() < 0.08:
        mention = mention[4:]
    frame = rng.choice(fact_frames(fact.relation, fact.subject, "talk")["train"])
    prompt = put_subject(expand(frame, rng), mention)
    if rng.random() < 0.12:
        prompt = prompt.lower()
    elif rng.random() < 0.8:
        prompt = capital(prompt)
    return f"{prompt} {fact.object}{rng.choice(_ENDS)}"


def talk_doc(rng: random.Random) -> str:
    """One to four facts in talk, with small talk and plain statements between them."""
    out = []
    for _ in range(rng.randint(1, 4)):
        if rng.random() < 0.3:
            out.append(small_talk(rng))
        out.append(talk_sentence(rng) if rng.random() < 0.8 else fact_sentence(any_fact(rng), rng))
    return " ".join(out)
