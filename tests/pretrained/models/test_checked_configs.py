"""A config's settings have the types and ranges of its class's fields: whatever else a file says is refused by name."""

import json
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import get_args, get_type_hints

import numpy as np
import pytest

from tinymm import pretrained
from tinymm.arrays.errors import CheckpointError
from tinymm.models.albef import ALBEFConfig
from tinymm.models.bert import BertConfig
from tinymm.models.blip import BLIPConfig
from tinymm.models.blip2 import BLIP2Config, BLIP2Stage1
from tinymm.models.blip2_stage2 import BLIP2Stage2, BLIP2Stage2Config
from tinymm.models.cbow import CBOWConfig
from tinymm.models.opt import OPTConfig
from tinymm.models.qformer import QFormerConfig
from tinymm.models.text import TextConfig
from tinymm.models.vit import ViTConfig
from tinymm.pretrained.models.config_from_arrays import checked_config

CONFIGS = [
    ViTConfig(32, 8, 32, 2, 4), TextConfig(50, 12, 32, 2, 4), CBOWConfig(50, 12, 32), BertConfig.tiny(), QFormerConfig.tiny(), OPTConfig.tiny(),
    ALBEFConfig.tiny(), BLIPConfig.tiny(), BLIP2Config.tiny(), BLIP2Stage2Config.tiny(),
]  # fmt: skip
STRANGE = ["2", [2], {}, [[]], -1, 2**40, float("nan"), float("inf"), True, 0.5, None]
FIELDS = [
    (config, field.name)
    for config in CONFIGS
    for field in fields(config)
    if not is_dataclass(getattr(config, field.name))
]


def fits(value, hint):
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if type(value) in (int, float):
        return (type(value) in kinds or float in kinds) and 0 <= value < 2**31
    return type(value) in kinds


@pytest.mark.parametrize(
    "config, name",
    FIELDS,
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_setting_of_another_type_is_refused_by_name(config, name):
    settings = {field.name: getattr(config, field.name) for field in fields(config)}
    assert checked_config("model", type(config), settings) == config
    hint = get_type_hints(type(config))[name]
    wrong = [value for value in STRANGE if not fits(value, hint)]
    assert len(wrong) >= 6
    for value in wrong:
        with pytest.raises(CheckpointError, match=f"the model's {name} is .* came; correct it"):
            checked_config("model", type(config), settings | {name: value})


@pytest.mark.parametrize("model", [BLIP2Stage1(BLIP2Config.tiny(), np.random.default_rng(0)),
                                   BLIP2Stage2(BLIP2Stage2Config.tiny(), np.random.default_rng(0))], ids=["stage 1", "stage 2"])  # fmt: skip
@pytest.mark.parametrize("value", ["2", [], 3, None, {"x": 1}])
def test_every_place_of_our_own_config_may_be_wrong(model, value, tmp_path):
    pretrained.save(model, tmp_path, format="tinymm")
    told = json.loads((tmp_path / "config.json").read_text())
    for name in told:
        for inner in [None, *(told[name] if isinstance(told[name], dict) else ())]:
            changed = json.loads(json.dumps(told))
            if inner is None:
                changed[name] = value
            else:
                changed[name][inner] = value
            (tmp_path / "config.json").write_text(json.dumps(changed))
            try:
                pretrained.load(tmp_path)
            except CheckpointError as problem:
                assert "\n" not in str(problem)
