"""The picture of the frame says what each paper freezes and trains, and its losses are the specs'."""

import pytest

from tinymm import tasks
from tinymm.viz.models.architecture import ROWS, architecture, architecture_alt


@pytest.mark.parametrize(
    "name, specs",
    [("CLIP", ["clip"]), ("ALBEF", ["albef"]), ("BLIP", ["blip"]), ("BLIP-2", ["blip2-stage1"])],
)
def test_losses_are_those_of_the_specs(name, specs):
    said = ROWS[name][3]
    if name != "CLIP":
        for spec in specs:
            assert all(o.name.upper() in said for o in tasks.spec_named(spec).objectives)
    assert tasks.spec_named(specs[0]).title.startswith(name)


def test_what_is_frozen_is_said_and_drawn_apart():
    figure = architecture()
    boxes = [patch for patch in figure.axes[0].patches if patch.get_linestyle() == "--"]
    assert len(boxes) == sum(part.startswith("[") for row in ROWS.values() for part in row)
    assert (
        figure.alt == architecture_alt()
        and "BLIP-2: frozen image encoder, Q-Former, frozen language model" in figure.alt
    )
