"""The run folder: settings, metrics, checkpoints and results of a training run, consistent at every moment, even after `kill -9`.

    run.json        command, settings, versions, seed, platform   written once, a line added at every resume
    metrics.jsonl   one record a line, flushed line by line       the truth
    metrics.csv     the same records for a spreadsheet            made again from the truth when it fell behind
    events.out.…    the same numbers for TensorBoard
    results.json    what the evaluation found                     one atomic write

Two rules keep it whole. A file that is written once appears under its name only when it is complete
(`atomic`). A file that grows is repaired when it is opened again: a half-written last line goes,
and so does every record after the resumed step, so the run that was stopped leaves the same lines
as the run that was not. A run that fails before its first record leaves nothing.
"""

import csv
import io
import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

import numpy as np

from tinymm.arrays.errors import DataError, UsageError
from tinymm.arrays.files import atomic

from .events import EventWriter
from .mpi import current_group

#: What a process that was killed leaves of the file that it was writing (`atomic`).
TEMPORARY = ".*.[0-9]*.tmp"
#: The version of a run folder's layout and names of weights; another is refused when it is read.
FORMAT = 2
PACKAGES = (
    "numpy",
    "scipy",
    "matplotlib",
    "pillow",
    "safetensors",
    "tokenizers",
    "cupy",
    "mpi4py",
    "mpich",
    "tinymm-from-scratch",
)


def plain(value: Any) -> Any:
    """Turn settings and numbers into what JSON knows: NumPy scalars to Python's, NaN and infinity to null, paths to text.

    The reader's home folder becomes `~`: a run folder is made to be sent, and a path would carry a
    user's name.

    >>> plain({"loss": np.float32(0.5), "shape": (2, np.int64(3)), "bad": float("nan")})
    {'loss': 0.5, 'shape': [2, 3], 'bad': None}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    text, home = str(value), os.path.expanduser("~")
    return "~" + text[len(home) :] if len(home) > 1 and text.startswith(home + os.sep) else text


def from_home(value: Any) -> Any:
    """Return a path that `plain` has shortened to ~ as a path; anything else as it is."""
    return (
        os.path.expanduser(value)
        if isinstance(value, str) and value.startswith("~" + os.sep)
        else value
    )


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as readable, standard JSON, atomically; what JSON cannot say is said by `plain`."""
    text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic(path) as file:
        file.write(text.encode("utf-8") + b"\n")


def read_json(path: str | Path) -> Any:
    """Return a JSON file's content; raise DataError, naming the line, where it is not JSON."""
    try:
        return json.loads(Path(path).read_bytes().decode("utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(
            f"a run folder's {Path(path).name} is JSON: {path} is not ({error}); restore it, or start another run"
        ) from None


def of_kind(value: Any, kind: Any) -> bool:
    """Return whether a value is of a type as annotations write it; a truth value is no number, and a whole number is one.

    >>> of_kind(None, int | None), of_kind(2, float), of_kind(True, int), of_kind([2], int | None)
    (True, True, False, False)
    """
    kinds = get_args(kind) or (kind,)
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) or float in kinds and isinstance(value, int)


#: What a run.json holds, and the kind of each.
_PARTS = {
    "settings": dict,
    "columns": list,
    "started": str,
    "resumed": list,
    "versions": dict,
    "platform": dict,
}


def read_run(path: str | Path, *needed: str) -> dict[str, Any]:
    """Return a run.json; DataError where a part of it is of another kind than `RunFolder` writes, or one that is needed is missing."""
    run = read_json(path)
    if not isinstance(run, dict):
        raise DataError(
            f"a run folder's run.json is an object: {path} is a {type(run).__name__}; restore it, or start another run"
        )
    wrong = [
        name
        for name, kind in _PARTS.items()
        if (name in run or name in needed) and not isinstance(run.get(name), kind)
    ]
    if not wrong and not all(isinstance(name, str) for name in run.get("columns", ())):
        wrong = ["columns"]
    if not wrong and not all(
        isinstance(item, dict)
        and of_kind(item.get("step"), int)
        and isinstance(item.get("time"), str)
        for item in run.get("resumed", ())
    ):
        wrong = ["resumed"]
    if wrong:
        came = repr(run[wrong[0]])[:60] if wrong[0] in run else "nothing"
        raise DataError(
            f"a run folder's run.json says its {wrong[0]} as training wrote them: {path} has {came} there; restore it, or start another run"
        )
    return run


