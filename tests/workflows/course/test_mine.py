"""A student's own functions train CLIP as ours do; a wrong one, or one that loses its gradient, is refused; and everything can be taken back."""

import sys

import numpy as np
import pytest

import tinymm.layers
import tinymm.models.text
import tinymm.tasks.clip
from tinymm.arrays.errors import DataError, UsageError
from tinymm.autodiff import ops
from tinymm.layers import masks
from tinymm.losses import contrastive
from tinymm.models.blip2 import BLIP2Config, BLIP2Stage1
from tinymm.models.clip import CLIP, CLIPConfig
from tinymm.tasks import losses as losses_of
from tinymm.training.optimizers import AdamW
from tinymm.workflows.course import exercises, percent
from tinymm.workflows.course.mine import KNOWN, Mine, use_mine

RIGHT = """
import numpy as np
calls = []

def causal_mask(n):
    calls.append("causal_mask")
    place = np.arange(n)
    return place[None, :] <= place[:, None]

def attention(q, k, v, may_attend):
    calls.append("attention")
    scores = np.where(may_attend, q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1]), -np.inf)
    top = scores.max(axis=-1, keepdims=True)
    raised = np.exp(scores - np.where(np.isfinite(top), top, 0))
    total = raised.sum(axis=-1, keepdims=True)
    return raised / np.where(total == 0, 1, total) @ v

def contrastive_loss(I, T, scale):
    calls.append("contrastive_loss")
    S = scale * (I / np.linalg.norm(I, axis=1, keepdims=True)) @ (T / np.linalg.norm(T, axis=1, keepdims=True)).T
    rows = np.log(np.exp(S - S.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True)) + S.max(axis=1, keepdims=True)
    columns = np.log(np.exp(S - S.max(axis=0, keepdims=True)).sum(axis=0, keepdims=True)) + S.max(axis=0, keepdims=True)
    return (rows.mean() + columns.mean()) / 2 - np.diag(S).mean()
"""
LEAKING = RIGHT.replace("<= place[:, None]", "<= place[:, None] + 1")
#: Right in value, but numbers that leave the Tensors carry no gradient.
DETACHED = RIGHT.replace(
    "scores = np.where(may_attend, q @",
    "q = q if isinstance(q, np.ndarray) else q.data\n    scores = np.where(may_attend, q @",
)
#: NumPy's own name for a sum of exponentials, which has no rule for Tensors.
ONE_WAY = RIGHT.replace("rows.mean()", "np.logaddexp.reduce(S, axis=1).mean()")


@pytest.fixture
def mine(tmp_path):
    """Give a function that writes a file and uses it; ours are back afterwards."""

    def use(text, name="my_solutions.py"):
        (tmp_path / name).write_text(text)
        return use_mine(tmp_path / name)

    yield use
    if Mine.active:
        Mine.active.restore()


def trained(steps=4):
    """Return the losses of a few steps of a tiny CLIP."""
    rng = np.random.default_rng(0)
    images, ids = (
        rng.standard_normal((6, 32, 32, 3)).astype(np.float32),
        rng.integers(1, 40, (6, 8)),
    )
    ids[:, -1] = 49
    model = CLIP(CLIPConfig.tiny(), np.random.default_rng(1))
    optimizer, losses = AdamW(model), []
    for _ in range(steps):
        loss = losses_of(model, images, ids)["itc"]
        loss.backward()
        optimizer.step(learning_rate=1e-2, max_grad_norm=1.0)
        losses.append(loss.item())
    assert loss.dtype == np.float32
    return losses


def test_clip_trains_on_your_mask_attention_and_loss_as_on_ours(mine, capsys):
    ours = trained()
    with mine(RIGHT) as used:
        calls = tinymm.models.text.causal_mask.__closure__[0].cell_contents.__globals__["calls"]
        calls.clear()
        yours = trained()
        assert used.yours == ["causal_mask", "attention", "contrastive_loss"]
        # a picture tower of 2 layers and a text tower of 2, in each of 4 steps
        assert (
            calls.count("causal_mask"),
            calls.count("attention"),
            calls.count("contrastive_loss"),
        ) == (4, 16, 4)
    assert ours[-1] < ours[0] - 0.1
    np.testing.assert_allclose(yours, ours, rtol=2e-5)
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        [name, "yours"] for name in used.yours
    ]


def test_a_wrong_mask_is_refused_and_the_rest_is_used(mine, capsys):
    used = mine(LEAKING)
    assert used.yours == ["attention", "contrastive_loss"]
    line = capsys.readouterr().out.splitlines()[0]
    assert line.split(maxsplit=1) == [
        "causal_mask",
        "ours: M02 broke, found: token 0 sees the later token 1; M06 broke too",
    ]
    np.testing.assert_array_equal(tinymm.models.text.causal_mask(3), np.tri(3, dtype=bool))


