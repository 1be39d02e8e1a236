"""One reader and everybody it can hear: the map of its wires, their graph, and one wire closely."""

from __future__ import annotations

import numpy as np
import streamlit as st

from app.attention_cache import Answer
from app.attention_lab.measured import settled
from app.layer_map import LayerMap, layer_map, written
from app.lesson.state import want
from app.patching_lab import words
from app.patching_lab.asked import Scene
from app.patching_lab.selection import choice, take_sender
from app.patching_lab.settings import BETWEEN, HELD_STILL, LOGITS, MLP, ONE_POSITION, READS, WIRES
from app.patching_lab.wires import (
    Wires,
    effects_of,
    patched_wire,
    read_by,
    sender_of,
    stray_share,
    wires_job,
)
from app.theme import is_dark
from lens_core.patching import METRICS, PathResult, senders_before
from lens_core.plots import wire_graph, wire_label

KEY, _GRAPH = "patching_wires", "wire_graph"
_N_WIRES = 10


def controls(sites: list[str]) -> None:
    """Who reads, and what the MLPs on the way do."""
    left, right = st.columns([3, 2])
    with left:
        choice("Who reads", READS, "reads")
    if "mlp_out" in sites:
        with right:
            choice("MLPs on the way", BETWEEN, "between")


def _name(part: str) -> str:
    """A part as it stands in a sentence."""
    label = wire_label(part)
    return f"the {label}" if label in ("logits", "embeddings") else label


def senders(scene: Scene) -> list[str]:
    """Everybody whom the chosen reader can hear, as the control offers them."""
    return [wire_label(name) for name in senders_before(scene.model, read_by(scene))]


def draw(scene: Scene) -> None:
    """The map, the chosen wire, the graph, the control."""
    settled(wires_job(scene), "Patching every wire", lambda answer: _draw(scene, answer))


def _draw(scene: Scene, answer: Answer[Wires]) -> None:
    found, reader = answer.result.found, read_by(scene)
    st.markdown(words.question_line(scene, found))
    st.caption(_explained(scene, reader))
    sender = sender_of(scene, found)
    if len(found.senders) > 1:
        _map(scene, found, reader, sender)
    else:
        st.caption(f"Nothing but the embeddings comes before {_name(reader)}.")
    _wire(scene, found, sender, reader)
    _graph(scene, found, sender, reader)
    _control(scene, answer.result, sender, reader)
    n_wires = int(np.isfinite(found.values).sum())
    st.caption(f"{n_wires} wires in {answer.took_ms:.0f} ms.")


def _explained(scene: Scene, reader: str) -> str:
    run, other = ("corrupted", "clean") if scene.denoising else ("clean", "corrupted")
    where = ""
    if scene.settings.over == ONE_POSITION:
        where = f" at {words.token(scene.tokens[scene.at])} (position {scene.at})"
    held = "heads and MLPs" if scene.settings.between == HELD_STILL else "heads"
    alone = (
        "they hear it past all others" if reader == LOGITS else f"{_name(reader)} alone hears it"
    )
    return (
        f"Each cell is one sender. In the {run} run it says to {_name(reader)} what it says in "
        f"the {other} run{where}: {alone}, and all {held} in "
        f"between keep what they had. 0 is nothing, 1 all the way to the {other} run."
    )


def _map(scene: Scene, found: PathResult, reader: str, sender: str) -> None:
    cfg, column = scene.model.cfg, found.receivers.index(reader)
    layers = [n for n in range(cfg.n_layers) if any(_in_layer(s, n) for s in found.senders)]
    names = [[*(f"{n}.{head}" for head in range(cfg.n_heads)), f"mlp {n}"] for n in layers]
    places = {name: (r, c) for r, row in enumerate(names) for c, name in enumerate(row)}
    moved, raw = (np.full((len(layers), cfg.n_heads + 1), np.nan) for _ in range(2))
    for i, name in enumerate(found.senders):
        if name in places:
            moved[places[name]], raw[places[name]] = found.moved[i, column], found.mean[i, column]
    scaled = scene.settings.scale == "normalised"
    into = _name(reader)
    layer_map(
        LayerMap(
            title=f"Wires into {into}, {cfg.name}",
            label=f"Wires into {into}: senders, layers by heads and MLPs",
            values=moved if scaled else raw,
            effects=moved,
            rows=[f"L{n}" for n in layers],
            columns=[*(f"H{head}" for head in range(cfg.n_heads)), "MLP"],
            note=lambda r, c: (
                f"{wire_label(names[r][c])} to {into}: {written(float(moved[r, c]), 3)} of the "
                f"way; {found.metric} {raw[r, c]:.3f} {found.unit}"
            ),
            chosen=places.get(sender, (-1, -1)),
        ),
        key=KEY,
        on_choose=lambda r, c: take_sender(wire_label(names[r][c])),
    )
    if "embed" in found.senders:
        share = float(found.moved[found.senders.index("embed"), column])
        st.caption(f"The embeddings, which every block can read: {written(share)} of the way.")


