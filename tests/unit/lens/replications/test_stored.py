"""The file of results: read back as written, whole or refused; one figure for every replication."""

import json

import pytest

from lens_core.lens import LensFileError
from lens_core.lens.replications import Claim, Figure, Replication
from lens_core.lens.replications.stored import (
    StoredReplications,
    load_results,
    save_results,
)
from lens_core.plots.replications import quantities, replication_figure
from scripts.replications import _kept

CLAIM = Claim("k", "Title", "claim", "formula", "source", "control", "rho above 0.", "meaning")
FIGURES = (
    Figure("KL", "logit", 2.0, 1.5, 2.5, 12, "nats", 0),
    Figure("KL", "logit", 1.0, 0.5, 1.5, 12, "nats", 1),
    Figure("KL", "tuned", 0.5, 0.4, 0.6, 12, "nats", 0),
    Figure("rho", "tuned", 0.3, 0.2, 0.4, 12),
)
DONE = Replication(CLAIM, FIGURES, True, "Replicates: yes.", "tiny", {"seed": 0, "n_tokens": 9})


def test_results_come_back_as_they_were_written(tmp_path):
    """Forbids lost depths, tuples turned to lists, and a file that names its day."""
    file = tmp_path / "results" / "r.json"
    stored = StoredReplications("tiny", "abc", {"seeds": [0, 1]}).with_(DONE)
    save_results(stored, file)
    first = file.read_bytes()
    assert load_results(file) == stored
    save_results(load_results(file).with_(DONE), file)
    assert file.read_bytes() == first
    assert load_results(file).get("k") == DONE
    assert load_results(file).get("other") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": 1, "replications": [{}]}'])
def test_another_file_is_refused_in_words(tmp_path, text):
    """Forbids a traceback on the page for a file that was cut short."""
    file = tmp_path / "r.json"
    file.write_text(text)
    with pytest.raises(LensFileError, match=r"scripts\.replications"):
        load_results(file)


def judged(holds: bool, shown: str) -> str:
    """The sentence of a replication that was judged so."""
    return Replication.judged(CLAIM, [], holds, shown, "model", {}).verdict


def test_a_failed_replication_says_so_with_its_criterion():
    """Forbids hiding what did not hold."""
    assert "rho above 0" in judged(False, "rho was -1.")
    assert judged(False, "rho was -1.").startswith("Does not replicate at this size")
    assert judged(True, "rho was 1.").startswith("Replicates")


@pytest.mark.parametrize("dark", [False, True])
def test_every_quantity_has_its_figure_with_whiskers(dark):
    """Forbids series of one quantity in another's figure, and intervals that are not drawn."""
    assert quantities(DONE) == ("KL", "rho")
    lines = replication_figure(DONE, dark=dark)
    assert [trace.name for trace in lines.data] == ["logit", "tuned"]
    assert list(lines.data[0].x) == [0, 1]
    assert list(lines.data[0].error_y.arrayminus) == [0.5, 0.5]
    assert lines.data[0].line.dash != lines.data[1].line.dash
    points = replication_figure(DONE, "rho", dark=dark)
    assert list(points.layout.yaxis.ticktext) == ["tuned"]
    assert json.loads(points.to_json())


def test_the_script_keeps_results_of_the_same_things_alone(tmp_path):
    """Forbids results of another model, lens or text under this model's name."""
    file = tmp_path / "r.json"
    made = StoredReplications("tiny", "abc", {"seeds": [0, 1], "lens": "a"}).with_(DONE)
    assert _kept(file, made) is made
    save_results(made, file)
    same = StoredReplications("tiny", "abc", {"seeds": [0, 1], "lens": "a"})
    assert _kept(file, same).get("k") == DONE
    for other in (
        StoredReplications("tiny", "abd", same.settings),
        StoredReplications("tiny", "abc", {"seeds": [0, 1], "lens": "b"}),
    ):
        assert _kept(file, other) is other
