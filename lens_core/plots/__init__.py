"""Plotly figures of the results of ``lens_core``, in one look for light and dark pages."""

from lens_core.plots.attribution import (
    accumulated_lines,
    component_bars,
    effect_bars,
    head_heatmap,
    neuron_bars,
    source_bars,
    waterfall,
)
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
from lens_core.plots.wires import wire_graph, wire_label

__all__ = [
    "DARK",
    "FINAL_ANSWER",
    "LIGHT",
    "QUANTITIES",
    "Aim",
    "Palette",
    "Quantity",
    "accumulated_lines",
    "component_bars",
    "difference_shade",
    "effect_bars",
    "head_heatmap",
    "lens_heatmap",
    "neuron_bars",
    "palette",
    "plotly_text",
    "source_bars",
    "template",
    "top_k_bars",
    "trajectories",
    "visible",
    "waterfall",
    "wire_graph",
    "wire_label",
]
