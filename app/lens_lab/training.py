"""*Train a lens now*: a small tuned lens for the visitor's model, trained while they watch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go
import streamlit as st

from app.jobs import Job
from app.lens_lab.lenses import TRAINED_HERE, keep_trained, trained_lens
from app.theme import is_dark
from app.watched_job import Watched
from lens_core.lens import TunedLens
from lens_core.plots import palette, template

if TYPE_CHECKING:
    from lens_core import HookedModel
    from lens_core.lens.training import TunedTraining

_N_CTX, _TEXT_TOKENS = 64, 16_000


def train_section(model: HookedModel) -> None:
    """The expander: what it does, the start button, the falling line, the finished lens."""
    with st.expander("Train a lens now"):
        st.markdown(
            "A tuned lens learns, for each block, one affine step that carries the state to where "
            "the model's head can read it. It starts as the logit lens and is trained until its "
            "guesses differ as little as possible from the model's own output (KL), on text that "
            "the lab generates. The model itself does not change."
        )
        _live(model).draw()


def _live(model: HookedModel) -> Watched[TunedTraining]:
    return Watched(
        "lens_training",
        "step",
        offer=lambda: _offer(model),
        finish=lambda job: _finish(model, job),
        meanwhile=lambda job: _line(job.figures),
    )


def _offer(model: HookedModel) -> None:
    left, middle, right = st.columns(3, vertical_alignment="bottom")
    steps = left.number_input(
        "Steps", 10, 300, 60, 10, key="train_steps",
        help="More steps, less KL. The shipped model takes minutes at most.",
    )  # fmt: skip
    bias_only = middle.checkbox(
        "Bias only",
        key="train_bias_only",
        help="The learned step only adds a vector: a control that shows what the matrix is for.",
    )
    if right.button("Train", key="train_start", icon=":material/play_arrow:"):
        _live(model).start(lambda job: _train(model, int(steps), bias_only, job))
        st.rerun(scope="fragment")
    lens = trained_lens(model)
    if lens is not None:
        st.success(f"Choose *{TRAINED_HERE}* as the lens above to read with the lens you trained.")
        _download(lens)


def _finish(model: HookedModel, job: Job[TunedTraining]) -> None:
    assert job.result is not None
    keep_trained(model, job.result.lens)
    measured = job.result.held_out_kl
    before, after = measured[min(measured)], measured[max(measured)]
    st.markdown(
        f"On text that it was not trained on, the mean KL to the output fell from "
        f"**{sum(before) / len(before):.2f}** to **{sum(after) / len(after):.2f}** nats."
    )
    _line(job.figures)


def _line(figures: list[float]) -> None:
    if not figures:
        return
    colors = palette(dark=is_dark())
    fig = go.Figure(go.Scatter(y=figures, mode="lines", line={"color": colors.accent, "width": 2}))
    fig.update_layout(
        template=template(dark=is_dark()), height=220, title="Mean KL to the output, by step"
    )
    fig.update_yaxes(title="nats", rangemode="tozero")
    fig.update_xaxes(title="step")
    st.plotly_chart(
        fig,
        theme=None,
        key="train_line",
        config={"displayModeBar": False},
        alt=f"A line that fell from {figures[0]:.2f} to {figures[-1]:.2f} nats",
    )


def _train(
    model: HookedModel, steps: int, bias_only: bool, job: Job[TunedTraining]
) -> TunedTraining:
    from lens_core.lens.corpus import read_corpus
    from lens_core.lens.training import TunedRecipe, train_tuned

    rows = read_corpus("world", model, n_ctx=_N_CTX, max_tokens=_TEXT_TOKENS)
    recipe = TunedRecipe(
        steps=steps, tokens_per_step=1024, held_out_tokens=1024, bias_only=bias_only
    )
    return train_tuned(
        model,
        rows,
        recipe,
        on_step=lambda done, total, losses: job.step(done, total, sum(losses) / len(losses)),
    )


def _download(lens: TunedLens) -> None:
    from lens_core.lens.formats import save_lens

    def content() -> bytes:
        import tempfile
        from pathlib import Path

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "lens.safetensors"
            save_lens(lens, file)
            return file.read_bytes()

    st.download_button(
        "Download it (safetensors)",
        content,
        file_name="lens.safetensors",
        on_click="ignore",
        icon=":material/download:",
    )
