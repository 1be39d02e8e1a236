"""Every lesson as a notebook: valid, and it runs headless from the first cell to the last."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from app.lesson import lesson_names, load_lesson
from app.lesson.notebook import notebook_json
from app.lesson.source import SourceError, sources

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """``run(text)``: the notebook after every cell has run, with ``lens_core`` and without app."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "lens_core").symlink_to(ROOT / "lens_core")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    return lambda text: _run(text, tmp_path)


def _run(text, folder):
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=240, kernel_name="python3", resources=resources).execute()
    return notebook


def printed(notebook):
    """The last value or print of each code cell."""
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    return [o[-1].get("text") or o[-1]["data"]["text/plain"] for o in outputs if o]


@pytest.mark.parametrize("name", lesson_names())
def test_the_notebook_of_a_lesson_runs(name, registered, run):
    """Forbids a notebook whose cells fail for the learner who took it home."""
    run(notebook_json(load_lesson(name, measures=registered), "tiny-world"))


def test_its_cells_compute_what_the_page_computes(demo, tiny_world, run):
    """Forbids a notebook that runs but says something else than the page."""
    from app.lesson.evaluate import Bench, runner, truth
    from app.lesson.format import Predict

    said = printed(run(notebook_json(demo, "tiny-world")))
    bench = Bench(demo, runner(tiny_world), {})
    for block in demo.blocks():
        if isinstance(block, Predict) and block.kind != "choice":
            assert repr(truth(bench, block)) in said
    assert "(3, True)" in said  # the longer text


def test_hostile_settings_are_data(demo):
    """Forbids a prompt that becomes code or a cell of the notebook."""
    import dataclasses

    prompt = "'); import os; os.system('x') #\n</script><img src=x onerror=alert(1)>"
    lesson = dataclasses.replace(demo, settings={"prompt": prompt, "site": "resid_post"})
    cells = json.loads(notebook_json(lesson, "tiny-world"))["cells"]
    assert repr(prompt) in cells[1]["source"]
    compile(cells[1]["source"], "cell", "exec")


def test_measures_may_not_need_the_app(registered):
    """Forbids a measure that works on the page and nowhere else."""
    from app.lesson import state

    def greedy(model, settings):
        return state.all_progress()

    greedy.__globals__["state"] = state
    with pytest.raises(SourceError, match=r"greedy uses app\.lesson\.state"):
        sources([greedy])


def test_the_sources_of_every_measure_can_be_taken_along(registered):
    """Forbids a measure that only the lesson which first uses it finds to be unportable."""
    compile(sources(measure.fn for measure in registered.values()), "measures", "exec")
