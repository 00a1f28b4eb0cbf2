"""A case and its oracle: what must hold whatever was read.

The call returns or raises a TinymmError with a sentence; no warning escapes; it takes at most
`SECONDS` of processor time and `BYTES` of memory; it starts no program, opens no connection, looks
up no class of a pickle and writes nothing but what the case allows; the input is afterwards what it
was, byte by byte; and the kind's own judge finds everything that went in again, used or named.
"""

import hashlib
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinymm.arrays.errors import TinymmError

SECONDS, BYTES = 10, 2**30
CANARY = "canary"
#: Audit events that no reading of a file has a reason for.
FORBIDDEN = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "subprocess.Popen",
    "socket.connect", "socket.getaddrinfo", "pickle.find_class", "shutil.unpack_archive",
)  # fmt: skip


@dataclass
class Trial:
    """What a kind made of a seed.

    `about` names the mutations. `act` calls tinymm, and `judge` gets what it returned and yields
    complaints; `status` says of it whether something was "used", "named" as left out, or "refused".
    A trial that is `valid` has nothing wrong with it, and may not be refused. `writes` are the
    files and folders, below the case's folder, that the call may make or change.
    """

    about: str
    act: Callable[[], Any]
    judge: Callable[[Any], Iterable[str]] = lambda result: ()
    status: Callable[[Any], str] = lambda result: "used"
    valid: bool = False
    writes: tuple[str, ...] = ()


@dataclass
class Outcome:
    """What became of a case: "used", "named", "refused", or "finding" with its symptom."""

    case: str
    status: str
    about: str = ""
    symptom: str = ""
    detail: str = ""


Kind = Callable[[random.Random, Path], Trial]


class Hang(BaseException):
    """Raised by the alarm; no `except Exception` stops it."""


class Watch:
    """The audit hook: notes forbidden events and files that are opened for writing, while it is on."""

    def __init__(self) -> None:
        self.on = False
        self.events: list[str] = []
        self.written: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple) -> None:
        if not self.on:
            return
        if event in FORBIDDEN:
            self.events.append(f"{event} {str(arguments)[:120]}")
        elif event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            if arguments[2] is not None and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self.written.append(os.fsdecode(arguments[0]))


