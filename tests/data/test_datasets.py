"""A data set is declared in one file: named, opened, and refused where its name is taken."""

from functools import partial

import numpy as np
import pytest
from tiny import TinySource

from tinymm.arrays.errors import UsageError
from tinymm.data import datasets as registry
from tinymm.data.batches import Record, Source, batch_indices, digest
from tinymm.data.datasets import (
    DatasetSpec,
    dataset_names,
    datasets,
    is_drawn_at_one_size,
    register_dataset,
)
from tinymm.data.your_data.open import open_source


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """Forget what a test registers."""
    datasets()
    monkeypatch.setattr(registry, "_SPECS", dict(registry._SPECS))


def noise(seed, resolution):
    return TinySource(resolution=resolution)


def test_a_registered_data_set_is_listed_and_opened_by_its_name():
    spec = register_dataset(DatasetSpec("noise", noise, "noise with three words", place=45))
    assert datasets()["noise"] is spec
    assert dataset_names().startswith(
        "'glyphs', 'shapes', 'scattered-shapes', 'web-shapes', 'noise', 'digits', 'emoji' (or"
    )
    assert open_source(
        "noise", resolution=8
    ).preprocess.resolution == 8 and not is_drawn_at_one_size("noise")
    with pytest.raises(
        UsageError, match="'noise', .*'noize' is none of these; did you mean noise?"
    ):
        open_source("noize")


def test_a_variant_is_opened_and_left_out_of_lists():
    register_dataset(
        DatasetSpec("noise-2", partial(noise), "more noise", variant_of="noise", one_size=True)
    )
    assert (
        "noise" not in dataset_names()
        and len(open_source("noise-2")) == 12
        and is_drawn_at_one_size("noise-2")
    )


def test_a_taken_name_is_refused_and_a_file_may_declare_its_own_again():
    for _ in range(2):
        register_dataset(DatasetSpec("noise", noise, "noise"))
    with pytest.raises(UsageError, match="'glyphs' is taken"):
        register_dataset(DatasetSpec("glyphs", noise, "noise"))
    for name in ("", "a/b", "."):
        with pytest.raises(UsageError, match="no path"):
            register_dataset(DatasetSpec(name, noise, "noise"))


def test_remarks_are_told_where_somebody_listens(monkeypatch):
    monkeypatch.setattr(TinySource, "remarks", lambda self: ["3 skipped"])
    register_dataset(DatasetSpec("noise", noise, "noise"))
    told = []
    open_source("noise", say=told.append)
    assert told == ["noise: 3 skipped"] and open_source("noise").remarks()


# ---------------------------------------------------------------------- what a source need not say
def test_a_source_that_knows_no_more_answers_honestly():
    source = TinySource(captions_each=2)
    held_out = source.validation()
    assert source.tests() == source.swaps() == {} and source.remarks() == [] and source.about == ""
    assert not source.noisy and not source.splits
    assert source.references(held_out) == [
        tuple(held_out.captions[2 * i : 2 * i + 2]) for i in range(6)
    ]
    np.testing.assert_array_equal(source.batch_indices(4, 3, seed=1), batch_indices(12, 4, 3, 1))
    records = list(source.records())
    assert records[0] == Record("training 0", source.captions()[0], "train")
    assert records[12] == Record(
        "validation 0",
        source.references(held_out)[0],
        "validation",
        digest(held_out.images[0].tobytes()),
    )
    assert len(records) == 18


def test_a_source_without_what_each_data_set_has_cannot_be_made():
    class Empty(Source):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Empty()
