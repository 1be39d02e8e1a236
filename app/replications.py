"""What the tuned-lens paper claims, what was measured here, and a small rerun while you watch."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from app.errors import plain, polite_errors
from app.jobs import Job
from app.models import chosen_model
from app.theme import is_dark
from app.watched_job import Watched
from lens_core.model.errors import LensError

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.lens.replications import Replication
    from lens_core.lens.replications.stored import StoredReplications

FILE = Path(__file__).resolve().parent.parent / "content" / "results" / "replications.json"
_CHOSEN = "replication"
_TEXT_TOKENS = 12_000
_TEXT_SEED = 909


def replications_section() -> None:
    """The section: the table of verdicts, one experiment in full, a rerun with progress."""
    with polite_errors():
        _section()


def _section() -> None:
    st.markdown(
        "The paper that introduced the tuned lens (Belrose et al. 2023) reports nine kinds of "
        "result that its published code no longer produces. Each is repeated here on a small "
        "model, with a control and a criterion that was fixed before looking. What does not hold "
        "at this size says so."
    )
    stored = _stored()
    if stored is None or not stored.replications:
        st.info(
            "The stored results are not here. Make them with `python -m scripts.replications` "
            "(some minutes), or run a small one below.",
            icon=":material/info:",
        )
    else:
        _results(stored)
    st.markdown("#### Run a small one yourself")
    try:
        model = chosen_model()
    except LensError:
        st.caption("It runs on the model of the sidebar, once one is there that loads.")
    else:
        _live(model).draw()


def _stored() -> StoredReplications | None:
    return _read(FILE.stat().st_mtime_ns) if FILE.is_file() else None


@lru_cache(maxsize=1)
def _read(version: int) -> StoredReplications:
    from lens_core.lens.replications.stored import load_results

    return load_results(FILE)


def _results(stored: StoredReplications) -> None:
    by_title = {r.claim.title: r for r in stored.replications}
    n_met = sum(r.replicates for r in stored.replications)
    st.markdown(
        f"**{n_met} of {len(by_title)}** hold on {plain(stored.model_name)} "
        f"({stored.model_sha256[:12]})."
    )
    st.dataframe(
        [
            {"claim": title, "here": "holds" if r.replicates else "does not hold at this size"}
            for title, r in by_title.items()
        ],
        hide_index=True,
    )
    title = st.selectbox(
        "Look at one",
        list(by_title),
        key=_CHOSEN,
        help="What was claimed, what was measured, and the control.",
    )
    _one(by_title[title], "stored")


def _one(replication: Replication, where: str) -> None:
    from lens_core.plots.replications import quantities, replication_figure

    claim = replication.claim
    badge = (
        ":green-badge[:material/check: holds here]"
        if replication.replicates
        else ":orange-badge[:material/info: does not hold at this size]"
    )
    st.markdown(f"{badge} {plain(replication.verdict)}")
    for n, quantity in enumerate(quantities(replication)):
        st.plotly_chart(
            replication_figure(replication, quantity, dark=is_dark()),
            theme=None,
            key=f"replication_{where}_{n}",
            config={"displayModeBar": False},
            alt=f"{quantity} with intervals: {replication.verdict}",
        )
    st.caption("Whiskers are 95% intervals; whole documents were drawn again, not tokens.")
    parts = {
        "Claimed": claim.claim,
        "By": claim.source,
        "Measured": claim.formula,
        "Control": claim.control,
        "Holds if": claim.criterion,
        "It does not show": claim.does_not_show,
        "With": ", ".join(f"{key} {value}" for key, value in replication.settings.items()),
    }
    st.markdown("\n".join(f"- *{name}*: {plain(text)}" for name, text in parts.items()))
    st.download_button(
        "Table (CSV)",
        lambda: replication.to_frame().to_csv(index=False),
        file_name=f"{claim.key}.csv",
        mime="text/csv",
        on_click="ignore",
        icon=":material/download:",
        key=f"replication_csv_{where}",
    )


def _offer(model: HookedModel) -> None:
    st.markdown(
        f"Does what the model settles late cost it more? Prediction depth against loss on fresh "
        f"text, for {plain(model.cfg.name)}: some seconds."
    )
    st.button(
        "Run it",
        key="replication_start",
        icon=":material/play_arrow:",
        on_click=lambda: _live(model).start(lambda job: _rerun(model, job)),
    )


def _live(model: HookedModel) -> Watched[Replication]:
    return Watched(
        "replication", "depth", lambda: _offer(model), lambda job: _one(_result(job), "live")
    )


def _result(job: Job[Replication]) -> Replication:
    assert job.result is not None
    return job.result


def _rerun(model: HookedModel, job: Job[Replication]) -> Replication:
    """Prediction depth with the shipped tuned lens, or the logit lens where there is none."""
    from lens_core.lens import LogitLens, Transport
    from lens_core.lens.corpus import read_corpus
    from lens_core.lens.formats import load_lens, shipped_lenses
    from lens_core.lens.replications import replicate_prediction_depth

    name = f"{model.cfg.name}/tuned"
    lens: Transport = load_lens(name, model) if name in shipped_lenses() else LogitLens()
    n_ctx = min(128, model.cfg.n_ctx or 128)
    rows = read_corpus(f"world:{_TEXT_SEED}", model, n_ctx=n_ctx, max_tokens=_TEXT_TOKENS)
    return replicate_prediction_depth(
        model,
        lens,
        rows,
        n_rows=32,
        n_positions=16,
        on_step=lambda done, total: job.step(done, total, 0.0),
    )
