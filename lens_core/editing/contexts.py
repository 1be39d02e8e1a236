"""Texts that stand before a prompt, so that an edit holds wherever its prompt is asked.

A key depends on what precedes the subject. ROME averages keys, and trains the value, over prefixes
(Meng et al. 2022, 3.1); the published code samples them from the model. Those of the model's own
corpus, about other things, need no sampling and are the same every time.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch

from lens_core.editing.errors import EditingError
from lens_core.editing.world import PROSE, is_world_model, world_texts

if TYPE_CHECKING:
    from lens_core import HookedModel

# How many prefixes are kept for one that is wanted: those that name the subject are passed over.
_SPARE = 3
_WORDS = (3, 9)  # of a prefix
_BEGINNINGS = ("The", "Therefore", "Because", "I", "You", "It", "When", "In", "At", "Then")
_GENERATED_TOKENS = (4, 9)
_SENTENCE = re.compile(r"[^.?!\n]+[.?!]")
_GENERATED: WeakKeyDictionary[HookedModel, dict[tuple[int, int], Contexts]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Contexts:
    """Prefixes, each a text that ends with a space; the empty one is not among them.

    Attributes:
        source: where they are from: "world", "generated" or "given".
    """

    prefixes: tuple[str, ...]
    source: str

    @classmethod
    def of_texts(
        cls, texts: Iterable[str], n: int, *, seed: int = 0, source: str = "given"
    ) -> Contexts:
        """Short sentences out of texts, in an order that the seed decides.

        Args:
            n: how many are wanted at a time; more are kept, see `take`.

        Raises:
            EditingError: the texts have no short sentence.
        """
        rng = random.Random(f"contexts {seed}")
        found: dict[str, None] = {}
        for text in texts:
            sentences = [" ".join(s.split()) for s in _SENTENCE.findall(text)]
            short = [s for s in sentences if _WORDS[0] <= len(s.split()) <= _WORDS[1]]
            if short:
                found.setdefault(rng.choice(short) + " ")
            if len(found) == n * _SPARE:
                break
        if n > 1 and not found:
            raise EditingError(
                f"No text has a sentence of {_WORDS[0]} to {_WORDS[1]} words to put before a "
                "prompt; give more texts."
            )
        return cls(tuple(found), source)

    @classmethod
    def of_world(cls, n: int, *, seed: int = 0) -> Contexts:
        """Sentences of the world that tiny-world was trained on."""
        return cls.of_texts(world_texts(f"contexts {seed}", PROSE), n, seed=seed, source="world")

    @classmethod
    def generated(cls, model: HookedModel, n: int, *, seed: int = 0) -> Contexts:
        """What the model writes after common words, as the published code makes them."""
        kept = _GENERATED.setdefault(model.base, {})
        if (n, seed) not in kept:
            kept[n, seed] = cls(tuple(dict.fromkeys(_generate(model.base, n, seed))), "generated")
        return kept[n, seed]

    def take(self, n: int, avoiding: Iterable[str] = ()) -> tuple[str, ...]:
        """At most ``n`` prefixes, the empty one first, none of which holds one of some words."""
        words = [w.strip().lower() for w in avoiding if w.strip()]
        fitting = [p for p in self.prefixes if not any(w in p.lower() for w in words)]
        return ("", *fitting[: n - 1])


def default_contexts(model: HookedModel, n: int, seed: int = 0) -> Contexts:
    """The prefixes that an edit takes if it is given none."""
    if n == 1:
        return Contexts((), "given")
    if is_world_model(model):
        return Contexts.of_world(n, seed=seed)
    return Contexts.generated(model, n, seed=seed)


def _generate(model: HookedModel, n: int, seed: int) -> Iterator[str]:
    rows = [model.to_tokens(_BEGINNINGS[i // 2 % len(_BEGINNINGS)])[0] for i in range(n * _SPARE)]
    for length, half in zip(_GENERATED_TOKENS, (rows[::2], rows[1::2]), strict=True):
        # Rows of one length need no padding, which some families read differently.
        for width in sorted({len(row) for row in half}):
            same = torch.stack([row for row in half if len(row) == width])
            texts = model.generate(same, length, temperature=1.0, seed=seed, stop_at_eos=False)
            yield from (_as_prefix(model, row) for row in texts)


def _as_prefix(model: HookedModel, tokens: torch.Tensor) -> str:
    ids = [i for i in tokens.tolist() if i not in _special_ids(model)]
    return " ".join(model.to_string(ids).split()).rstrip(".") + ". "


def _special_ids(model: HookedModel) -> Sequence[int]:
    return getattr(model.tokenizer, "all_special_ids", ())
