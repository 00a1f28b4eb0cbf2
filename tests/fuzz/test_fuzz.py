"""A thousand fixed cases of all kinds find nothing; and the oracle itself notices what it is for."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from tinymm.arrays.errors import DataError

pytest.importorskip("resource", reason="the fuzzer bounds memory and time as Unix does")

from fuzz import pool  # noqa: E402
from fuzz.cases import BYTES, Bench, Trial  # noqa: E402
from fuzz.kinds import KINDS, SHARES, cases  # noqa: E402
from fuzz.run import Tally  # noqa: E402


@pytest.mark.slow
def test_a_thousand_cases_find_nothing(capsys):
    tally = Tally(say=False)
    pool.run(cases(1000, seed=0), tally.add)
    with capsys.disabled():
        print("\n" + "\n".join(tally.lines()))
    found = [
        f"{outcome.case}: {outcome.symptom} [{outcome.about}]"[:500] for outcome in tally.findings
    ]
    assert not found, "\n".join(["replay with python tests/fuzz/run.py KIND:SEED", *found[:20]])


def test_every_kind_has_a_share_and_a_case_is_its_name():
    assert SHARES.keys() == KINDS.keys() and sum(SHARES.values()) == pytest.approx(1)
    first, again = list(cases(300, 4)), list(cases(300, 4))
    assert first == again and len(set(first)) == 300 and not set(first) & set(cases(300, 5))
    assert {name.split(":")[0] for name in first} == set(KINDS)


# ---------------------------------------------------------------------- the oracle
def prints(rng, folder):
    os.system("true")


def writes(rng, folder):
    (folder / "half.tmp").write_bytes(b"x")


def changes(rng, folder):
    (folder / "input").write_bytes(b"y")


def escapes(rng, folder):
    (folder.parent / "canary").write_bytes(b"")


def warns(rng, folder):
    warnings.warn("odd", stacklevel=1)


def grows(rng, folder):
    np.ones(BYTES // 8 + 2**24)


def hangs(rng, folder):
    while True:
        pass


def fails(rng, folder):
    raise KeyError("x")


def is_silent(rng, folder):
    raise DataError("")


def hides(rng, folder):
    try:
        raise MemoryError
    except MemoryError as problem:
        raise DataError("a sentence") from problem


FAULTS = {
    prints: "executes: os.system", writes: "leaves files: in/half.tmp",
    changes: "changes its input: in/input", escapes: "leaves files: canary",
    warns: "warns: UserWarning: odd", grows: "memory: 1,1", hangs: "hangs: over",
    fails: "KeyError: 'x'", is_silent: "refuses without a sentence",
    hides: "refuses behind a MemoryError",
}  # fmt: skip


@pytest.fixture(scope="module")
def bench():
    """A bench with a kind for each fault, one that is right, and one that drops a record."""

    def kind_of(fault):
        def kind(rng, folder):
            (folder / "input").write_bytes(b"x")
            return Trial(fault.__name__, lambda: fault(rng, folder))

        return kind

    def right(rng, folder):
        return Trial("right", lambda: rng.random())

    def drops(rng, folder):
        return Trial("drops", lambda: 1, lambda found: ["dropped: k1s"])

    made = Bench(
        {fault.__name__: kind_of(fault) for fault in FAULTS} | {"right": right, "drops": drops}
    )
    yield made
    made.close()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_oracle_notices(fault, bench, monkeypatch):
    monkeypatch.setattr("fuzz.cases.SECONDS", 1 if fault is hangs else 60)
    if fault is grows and not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("this system does not tell the peak of memory")
    outcome = bench.run(f"{fault.__name__}:0")
    assert outcome.status == "finding" and FAULTS[fault] in outcome.symptom, outcome


def test_the_oracle_lets_what_is_right_pass_and_asks_the_judge(bench):
    assert bench.run("right:3").status == "used"
    assert bench.run("drops:3").symptom == "dropped: k1s"


def planted(bench_kind, monkeypatch, target, change):
    """Return the outcome of a few hundred cases of a kind, with a part of tinymm broken on purpose."""
    monkeypatch.setattr(target, change)
    bench = Bench({bench_kind: KINDS[bench_kind]})
    try:
        return [bench.run(f"{bench_kind}:{seed}") for seed in range(60)]
    finally:
        bench.close()


def test_a_reader_that_drops_rows_is_noticed(monkeypatch):
    from tinymm.data.your_data import captions

    whole = captions.read

    def without_the_third(*arguments):
        layout, rows = whole(*arguments)
        return layout, (row for number, row in enumerate(rows) if number != 2)

    found = planted("tables", monkeypatch, "tinymm.data.your_data.captions.read", without_the_third)
    assert sum("dropped: k2" in outcome.symptom for outcome in found) > 10


def test_a_reader_that_loses_captions_or_splits_of_folders_is_noticed(monkeypatch):
    from tinymm.data.your_data import beside, entries, listing, splits

    whole = beside._texts_of
    found = planted(
        "texts",
        monkeypatch,
        "tinymm.data.your_data.beside._texts_of",
        lambda file: (whole(file)[0][:1], ""),
    )
    assert sum("dropped: k" in outcome.symptom for outcome in found) > 10
    monkeypatch.setattr("tinymm.data.your_data.beside._texts_of", whole)

    def without_parts(folder, parts, options):
        raise beside.Nothing("no parts")

    monkeypatch.setattr(listing, "_from_parts", without_parts)
    found = planted(
        "texts",
        monkeypatch,
        "tinymm.data.your_data.splits.of_path",
        lambda folders, where: splits.TRAIN,
    )
    assert entries.splits is splits
    assert sum("is trained on" in outcome.symptom for outcome in found) > 3


def test_a_remark_that_counts_too_few_files_is_noticed(monkeypatch):
    from tinymm.data.your_data import columns

    whole = columns.Remarks.add

    def without_the_first(self, place, kind, items, said="not used"):
        whole(self, place, kind, list(items)[(kind == ".txt file") :], said)

    bench = Bench({"texts": KINDS["texts"]})
    assert bench.run("texts:708624").status == "named"
    monkeypatch.setattr(columns.Remarks, "add", without_the_first)
    outcome = bench.run("texts:708624")
    bench.close()
    assert "dropped: k" in outcome.symptom


def test_a_remark_that_counts_too_few_captions_is_noticed(monkeypatch):
    from tinymm.data.your_data import columns

    whole = columns.Remarks.add
    bench = Bench({"shards": KINDS["shards"]})
    assert bench.run("shards:807512").status == "named"

    def without_captions(self, place, kind, items, *said):
        return None if kind == "caption" else whole(self, place, kind, items, *said)

    monkeypatch.setattr(columns.Remarks, "add", without_captions)
    outcome = bench.run("shards:807512")
    bench.close()
    assert "dropped: k" in outcome.symptom


def test_a_reader_of_json_that_drops_annotations_is_noticed(monkeypatch):
    from tinymm.data.your_data import captions

    whole = captions._coco_rows

    def without_the_third(path, images, annotations, remarks):
        return whole(path, images, annotations[:2] + annotations[3:], remarks)

    found = planted(
        "jsons", monkeypatch, "tinymm.data.your_data.captions._coco_rows", without_the_third
    )
    assert (
        sum("dropped: k" in outcome.symptom for outcome in found) > 2
    )  # of those that are COCO and read


def test_a_word_for_a_split_in_capitals_is_known_and_others_are_not():
    from fuzz.accounts import may_train

    assert [may_train(word) for word in ("TEST", "Training", "VALID", "tset", "")] == [
        False,
        True,
        False,
        None,
        None,
    ]


def test_a_loader_that_forgets_a_tensor_is_noticed(monkeypatch):
    from tinymm.pretrained.store import checkpoints

    whole = checkpoints.load_with_report

    def forgetful(*arguments, **options):
        model, report = whole(*arguments, **options)
        report.keys.pop(next(iter(report.keys)))
        return model, report

    monkeypatch.setattr("tinymm.pretrained.load_with_report", forgetful)
    bench = Bench({"checkpoints": KINDS["checkpoints"]})
    found = [bench.run(f"checkpoints:{seed}") for seed in range(60)]
    bench.close()
    assert sum("dropped" in outcome.symptom for outcome in found) > 3


def test_a_case_that_kills_its_process_is_a_finding(tmp_path, monkeypatch):
    script = tmp_path / "run.py"
    answer = json.dumps({"case": "a:2", "status": "used", "about": "", "symptom": "", "detail": ""})
    body = f"""
        import os, sys
        print("ready", flush=True)
        for line in sys.stdin:
            if line == "a:1\\n":
                os._exit(9)
            print({answer!r}, flush=True)
    """
    script.write_text("\n".join(line[8:] for line in body.splitlines()))
    monkeypatch.setattr(pool, "__file__", str(tmp_path / "pool.py"))
    found = []
    pool.run(["a:0", "a:1", "a:2"], found.append, processes=1)
    assert [outcome.status for outcome in found] == ["used", "finding", "used"]
    assert found[1].symptom == "ends its process with code 9"


@pytest.mark.slow
def test_the_command_replays_a_case():
    script = Path(__file__).with_name("run.py")
    done = subprocess.run([sys.executable, str(script), "tables:3"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("tables:3: "), done.stderr
