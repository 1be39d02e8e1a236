"""The wires of one part: who can speak to it, and how much of a sender's effect goes through it.

    q, k, v = head_inputs(model, 1, 1)
    found = path_patching(model, pair, senders_before(model, k), [q, k, v])
    print(wire_effects(model, pair, "0.2", k))

Every way from a sender to the answer has a first reader: a head's query, key or value, an MLP, or
the logits themselves. So the total effect of a sender is its direct effect and the paths by way of
each first reader, added up; exactly where everything in between is linear, and elsewhere with a
rest that says how far it is from it. Paths and their effects: Goldowsky-Dill et al. 2023 (arXiv
2304.05969), Wang et al. 2023 (arXiv 2211.00593).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lens_core.patching.alignment import PromptPair
from lens_core.patching.errors import PatchingError
from lens_core.patching.metrics import Metric, logit_difference
from lens_core.patching.parts import read_receivers, read_senders
from lens_core.patching.paths import path_patching
from lens_core.patching.result import Direction
from lens_core.patching.sweeps import sweep

if TYPE_CHECKING:
    from lens_core import HookedModel


@dataclass(frozen=True)
class WireEffects:
    """One sender's effects, as shares of the way from the patched run to the other one.

    Attributes:
        total: the sender patched, everything after it free to react.
        direct: its path to the logits, all heads in between held still.
        via: its path to the receiver, which alone of all readers hears it; 0 where the receiver is
            the logits, whose path is the direct one.
    """

    sender: str
    receiver: str
    total: float
    direct: float
    via: float

    @property
    def rest(self) -> float:
        """What other first readers pass on, and what does not add up."""
        return self.total - self.direct - self.via


def head_inputs(model: HookedModel, layer: int, head: int) -> tuple[str, str, str]:
    """A head's query, key and value as receivers; of grouped queries the key-value head's.

    Raises:
        PatchingError: the model has no such head.

    Example:
        >>> from lens_core import HookedModel
        >>> head_inputs(HookedModel.from_pretrained("glass-induction"), 1, 1)
        ('1.1.q', '1.1.k', '1.1.v')
    """
    shared = model.cfg.n_heads // model.cfg.n_kv_heads
    read = head // shared
    names = f"{layer}.{head}.q", f"{layer}.{read}.k", f"{layer}.{read}.v"
    read_receivers(model, names)
    return names


def senders_before(model: HookedModel, receiver: str) -> tuple[str, ...]:
    """Every part that a receiver can hear: "embed", then by layer the heads and the MLP.

    Raises:
        PatchingError: the model has no such receiver.

    Example:
        >>> from lens_core import HookedModel
        >>> senders_before(HookedModel.from_pretrained("glass-induction"), "1.1.k")
        ('embed', '0.0', '0.1', '0.2', '0.3', 'mlp 0')
    """
    ((reads,),) = read_receivers(model, [receiver])
    cfg = model.cfg
    names = ["embed"]
    for layer in range(cfg.n_layers):
        if model.has_site("z", layer):
            names += [f"{layer}.{head}" for head in range(cfg.n_heads)]
        if model.has_site("mlp_out", layer):
            names.append(f"mlp {layer}")
    return tuple(n for n in names if read_senders(model, [n])[0][0].before(reads, model))


def wire_effects(
    model: HookedModel,
    pair: PromptPair,
    sender: str,
    receiver: str = "logits",
    *,
    positions: Sequence[int] | None = None,
    through_mlps: bool = True,
    direction: Direction = "noise",
    metric: Metric | str = logit_difference,
) -> WireEffects:
    """The total effect of a sender, and what of it goes directly and by way of one receiver.

    Args:
        sender, receiver, positions, through_mlps, direction, metric: as in `path_patching`. With an
            MLP as the receiver the other MLPs are held still whatever `through_mlps` says: the
            direct path would go through it otherwise, and count twice.

    Raises:
        PatchingError: no such path, or as `path_patching`.

    Example:
        >>> from lens_core import HookedModel
        >>> from lens_core.patching import prompt_pair
        >>> model = HookedModel.from_pretrained("glass-induction")
        >>> pair = prompt_pair(model, "fox owl bee fox", "cat owl bee fox", " owl", " bee")
        >>> found = wire_effects(model, pair, "0.2", "1.1.k")
        >>> round(found.total, 2), round(found.via, 2), abs(round(found.rest, 2))
        (1.0, 1.0, 0.0)
    """
    if sender not in senders_before(model, receiver):
        read_senders(model, [sender])  # which says so where there is no such part at all
        raise PatchingError(f"{sender} comes after {receiver}; choose a sender before it.")
    receivers = ["logits"] if receiver == "logits" else ["logits", receiver]
    moved = path_patching(
        model,
        pair,
        [sender],
        receivers,
        positions=positions,
        through_mlps=through_mlps and not receiver.startswith("mlp"),
        direction=direction,
        metric=metric,
    ).moved[0]
    return WireEffects(
        sender,
        receiver,
        total=_total(model, pair, sender, positions, direction, metric),
        direct=float(moved[0]),
        via=float(moved[1]) if len(moved) > 1 else 0.0,
    )


def _total(
    model: HookedModel,
    pair: PromptPair,
    sender: str,
    positions: Sequence[int] | None,
    direction: Direction,
    metric: Metric | str,
) -> float:
    ((sends,),) = read_senders(model, [sender])
    found = sweep(
        model,
        pair,
        sends.place[0],
        layers=[max(sends.layer, 0)],
        positions="all" if positions is None else [tuple(positions)],
        heads=None if sends.head is None else [sends.head],
        direction=direction,
        metric=metric,
    )
    share = float(found.normalised_mean.ravel()[0])
    return share if direction == "denoise" else 1 - share
