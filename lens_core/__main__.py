"""``python -m lens_core lens train|eval``: what the library does without a page or a notebook."""

import sys

from lens_core.lens.cli import main

if __name__ == "__main__":
    sys.exit(main())
