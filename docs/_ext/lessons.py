"""What the site says of the notebooks, read off them: their times and tracks from their headers, their exercises from the sources of these."""

import json
import re
from pathlib import Path

from tree import exercises_of

from tinymm.testing.check import CHECKS


def header(path: Path) -> dict[str, str]:
    """Return the rows of the table with which a notebook begins, and its title as "Name"."""
    cell = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]
    text = cell if isinstance(cell, str) else "".join(cell)
    return {
        "Name": text.split("\n")[0].lstrip("# "),
        **dict(re.findall(r"^\| \*\*(\w+)\*\* \| (.+?) \|$", text, re.M)),
    }


def minutes(path: Path) -> tuple[int, int]:
    """Return how long a notebook takes to read, and with its exercises."""
    read, done = re.findall(r"(\d+) min", header(path)["Time"])
    return int(read), int(done)


def hours(total: int) -> str:
    """Return minutes as hours and minutes.

    >>> hours(290), hours(120)
    ('4 h 50 min', '2 h')
    """
    return f"{total // 60} h" + (f" {total % 60} min" if total % 60 else "")


def times(notebooks: list[Path]) -> str:
    """Return the table of notebooks with their times, and the sums of each track."""
    if not notebooks:
        return "This checkout has no notebooks yet.\n"
    text, tracks = "| notebook | track | to read | with its exercises |\n|---|---|---|---|\n", {}
    for path in notebooks:
        about, spent = header(path), minutes(path)
        text += f"| [{about['Name']}](/tutorials/{path.name}) | {about['Track']} | {spent[0]}&nbsp;min | {spent[1]}&nbsp;min |\n"
        tracks.setdefault(about["Track"], []).append(spent)
    for track, each in tracks.items():
        read, done = map(sum, zip(*each, strict=True))
        text += f"| all of **{track}** | | {hours(read)} | {hours(done)} |\n"
    return text


def tutorials(notebooks: list[Path]) -> str:
    """Return the notebooks with their times, and the list of them for the sidebar."""
    listed = (
        "```{toctree}\n:hidden:\n:maxdepth: 1\n"
        + "\n".join(f"tutorials/{path.stem}" for path in notebooks)
        + "\n```\n"
    )
    return times(notebooks) + (f"\n{listed}" if notebooks else "")


def prose(cell: str) -> str:
    r"""Return the text of a cell on one line, without its hints.

    >>> prose("# ## 7a · The mask\n#\n# Two\n# lines.\n# <details>a\n# b</details>\n")
    '## 7a · The mask Two lines.'
    """
    text = re.sub(r"^# ?", "", cell, flags=re.M)
    return " ".join(re.sub(r"<details>.*?</details>", "", text, flags=re.S).split())


def tasks(source: str) -> str:
    """Return one line a puzzle, task and open question: what is asked, its points, and the properties that decide."""
    lines, points = [], []
    for kind, cell in re.findall(r"^# %%(.*)\n((?:(?!# %%).*\n?)*)", source, re.M):
        said = prose(cell) if kind.startswith(" [markdown]") else ""
        if asked := re.search(r"\*\*Puzzle (\d)\.\*\* (.+)", said):
            lines.append(f"- **Puzzle {asked[1]}.** {asked[2]}")
        elif asked := re.match(r"## (\d+\w) · ", said):
            title = re.search(r"^# ## (.+)$", cell, re.M)[1]
            lines.append(f"- **{title}.** {said.removeprefix(f'## {title}').strip()}")
        elif said.startswith("## Open question"):
            lines.append(f"- **Open question.** {said.removeprefix('## Open question').strip()}")
        if found := re.search(r"points=(\d+)", kind):
            points.append(int(found[1]))
        for name in dict.fromkeys(re.findall(r"\bcheck\.(\w+)", cell)):
            link = f"[`{name}`](/catalogue.md#{name.replace('_', '-')})"
            if name in CHECKS and link not in lines[-1]:
                lines[-1] += f" Checked by {link}."
    return "\n".join(lines) + f"\n\n{sum(points)} points in all.\n\n"


def exercises(sources: list[Path]) -> str:
    """Return the exercises: one section a notebook, to which the notebook's last line leads."""
    if not sources:
        return "This checkout has no exercises yet.\n"
    text = ""
    for source in sources:
        title, _ = exercises_of(source)
        copy = f"python -m tinymm exercises --student my_exercises --only {source.stem[:2]}"
        text += f"### {title}\n\nOf [the notebook](/tutorials/{source.stem}.ipynb); your copy: `{copy}`.\n\n"
        text += tasks(source.read_text(encoding="utf-8"))
    return text
