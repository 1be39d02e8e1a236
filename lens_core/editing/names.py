"""The keys at which facts are read: those of the last token of every name in the world.

Over all tokens of a corpus, one name in a thousand counts for next to nothing, and many edits
together then spoil the facts of names that nobody edited. Counted by themselves, each of them is
held still a little.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from jaxtyping import Float
from torch import Tensor

from lens_core.editing.covariance import KeyCovariance
from lens_core.editing.errors import EditingError
from lens_core.editing.keys import subject_states
from lens_core.editing.requests import EditRequest
from lens_core.editing.world import is_world_model
from lens_core.world.datasets.facts import cloze_frames
from lens_core.world.facts import facts_about, subjects
from lens_core.world.frames import word

if TYPE_CHECKING:
    from lens_core import HookedModel

_PER_NAME = 3
_KEPT: WeakKeyDictionary[HookedModel, dict[int, Tensor]] = WeakKeyDictionary()
# Of each model, C with names, kept as long as C is, so that it is factored once.
_Named = WeakKeyDictionary[KeyCovariance, dict[tuple[tuple[int, ...], float], KeyCovariance]]
_NAMED: WeakKeyDictionary[HookedModel, _Named] = WeakKeyDictionary()


def with_names(
    covariance: KeyCovariance, model: HookedModel, layers: list[int], weight: float
) -> KeyCovariance:
    """C plus ``weight`` times the second moment of names' keys; 0 leaves C as it is.

    Every name of the world counts alike, whether its facts are edited, asked or neither.

    Raises:
        EditingError: the model is not of the world, so that its names are not known.
    """
    if weight == 0:
        return covariance
    if not is_world_model(model):
        raise EditingError(
            f"Which names {model.cfg.name} knows is not known here: set names_weight to 0, or give "
            "a covariance of texts that hold them."
        )
    of_model = _NAMED.setdefault(model.base, WeakKeyDictionary())
    kept, key = of_model.setdefault(covariance, {}), (tuple(layers), weight)
    if key not in kept:
        names = _moments(model.base, layers)
        moments = {n: covariance.moments[n] + weight * names[n] for n in layers}
        kept[key] = replace(
            covariance, moments=moments, source=f"{covariance.source}, and names", _factors={}
        )
    return kept[key]


def _moments(model: HookedModel, layers: list[int]) -> dict[int, Float[Tensor, "d_mlp d_mlp"]]:
    kept = _KEPT.setdefault(model, {})
    missing = [layer for layer in layers if layer not in kept]
    if missing:
        located = [request.tokenize(model) for request in _mentions()]
        states = subject_states(model, located, [("mlp_post", n) for n in missing])
        for layer in missing:
            keys = states.bare("mlp_post", layer).double().cpu()
            kept[layer] = keys.T @ keys / len(keys)
    return kept


def _mentions() -> Iterator[EditRequest]:
    """Each name a few times, in wordings that training used."""
    rng = random.Random("names")
    for subject in subjects():
        facts = facts_about(subject)
        asked = [
            word(fact, frame, rng)
            for fact in facts
            for frame in cloze_frames(fact.relation, subject, "train")
        ]
        told = [said for said in asked if said.subject_chars is not None]
        for said in rng.sample(told, min(_PER_NAME, len(told))):
            assert said.subject_chars is not None
            start, end = said.subject_chars
            yield EditRequest(said.prompt, said.prompt[start:end], "-")