def _in_layer(name: str, layer: int) -> bool:
    return name.startswith(f"{layer}.") or name == f"mlp {layer}"


def _wire(scene: Scene, found: PathResult, sender: str, reader: str) -> None:
    i, j = found.senders.index(sender), found.receivers.index(reader)
    name, into = _name(sender), _name(reader)
    st.markdown(f"##### The wire from {name} to {into}")
    patched = patched_wire(scene, sender)
    before = patched.corrupted if scene.denoising else patched.clean
    first, then = words.token(before.texts[0]), words.token(patched.patched.texts[0])
    said = (
        f"the model still says **{then}**"
        if first == then
        else f"the model now says **{then}** and not *{first}*"
    )
    metric = METRICS[scene.settings.metric].name
    st.markdown(
        f"With this wire alone patched, {said}. {metric[:1].upper() + metric[1:]}: "
        f"{written(float(found.mean[i, j]))}, {written(float(found.moved[i, j]))} of the way."
    )
    words.patch_table(patched)
    _effects(scene, sender, reader)
    _follow(sender)


def _effects(scene: Scene, sender: str, reader: str) -> None:
    found = effects_of(scene, sender)
    name, into = _name(sender), _name(reader)
    rows = [
        (f"total: {name} patched, and all that follows from it", found.total),
        ("direct: from there to the logits, past all heads", found.direct),
    ]
    if reader != LOGITS:
        rows.append((f"by way of {into}, as the first that reads it", found.via))
    rows.append(("the rest: other first readers, and what does not add up", found.rest))
    st.table(
        [{"effect": what, "share of the way": written(share)} for what, share in rows],
        border="horizontal",
    )


def _follow(sender: str) -> None:
    """From one wire to those of its sender: a circuit is walked backwards."""
    if sender == "embed":
        return
    if sender.startswith("mlp"):
        goal = {"reads": MLP, "layer": sender.split()[1]}
    else:
        layer, head = sender.split(".")
        goal = {"reads": "v", "layer": layer, "head": head}
    st.button(
        f"Who speaks to {wire_label(sender)}?",
        key="wires_follow",
        icon=":material/account_tree:",
        on_click=want,
        args=({**goal, "sender": None},),
        help="Its own wires: the same question, one step back.",
    )


def offer_wires(layer: int, head: int, part: str) -> None:
    """The button of other views that leads here."""
    reads = part if part in ("q", "k", "v") else "v"
    st.button(
        f"The wires of L{layer}H{head}",
        key="offer_wires",
        icon=":material/account_tree:",
        on_click=want,
        args=(
            {
                "view": WIRES,
                "reads": reads,
                "layer": str(layer),
                "head": str(head),
                "sender": None,
            },
        ),
        help="Which parts speak to this head, and through which of its inputs.",
    )


def _graph(scene: Scene, found: PathResult, sender: str, reader: str) -> None:
    cfg = scene.model.cfg
    several = len(found.receivers) > 1
    into = wire_label(reader).split()[-1] if several else _name(reader)
    title = f"Into {into}: Q, K or V?" if several else f"Into {into}"
    st.markdown(f"##### {title}")
    st.plotly_chart(
        wire_graph(
            found,
            n_layers=cfg.n_layers,
            n_heads=cfg.n_heads,
            n_wires=_N_WIRES,
            chosen=(sender, reader),
            title=f"The strongest wires into {into}",
            dark=is_dark(),
        ),
        theme=None,
        key=_GRAPH,
        config={"displayModeBar": False},
        alt=f"The strongest wires into {into}, drawn on the model; the table below has them all",
    )
    strongest = list(dict.fromkeys(s for s, _ in found.strongest(_N_WIRES)))
    st.table(
        [
            {"sender": wire_label(name)}
            | {
                _column(receiver): written(float(found.moved[found.senders.index(name), j]))
                for j, receiver in enumerate(found.receivers)
            }
            for name in strongest
        ],
        border="horizontal",
    )


def _column(receiver: str) -> str:
    label = wire_label(receiver)
    return label.split()[0] if label[1:4] == " of" else label


def _control(scene: Scene, wires: Wires, sender: str, reader: str) -> None:
    lines = []
    if wires.control is not None and np.isfinite(wires.control.moved).any():
        other = wires.control
        ((strongest, into),) = other.strongest(1)
        share = float(other.moved[other.senders.index(strongest), 0])
        lines.append(
            f"of the wires into {_name(into)}, a reader drawn at random, the strongest "
            f"({_name(strongest)}) carries {written(share)}"
        )
    if scene.settings.metric != "kl":  # which would be measured from the unrelated text
        stray = stray_share(scene, sender, wires.found)
        if np.isfinite(stray):
            lines.append(
                f"with what {_name(sender)} says in an unrelated text, the wire to "
                f"{_name(reader)} carries {written(stray)}"
            )
    if lines:
        st.caption(
            f"Control: {'; '.join(lines)}. As far as an unrelated text moves the answer too, it "
            "is damage and no message. Another seed draws another reader and another text."
        )
