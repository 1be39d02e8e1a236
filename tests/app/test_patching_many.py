"""The patching lab's view of many pairs: a visitor's CSV, the job, its cancellation, the page."""

import contextlib
import io
import json
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from app.jobs import CancelledError, Job
from app.models import load_model
from app.patching_lab.asked import scene_of
from app.patching_lab.many_view import PAIRS_FILE, first_pair, pairs_of, work
from app.patching_lab.own_pairs import own_pairs
from app.patching_lab.pairs_file import MOST_BYTES, MOST_ROWS, TEMPLATE, decoded, read_rows
from app.patching_lab.settings import MANY, OWN_PAIRS, Settings
from app.patching_lab.snippets import MOST_LINES, patching_code
from app.take_away import no_formulas
from lens_core.patching import PatchingError, prompt_pair, sweep
from tests.app.page import maps, settled

HEAD = "clean,corrupted,target,foil\n"
JAPAN = '"In Japan, the capital is","In Italy, the capital is",Tokyo,Rome\n'
FRANCE = '"In France, the capital is","In Italy, the capital is",,\n'
EVIL = '"In <img src=x onerror=alert(1)> the capital is","=HYPERLINK(""http://x"")",Paris,Rome\n'


@pytest.fixture(scope="module")
def model():
    return load_model("tiny-world")


def own(text, **settings):
    return Settings(view=MANY, family=OWN_PAIRS, own_pairs=text, **settings)


def reasons(found):
    return {row.number: row.reason for row in found.left_out}


# The file


@pytest.mark.parametrize(
    "text",
    [
        HEAD + JAPAN,
        JAPAN,
        "\ufeff" + HEAD + JAPAN,
        "\n" + HEAD + "\n" + JAPAN,
        HEAD.replace(",", ";") + JAPAN.replace('",', '";').replace("Tokyo,", "Tokyo;"),
        "foil\tanswer\tnote\tcorrupted\tclean\nRome\tTokyo\tx\tIn Italy, the capital is\t"
        "In Japan, the capital is\n",
    ],
    ids=["header", "bare", "with a mark", "blank rows", "semicolons", "other order, tabs"],
)
def test_a_file_is_read_as_programs_write_it(text):
    """Forbids columns that are taken for others, and a text that is cut at a comma in quotes."""
    (row,), left_out = read_rows(decoded(text.encode()))
    assert left_out == ()
    assert (row.clean, row.corrupted) == ("In Japan, the capital is", "In Italy, the capital is")
    assert (row.target, row.foil) == ("Tokyo", "Rome")


def test_a_file_that_is_none_is_refused_in_a_sentence():
    """Forbids a traceback from a photograph, a spreadsheet or a book."""
    with pytest.raises(PatchingError, match="UTF-8"):
        decoded(b"PK\x03\x04\xff\xfe\x00")
    with pytest.raises(PatchingError, match="upload a part"):
        decoded(b"x" * (MOST_BYTES + 1))
    with pytest.raises(PatchingError, match="named corrupted"):
        read_rows("clean,wrong\na,b\n")


def test_rows_are_numbered_as_a_spreadsheet_does_and_counted():
    """Forbids a reason that is given to another row, and a file that never ends."""
    rows, left_out = read_rows(HEAD + "\n" + "a b\n" + ",x\n" + "a,b,c,d,e\n" + "a,b\n")
    assert [row.number for row in rows] == [6]
    assert {row.number: row.reason[:20] for row in left_out} == {
        3: "It has no corrupted ",
        4: "It has no clean prom",
        5: "It has 5 cells for 4",
    }
    rows, left_out = read_rows("a,b\n" * (MOST_ROWS + 9))
    assert len(rows) == MOST_ROWS
    assert [row.number for row in left_out] == [MOST_ROWS + 1]
    _, (long,) = read_rows('a,"' + "b\n" * 4000)  # a quote that is never closed
    assert "8000 characters" in long.reason or "7999 characters" in long.reason


# From rows to pairs


def test_the_template_runs_and_leaves_answers_to_the_model(model):
    """Forbids a template that does not work, and a missing target that is another word."""
    found = own_pairs(model, own(TEMPLATE))
    assert found.left_out == ()
    texts = [model.to_str_tokens([key.answer, key.foil]) for key in found.keys]
    assert texts == [[" Tokyo", " Rome"], [" Paris", " Rome"]]


