"""How a run begins, goes on and is finished: what all commands that train share.

A run is finished when its report is there, which is written last: one that was stopped while its
pictures were drawn has its weights and numbers, and goes on with drawing. Beside its settings a run
keeps a fingerprint of its data and of what the models that it began with have seen: it goes on with
the same data only, and whoever evaluates it learns which pictures are not new to it.
"""

import difflib
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinymm.arrays.errors import DataError, UsageError
from tinymm.data.batches import Source
from tinymm.data.your_data.fingerprint import difference, fingerprint, trained_on
from tinymm.training.checkpoint import FILE as CHECKPOINT
from tinymm.training.checkpoint import read_progress
from tinymm.training.records import (
    RunFolder,
    read_json,
    read_metrics,
    read_results,
    read_run,
    write_json,
)

from .open_model import check_kind, settings_of
from .terminal import doing

#: What a run remembers of its data.
DATA = "data.json"


@dataclass(frozen=True)
class Stopped:
    """A run that goes on: its folder, its own settings, how far it got, and whether only its pictures are missing."""

    path: Path
    settings: dict[str, Any]
    progress: dict[str, Any]
    trained: bool

    @property
    def words(self) -> str | None:
        """The folder that holds the tokenizer with which the run began; None where it had not got so far."""
        return str(self.path) if (self.path / "tokenizer.json").exists() else None

    @property
    def anew(self) -> bool:
        """Whether the run was stopped before it noted its data: it begins again, with the data as it is now."""
        return self.progress["step"] == 0 and not self.trained and not (self.path / DATA).exists()

    def open(self, source: Source, say: Callable[[str], None]) -> RunFolder:
        """Return the open folder, as it was after the step that the run goes on from, which is said; UsageError where the data has changed."""
        if (self.path / DATA).exists():
            changed = difference(fingerprint_in(self.path), fingerprint(source))
            if changed:
                raise UsageError(
                    f"--resume goes on with the data that {self.path} began with, and since then {changed}; bring it back as it was, or begin "
                    "a new run"
                )
        elif not self.anew:
            say(
                f"{self.path} does not say what data it began with; whether that is still the same cannot be told"
            )
        steps = self.settings.get("steps")
        if self.trained:
            say(f"{self.path}: all {steps} steps are done; its pictures and report are drawn")
        else:
            say(f"{self.path} goes on after step {self.progress['step']} of {steps}")
        return RunFolder.resume(self.path, int(self.progress["step"]))


def stopped(path: str | Path, model: str) -> Stopped:
    """Return what is known of a run that was stopped, which is step 0 before its first checkpoint; nothing is changed.

    UsageError if it is finished, or if it is a run of another `model`, by the name of its spec.
    """
    path = Path(path)
    if not (path / "run.json").exists():
        there = "holds no run.json" if path.is_dir() else "does not exist"
        raise UsageError(
            f"--resume goes on with a run that was stopped, and {path} {there}; start a new run with --out"
        )
    run = read_run(path / "run.json", "settings")
    settings = settings_of(path / "run.json")
    if run.get("model") != model:
        raise UsageError(
            f"--resume goes on with a run of the same model, and {path} is one of "
            f"{run.get('model')}; say so after `train`, or start a new run"
        )
    if finished(path):
        raise UsageError(
            f"--resume goes on with a run that was stopped, and {path} is finished; start a new run with --out, from its weights with --init "
            "where the model takes it"
        )
    progress: dict[str, Any] = {"step": 0, "best": -1.0, "best_step": 0}
    trained = (path / "results.json").exists()
    if trained:
        records = read_metrics(path)
        progress["step"] = records[-1]["step"] if records else 0
    elif (path / CHECKPOINT).exists():
        progress = read_progress(path)
    return Stopped(path, settings, progress, trained)


def own_settings(kind: Callable[..., Any], stop: Stopped) -> Any:
    """Return the settings of a run that goes on, as their class has them; DataError for one that is unknown or of another kind."""
    known = typing.get_type_hints(kind)
    foreign = [name for name in stop.settings if name not in known]
    if foreign:
        near = difflib.get_close_matches(foreign[0], set(known) - set(stop.settings), n=1)
        hint = (
            f"did you mean {near[0]}? Rename it there"
            if near
            else "go on with the version of tinymm that began it"
        )
        raise DataError(
            f"--resume goes on by the run's settings, and {stop.path / 'run.json'} has {foreign[0]!r}, which is none; {hint}"
        )
    for name, value in stop.settings.items():
        check_kind(stop.path / "run.json", name, value, known[name])
    return kind(**stop.settings)


def finished(path: Path) -> bool:
    """Return whether a run has its numbers and its report."""
    return (path / "results.json").exists() and (path / "report.html").exists()


def remember(
    folder: RunFolder, source: Any, began_with: Iterable[Path], say: Callable[[str], None]
) -> None:
    """Keep the data's fingerprint and its words in a new run's folder, and what the models that it `began_with` were trained on.

    Pictures that are kept back now and were trained on then are said: their numbers are no test.
    """
    now = fingerprint(source)
    before = {
        one["digest"]: one
        for path in began_with
        for one in seen_by(path)
        if one["digest"] != now["digest"]
    }
    write_json(folder.path / DATA, now | {"before": list(before.values())})
    source.tokenizer.save(folder.path)
    not_new(now, before.values(), "the model that this run begins with", say)


def seen_by(path: Path) -> list[dict[str, Any]]:
    """Return the fingerprints of what the model at a path was trained on: its own data, and what it began with; empty if it does not say."""
    if not (path / DATA).exists():
        return []
    own = fingerprint_in(path)
    return [{key: value for key, value in own.items() if key != "before"}, *own.get("before", [])]


def fingerprint_in(path: Path) -> dict[str, Any]:
    """Return what a run's folder remembers of its data; DataError where that is no fingerprint."""
    own = read_json(path / DATA)
    before = own.get("before", []) if isinstance(own, dict) else None
    if not isinstance(before, list) or not all(
        isinstance(one, dict) and isinstance(one.get("digest"), str) for one in (own, *before)
    ):
        raise DataError(
            f"a run folder's {DATA} is a fingerprint of its data: {path / DATA} is not; restore it, or start another run"
        )
    return own


def not_new(
    now: dict[str, Any], before: Iterable[dict[str, Any]], who: str, say: Callable[[str], None]
) -> None:
    """Say which pictures that `now` keeps back from training were trained on `before`."""
    names = sorted({name for one in before for name in trained_on(one, now)})
    if names:
        kept = sum(count for split, count in now["splits"].items() if split != "train")
        say(
            f"not new: {len(names):,} of the {kept:,} pictures kept back here were trained on by {who} ({', '.join(names[:3])}"
            f"{', …' * (len(names) > 3)}); what is measured on them is too good"
        )


def finish(
    folder: RunFolder,
    stop: Stopped | None,
    measure: Callable[[], dict[str, Any]],
    draw: Callable[[dict[str, Any]], None],
) -> None:
    """Measure the trained model, unless that was done before the run was stopped, then draw the pictures and write the report."""
    if stop is None or not stop.trained:
        with doing("measuring"):
            folder.write_results(measure())
    (folder.path / CHECKPOINT).unlink(missing_ok=True)
    with doing("drawing the pictures"):
        draw(read_results(folder.path))


def model_of(path: str | Path) -> str | None:
    """Return the name of the spec by which a run was trained, by its folder or run.json."""
    path = Path(path)
    run = path / "run.json" if path.is_dir() else path
    return read_run(run).get("model") if run.is_file() else None