class Bench:
    """Runs cases in this process, one after the other, each in a folder of its own below `root`."""

    def __init__(self, kinds: dict[str, Kind], root: Path | None = None) -> None:
        self.root = root or new_root()
        self.kinds, self.watch, self.count = kinds, Watch(), 0
        signal.signal(signal.SIGPROF, self._alarm)
        signal.signal(signal.SIGALRM, self._alarm)

    def _alarm(self, *_: object) -> None:
        if self.watch.on:  # an alarm that comes late finds nobody to wake
            self.watch.on = False
            raise Hang

    def close(self) -> None:
        """Remove everything that was written."""
        shutil.rmtree(self.root, ignore_errors=True)

    def run(self, case: str, keep: Path | None = None) -> Outcome:
        """Return what becomes of "kind:seed"; `keep` gets a copy of the input."""
        kind, _, seed = case.partition(":")
        self.count += 1
        folder = self.root / str(self.count) / "in"
        folder.mkdir(parents=True)
        here = os.getcwd()
        try:
            trial = self.kinds[kind](random.Random(f"{kind}:{int(seed)}"), folder)
            if keep:
                shutil.copytree(folder, keep, dirs_exist_ok=True, symlinks=True)
            os.chdir(folder)
            return self._tried(case, trial, folder)
        except Exception as problem:  # of a kind or its judge, which are programs too
            said = f"the fuzzer itself: {type(problem).__name__}: {problem}"
            return Outcome(case, "finding", "", said, traceback.format_exc())
        finally:
            os.chdir(here)
            shutil.rmtree(folder.parent, ignore_errors=True)

    def _tried(self, case: str, trial: Trial, folder: Path) -> Outcome:
        before = snapshot(folder.parent)
        self.watch.events, self.watch.written = [], []
        base, status, symptom, detail, result = _reset_peak(), "used", "", "", None
        complaints: list[str] = []
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                signal.setitimer(signal.ITIMER_PROF, SECONDS)
                signal.setitimer(signal.ITIMER_REAL, 6 * SECONDS)
                self.watch.on = True
                result = trial.act()
                self.watch.on = False
            except TinymmError as problem:
                status, detail = "refused", str(problem)
                complaints += _of_refusal(problem, trial)
            except Hang:
                complaints.append(f"hangs: over {SECONDS} s")
                detail = traceback.format_exc()
            except BaseException as problem:
                complaints.append(
                    f"{type(problem).__name__}: {str(problem)[:200]} {_place(problem)}"
                )
                detail = traceback.format_exc()
            finally:
                self.watch.on = False
                signal.setitimer(signal.ITIMER_PROF, 0)
                signal.setitimer(signal.ITIMER_REAL, 0)
        peak = _peak() - base
        complaints += [f"warns: {item.category.__name__}: {item.message}" for item in warned[:3]]
        complaints += [f"memory: {peak / 2**20:,.0f} MB"] if peak > BYTES else []
        complaints += self._of_folder(before, trial, folder)
        if status == "used" and not complaints:
            complaints += trial.judge(result)
            status = trial.status(result)
        if complaints:
            status, symptom = "finding", " · ".join(complaints[:4])
        return Outcome(case, status, trial.about, symptom, detail)

    def _of_folder(self, before: dict[str, str], trial: Trial, folder: Path) -> list[str]:
        after, complaints = snapshot(folder.parent), []
        allowed = tuple(f"in/{name}" for name in trial.writes)
        differ = {name for name in {*before, *after} if after.get(name) != before.get(name)}
        differ = {name for name in differ if not name.startswith(allowed or " ")}
        changed, fresh = sorted(differ & before.keys()), sorted(differ - before.keys())
        halves = [name for name in after if name not in before and name.endswith((".tmp", ".part"))]
        elsewhere = [
            name for name in self.watch.written
            if not os.path.abspath(name).startswith((str(folder), "/dev/null", "/proc/self"))
        ]  # fmt: skip
        for what, names in (
            ("changes its input", changed), ("leaves files", [*fresh, *halves]),
            ("executes", self.watch.events), ("writes elsewhere", elsewhere),
        ):  # fmt: skip
            if names:
                complaints.append(f"{what}: {', '.join(names[:3])}")
        return complaints


def new_root() -> Path:
    """Return a new folder for cases, in memory where the system has one there."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory))


def snapshot(folder: Path) -> dict[str, str]:
    """Return what stands below a folder: paths, and of each file its length and a digest."""
    found: dict[str, str] = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(place, name)
            said = os.path.relpath(path, folder)
            if os.path.islink(path):
                found[said] = f"link {os.readlink(path)}"
            elif name in folders:
                found[said] = "folder"
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    found[said] = hashlib.blake2b(file.read(), digest_size=8).hexdigest()
    return found


def _of_refusal(problem: BaseException, trial: Trial) -> list[str]:
    said, chain = str(problem), problem
    complaints = [f"valid input is refused: {said[:300]}"] if trial.valid else []
    if not said.strip() or len(said) > 5000 or "Traceback" in said:
        complaints.append(f"refuses without a sentence: {said[:200]!r}")
    while chain is not None:
        if isinstance(chain, MemoryError):
            complaints.append(f"refuses behind a {type(chain).__name__}")
        chain = chain.__cause__ or chain.__context__  # type: ignore[assignment]
    return complaints


def _place(problem: BaseException) -> str:
    """Return the last line of tinymm that an error passed through."""
    frames = [f for f in traceback.extract_tb(problem.__traceback__) if "/tinymm/" in f.filename]
    at = frames[-1] if frames else None
    return f"({at.filename.split('/tinymm/')[-1]}:{at.lineno})" if at else ""


def _status(key: str) -> int:
    with open("/proc/self/status") as file:
        return next((int(line.split()[1]) * 1024 for line in file if line.startswith(key)), 0)


def _reset_peak() -> int:
    """Start to measure the peak of memory anew where the system can, and return what is in use."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return sys.maxsize  # never a finding: this system does not say
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM") if os.path.exists("/proc/self/status") else 0


def bounded_memory(more: int = 2 * BYTES) -> None:
    """Let this process take that many more bytes at most: a case may fail, the machine may not."""
    used = _status("VmSize") if os.path.exists("/proc/self/status") else 0
    if used:
        resource.setrlimit(resource.RLIMIT_AS, (used + more, resource.RLIM_INFINITY))
