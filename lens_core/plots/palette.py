"""The colours of Lens Lab, for a light page and a dark one.

The sequential ramp has one hue and even steps of perceived lightness (OKLab), from the page towards
its ink, so that it survives colour blindness and grey print. The app's theme in
``.streamlit/config.toml`` repeats these values; a test holds the two together.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Palette:
    """Colours as ``#rrggbb``; ramps go from low to high, the diverging one through its middle."""

    background: str
    panel: str
    ink: str
    muted: str
    line: str
    accent: str
    sequential: tuple[str, ...]
    diverging: tuple[str, ...]
    categorical: tuple[str, ...]


# fmt: off
LIGHT = Palette(
    background="#fbfaf6", panel="#f1efe8", ink="#1c2024",
    muted="#5d6268", line="#dad6ca", accent="#0e6873",
    sequential=("#f4f1e8", "#caded6", "#a0cbc4", "#7fb5b1", "#669e9e",
                "#4c878c", "#317179", "#125b67", "#0a4550", "#06303a"),
    diverging=("#7a3306", "#a65b26", "#cf8751", "#e3bc9d", "#f4f1e8",
               "#f4f1e8", "#a8c8c4", "#619e9f", "#377076", "#0a4550"),
    categorical=("#0e6873", "#b4500b", "#6b4fa0", "#8a6a00",
                 "#2f6db5", "#a8326b", "#4b7a1f", "#666b70"),
)
DARK = Palette(
    background="#14171a", panel="#1d2226", ink="#e7e4dc",
    muted="#a7a9a6", line="#343a40", accent="#3aa3ad",
    sequential=("#1d2427", "#213a3f", "#225158", "#216872", "#308087",
                "#40989d", "#51b1b3", "#7cc6c4", "#a2dcd5", "#c8f2e6"),
    diverging=("#f2b98a", "#cb8a55", "#a35e21", "#61432d", "#24282b",
               "#24282b", "#2d5459", "#348389", "#6caeae", "#a2dcd5"),
    categorical=("#5cc0c6", "#f0975a", "#b79cf0", "#e0bf4a",
                 "#7fb2f0", "#ee86b7", "#a4cf6c", "#a9adb0"),
)
# fmt: on


def palette(*, dark: bool = False) -> Palette:
    """The colours for a dark page, or for a light one."""
    return DARK if dark else LIGHT
