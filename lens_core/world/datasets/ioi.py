"""Indirect-object prompts with names that never met, and with frames of either split."""

import random

from lens_core.world.datasets.records import Records
from lens_core.world.generators.people import IOIPrompt, ioi_prompt
from lens_core.world.lexicon import NAMES
from lens_core.world.splits import name_held, pair_held

# Held out as a giving clause, but giving documents may end in it: left out.
TOLD_OTHERWISE = "said thank you to"


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
        if not said.prompt.endswith(TOLD_OTHERWISE):
            prompts.append(said)
    return prompts
