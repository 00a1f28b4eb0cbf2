"""Twelve questions that say which primer to read before the course: NumPy, derivatives, probability.

Questions lie in `quiz.json`; a test computes every answer. Nothing is stored and no time is taken;
reckon with ten minutes.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from tinymm.arrays.errors import UsageError

from .. import commands
from . import exercises

LETTERS = "abcd"
PRIMERS = {"numpy": "NumPy", "derivatives": "derivatives", "probability": "probability"}
#: Of four questions to a primer, this many right are enough to pass it by.
ENOUGH = 3


@cache
def questions() -> list[dict[str, Any]]:
    """Return the questions in order, each with its primer, choices, the letter of the answer and the reason.

    >>> len(questions()), sorted({question["primer"] for question in questions()})
    (12, ['derivatives', 'numpy', 'probability'])
    """
    return json.loads((Path(__file__).parent / "quiz.json").read_text(encoding="utf-8"))


def run(answers: str | None = None) -> dict[str, int]:
    """Ask the questions, or take the answers as "1b,2a,…"; print what was right and what to read.

    Return the right ones by primer.
    """
    given = ask() if answers is None else parsed(answers)
    if not given:
        print("no question was answered; nothing is stored, begin again whenever you like")
        return {}
    right = {name: 0 for name in PRIMERS}
    for number, question in enumerate(questions(), 1):
        right[question["primer"]] += given.get(number) == question["answer"]
    print("\n".join(said(given, right)))
    return right


def ask() -> dict[int, str]:
    """Ask at the terminal; an empty line passes a question over, and Ctrl-C or the end of the input ends the quiz."""
    print(
        "Twelve questions, about ten minutes. Type a, b, c or d; Enter passes a question over, Ctrl-C ends. Nothing is stored."
    )
    given: dict[int, str] = {}
    for number, question in enumerate(questions(), 1):
        print(f"\n{number}. {question['question']}")
        print(
            "\n".join(
                f"   {letter}) {text}"
                for letter, text in zip(LETTERS, question["choices"], strict=True)
            )
        )
        while True:
            try:
                letter = input("> ").strip().lower()
            except (EOFError, KeyboardInterrupt):
                print(f"\nended after {number - 1} of {len(questions())} questions")
                return given
            if letter in (*LETTERS, ""):
                break
            print(f"one of {', '.join(LETTERS)}, or Enter")
        given.update({number: letter} if letter else {})
    return given


def parsed(answers: str) -> dict[int, str]:
    """Return letters by number of a text such as "1b, 2a"; UsageError for anything else.

    >>> parsed("1b, 12A")
    {1: 'b', 12: 'a'}
    """
    given: dict[int, str] = {}
    for piece in filter(None, (part.strip().lower() for part in answers.split(","))):
        match = re.fullmatch(r"(\d{1,2})([a-d])", piece)
        if match is None or not 1 <= int(match[1]) <= len(questions()) or int(match[1]) in given:
            raise UsageError(
                f"answers are 1 to {len(questions())} with a letter from a to d, each once, and {piece!r} came; write 1b,2a"
            )
        given[int(match[1])] = match[2]
    return given


def said(given: dict[int, str], right: dict[str, int]) -> list[str]:
    """Return the lines: each question that was answered wrongly with its reason, right ones by primer, and what to read.

    A question that was passed over is not explained: it can be tried again. It counts as not known,
    since that is what a primer is for.
    """
    lines = []
    for number, question in enumerate(questions(), 1):
        if given.get(number, question["answer"]) != question["answer"]:
            answer = question["choices"][LETTERS.index(question["answer"])]
            lines.append(
                f"{number}. {question['question']}\n   {question['answer']}) {answer}: {question['because']}"
            )
    of_each = {
        name: sum(question["primer"] == name for question in questions()) for name in PRIMERS
    }
    if passed := [str(number) for number in range(1, len(questions()) + 1) if number not in given]:
        lines += [f"not answered: {', '.join(passed)}"]
    lines += [
        "right: "
        + ", ".join(f"{title} {right[name]} of {of_each[name]}" for name, title in PRIMERS.items())
    ]
    read = [f"docs/primers.md#{name} ({PRIMERS[name]})" for name in PRIMERS if right[name] < ENOUGH]
    return [
        *lines,
        f"read first: {', '.join(read)}"
        if read
        else "no primer is needed: begin with notebook 1, or 4 if gradients are no news",
    ]


# ---------------------------------------------------------------------- the command
PLACE = 121


def declare(parsers: Any) -> None:
    """Add course quiz."""
    said = "ask 12 questions and name the primers to read first; nothing is stored"
    quiz = commands.add(exercises.course(parsers), "quiz", said, "course quiz", _command)
    quiz.add_argument(
        "--answers", metavar="1b,2a,…", help="give the answers at once instead of being asked"
    )


def _command(**options: Any) -> None:
    run(**options)