def read_results(folder: str | Path) -> dict[str, Any]:
    """Return what a run's evaluation found; DataError where results.json is none, or its chance levels are not numbers by name."""
    path = Path(folder) / "results.json"
    found = read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("chance", {}), dict):
        raise DataError(
            f"a run folder's results.json has numbers by name, and chance levels by the same: {path} has not; restore it"
        )
    return found


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """Return the records of a run, one dict a step, oldest first; an unfinished last line is not a record.

    Only the last line can be unfinished, because lines are only ever appended; any other bad line
    is a DataError with its number.
    """
    path = Path(folder) / "metrics.jsonl"
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line.decode("utf-8")) if line else None
            if record is not None and not (
                isinstance(record, dict) and of_kind(record.get("step"), int)
            ):
                raise ValueError("no object with a step")
        except ValueError as error:
            if number == len(lines):  # no newline after it: the process ended while writing
                continue
            raise DataError(
                f"each line of metrics.jsonl is one record: line {number} of {path} is not ({error}); delete it"
            ) from None
        if record is not None:
            records.append(record)
    return records


def _csv_line(values: Sequence[Any]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(
        ["" if value is None else value for value in values]
    )
    return out.getvalue()


def _rewrite(
    folder: Path, columns: Sequence[str], last_step: float = float("inf")
) -> list[dict[str, Any]]:
    """Make both metrics files again from the records up to `last_step`, dropping an unfinished line; return those records."""
    kept = [record for record in read_metrics(folder) if record["step"] <= last_step]
    with atomic(folder / "metrics.jsonl") as file:
        file.writelines(json.dumps(record).encode() + b"\n" for record in kept)
    with atomic(folder / "metrics.csv") as file:
        file.write(_csv_line(columns).encode())
        file.writelines(
            _csv_line([record.get(name) for name in columns]).encode() for record in kept
        )
    return kept


class RunFolder:
    """An open run folder: `append` one record a step, `write_results` at the end, and leave it with `with`.

    Made by `RunFolder.create` or `RunFolder.resume`. `columns` are fixed for the life of the run,
    "step" first: every line of `metrics.jsonl` has these keys in this order, as `metrics.csv` has
    these columns; what a record lacks is null. Append a step's record *before* saving its
    checkpoint: then no step that a checkpoint remembers is missing from the metrics. A folder that
    was `made` here goes again where the run fails before anything in it has been trained.
    """

    def __init__(
        self,
        path: Path,
        description: dict[str, Any],
        last_step: float = float("-inf"),
        made: Sequence[Path] | None = None,
    ) -> None:
        self.path = path
        self._made = made
        self.description = description
        self.settings = {name: from_home(value) for name, value in description["settings"].items()}
        self.columns: tuple[str, ...] = tuple(description["columns"])
        self.last_step = last_step
        resumed = description["resumed"]
        self._events = EventWriter(path, restart=resumed[-1]["step"] + 1 if resumed else None)
        self._jsonl = open(path / "metrics.jsonl", "ab")
        self._csv = open(path / "metrics.csv", "ab")

    @classmethod
    def create(
        cls,
        path: str | Path,
        settings: Mapping[str, Any],
        columns: Sequence[str],
        *,
        command: str | None = None,
        model: str | None = None,
    ) -> "RunFolder":
        """Return a new run folder with its `run.json`; a folder that already holds something is a UsageError, never overwritten.

        `command` is the one that makes it, and what for if it is a part of something else, as in
        "train blip2: encoder".
        """
        path = Path(path)
        if held := _held(path):
            raise UsageError(
                f"a run folder is never overwritten: {path} already holds {len(held)} file{'s'[: len(held) > 1]} ({', '.join(held[:3])}"
                f"{', …' if len(held) > 3 else ''}); continue that run with --resume, or name another folder with --out"
            )
        columns = tuple(columns)
        if columns[:1] != ("step",) or len(set(columns)) != len(columns):
            raise UsageError(
                f"the columns of a run are different names, 'step' first: got {list(columns)}; list each name once"
            )
        made = [place for place in (path, *path.parents) if not place.exists()]
        path.mkdir(parents=True, exist_ok=True)
        _clear(path)
        description = {
            "format": FORMAT,
            "command": command,
            "model": model,
            **plain(describe(settings)),
        }
        description |= plain({"columns": columns, "started": _now(), "resumed": []})
        write_json(path / "run.json", description)
        _rewrite(path, columns)
        return cls(path, description, made=made)

    @classmethod
    def resume(cls, path: str | Path, step: int) -> "RunFolder":
        """Return an existing run folder as it was right after `step`: records of later steps and a half-written line are gone.

        UsageError for a folder that is no run.
        """
        path = Path(path)
        if not (path / "run.json").exists():
            raise UsageError(
                f"--resume continues a folder with a run.json: {path} holds none; name one that does, or leave --resume out"
            )
        _clear(path)
        description = read_run(path / "run.json", "settings", "columns", "resumed")
        kept = _rewrite(path, description["columns"], step)
        description["resumed"].append({"step": int(step), "time": _now()})
        write_json(path / "run.json", description)
        return cls(path, description, kept[-1]["step"] if kept else float("-inf"))

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record to all three logs and flush; an unknown column, or a step that does not grow, is a UsageError."""
        if unknown := [name for name in record if name not in self.columns]:
            raise UsageError(
                f"a record's keys are the run's columns ({', '.join(self.columns)}): got {unknown[0]!r}; name it in `columns`"
            )
        step = record.get("step")
        if step is None or step <= self.last_step:
            raise UsageError(
                f"steps grow from record to record: got {step} after {self.last_step}; open the folder with RunFolder.resume"
            )
        full = plain({name: record.get(name) for name in self.columns})
        self._jsonl.write(json.dumps(full).encode() + b"\n")
        self._jsonl.flush()
        self.last_step = step
        self._csv.write(_csv_line(list(full.values())).encode())
        self._csv.flush()
        numbers = {
            name: value
            for name, value in full.items()
            if name != "step" and isinstance(value, int | float)
        }
        self._events.scalars(step, numbers)

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Write `results.json`, atomically; chance levels stand in `results["chance"]` under the same keys."""
        write_json(self.path / "results.json", results)

    def close(self) -> None:
        """Close the logs; idempotent."""
        for file in (self._jsonl, self._csv, self._events):
            file.close()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, *_: object
    ) -> None:
        self.close()
        if kind is None:
            return
        _rewrite(self.path, self.columns)  # Ctrl-C may fall between two logs, or inside a line
        if self._made is not None and not _trained_in(self.path):
            self._remove()
        elif isinstance(problem, KeyboardInterrupt):
            problem.args = (self._goes_on(),)

    def _remove(self) -> None:
        """Take away what `create` has made: the folder, or what is in one that was there, and the empty ones around it."""
        for item in self.path.iterdir():
            shutil.rmtree(item) if item.is_dir() else item.unlink()
        for place in self._made or ():
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()

    def _goes_on(self) -> str:
        command = self.description.get("command") or "train"
        if is_own(self.description):
            way = "train clip" if command == "demo" else command
            return f"it goes on with: python -m tinymm {way} --resume {self.path}"
        return f"it goes on when the same command is given again, in {self.path}"


