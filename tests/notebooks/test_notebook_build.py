"""The builder: same bytes twice, warnings refused, and a check that sees a wrong number and forgives rounding."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py"))

SMALL = """# %% [markdown]
# # A title

# %%
import numpy as np
from tinymm.viz import charts; from tinymm.viz.widgets import lesson

print("one")
lesson.show(charts.lines({"loss": ([1, 2], [3.0, 2.0])}, title="It falls from three to two", x="step", y="nats"))

# %%
weights = np.random.default_rng(0).normal(size=(300, 300))
print((weights @ weights).sum().tobytes().hex())
"""


@pytest.fixture
def small(tmp_path):
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    (tmp_path / "01_small.py").write_text(SMALL)
    return tmp_path


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_built_twice_the_bytes_are_the_same(build, small, capsys):
    found = []
    for _ in range(2):
        assert build.main(["--source", str(small)]) == 0
        found.append((small / "01_small.ipynb").read_bytes())
    assert found[0] == found[1]
    assert re.search(r"01_small: [\d.]+ s\n1 notebook: [\d.]+ s", capsys.readouterr().out)
    made = json.loads(found[0])
    assert build.printed(made)[0].startswith("one\nFigure: It falls from three to two.")
    assert made["cells"][1]["metadata"]["mystnb"]["image"]["alt"].startswith("It falls")
    assert build.main(["--source", str(small), "--check"]) == 0
    (small / "01_small.py").write_text(SMALL.replace('"one"', '"two"'))
    assert build.main(["--source", str(small), "--check"]) == 1
    assert "committed: one" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_warning_stops_the_build(build, small):
    (small / "01_small.py").write_text("# %%\nimport warnings\nwarnings.warn('old')\n")
    with pytest.raises(SystemExit, match="wrote to stderr"):
        build.main(["--source", str(small)])


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("loss 1.234", "loss 1.236", True),
        ("loss 1.234", "loss 2.234", False),
        ("loss 0.006", "loss 0.012", True),  # both are nearly nothing
        ("error 1.1e-11", "error 3e-11", True),
        ("share 0.583", "share 0.683", False),
        ("a  12.5", "a 12.50", True),
        ("right", "wrong", False),
        ("1 2", "1 2 3", False),
        ("−0.5", "0.5", False),
    ],
)
def test_numbers_may_differ_a_little_and_words_not_at_all(build, old, new, same):
    assert (not build.differences([old], [new])) == same
    assert build.differences([old], [old, new])


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_notebook_prints_today_what_is_committed(build, source, capsys):
    pytest.importorskip("nbclient")
    assert build.main([source.stem, "--check"]) == 0, capsys.readouterr().out


def test_pieces_of_a_stream_are_joined_and_pictures_stay_where_they_are(build):
    def stream(text):
        return {"output_type": "stream", "name": "stdout", "text": [text]}

    picture = {"output_type": "display_data", "data": {}}
    assert build.joined([stream("a"), stream("b\n"), picture, stream("c")]) == [
        stream("ab\n"),
        picture,
        stream("c"),
    ]
