"""The replications section: polite without its file, honest with it, a rerun that can be ended."""

import time

import pytest
from streamlit.testing.v1 import AppTest

from app import replications
from lens_core.lens.replications import Claim, Figure, Replication
from lens_core.lens.replications.stored import StoredReplications, save_results

CLAIM = Claim("k", "A <b>claim</b>", "c", "f", "s", "a control", "rho above 0", "meaning")
FAILED = Replication(
    CLAIM,
    (Figure("rho", "tuned", -0.3, -0.4, -0.2, 12), Figure("KL", "tuned", 1.0, 0.5, 1.5, 12, "", 1)),
    False,
    "Does not replicate at this size: rho was -0.3.",
    "tiny-world",
    {"seed": 0},
)


def page():
    from app.replications import replications_section

    replications_section()


@pytest.fixture
def section(tmp_path, monkeypatch):
    """``section(stored)``: the section with this file of results, or with none."""

    def opened(stored=None):
        file = tmp_path / "replications.json"
        monkeypatch.setattr(replications, "FILE", file)
        replications._read.cache_clear()
        if isinstance(stored, str):
            file.write_text(stored)
        elif stored is not None:
            save_results(stored, file)
        return AppTest.from_function(page, default_timeout=120).run()

    return opened


def shown(at):
    return "\n".join(e.value for e in [*at.markdown, *at.info, *at.error, *at.caption])


def test_without_the_file_it_says_how_to_make_it(section):
    """Forbids a traceback where a checkout has no results yet."""
    at = section()
    assert not at.exception
    assert "scripts.replications" in at.info[0].value
    assert at.button(key="replication_start")


def test_a_broken_file_is_one_sentence(section):
    """Forbids a traceback for a file that was cut short."""
    at = section("{")
    assert not at.exception
    assert "does not hold replications" in at.error[0].value.replace("\\", "")


def test_what_does_not_hold_says_so(section):
    """Forbids a section that shows successes alone, and markup from a file."""
    at = section(StoredReplications("tiny-world", "abcdef", {}, (FAILED,)))
    assert not at.exception
    text = shown(at)
    assert "0 of 1" in text
    assert "does not hold at this size" in text
    assert "a control" in text
    assert "<b>" not in text
    assert len(at.get("plotly_chart")) == 2


def test_a_rerun_can_be_cancelled_and_is_then_forgotten(section, monkeypatch):
    """Forbids work that goes on after the visitor has ended it."""

    def slow(model, job):
        for n in range(10_000):
            job.step(n, 10_000, 0.0)
            time.sleep(0.01)

    monkeypatch.setattr(replications, "_rerun", slow)
    at = section()
    at.button(key="replication_start").click().run()
    job = at.session_state["replication_job"]
    at.button(key="replication_cancel").click().run()
    said = shown(at)
    assert job.finished.wait(30)
    at.run()
    # It may have ended while the click was still being drawn; it is said once.
    assert "Cancelled" in said + shown(at)
    assert "replication_job" not in at.session_state


def test_a_rerun_shows_its_verdict(section, monkeypatch):
    """Forbids a result that vanishes with its job."""
    monkeypatch.setattr(replications, "_rerun", lambda model, job: FAILED)
    at = section()
    at.button(key="replication_start").click().run()
    for _ in range(50):
        if "rho was" in shown(at):
            break
        time.sleep(0.1)
        at.run()
    assert "rho was" in shown(at)
    assert not at.exception