def _held(path: Path) -> list[str]:
    """Return the names of what a path holds already, but for what a killed process has left; nothing where it is free."""
    if not path.is_dir():
        return [path.name] if path.exists() else []
    return sorted(item.name for item in path.iterdir() if not item.match(TEMPORARY))


def _clear(path: Path) -> None:
    """Remove what processes that were killed have left of files, in this folder and those inside."""
    for temporary in path.rglob(TEMPORARY):
        temporary.unlink(missing_ok=True)


def _trained_in(path: Path) -> bool:
    return any(file.stat().st_size for file in path.rglob("metrics.jsonl"))


def describe(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a reader needs to repeat a run: settings, versions, kind of machine; no host name, no user name."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    machine = {"system": platform.system(), "machine": platform.machine(), "cores": os.cpu_count()}
    return {
        "settings": dict(settings),
        "seed": settings.get("seed"),
        "ranks": current_group().size,
        "versions": versions,
        "platform": machine,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def next_folder(name: str, root: str | Path = "runs") -> Path:
    """Return the path of the first free folder `root/name-1`, `root/name-2`, …; nothing is made yet.

    >>> next_folder("demo", root="no such folder").name
    'demo-1'
    """
    number = 1
    while (path := Path(root) / f"{name}-{number}").exists():
        number += 1
    return path


def is_own(description: Mapping[str, Any]) -> bool:
    """Say whether a run, by its run.json, is somebody's own, or was made on the way to something else.

    >>> is_own({"command": "train clip"}), is_own({"command": "train blip2: encoder"})
    (True, False)
    """
    command = str(description.get("command") or "demo")
    return (command == "demo" or command.startswith("train ")) and ":" not in command


def last_run(
    root: str | Path = "runs", *, holding: str = "run.json", of_model: tuple[str, ...] | None = None
) -> Path:
    """Return the run folder under `root` that was started or resumed last, among those that hold a file named `holding`.

    Runs that a command has made on the way to something else, as `ablate` and `compare` do, are
    nobody's last run. `of_model` names the models, as `run.json` says them, that will do. The time
    is the one written in `run.json`: file dates change when a folder is copied. UsageError if there
    is none.
    """
    found, runs = [], list(Path(root).glob("*/run.json"))
    for file in runs:
        if not (file.parent / holding).exists():
            continue
        description = read_run(file, "started", "resumed")
        if of_model and description.get("model") not in of_model or not is_own(description):
            continue
        found.append(
            (
                max([description["started"], *(item["time"] for item in description["resumed"])]),
                file.parent,
            )
        )
    if not found:
        if not runs:
            raise UsageError(
                f"the last run is looked for under {root}, and no run is there yet; `python -m tinymm demo` makes one, or name one with --model"
            )
        raise UsageError(
            f"the last run is looked for under {root}, and 0 of the {len(runs)} there have a model that this command can use; train one "
            "(`python -m tinymm train --help`), or name one with --model"
        )
    return max(found)[1]
