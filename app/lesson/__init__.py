"""Lessons: one Markdown file each in ``content/lessons``, drawn beside a lab.

``content/lessons/README.md`` says how they are written.
"""

from app.lesson.format import Lesson, LessonError
from app.lesson.parse import lesson_names, load_lesson, parse_lesson
from app.lesson.reading import closing, heading, reading

__all__ = [
    "Lesson",
    "LessonError",
    "closing",
    "heading",
    "lesson_names",
    "load_lesson",
    "parse_lesson",
    "reading",
]
