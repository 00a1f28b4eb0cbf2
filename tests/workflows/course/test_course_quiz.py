"""The quiz: every answer is computed, every wrong choice is wrong, and it ends politely wherever it is left."""

import io

import numpy as np
import pytest

from tinymm.arrays.errors import UsageError
from tinymm.workflows.course import quiz as course_quiz

QUESTIONS = course_quiz.questions()
RIGHT = ",".join(f"{number}{question['answer']}" for number, question in enumerate(QUESTIONS, 1))


def slope(function, x, h=1e-6):
    return (function(x + h) - function(x - h)) / (2 * h)


def value(text, question):
    names = {"np": np, "slope": slope}
    for name, given in question.get("with", {}).items():
        names[name] = eval(given, names)  # noqa: S307
    return eval(text, names)  # noqa: S307


def fits(choice, question):
    """Whether a choice is what the question's expression computes: as a text, a value, or a value after the softmax."""
    truth = value(question["truth"], question)
    if question["kind"] == "text":
        return choice == truth
    try:
        found = np.asarray(value(choice, question), float)
    except ValueError:  # shapes that do not fit
        return False
    if question["kind"] == "softmax":
        found = np.exp(found - found.max()) / np.exp(found - found.max()).sum()
    return found.shape == np.shape(truth) and np.allclose(found, truth, rtol=1e-5)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question["question"][:40])
def test_the_answer_is_computed_and_the_only_one(question):
    fitting = [
        letter
        for letter, choice in zip("abcd", question["choices"], strict=True)
        if fits(choice, question)
    ]
    assert fitting == [question["answer"]]


def test_four_questions_to_each_primer_and_no_letter_that_is_always_right():
    assert [
        sum(question["primer"] == name for question in QUESTIONS) for name in course_quiz.PRIMERS
    ] == [4, 4, 4]
    assert {question["answer"] for question in QUESTIONS} == set("abcd")


def test_a_primer_is_named_for_what_was_missed(command):
    said = command("course", "quiz", "--answers", RIGHT)
    assert (
        said.code == 0
        and said.lines[-1].startswith("no primer is needed")
        and "because" not in said.out
    )
    wrong = RIGHT.replace("5a", "5b").replace("6b", "6a")
    lines = command("course", "quiz", "--answers", wrong).lines
    assert lines[-1] == "read first: docs/primers.md#derivatives (derivatives)"
    assert lines[-2] == "right: NumPy 4 of 4, derivatives 2 of 4, probability 4 of 4"
    assert [line[:2] for line in lines if line[:1].isdigit()] == ["5.", "6."]


@pytest.mark.parametrize("answers", ["1e", "13a", "1a,1b", "first", "0a"])
def test_answers_that_are_none_are_refused(answers):
    with pytest.raises(
        UsageError, match="1 to 12 with a letter from a to d, each once, and .* came; write 1b,2a"
    ):
        course_quiz.run(answers)


def test_asked_one_by_one_with_mistyped_and_empty_lines(monkeypatch, capsys):
    typed = [question["answer"] for question in QUESTIONS]
    monkeypatch.setattr(
        "sys.stdin", io.StringIO("\n".join(["x", typed[0], "", *map(str.upper, typed[2:])]) + "\n")
    )
    assert course_quiz.run() == {"numpy": 3, "derivatives": 4, "probability": 4}
    assert "one of a, b, c, d, or Enter" in capsys.readouterr().out


def test_the_end_of_the_input_ends_it(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("a\n"))
    assert course_quiz.run()["numpy"] == 1
    said = capsys.readouterr().out
    assert "ended after 1 of 12 questions" in said and "read first" in said


def test_ctrl_c_at_once_ends_it_politely(monkeypatch, command):
    def stopped(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", stopped)
    said = command("course", "quiz")
    assert (
        said.code == 0
        and said.lines[-1].startswith("no question was answered; nothing is stored")
        and not said.error
    )


def test_nothing_is_stored(here, command):
    command("course", "quiz", "--answers", RIGHT)
    assert not list(here.iterdir())


def test_the_primers_that_it_names_are_there():
    from pathlib import Path

    import tinymm

    page = (Path(tinymm.__file__).parents[1] / "docs" / "primers.md").read_text().lower()
    assert all(f"\n## {title.lower()}\n" in page for title in course_quiz.PRIMERS.values())
