"""How good the circuit is: faithfulness at once, then completeness and minimality."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.attention_cache import Answer
from app.attention_lab.measured import settled
from app.circuit_lab.checks import Checks, checks_job, keep, run_checks
from app.circuit_lab.prepared import Prepared
from app.errors import plain
from app.jobs import Job
from app.layer_map import written
from app.watched_job import Watched
from lens_core.bootstrap import Interval
from lens_core.circuits import Circuit, node_name
from lens_core.circuits.scores import Completeness, Faithfulness, Minimality

# Wang and others ask for at least this share of F(M).
LEAST_SHARE = 0.01
DEFINITIONS = {
    "Faithful": "F(C) is near F(M). F is the metric, averaged over the prompts, with everything "
    "outside the circuit C knocked out; M is the whole model.",
    "Complete": "for every set K of the circuit's nodes, F(C without K) is near F(M without K). "
    "Where the model does better, it has spare parts that the circuit lacks.",
    "Minimal": "for every node v there is a set K in whose absence v matters: F(C without K) and "
    "F(C without K and v) differ, by 1% of F(M) at least.",
}


def said(one: Interval, digits: int = 2) -> str:
    """A figure with its interval."""
    value, low, high = (written(float(x), digits) for x in (one.value, one.low, one.high))
    return f"{value} ({low} to {high})"


def percent(one: Interval) -> str:
    """A share with its interval."""
    value, low, high = (written(100 * float(x), 0) for x in (one.value, one.low, one.high))
    return f"{value}% ({low} to {high})"


def baseline(ready: Prepared) -> None:
    """What the whole model does on these prompts, and what is left without any head."""
    whole, n = ready.whole, len(ready.knockouts.dataset)
    text = plain(ready.knockouts.dataset.texts[0])
    st.caption(f"{n} prompts, the first: *{text}*. In brackets: 95% intervals over prompts.")
    st.markdown(
        f"F(M), the {ready.key.metric} of the **whole model**: **{said(whole.model)}**. The right "
        f"name is first of all names in {whole.first:.0%} of the prompts. With **no head** it is "
        f"{said(ready.empty.circuit)}."
    )
    if float(whole.model.low) <= 0:
        st.warning(
            "On these prompts the model itself is unsure: the interval of F(M) reaches 0, so a "
            "share of it says little.",
            icon=":material/info:",
        )


def draw(ready: Prepared, circuit: Circuit) -> None:
    """The three figures, each with its definition."""
    (score,) = ready.scores([circuit])
    _faithful(ready, score)
    if not circuit.nodes:
        return
    settled(
        checks_job(ready, circuit),
        "Leaving out each head in turn",
        lambda answer: _checked(ready, circuit, score, answer),
    )


def _faithful(ready: Prepared, score: Faithfulness) -> None:
    st.markdown(f"##### Faithfulness: {percent(score.ratio)}")
    st.markdown(
        f"{_nodes(score.size)}, F(C) = **{said(score.circuit)}** of F(M) = "
        f"{written(float(score.model.value))}. The right name is first of all names in "
        f"**{score.first:.0%}** of the prompts (the model: {ready.whole.first:.0%})."
    )
    st.caption(f"**Faithful**: {DEFINITIONS['Faithful']}")


def _nodes(n: int) -> str:
    return "1 node" if n == 1 else f"{n} nodes"


def _checked(
    ready: Prepared, circuit: Circuit, score: Faithfulness, answer: Answer[Checks]
) -> None:
    found = answer.result
    best = max(found.random, key=lambda one: float(one.ratio.value))
    st.caption(
        f"Control: of {len(found.random)} circuits of as many heads drawn at random, the best "
        f"reaches {percent(best.ratio)}."
    )
    _complete(found.complete)
    _minimal(found.minimal)
    if not found.thorough:
        st.caption(
            "Tried so far: one node at a time, and each role as a whole. A circuit is only as "
            "complete as the search for what it lacks was thorough."
        )
        _thorough(ready, circuit).draw()
    else:
        st.caption(
            "Tried: one node at a time, each role, ten sets drawn at random, and the set that "
            "greed finds. The worst gap is a lower bound: other sets may be worse."
        )


def _complete(found: Completeness) -> None:
    at = found.worst_place
    name, nodes = found.sets[at]
    st.markdown(f"##### Completeness: worst gap {written(found.worst)}")
    without = f"Without **{_set(name)}**{_listed(nodes)}" if nodes else "With nothing taken away"
    st.markdown(
        f"{without} the circuit has "
        f"{written(float(found.circuit[at]))} and the model {written(float(found.model[at]))}: a "
        f"difference of {said(found.difference.at(at))}."
    )
    with st.expander("Every set that was tried"):
        st.table(
            [
                {
                    "without": _set(name),
                    "circuit": written(float(found.circuit[i])),
                    "model": written(float(found.model[i])),
                    "difference": said(found.difference.at(i)),
                }
                for i, (name, _) in enumerate(found.sets)
            ],
            border="horizontal",
        )
    st.caption(f"**Complete**: {DEFINITIONS['Complete']}")


def _listed(nodes: Sequence[tuple[int, int | None]]) -> str:
    if not nodes or len(nodes) > 8:
        return ""
    return f" ({', '.join(map(node_name, nodes))})"


def _set(name: str) -> str:
    """A set's name in the library, as one would say it."""
    return plain(f"every {name[4:]}" if name.startswith("all ") else name)


def _minimal(found: Minimality) -> None:
    order = sorted(range(len(found.nodes)), key=lambda i: float(found.share[i]))
    idle = [node_name(found.nodes[i]) for i in order if found.share[i] < LEAST_SHARE]
    least = order[0]
    st.markdown(f"##### Minimality: {len(idle)} of {len(order)} nodes are worth less than 1%")
    text = (
        f"The least: **{node_name(found.nodes[least])}**, whose loss moves F(C) by "
        f"{said(_interval(found, least))}, {100 * float(found.share[least]):.1f}% of F(M)."
    )
    if len(idle) > 1:
        text += f" Below 1%: {', '.join(idle[:12])}{' ...' if len(idle) > 12 else ''}."
    st.markdown(text)
    with st.expander("What each node is worth"):
        st.table(
            [
                {
                    "node": node_name(found.nodes[i]),
                    "role": plain(found.roles[i]),
                    "missed when also without": _set(found.without[i]),
                    "change of F(C)": said(_interval(found, i)),
                    "of F(M)": f"{100 * float(found.share[i]):.1f}%",
                }
                for i in reversed(order)
            ],
            border="horizontal",
        )
    st.caption(f"**Minimal**: {DEFINITIONS['Minimal']}")


def _interval(found: Minimality, place: int) -> Interval:
    return found.interval.at(place)


def _thorough(ready: Prepared, circuit: Circuit) -> Watched[Answer[Checks]]:
    def finish(job: Job[Answer[Checks]]) -> None:
        keep(job)
        st.rerun(scope="app")

    return Watched(
        "circuit_thorough",
        "step",
        offer=lambda: _offer(ready, circuit),
        finish=finish,
    )


def _offer(ready: Prepared, circuit: Circuit) -> None:
    if st.button(
        "Search for what is missing and what is idle",
        key="circuit_thorough_start",
        icon=":material/search:",
        help="Random sets and a greedy one for completeness; roles and random sets in whose "
        "absence a spare part would show for minimality.",
    ):
        _thorough(ready, circuit).start(
            lambda job: Answer(run_checks(ready, circuit, job, thorough=True), 0.0)
        )
        st.rerun(scope="fragment")
