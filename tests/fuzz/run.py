"""Run the fuzzer: `python tests/fuzz/run.py --cases 100000 --seed 0 [--kind tables]`, or replay cases by name."""

import argparse
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path[:1] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from fuzz import pool  # noqa: E402
from fuzz.cases import Bench, Outcome, bounded_memory  # noqa: E402


def main() -> int:
    """Run what the command line asks for, and return 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "replay", nargs="*", metavar="KIND:SEED", help="run these cases only, in this process"
    )
    parser.add_argument("--cases", type=int, default=100_000, metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other cases")
    parser.add_argument("--kind", action="append", help="only this kind; several times if wanted")
    parser.add_argument("--processes", type=int, default=2, metavar="N")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep a replayed case's input here"
    )
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        pool.work(options.worker)
        return 0
    if options.replay:
        return replay(options.replay, options.keep)
    from fuzz.kinds import cases

    tally = Tally()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        pool.run(cases(options.cases, options.seed, options.kind), tally.add, options.processes)
    finally:  # of a run that is stopped, too
        print("\n".join(tally.lines()), flush=True)
    return bool(tally.findings)


def replay(names: list[str], keep: Path | None) -> int:
    """Run cases in this process and print all that is known of them."""
    from fuzz.kinds import KINDS, warm

    warm()
    bench = Bench(KINDS)
    bounded_memory()
    found = [bench.run(name, keep) for name in names]
    bench.close()
    for outcome in found:
        said = f"{outcome.case}: {outcome.status}\n  {outcome.about}\n  {outcome.symptom}\n{outcome.detail}"
        print(said.encode("utf-8", "backslashreplace").decode())
    return any(outcome.status == "finding" for outcome in found)


class Tally:
    """Counts outcomes by kind, and prints findings as they come, one of each symptom in full."""

    def __init__(self, say: bool = True) -> None:
        self.counts: dict[str, Counter] = {}
        self.findings: list[Outcome] = []
        self.started, self.say, self.seen = time.monotonic(), say, Counter()

    def add(self, outcome: Outcome) -> None:
        """Count an outcome."""
        kind = outcome.case.split(":")[0]
        self.counts.setdefault(kind, Counter())[outcome.status] += 1
        if outcome.status == "finding":
            self.findings.append(outcome)
            classes = {_class_of(complaint) for complaint in outcome.symptom.split(" · ")}
            fresh = [name for name in classes if self.seen[kind, name] < 3]
            self.seen.update((kind, name) for name in classes)
            if self.say and fresh:
                said = f"{outcome.case}: {outcome.symptom}  [{outcome.about}]"[:700]
                print(said.encode("utf-8", "backslashreplace").decode(), flush=True)

    def lines(self) -> list[str]:
        """Return the table of outcomes by kind and the sum."""
        kinds = ("used", "named", "refused", "finding")
        said = [f"{'kind':<16}{'cases':>9}" + "".join(f"{kind:>9}" for kind in kinds)]
        for name, counts in sorted(self.counts.items()):
            said.append(
                f"{name:<16}{sum(counts.values()):>9,}"
                + "".join(f"{counts[kind]:>9,}" for kind in kinds)
            )
        count = sum(sum(counts.values()) for counts in self.counts.values())
        seconds = time.monotonic() - self.started
        by_class = sorted(self.seen.items(), key=lambda item: (item[0][0], -item[1]))
        said += [f"  {kind}: {times:,} × {name}" for (kind, name), times in by_class]
        return [*said, f"{count:,} cases in {seconds:,.0f} s, {len(self.findings):,} findings"]


def _class_of(complaint: str) -> str:
    """Return a complaint's class: its first words, and for an error the line that it came from."""
    place = complaint[complaint.rfind("(") :] if ".py:" in complaint else ""
    return f"{complaint.split(':')[0]} {place}".strip()


if __name__ == "__main__":
    sys.exit(main())