@pytest.mark.parametrize(
    "text, name, said",
    [
        (DETACHED, "attention", "no gradient, or another, for argument 0: it left the Tensors"),
        (ONE_WAY, "contrastive_loss", "right on arrays, but not on Tensors (np.logaddexp"),
    ],
)
def test_what_loses_its_gradient_is_refused(mine, capsys, text, name, said):
    assert text != RIGHT
    assert name not in mine(text).yours
    assert said in next(
        line for line in capsys.readouterr().out.splitlines() if line.startswith(name)
    )


def test_everything_is_taken_back_also_in_modules_imported_in_between(mine, monkeypatch):
    before = [
        masks.causal_mask,
        tinymm.layers.causal_mask,
        tinymm.models.text.causal_mask,
        ops.self_attention,
        tinymm.tasks.clip.figure_3,
    ]
    used = mine(RIGHT)
    during = [
        masks.causal_mask,
        tinymm.layers.causal_mask,
        tinymm.models.text.causal_mask,
        ops.self_attention,
        tinymm.tasks.clip.figure_3,
    ]
    assert not any(a is b for a, b in zip(before, during, strict=True))
    late = type(sys)("tinymm.late")
    late.causal_mask = tinymm.layers.causal_mask
    monkeypatch.setitem(sys.modules, "tinymm.late", late)
    used.restore()
    after = [
        masks.causal_mask,
        tinymm.layers.causal_mask,
        tinymm.models.text.causal_mask,
        ops.self_attention,
        tinymm.tasks.clip.figure_3,
    ]
    assert (
        all(a is b for a, b in zip(before, after, strict=True))
        and late.causal_mask is before[0]
        and Mine.active is None
    )


def test_a_second_call_begins_from_ours(mine):
    mine(RIGHT)
    mine("import numpy as np\ndef causal_mask(n):\n    return np.tri(n, dtype=bool)\n")
    assert Mine.active.yours == ["causal_mask"] and ops.self_attention.name == "self_attention"


def test_every_function_of_the_course_that_the_table_knows(tmp_path, capsys):
    """The published solutions, read from notebooks, give BLIP-2 and CLIP the losses of ours."""
    files = []
    for path in exercises.sources():
        if path.stem[:2] in ("03", "04", "07", "08", "09", "12"):
            files.append(tmp_path / f"{path.stem}.ipynb")
            files[-1].write_text(percent.dumps(percent.notebook(percent.read(path))))

    def losses():
        rng = np.random.default_rng(0)
        images, ids = (
            rng.standard_normal((3, 16, 16, 3)).astype(np.float32),
            rng.integers(3, 20, (3, 5)),
        )
        is_real = np.array([[True] * 5, [True] * 3 + [False] * 2, [True] * 4 + [False]])
        found = losses_of(BLIP2Stage1(BLIP2Config.tiny(), rng), images, ids, is_real, rng=rng)
        return [loss.item() for loss in found.values()] + [
            contrastive.sigmoid_loss(np.eye(3)).item()
        ]

    ours = losses()
    with use_mine(*files) as used:
        assert used.yours == [one.name for one in KNOWN if one.name != "prefix_mask"], (
            capsys.readouterr().out
        )
        np.testing.assert_allclose(losses(), ours, rtol=2e-5)
        assert isinstance(contrastive.l2_normalize(np.ones((2, 2))), np.ndarray)


def test_an_unsolved_notebook_is_ours_throughout(tmp_path, capsys):
    exercises.run(student=tmp_path, only=["07"])
    capsys.readouterr()
    with use_mine(tmp_path / "07_attention_and_masks.ipynb") as used:
        assert used.yours == []
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        "causal_mask      ours: M01 broke, found: fn raised NotImplementedError: 7a: compare the position"
    )


def test_files_that_do_not_help(mine, tmp_path, monkeypatch):
    with pytest.raises(
        UsageError,
        match="use_mine knows causal_mask, .*; the file raised ModuleNotFoundError: No module named 'nothing_here'; name",
    ):
        mine("import nothing_here\n")
    with pytest.raises(DataError, match="absent.py is no file"):
        use_mine(tmp_path / "absent.py")
    monkeypatch.delenv("TINYMM_MINE", raising=False)
    with pytest.raises(UsageError, match="takes your file, and 0 came"):
        use_mine()


def test_a_command_runs_on_the_file_that_the_environment_names(tmp_path, monkeypatch, command):
    (tmp_path / "my_solutions.py").write_text(RIGHT)
    monkeypatch.setenv("TINYMM_MINE", str(tmp_path / "my_solutions.py"))
    said = command("masks", "--objective", "causal")
    assert said.code == 0 and said.lines[0] == "causal_mask      yours" and Mine.active is None
    monkeypatch.setenv("TINYMM_MINE", str(tmp_path / "absent.py"))
    assert "absent.py is no file" in command("masks").error
