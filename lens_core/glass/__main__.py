"""Write the glass model where the shipped models are: ``python -m lens_core.glass [folder]``."""

import sys
from pathlib import Path

from lens_core.glass.copying import NAME, glass_tokenizer, glass_weights
from lens_core.model.sources import SHIPPED_ROOTS


def main(folder: Path) -> None:
    """Save config, weights and tokenizer as save_pretrained does, and nothing that tells when."""
    glass_weights().save_pretrained(folder)
    glass_tokenizer().save_pretrained(folder)
    print(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else SHIPPED_ROOTS[-1] / NAME)
