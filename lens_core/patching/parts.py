"""The parts of a model by name, as senders that write and receivers that read.

Names are those of `edge_graph`: "2.0" is head 0 of layer 2, "2.0.q" its query, "mlp 2", "embed",
"logits".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from lens_core.patching.cells import Place, Write
from lens_core.patching.errors import PatchingError

if TYPE_CHECKING:
    from lens_core import HookedModel

Part = TypeVar("Part")
_HEAD = re.compile(r"(\d+)\.(\d+)(?:\.([qkv]))?")
_MLP = re.compile(r"mlp (\d+)")


@dataclass(frozen=True)
class Sender:
    """A part that writes: a head's z, an MLP's output, or the stream in front of layer 0."""

    place: Place
    layer: int
    head: int | None = None

    def before(self, receiver: Receiver, model: HookedModel) -> bool:
        """Whether what it writes is there when the receiver reads."""
        if self.place[0] == "resid_pre" or receiver.place[0] == "resid_post":
            return True
        if self.layer != receiver.layer:
            return self.layer < receiver.layer
        sequential = not model.spec.layers[self.layer].parallel
        return self.place[0] == "z" and receiver.place[0] == "mlp_in" and sequential


@dataclass(frozen=True)
class Receiver:
    """A part that reads: a head's query, key or value, an MLP's input, or the stream at the end."""

    place: Place
    layer: int
    head: int | None = None

    @property
    def write(self) -> Write:
        """What is replaced in the run where only it reads something else."""
        heads = None if self.head is None else (self.head,)
        return Write(*self.place, heads=heads)


def read_senders(
    model: HookedModel, names: Sequence[str | tuple[str, ...]]
) -> list[tuple[Sender, ...]]:
    """Senders by name.

    Raises:
        PatchingError: there are none, or one that the model does not have.
    """
    found = [tuple(_sender(model, name) for name in _several(group)) for group in names]
    return _some(found, "sender")


def read_receivers(
    model: HookedModel, names: Sequence[str | tuple[str, ...]]
) -> list[tuple[Receiver, ...]]:
    """Receivers by name.

    Raises:
        PatchingError: there are none, one that the model does not have, or the logits together with
            others, which they follow from.
    """
    found = [tuple(_receiver(model, name) for name in _several(group)) for group in names]
    for group in found:
        if len(group) > 1 and any(r.place[0] == "resid_post" for r in group):
            raise PatchingError("The logits are a receiver of their own; list them apart.")
    return _some(found, "receiver")


def _several(group: str | tuple[str, ...]) -> tuple[str, ...]:
    return (group,) if isinstance(group, str) else group


def _some(found: list[tuple[Part, ...]], kind: str) -> list[tuple[Part, ...]]:
    if not found or not all(found):
        raise PatchingError(f"There is no {kind}; name at least one.")
    return found


def _sender(model: HookedModel, name: str) -> Sender:
    if name == "embed":
        return Sender(("resid_pre", 0), -1)
    head, mlp = _HEAD.fullmatch(name), _MLP.fullmatch(name)
    if head is not None and head[3] is None:
        layer, number = int(head[1]), int(head[2])
        if number < model.cfg.n_heads and _has(model, "z", layer):
            return Sender(("z", layer), layer, number)
    if mlp is not None and _has(model, "mlp_out", int(mlp[1])):
        return Sender(("mlp_out", int(mlp[1])), int(mlp[1]))
    raise PatchingError(
        f'{model.cfg.name} has no sender {name!r:.40}; they are named "1.0" (head 0 of layer 1), '
        '"mlp 1" or "embed".'
    )


def _receiver(model: HookedModel, name: str) -> Receiver:
    last = model.cfg.n_layers - 1
    if name == "logits":
        return Receiver(("resid_post", last), last + 1)
    head, mlp = _HEAD.fullmatch(name), _MLP.fullmatch(name)
    if head is not None and head[3] is not None:
        site, layer, number = head[3], int(head[1]), int(head[2])
        count = model.cfg.n_heads if site == "q" else model.cfg.n_kv_heads
        if number < count and _has(model, site, layer):
            return Receiver((site, layer), layer, number)
    if mlp is not None and _has(model, "mlp_in", int(mlp[1])):
        return Receiver(("mlp_in", int(mlp[1])), int(mlp[1]))
    raise PatchingError(
        f'{model.cfg.name} has no receiver {name!r:.40}; they are named "1.0.q" (the query of head '
        '0 of layer 1), "1.0.k", "1.0.v", "mlp 1" or "logits".'
    )


def _has(model: HookedModel, site: str, layer: int) -> bool:
    return layer < model.cfg.n_layers and model.has_site(site, layer)
