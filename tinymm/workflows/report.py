"""One page to send to somebody: a run's numbers beside chance, its pictures and its settings, in a single file.

`report.html` holds everything inside itself, pictures and style too, has no script, and its own
security policy forbids the browser every request: what you see is what the folder held. The page is
made from the files of the run folder alone, so it can be made again at any time, and whatever a run
did not leave behind is simply not on it.
"""

import base64
import html
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tinymm.arrays.errors import DataError, UsageError
from tinymm.arrays.files import atomic
from tinymm.training.records import read_metrics, read_results, read_run

from .meanings import meaning

PICTURES = {
    "similarity.png": "Pictures and captions", "loss.png": "The loss", "retrieval.png": "What it finds, failures first",
    "captions.png": "What it says, mistakes first", "words.png": "Where each word looks", "queue.png": "What the queue remembers",
    "capfilt.png": "What CapFilt kept, dropped and rewrote", "queries.png": "Which query wins", "attention.png": "Where each query looks",
}  # fmt: skip
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --ink: #222; --soft: #595959; --ground: #fff; --line: #d9d9d9; --card: #f4f6f8; --mark: #0b5c94 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --soft: #b0b0b0; --ground: #16191c; --line: #3b4046; --card: #22272c; --mark: #8cc8f2 } }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); max-width: 62rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0 } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem }
p.soft, figcaption { color: var(--soft) } figure { margin: 0 } figcaption { font-size: .92rem; margin-top: .4rem; white-space: pre-line }
img { width: 100%; max-width: none; height: auto; display: block; background: #fff; border: 1px solid var(--line); border-radius: 6px }
.numbers { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: .8rem }
.numbers { padding: 0; margin: 1rem 0; list-style: none }
.numbers li { background: var(--card); border-radius: 8px; padding: .8rem 1rem } .numbers span { color: var(--soft); display: block }
.numbers small { color: var(--soft); display: block; line-height: 1.35; margin-top: .3rem }
.numbers b { font-size: 2rem; line-height: 1.2; color: var(--mark); font-variant-numeric: tabular-nums }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums }
th, td { text-align: left; vertical-align: top; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line) }
td { overflow-wrap: anywhere } .wide td { overflow-wrap: normal; white-space: nowrap }
@media (max-width: 42rem) { figure div { overflow-x: auto } img { width: 46rem } }
summary { cursor: pointer; color: var(--mark); margin: .6rem 0 }
"""


def write_report(folder: str | Path) -> Path:
    """Write `report.html` into a run folder and return its path; what the folder lacks is left out.

    Numbers are headlines where `results.json` has a chance level of the same name under "chance": a
    recall of 0.3 is brilliant among 1,881 and poor among 4. Pictures bring their alt text with
    them, in the PNG's "Description". A folder without a `run.json` is refused with a UsageError, a
    file that is damaged with a DataError that names it.
    """
    folder = Path(folder)
    if not (folder / "run.json").exists():
        raise UsageError(
            f"a report is made of a run folder, which holds a run.json: {folder} holds none; name the folder of a run"
        )
    run, records = read_run(folder / "run.json"), read_metrics(folder)
    results = read_results(folder) if (folder / "results.json").exists() else {}
    name = folder.resolve().name
    parts = [
        f"<h1>{_text(name)}</h1>",
        f'<p class="soft">{_text(_when(run, records))}</p>',
        *_headline(results),
    ]
    for file, heading in PICTURES.items():
        if (folder / file).exists():
            parts += [f"<h2>{_text(heading)}</h2>", _figure(folder / file)]
    levels = dict(_flat(results.get("chance", {})))
    rows = [
        (label, value, levels.get(label, "")) for label, value in _flat({**results, "chance": {}})
    ]
    parts += [*_steps(records), *_table("All results", ("what", "value", "chance"), rows)]
    parts += _table("Settings", ("setting", "value"), _flat(run.get("settings", {})))
    parts += _table(
        "Made with",
        ("what", "value"),
        _flat({**run.get("versions", {}), **run.get("platform", {})}),
    )
    body = "\n".join(parts)
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>{_text(name)} · tinymm</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )
    with atomic(folder / "report.html") as out:
        out.write(page.encode("utf-8"))
    return folder / "report.html"


def picture_alt(path: str | Path) -> str:
    """Return the alt text that `viz.style.save` wrote into a PNG, or "" where there is none; raise DataError for a broken PNG."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=["PNG"]) as picture:
            picture.load()
            return str(getattr(picture, "text", {}).get("Description", ""))
    except (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:
        raise DataError(
            f"a run folder's pictures are PNG files: {path} is not ({error}); delete it or draw it again"
        ) from None


def _text(value: Any) -> str:
    return html.escape(str(value))


def _words(name: str) -> str:
    """Return a key as words: `unseen_characters_r1` as "unseen characters R@1"."""
    return re.sub(r"\br(\d+)\b", r"R@\1", name.replace("_", " "))


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if 0.01 <= abs(value) < 1000 else f"{value:.3g}"
    return (
        "—"
        if value is None
        else f"{value:,}"
        if isinstance(value, int) and not isinstance(value, bool)
        else str(value)
    )


def _when(run: Mapping[str, Any], records: list[dict[str, Any]]) -> str:
    words = [
        f"{records[-1]['step']:,} steps" if records else "no steps recorded",
        f"seed {run.get('seed')}",
    ]
    words.append(f"begun {str(run.get('started', '')).replace('T', ' ')[:16]} UTC")
    if resumed := run.get("resumed"):
        words.append(f"resumed after step {', '.join(str(item['step']) for item in resumed)}")
    return " · ".join(words)


def _headline(results: Mapping[str, Any]) -> Iterator[str]:
    chances = results.get("chance", {})
    items = [
        f"<li><span>{_text(_words(name))}</span><b>{_text(_number(results[name]))}</b><span>chance {_text(_number(chance))}</span>"
        f"{f'<small>{_text(meaning(name))}</small>' if meaning(name) else ''}</li>"
        for name, chance in chances.items()
        if isinstance(results.get(name), int | float)
    ]
    if items:
        yield '<ul class="numbers">' + "\n".join(items) + "</ul>"


def _figure(path: Path) -> str:
    alt = picture_alt(path)
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    caption = (
        f'<figcaption aria-hidden="true">{_text(alt)}</figcaption>' if alt else ""
    )  # read aloud once, as the alt text
    return f'<figure><div><img alt="{_text(" ".join(alt.split()))}" src="data:image/png;base64,{data}"></div>{caption}</figure>'


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested settings or results as rows, names joined by a slash."""
    for name, value in values.items():
        label = f"{before}{_words(str(name))}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{label} / ")
        elif isinstance(value, list):
            yield label, ", ".join(_number(item) for item in value)
        else:
            yield label, _number(value)


def _rows(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in columns)
    lines = []
    for first, *rest in rows:
        lines.append(
            f'<tr><th scope="row">{_text(first)}</th>'
            + "".join(f"<td>{_text(value)}</td>" for value in rest)
            + "</tr>"
        )
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody>\n" + "\n".join(lines) + "\n</tbody></table>"
    )


def _table(heading: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    rows = list(rows)
    if rows:
        yield f"<h2>{_text(heading)}</h2>"
        yield _rows(columns, rows)


def _steps(records: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the curve as a table of about a dozen steps, the last and all with a validation among the candidates."""
    if not records:
        return
    checked = [
        record
        for record in records
        if any(name.startswith("validation") and record[name] is not None for name in record)
    ]
    pool = checked or records
    shown = {
        id(pool[(len(pool) - 1) * k // 11]): pool[(len(pool) - 1) * k // 11] for k in range(12)
    } | {id(records[-1]): records[-1]}
    names = [
        name
        for name in records[-1]
        if any(record.get(name) is not None for record in shown.values())
    ]
    table = _rows(
        map(_words, names),
        ([_number(record.get(name)) for name in names] for record in shown.values()),
    )
    yield f'<details><summary>The curve in numbers</summary><div class="wide">{table}</div></details>'


def table(results: dict[str, Any]) -> list[str]:
    """Return the numbers that have a chance level as lines, the chance beside each, and what it is.

    >>> table({"unseen_font_r1": 0.5, "chance": {"unseen_font_r1": 0.01}})
    ['unseen font R@1                    0.500   chance 0.010   known characters in a font never trained on']
    """
    lines = []
    for name, level in results["chance"].items():
        words = name.replace("_r1", " R@1").replace("_", " ")
        lines.append(
            f"{words:<32}{results[name]:>8.3f}   chance {level:.3f}   {meaning(name)}".rstrip()
        )
    return lines
