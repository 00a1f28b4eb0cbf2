"""The commands of the course, for students and for teachers."""

from typing import Any

from tinymm.arrays.errors import UsageError

from .. import commands


def declare(parsers: Any) -> None:
    """Add exercises, web, and course with its actions."""
    said = "write the students' copies of the exercises, without solutions, or nbgrader's course folder"
    exercises = commands.add(parsers, "exercises", said, "exercises --student my_exercises", _exercises)
    exercises.add_argument("--student", metavar="OUT", help="the folder for notebooks without solutions")
    exercises.add_argument("--instructor", metavar="OUT", help="the folder for nbgrader: OUT/source/NAME/NAME.ipynb, and its settings")
    exercises.add_argument("--only", action="append", metavar="NN", help="only this notebook, by the beginning of its name; several times if wanted")
    exercises.add_argument("--source", metavar="FOLDER", help="the notebooks with solutions (default: notebooks/solutions of this checkout)")

    said = "write the exercises as a folder for a static server: they are checked in the browser, with nothing installed there"
    web = commands.add(parsers, "web", said, "web --out exercises_page", _web)
    web.add_argument("--out", required=True, metavar="DIR", help="a new folder; served with: python -m http.server -d DIR")
    web.add_argument("--only", action="append", metavar="NN", help="only this notebook, by the beginning of its name; several times if wanted")
    web.add_argument("--source", metavar="FOLDER", help="the notebooks with solutions (default: notebooks/solutions of this checkout)")

    course = parsers.add_parser("course", help="what a student needs besides the notebooks, and a teacher: status, quiz, hunt")
    actions = course.add_subparsers(title="actions", metavar="ACTION", required=True)

    said = "show which tasks have passed, from the saved notebooks of a folder"
    status = commands.add(actions, "status", said, "course status my_exercises", _status)
    status.add_argument("folder", nargs="?", default="my_exercises", help="a folder of exercises (default: my_exercises); nothing in it is executed")

    quiz = commands.add(actions, "quiz", "ask 12 questions and name the primers to read first; nothing is stored", "course quiz", _quiz)
    quiz.add_argument("--answers", metavar="1b,2a,…", help="give the answers at once instead of being asked")

    said = "write a bug hunt for a student (a right function and wrong ones), or grade the properties handed in"
    hunt = commands.add(actions, "hunt", said, "course hunt causal_mask --student ada --out hunts", _hunt)
    hunt.add_argument("check", help="the check whose functions are hunted, such as causal_mask")
    hunt.add_argument("--student", metavar="ID", help="who hunts; the same id gets the same functions")
    hunt.add_argument("--out", metavar="FOLDER", help="where the hunt is written (default: the current folder)")
    hunt.add_argument("--wrong", type=int, default=4, metavar="K", help="how many wrong functions are handed out (default: 4)")
    hunt.add_argument("--notebook", action="store_true", help="write a notebook instead of a .py file")
    hunt.add_argument("--grade", nargs="+", metavar="FILE", help="score these submissions, .py or .ipynb, each in a process of its own")
    hunt.add_argument("--seconds", type=float, default=20.0, metavar="S", help="time for each submission (default: 20)")
    hunt.add_argument("--csv", metavar="FILE", help="write the scores to this file too")


def _exercises(**options: Any) -> None:
    from tinymm.workflows.course import exercises

    exercises.run(**options)


def _web(**options: Any) -> None:
    from tinymm.workflows.course import web

    web.run(**options)


def _status(**options: Any) -> None:
    from tinymm.workflows.course import status as course_status

    course_status.run(**options)


def _quiz(**options: Any) -> None:
    from tinymm.workflows.course import quiz as course_quiz

    course_quiz.run(**options)


def _hunt(check: str, student: str | None, grade: list[str] | None, **options: Any) -> None:
    from tinymm.workflows.course import hunt as course_hunt

    if bool(student) == bool(grade):
        both = "both" if grade else "neither"
        raise UsageError(f"course hunt writes for a student or grades files, and {both} came; give --student ID or --grade FILE")
    if grade:
        course_hunt.grade(check, grade, seconds=options["seconds"], csv_file=options["csv"])
    else:
        course_hunt.write(check, str(student), options["out"] or ".", wrong=options["wrong"], notebook=options["notebook"])
