"""The shell paints before torch is there."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_shell_needs_no_torch():
    """Forbids a first page that stays white for the seconds that torch takes to import."""
    code = (
        "import sys; import app.shell, app.case_file, app.lesson, app.models;"
        "app.models.offered(); app.models.needs('gpt2'); app.lesson.load_lesson('logit-lens');"
        "assert not {'torch', 'transformers'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=250)
