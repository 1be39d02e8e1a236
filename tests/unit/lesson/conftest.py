"""The tests' own lesson and its measures."""

from pathlib import Path

import pytest

from app.lesson import load_lesson
from tests.app import lesson_measures

FOLDER = Path(__file__).resolve().parents[2] / "app"


@pytest.fixture(scope="session")
def registered():
    """Every measure, those of the tests' lesson among them."""
    return lesson_measures.registered()


@pytest.fixture(scope="session")
def demo(registered):
    """The lesson that holds every directive."""
    return load_lesson("lesson_demo", FOLDER, registered)
