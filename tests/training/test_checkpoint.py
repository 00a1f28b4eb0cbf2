"""What a run needs to go on: written whole or not at all, read whole or refused with a sentence."""

import numpy as np
import pytest
from tiny import TinySource, clip_for

from tinymm.arrays.errors import CheckpointError
from tinymm.pretrained.files import safetensors as safetensors_files
from tinymm.training.checkpoint import FILE, load_checkpoint, read_progress, save_checkpoint
from tinymm.training.optimizers import AdamW

SOURCE = TinySource(resolution=32)


def pair(image="resnet", width=16, seed=0):
    model = clip_for(SOURCE, image, width=width, seed=seed)
    optimizer = AdamW(model)
    for parameter in model.parameters():
        parameter.grad = np.full_like(parameter.data, 0.5)
    optimizer.step(0.1)
    return model, optimizer


def states(model, optimizer):
    return {
        **model.state_dict(),
        **{f"optimizer {name}": array for name, array in optimizer.state_dict().items()},
    }


def test_everything_comes_back_bit_for_bit(tmp_path):
    saved, other = pair(seed=0), pair(seed=1)
    save_checkpoint(tmp_path, *saved, {"step": 7, "best": 0.5})
    assert read_progress(tmp_path) == {"step": 7, "best": 0.5}
    load_checkpoint(tmp_path, *other)
    right = states(*saved)
    for name, array in states(*other).items():
        assert array.dtype == right[name].dtype
        np.testing.assert_array_equal(array, right[name])
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_an_exception_in_the_middle_leaves_the_former_one_and_nothing_else(tmp_path, monkeypatch):
    saved = pair()
    save_checkpoint(tmp_path, *saved, {"step": 1})
    before = (tmp_path / FILE).read_bytes()

    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            self.file.write(data[: len(data) // 2])
            raise OSError("no space left on device")

    from contextlib import contextmanager

    atomic = safetensors_files.atomic

    @contextmanager
    def full(path):
        with atomic(path) as file:
            yield Full(file)

    monkeypatch.setattr(safetensors_files, "atomic", full)
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(tmp_path, *pair(seed=1), {"step": 2})
    assert (tmp_path / FILE).read_bytes() == before and [
        path.name for path in tmp_path.iterdir()
    ] == [FILE]


@pytest.mark.parametrize("kept", [0, 5, 100, 0.5, 0.999])
def test_a_truncated_checkpoint_is_refused_by_name(kept, tmp_path):
    save_checkpoint(tmp_path, *pair(), {"step": 1})
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(
        whole[: int(kept * len(whole)) if isinstance(kept, float) else kept]
    )
    for read in (read_progress, lambda folder: load_checkpoint(folder, *pair())):
        with pytest.raises(
            CheckpointError,
            match=r"checkpoint.safetensors is no checkpoint of a run \(.*\); start a new run",
        ):
            read(tmp_path)


def test_a_missing_one_and_a_stranger_are_refused(tmp_path):
    from safetensors.numpy import save_file

    with pytest.raises(
        CheckpointError, match="holds no checkpoint.safetensors to resume from; start a new run"
    ):
        read_progress(tmp_path)
    save_file({"weight": np.ones(2)}, tmp_path / FILE)
    with pytest.raises(CheckpointError, match="is no checkpoint of a run"):
        read_progress(tmp_path)
    save_file({"weight": np.ones(2)}, tmp_path / FILE, metadata={"progress": "{}"})
    with pytest.raises(CheckpointError, match="is no checkpoint of a run"):
        load_checkpoint(tmp_path, *pair())


@pytest.mark.parametrize("image, width", [("resnet", 8), ("vit", 16)])
def test_one_of_another_model_is_refused_and_changes_nothing(image, width, tmp_path):
    save_checkpoint(tmp_path, *pair(), {"step": 1})
    other = pair(image, width)
    before = {name: array.copy() for name, array in states(*other).items()}
    with pytest.raises(
        CheckpointError, match="belongs to another model .* resume with the settings of the run"
    ):
        load_checkpoint(tmp_path, *other)
    for name, array in states(*other).items():
        np.testing.assert_array_equal(array, before[name])
