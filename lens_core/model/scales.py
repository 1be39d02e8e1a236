"""The exact values of factors that a probe run can only read approximately."""

from __future__ import annotations

from typing import Any

# The names under which configs keep the factors on what enters the residual stream.
SCALES: dict[str, tuple[str, ...]] = {
    "embed": ("embedding_multiplier", "scale_emb", "embedding_scale"),
    "block": ("residual_multiplier", "scale_depth"),
}


def named_scale(factor: float, config: Any, kind: str) -> float:
    """The config's own value near a factor that was read from data, else the factor itself."""
    if factor == 1.0:
        return factor
    text = config.get_text_config()
    for name in SCALES[kind]:
        value = getattr(text, name, None)
        if isinstance(value, int | float) and value:
            # MiniCPM spreads its factor over the depth.
            for exact in (float(value), float(value) / text.num_hidden_layers**0.5):
                if abs(factor / exact - 1) < 2e-2:
                    return exact
    return factor