def test_every_bad_row_has_its_reason_and_the_rest_runs(model):
    """Forbids one bad row that stops all, and a reason that does not say what to do about it."""
    bad = [
        '"In Japan, the capital is","In Italy the capital is",Tokyo,Rome\n',  # 4: unequal length
        '"In Japan, the capital is","In Italy, the capital is",zzzqqqxxx,Rome\n',  # 5: no token
        '"In Japan, the capital is","In Japan, the capital is",Tokyo,Rome\n',  # 6: the same
        '"In Japan, the capital is","In Italy, the capital is",Rome,Rome\n',  # 7: one answer
        '"Japan has the capital","Italy has the capital",Tokyo,Rome\n',  # 8: another length
        f'"{"one " * 200}","{"two " * 200}",Tokyo,Rome\n',  # 9: too long for the page
    ]
    found = own_pairs(model, own(HEAD + JAPAN + FRANCE + "".join(bad)))
    assert len(found.keys) == 2
    said = reasons(found)
    assert list(said) == [4, 5, 6, 7, 8, 9]
    for number, words in {
        4: "tokens and the corrupted one",
        5: "tokens",
        6: "the same",
        7: "same token",
        8: "those of most rows",
        9: "at most",
    }.items():
        assert words in said[number]
        assert said[number].endswith(".")


def test_a_400_token_prompt_among_pairs_is_a_sentence(model):
    """Forbids a traceback from a prompt that is longer than the model's context."""
    long = f'"{"one " * 240}","{"two " * 240}",,\n'
    said = reasons(own_pairs(model, own(HEAD + JAPAN + FRANCE + long)))
    assert "at most" in said[4]


@pytest.mark.parametrize("text", ["", HEAD, HEAD + JAPAN, "x\ny\n", HEAD + JAPAN + "a,b\n"])
def test_fewer_than_two_pairs_are_refused_with_the_reasons(model, text):
    """Forbids an interval of one pair, and a refusal that keeps the reasons to itself."""
    with pytest.raises(PatchingError) as error:
        own_pairs(model, own(text))
    assert "two pairs" in str(error.value)
    if text.startswith("x"):
        assert "Row 1: It has no corrupted prompt." in str(error.value)


def test_hostile_cells_are_texts(model):
    """Forbids a cell that becomes markup, a formula or code on its way through the page."""
    found = own_pairs(model, own(HEAD + JAPAN + FRANCE + EVIL))
    assert list(reasons(found)) == [4]
    formula = '"=1+1 in Japan, the capital is","=1+1 in Italy, the capital is",Tokyo,Rome\n'
    twice = own_pairs(model, own(HEAD + formula * 2))
    assert twice.keys[0].clean == "=1+1 in Japan, the capital is"


def test_a_table_has_no_formulas():
    """Forbids a token that a spreadsheet computes when a visitor opens the table."""
    frame = pd.DataFrame(
        {"token": ["=1+1", "@x", "-", "+", "a", " =x"], "value": [1.0, -2, 3, 4, 5, 6]}
    )
    made = no_formulas(frame)
    assert list(made["token"]) == ["'=1+1", "'@x", "-", "+", "a", " =x"]
    assert list(made["value"]) == [1.0, -2, 3, 4, 5, 6]
    assert frame["token"][0] == "=1+1"


# The job


def many(model, **settings):
    chosen = Settings(**{"view": MANY, "family": "capitals", "n_pairs": 6, **settings})
    return scene_of(model, first_pair(model, chosen))


def test_the_average_is_the_sweep_of_these_pairs(model):
    """Forbids an average of other pairs, or an interval of another scale, than the page says."""
    here = many(model, direction="noise", site="attn_out")
    keys = pairs_of(model, here.settings).keys
    kept = work(here, keys, Job(lambda job: None))
    live = sweep(model, [key.pair(model) for key in keys], "attn_out", direction="noise")
    assert np.allclose(kept.answer.result.values, live.values, atol=1e-4)
    assert np.allclose(kept.interval.low, live.interval().low, atol=1e-4)


