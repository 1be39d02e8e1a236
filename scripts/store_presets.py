"""Compute the presets' results for the lens page: ``python -m scripts.store_presets``.

To be run again whenever the shipped model, the presets or ``LensResult`` change; a test compares
the file with a live run.
"""

import argparse
from pathlib import Path

from app.lens_cache import fingerprint
from app.models import DEFAULT_MODEL
from app.presets import PRESETS
from app.stored_results import FILE, write_results
from lens_core import HookedModel
from lens_core.lens import read_lens


def main() -> None:
    """Read every preset through the logit lens of the shipped model and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FILE)
    out: Path = parser.parse_args().out
    model = HookedModel.from_pretrained(DEFAULT_MODEL)
    weights = fingerprint(model)
    write_results([(weights, read_lens(model, preset.prompt)) for preset in PRESETS], out)


if __name__ == "__main__":
    main()
