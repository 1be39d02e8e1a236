"""The lens lab of the page *Logit lens*."""

from app.lens_lab.lab import lens_column, lens_lab
from app.lens_lab.settings import SITES, Settings

__all__ = ["SITES", "Settings", "lens_column", "lens_lab"]