def test_a_cancelled_job_keeps_nothing_and_the_next_one_is_right(model, monkeypatch):
    """Forbids work that goes on after *Cancel*, and numbers of a cancelled run in the next."""
    here = many(model)
    keys = pairs_of(model, here.settings).keys
    whole = work(here, keys, Job(lambda job: None)).answer.result.values
    monkeypatch.setattr("lens_core.patching.schedule._CPU_GB", 0.002)  # many small batches
    job = Job(lambda job: work(here, keys, job))
    step = job.step

    def cancel_half_way(done, total, figure):
        if done > total / 2:
            job.cancel()
        step(done, total, figure)

    job.step = cancel_half_way
    with pytest.raises(CancelledError):
        job.work(job)
    assert 0 < job.done < job.total == whole.size
    assert job.result is None
    again = work(here, keys, Job(lambda job: None)).answer.result.values
    assert np.allclose(again, whole, atol=1e-4)


@pytest.mark.parametrize("n_pairs", [4, 12])
def test_the_code_gives_the_page_s_numbers(model, n_pairs, monkeypatch, tmp_path):
    """Forbids a script of other pairs than the page's, few enough to read or in a file."""
    here = many(model, n_pairs=n_pairs, patch_with="resample", direction="noise")
    keys = pairs_of(model, here.settings).keys
    code = patching_code(here)
    assert len(code.splitlines()) <= MOST_LINES
    monkeypatch.setattr("lens_core.HookedModel.from_pretrained", lambda name: model)
    monkeypatch.chdir(tmp_path)
    (tmp_path / PAIRS_FILE).write_text(json.dumps([asdict(key) for key in keys]), "utf-8")
    names = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, names)  # the page's own text
    kept = work(here, keys, Job(lambda job: None))
    assert np.allclose(names["found"].values, kept.answer.result.values, atol=1e-3)


# The page


def test_the_pairs_are_patched_when_asked_for(open_page):
    """Forbids a page that computes unasked, an average that is not drawn, or one that is stale."""
    at = open_page("patching", view=MANY, n_pairs="3", family="capitals")
    assert len(maps(at)) == 1
    at.button(key="patching_many_start").click().run()
    settled(at)
    assert not at.exception
    assert not at.error
    assert maps(at)[1]["title"] == "resid_pre patched, mean of 3 pairs"
    at.slider(key="n_pairs").set_value(4).run()
    assert len(maps(at)) == 1
    assert any("settings have changed" in caption.value for caption in at.caption)


def test_an_uploaded_file_is_what_runs(open_page):
    """Forbids a file that is uploaded and not used, and one bad row that stops the page."""
    at = open_page("patching", view=MANY, family=OWN_PAIRS)
    text = HEAD + JAPAN + FRANCE + EVIL + '"In Spain, the capital is"\n'
    at.file_uploader(key="own_pairs_file").upload("pairs.csv", text.encode(), "text/csv").run()
    assert at.text_area(key="own_pairs").value == text
    assert not at.exception
    assert not at.error
    assert any(element.value.startswith("2 pairs, the first") for element in at.caption)
    assert any("2 rows are left out" in expander.label for expander in at.expander)
    for element in [*at.markdown, *at.caption]:
        assert "<img" not in element.value.replace("\\<", "")
    refused = at.file_uploader(key="own_pairs_file").upload("x.csv", b"\xff\xfe\x00", "text/csv")
    refused.run()
    assert any("no text in UTF" in element.value for element in at.error)
    assert at.text_area(key="own_pairs").value == text


def test_one_pair_is_said_to_be_too_few(open_page):
    """Forbids a traceback in the place of a sentence while pairs are being typed."""
    at = open_page("patching", view=MANY, family=OWN_PAIRS)
    at.text_area(key="own_pairs").set_value(JAPAN).run()
    assert not at.exception
    assert any("two pairs" in element.value for element in at.error)


def test_pairs_are_counted_by_what_they_are(model):
    """Forbids the average of one set of pairs under another."""
    settings = Settings(view=MANY, family="capitals", n_pairs=6)
    assert pairs_of(model, settings).keys != pairs_of(model, replace(settings, seed=1)).keys
    pair = pairs_of(model, settings).keys[0]
    assert prompt_pair(model, pair.clean, pair.corrupted, pair.answer).same_length
