"""The command line: help with examples that parse, codes, one sentence for what cannot work, and nothing left behind."""

import argparse
import json
import shlex
import subprocess
import sys

import pytest
from small_runs import TINY, train_command
from strict_array import NO_GPU

import tinymm
from tinymm.__main__ import build_parser, main
from tinymm.tasks import all_specs


def commands(parser, path=()):
    """Yield (path, parser) of every command."""
    actions = [
        action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    ]
    if not actions:
        yield path, parser
    for action in actions:
        for name, sub in action.choices.items():
            yield from commands(sub, (*path, name))


ALL = dict(commands(build_parser()))
EXPECTED = [
    "demo", "train clip", "train albef", "train blip", "train blip2", "train language",
    "ablate blip2", "ablate albef", "ablate blip", "compare", "caption", "eval",
    "classify", "search", "masks", "data check", "data show", "check", "bench", "exercises", "web", "course status", "course quiz", "course hunt",
    "arithmetic",
]  # fmt: skip


def test_every_command_of_the_design_is_there():
    assert [" ".join(path) for path in ALL] == EXPECTED


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_has_an_example_and_the_example_parses(path, command):
    said = command(*path, "--help")
    assert said.code == 0 and not said.error
    example = ALL[path].epilog.removeprefix("example: python -m tinymm ")
    assert example in " ".join(said.out.split())
    assert example.startswith(" ".join(path))
    build_parser().parse_args(shlex.split(example))


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in ALL
        if path != ("data", "check") and path[0] not in ("exercises", "web", "course")
    ],
    ids=" ".join,
)
def test_common_flags(path):
    flags = {flag for action in ALL[path]._actions for flag in action.option_strings}
    assert {"--out", "--debug"} <= flags
    assert ("--seed" in flags) == (path[0] not in ("classify", "search", "masks"))
    assert ("--backend" in flags) == (path[0] not in ("masks", "data"))
    assert ("--model" in flags) == (
        path[0] in ("eval", "classify", "search", "caption", "arithmetic")
    )
    assert ("--invert" in flags) == (path[0] in ("classify", "search"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "COMMAND"),
        (["fly"], "arithmetic, and 'fly' came; choose one of these"),
        (["trian"], "and 'trian' came; did you mean train?"),
        (["data", "chek"], "it is one of check, show, and 'chek' came; did you mean check?"),
        (["masks", "--objective", "itx"], "and 'itx' came; did you mean itm?"),
        (
            ["masks", "--text", "a", "red", "ball"],
            "unrecognized arguments: red ball; a text of several words stands in quotation marks",
        ),
        (["demo", "--stepz", "3"], "unrecognized arguments: --stepz 3; did you mean --steps?"),
        (["demo", "--step", "3"], "unrecognized arguments: --step 3; did you mean --steps?"),
        (["demo", "--zzz", "3"], "unrecognized arguments: --zzz 3; see --help"),
        (["train", "clip", "--lr", "1e-3"], "--lr 1e-3; did you mean --learning-rate?"),
        (["train", "clip", "--batch", "8"], "--batch 8; did you mean --batch-size?"),
        (["train", "blip2", "--epochs=3"], "--epochs=3; did you mean --steps?"),
        (["eval", "--device", "cuda"], "--device cuda; did you mean --backend?"),
        (["eval", "--checkpoint", "x"], "--checkpoint x; did you mean --model?"),
        (["masks", "--backend", "cupy"], "unrecognized arguments: --backend cupy"),
        (["data", "check", "x", "--seed", "1"], "unrecognized arguments: --seed 1"),
        (["ablate", "blip", "--only", "filtered"], "unrecognized arguments: --only filtered"),
        (
            ["ablate", "blip2", "--only", "nonsense"],
            "ITM under ITC's mask, embed_dim 4, embed_dim 2, and 'nonsense' came",
        ),
        (
            ["classify", "a.png", "b.png", "--labels", "x,y"],
            "unrecognized arguments: b.png; classify takes picture, and a text of several",
        ),
        (["train"], "MODEL"),
        (
            ["train", "clip", "--image", "vgg"],
            "it is one of vit, resnet, and 'vgg' came; choose one of these",
        ),
        (["train", "clip", "--steps", "many"], "invalid int value: 'many'"),
        (["eval", "--seed", "-1"], "a seed is a whole number from 0 on, and '-1' came"),
        (["eval", "--seed", "x"], "a seed is a whole number from 0 on, and 'x' came"),
        (["check", "--backend", "tpu"], "it is one of numpy, cupy, and 'tpu' came"),
        (["classify", "a.png"], "--labels"),
    ],
)
def test_a_line_that_cannot_be_parsed_gives_code_2(arguments, message, command):
    said = command(*arguments)
    assert said.code == 2 and message in said.error and not said.out


