"""Processes that run cases: a case that kills its process is a finding like any other."""

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from .cases import SECONDS, Bench, Outcome, bounded_memory, new_root

#: A processor that is shared with others stretches ten seconds; the case's own clock is the other
#: one.
PATIENCE = 12 * SECONDS


def work(root: Path) -> None:
    """Read cases from the standard input, a line each, and answer each by a line of JSON."""
    import faulthandler

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a command prints is no answer
    faulthandler.enable()
    from .kinds import KINDS, warm

    warm()
    bench = Bench(KINDS, root)
    bounded_memory()
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        answers.write(json.dumps(asdict(bench.run(line.strip()))) + "\n")
        answers.flush()


class Worker:
    """A process that runs one case at a time and is started anew when it dies or is stuck."""

    def __init__(self) -> None:
        self.root = new_root()
        self.log = tempfile.TemporaryFile("w+")
        self.process: subprocess.Popen | None = None

    def _start(self) -> subprocess.Popen:
        script = Path(__file__).with_name("run.py")
        process = subprocess.Popen(
            [sys.executable, "-u", str(script), "--worker", str(self.root)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True,
            start_new_session=True,  # Ctrl-C is for the one that gives the cases out
        )  # fmt: skip
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            self.log.seek(0)
            raise RuntimeError(f"a worker of the fuzzer does not start: {self.log.read()[-2000:]}")
        return process

    def run(self, case: str) -> Outcome:
        """Return what becomes of a case, here where it ends the process or does not end."""
        process = self.process = self.process or self._start()
        assert process.stdin is not None and process.stdout is not None
        self.log.seek(0)
        self.log.truncate()
        try:
            process.stdin.write(case + "\n")
            process.stdin.flush()
            if select.select([process.stdout], [], [], PATIENCE)[0]:
                answer = process.stdout.readline()
                if answer:
                    return Outcome(**json.loads(answer))
                symptom = f"ends its process with code {process.wait()}"
            else:
                symptom = f"hangs: over {PATIENCE} s, and no signal stops it"
        except BrokenPipeError:
            symptom = f"ends its process with code {process.wait()}"
        self.end()
        self.log.seek(0)
        return Outcome(case, "finding", "", symptom, self.log.read()[-3000:])

    def end(self) -> None:
        """End the process; the next case starts another."""
        if self.process is not None:
            self.process.kill()
            with contextlib.suppress(OSError):  # of the case that it did not take
                self.process.stdin.close()  # type: ignore[union-attr]
            self.process.stdout.close()  # type: ignore[union-attr]
            self.process.wait()
            self.process = None

    def close(self) -> None:
        """End the process for good."""
        self.end()
        self.log.close()
        shutil.rmtree(self.root, ignore_errors=True)


def run(cases: Iterable[str], say: Callable[[Outcome], None], processes: int = 2) -> None:
    """Run the cases on so many processes and hand each outcome to `say`, one at a time."""
    waiting, lock = iter(cases), threading.Lock()
    failures: list[BaseException] = []

    def serve() -> None:
        worker = Worker()
        try:
            while not failures:
                with lock:
                    case = next(waiting, None)
                if case is None:
                    return
                outcome = worker.run(case)
                with lock:
                    say(outcome)
        except BaseException as problem:
            failures.append(problem)
        finally:
            worker.close()

    threads = [threading.Thread(target=serve) for _ in range(processes)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException as problem:  # Ctrl-C: each process ends with the case that it has
        failures.append(problem)
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
