"""Lenses on disk: published tuned lenses and Jacobian lenses, and a safe format of our own.

lens = load_lens("runs/my-lens", model)          # any format, told apart by what is inside
save_lens(lens, "my-lens.safetensors")           # ours, with where the lens comes from
save_tuned_lens_package(lens, "my-lens")         # config.json + params.pt, for `tuned-lens`
"""

from lens_core.lens.formats.find import load_lens, shipped_lenses
from lens_core.lens.formats.own import save_lens
from lens_core.lens.formats.published import save_tuned_lens_package

__all__ = ["load_lens", "save_lens", "save_tuned_lens_package", "shipped_lenses"]
