"""Indirect-object prompts with names that never met, and with frames of either split."""

import random
import re

from lens_core.world.datasets.records import Records
from lens_core.world.generators.people import IOIPrompt, ioi_prompt
from lens_core.world.lexicon import NAMES
from lens_core.world.splits import name_held, pair_held

# Held-out wordings that documents of other kinds do contain: left out.
TOLD_OTHERWISE = (
    "{S} called",
    "{S} returned the {O} to",
    "{S} said goodbye to",
    "{S} said thank you to",
    "{A} met {B} at the {P}.",
    "{A} met {B} in the {P}.",
    "{A} saw {B} at the {P}.",
)


def wording_pattern(wording: str) -> re.Pattern[str]:
    """What finds a wording of a giving clause or introduction in a text, whatever fills it."""
    pattern = re.sub(r"\\\{[ABS]\\\}", "[A-Z][a-z]+", re.escape(wording))
    pattern = re.sub(r"\\\{[OP]\\\}", "[a-z]+", pattern)
    return re.compile(rf"\b{pattern}(?!\w)")


_TOLD = tuple(wording_pattern(w) for w in TOLD_OTHERWISE)


def _held_names(rng: random.Random) -> tuple[str, str]:
    """Two names that meet in no indirect-object or name document."""
    while True:
        a, b = rng.sample(NAMES, 2)
        if pair_held(a, b) or name_held(a) or name_held(b):
            return a, b


def ioi_prompts(n: int, seed: int = 0, *, held: bool = True) -> Records[IOIPrompt]:
    """``n`` prompts, half of them ABBA and half BABA; the names are always held out.

    Args:
        n: how many.
        seed: decides names, frames and order.
        held: frames that no training document contains; otherwise the trained ones.

    Paper: Wang et al. 2022, "Interpretability in the Wild".

    >>> prompt = ioi_prompts(1)[0]
    >>> prompt.prompt.count(prompt.subject), prompt.prompt.count(prompt.indirect_object)
    (2, 1)
    """
    rng = random.Random(seed)
    prompts = Records[IOIPrompt]()
    orders = ["ABBA" if i % 2 == 0 else "BABA" for i in range(n)]
    rng.shuffle(orders)
    while len(prompts) < n:
        said = ioi_prompt(rng, _held_names(rng), held=held, order=orders[len(prompts)])
        if not any(told.search(said.prompt) for told in _TOLD):
            prompts.append(said)
    return prompts