def test_objectives_may_be_written_as_the_paper_does():
    options = build_parser().parse_args(
        ["masks", "--objective", "ITG", "--difference", "ITC", "ALBEF-MLM"]
    )
    assert options.objective == "itg" and options.difference == ["itc", "albef-mlm"]


@pytest.mark.parametrize(
    "more, message",
    [
        (["--batch-size", "1"], "--batch-size is at least 2"),
        (["--overfit", "1"], "--overfit is at least 2"),
        (["--steps", "0"], "--steps is at least 1"),
        (["--checkpoint-every", "0"], "--checkpoint-every is at least 1"),
        (["--validate-every", "0"], "--validate-every is at least 1"),
        (["--workers", "0"], "--workers is at least 1"),
        (["--learning-rate", "-1"], "--learning-rate is at least 0"),
        (["--heads", "3"], "32 over 3 heads came"),
        (["--patch", "7"], "16 over 7 came; choose a divisor"),
        (["--grad-cache", "0"], "--grad-cache is at least 1"),
        (
            ["--image", "resnet", "--grad-cache", "2", "--resolution", "32"],
            "normalizes over the whole batch, and chunks of 2",
        ),
        (
            ["--image", "resnet", "--workers", "2", "--resolution", "32"],
            "normalizes over the whole batch, and 2 workers",
        ),
        (["--image", "resnet"], "16 pixels came; choose a multiple of 32"),
        (
            ["--image", "resnet", "--resolution", "32", "--width", "8"],
            "the width 1 came; choose an even number",
        ),
        (["--data", "nowhere"], "'nowhere' is none of these"),
        (["--init", "nowhere"], "nowhere does not exist"),
        (
            ["--out", "taken"],
            "already holds 1 file (something.txt); continue that run with --resume, or name another folder with --out",
        ),
        (["--out", "taken/something.txt"], "already holds 1 file"),
    ],
)
def test_a_training_that_cannot_work_is_refused_before_anything_is_written(
    more, message, pictures, here, command
):
    (here / "taken").mkdir()
    (here / "taken" / "something.txt").write_text("mine")
    said = command(*train_command(pictures, "out", "--steps", 2), *more)
    assert said.code == 2 and message in said.error, said.error
    assert said.error.startswith("tinymm: ") and len(said.error.splitlines()) == 1
    assert sorted(str(path.relative_to(here)) for path in here.rglob("*")) == [
        "taken",
        "taken/something.txt",
    ]
    assert (here / "taken" / "something.txt").read_text() == "mine"


COMMANDS = {
    "demo": [],
    "train clip": [],
    "train albef": [],
    "train blip": [],
    "train blip2": [],
    "train language": [],
    "ablate blip2": [],
    "ablate blip": [],
    "ablate albef": [],
    "compare": [],
    "caption a.png": [],
    "eval": [],
    "classify a.png": ["--labels", "a,b"],
    "search folder word": [],
    "check softmax": [],
    "bench W1": [],
    "bench W1 ": ["--against", "torch"],
    "arithmetic": [],
}


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU")
@pytest.mark.parametrize("line", COMMANDS)
def test_a_missing_gpu_is_one_sentence_before_anything_is_done(line, here, command):
    """Whether CuPy is missing or its wheel is there without a driver."""
    said = command(*line.split(), *COMMANDS[line], "--backend", "cupy")
    assert (
        said.code == 2
        and said.error.startswith("tinymm: backend 'cupy' needs ")
        and said.error.endswith(" or use backend 'numpy'\n")
    ), said.error
    assert len(said.error.splitlines()) == 1 and not said.out and list(here.iterdir()) == []


def test_every_command_that_takes_a_backend_is_among_them():
    takes = [
        " ".join(path)
        for path, parser in ALL.items()
        if any("--backend" in action.option_strings for action in parser._actions)
    ]
    assert len(takes) > 12 and not [
        line for line in takes if not any(known.startswith(line) for known in COMMANDS)
    ]


def in_another_python(*arguments):
    """Run a line in a Python without site-packages, where only the checkout is found."""
    return subprocess.run(
        [sys.executable, "-S", *arguments],
        capture_output=True,
        text=True,
        cwd=tinymm.__path__[0] + "/..",
        env={},
    )


def test_a_python_without_numpy_is_one_sentence():
    done = in_another_python("-m", "tinymm", "demo")
    assert (
        done.returncode == 2
        and "has no numpy; write .venv/bin/python in the place of python" in done.stderr
    )
    assert len(done.stderr.splitlines()) == 1 and not done.stdout
    done = in_another_python("-c", "import tinymm")
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith(
        "ModuleNotFoundError: tinymm runs under the Python"
    )


