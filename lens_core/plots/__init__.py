"""Plotly figures of the results of ``lens_core``, in one look for light and dark pages."""

from lens_core.plots.lens import lens_heatmap, top_k_bars, trajectories
from lens_core.plots.palette import DARK, LIGHT, Palette, palette
from lens_core.plots.quantities import (
    FINAL_ANSWER,
    QUANTITIES,
    Aim,
    Quantity,
    difference_shade,
)
from lens_core.plots.template import template
from lens_core.plots.tokens import plotly_text, visible

__all__ = [
    "DARK",
    "FINAL_ANSWER",
    "LIGHT",
    "QUANTITIES",
    "Aim",
    "Palette",
    "Quantity",
    "difference_shade",
    "lens_heatmap",
    "palette",
    "plotly_text",
    "template",
    "top_k_bars",
    "trajectories",
    "visible",
]
