"""Compute the presets' results for the lens page: ``python -m scripts.store_presets``.

To be run again whenever the shipped model, the presets or ``LensResult`` change; a test compares
the file with a live run.
"""

import argparse
from pathlib import Path

import torch

from app.lens_cache import Question, fingerprint, tokens_of
from app.lens_lab.lenses import SHIPPED, find_lens, lens_key
from app.models import DEFAULT_MODEL
from app.presets import PRESETS
from app.stored_results import FILE, Stored, write_results
from lens_core import HookedModel
from lens_core.lens import read_lens


def results(model: HookedModel) -> list[Stored]:
    """Every preset through the logit lens and every lens that ships for the model."""
    keys = [key for kind in ("logit", *SHIPPED) if (key := lens_key(model, kind, 1)) is not None]
    questions = [
        Question(model.cfg.name, tokens_of(model, preset.prompt), lens_key=key)
        for key in keys
        for preset in PRESETS
    ]
    return [
        (
            fingerprint(model),
            question,
            read_lens(
                model, torch.tensor([question.token_ids]), find_lens(model, question.lens_key)
            ),
        )
        for question in questions
    ]


def main() -> None:
    """Compute every stored result and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FILE)
    out: Path = parser.parse_args().out
    model = HookedModel.from_pretrained(DEFAULT_MODEL)
    write_results(results(model), out)


if __name__ == "__main__":
    main()