def test_a_package_that_is_missing_is_one_sentence(monkeypatch, command):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    from tinymm.workflows.inspect import ops as check

    def drawing(*_, **__):
        import matplotlib  # noqa: F401

    monkeypatch.setattr(check, "run", drawing)
    said = command("check")
    assert (
        said.code == 2
        and "has no matplotlib; write .venv/bin/python" in said.error
        and len(said.error.splitlines()) == 1
    )
    with pytest.raises(ModuleNotFoundError):
        main(["check", "--debug"])


def test_checks_without_hypothesis_say_what_brings_it():
    code = "import sys\nsys.modules['hypothesis'] = None\nimport tinymm.testing"
    root = tinymm.__path__[0] + "/.."
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert (
        done.returncode == 1
        and 'hypothesis is not installed; pip install -c constraints.txt -e ".[notebooks]"'
        in done.stderr
    )
    assert done.stderr.count("File ") == 2, "the reader's line and the sentence"


def test_what_the_system_refuses_is_one_sentence(trained, here, command):
    said = command("eval", "--model", trained, "--out", "nowhere/numbers.json")
    assert (
        said.code == 2
        and said.error.startswith("tinymm: ")
        and "nowhere" in said.error
        and len(said.error.splitlines()) == 1
    )


def test_debug_shows_the_traceback(here):
    from tinymm.arrays.errors import CheckpointError

    with pytest.raises(CheckpointError, match="does not exist"):
        main(["eval", "--model", "nowhere", "--debug"])


def test_an_interrupt_gives_130_and_says_how_to_go_on(monkeypatch, command):
    from tinymm.workflows.inspect import ops as check

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "run", interrupted)
    said = command("check")
    assert said.code == 130 and said.error.strip() == "stopped, and what was written is whole"


def test_demo_passes_what_was_given_and_leaves_the_rest_to_the_defaults(
    monkeypatch, trained, command
):
    from tinymm.tasks import clip
    from tinymm.workflows.runs import run as train

    seen = {}

    def run(spec, settings, out=None, **options):
        seen.update(spec=spec.name, settings=settings, out=out, **options)
        return trained

    monkeypatch.setattr(train, "run", run)
    said = command("demo", "--steps", 7, "--seed", 3)
    settings = clip.CLIPSettings(steps=7, seed=3)
    assert seen == {
        "spec": "clip",
        "settings": settings,
        "out": None,
        "name": "demo",
        "command": "demo",
    }
    assert said.code == 0 and said.lines[-1].startswith(f"run folder: {trained} · open ")
    assert clip.CLIPSettings().data == "glyphs" and clip.CLIPSettings().steps == 1100


@pytest.mark.parametrize("spec", all_specs(), ids=lambda spec: spec.name)
def test_flags_are_settings_with_their_defaults(spec):
    line = ["train", spec.group or spec.name]
    fields = spec.settings.__dataclass_fields__.keys()
    flags = {action.dest for action in ALL[tuple(line)]._actions}
    assert fields <= flags
    given = {
        name: value
        for name, value in vars(build_parser().parse_args(line)).items()
        if name in fields
    }
    assert not given, "what was not given is not there"
    assert spec.settings(**given) == spec.settings()


def test_help_is_light():
    code = (
        "import sys\nfrom tinymm.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "heavy = {'matplotlib', 'scipy', 'PIL', 'hypothesis', 'tokenizers', 'safetensors', 'tqdm', 'torch', 'tinymm.testing'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    path = {"PYTHONPATH": tinymm.__path__[0] + "/.."}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=path
    )
    assert done.stdout.splitlines()[-1] == "[]" and "usage: python -m tinymm" in done.stdout


def test_the_version(command):
    assert command("--version").out.strip() == f"tinymm {tinymm.__version__}"


@pytest.mark.slow
def test_glyphs_from_end_to_end(here, command):
    small = TINY[TINY.index("--width") :]
    said = command(
        "train",
        "clip",
        "--out",
        "out",
        *small,
        "--steps",
        60,
        "--validate-every",
        30,
        "--learning-rate",
        3e-3,
    )
    results = json.loads((here / "out" / "results.json").read_text())
    assert said.code == 0, said.error
    assert {"unseen_characters_r1", "unseen_font_r1", "unseen_characters_all_r1"} <= set(results)
    assert results["chance"]["unseen_characters_r1"] == pytest.approx(1 / 150)
    assert command("classify", "a.png", "--labels", "latin,greek", "--model", "out").code == 2
    assert command("eval", "--model", "out").code == 0
