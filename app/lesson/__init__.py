"""Lessons: one Markdown file each in ``content/lessons``, drawn beside a lab.

``content/lessons/README.md`` says how they are written.
"""

from app.lesson.draw import draw_lesson
from app.lesson.format import Lesson, LessonError
from app.lesson.parse import lesson_names, load_lesson, parse_lesson
from app.lesson.state import LabState

__all__ = [
    "LabState",
    "Lesson",
    "LessonError",
    "draw_lesson",
    "lesson_names",
    "load_lesson",
    "parse_lesson",
]
