"""Fresh random models of transformers, saved in every form in which people hand them on: each agrees to 1e-9, or is refused with a sentence.

Every case is a kind of model with its settings, every form a way of writing it down. Three seeds;
no parameter is left as it was initialized. `refused` names what must be refused; nothing may come
out otherwise, and nothing may be refused that is not named there.
"""

import copy
import json
import re
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tinymm import pretrained  # noqa: E402
from tinymm.arrays.errors import TinymmError  # noqa: E402
from tinymm.layers import causal_mask, padding_mask  # noqa: E402

pytestmark = pytest.mark.parity
SEEDS = (0, 1, 2)
Q, PLACE, V = 3, 39, 40
IDS = np.array([[5, 7, 9, 11, 3], [5, 8, 3, 0, 0], [5, 12, 13, 3, 0]])
REAL = IDS > 0
MASK = torch.tensor(REAL).long()
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
#: As wide as the default heads of each class ask for: 8, 12 and 16.
VISION = dict(
    hidden_size=48, intermediate_size=40, num_hidden_layers=2, image_size=16, patch_size=8
)
BLIP_TEXT = dict(
    hidden_size=48, intermediate_size=28, num_hidden_layers=2, vocab_size=V, max_position_embeddings=14, bos_token_id=38, sep_token_id=3,
    eos_token_id=3, **NO_DROPOUT,
)  # fmt: skip
QFORMER = dict(
    hidden_size=48,
    num_hidden_layers=3,
    intermediate_size=24,
    encoder_hidden_size=48,
    vocab_size=V,
    max_position_embeddings=12,
    **NO_DROPOUT,
)
OPT = dict(
    hidden_size=48, num_hidden_layers=2, ffn_dim=32, vocab_size=V, max_position_embeddings=30, word_embed_proj_dim=48, dropout=0.0,
    bos_token_id=2, eos_token_id=3,
)  # fmt: skip
BERT = dict(
    vocab_size=V,
    hidden_size=48,
    num_hidden_layers=2,
    intermediate_size=36,
    max_position_embeddings=12,
    type_vocab_size=2,
    **NO_DROPOUT,
)
UNTIED = {"tie_word_embeddings": False}


def pictures():
    images = np.random.default_rng(0).standard_normal((3, 16, 16, 3))
    return images, torch.tensor(images.transpose(0, 3, 1, 2).copy())


IMAGES, PIXELS = pictures()
PLACES = torch.tensor(np.concatenate([np.full((3, Q), PLACE), IDS], 1))
PLACED = torch.tensor(np.concatenate([np.ones((3, Q), int), REAL], 1))


# ---------------------------------------------------------------------- the kinds of models
def blip(kind, text=None, vision=None, **whole):
    config = transformers.BlipConfig(
        text_config=BLIP_TEXT | (text or {}),
        vision_config=VISION | (vision or {}),
        image_text_hidden_size=10,
        **whole,
    )
    return getattr(transformers, kind)(config)


def blip2(kind, language=None, vision=None, qformer=None, **whole):
    words = {"use_qformer_text_input": kind == "Blip2ForImageTextRetrieval"}
    config = transformers.Blip2Config(
        vision_config=VISION | (vision or {}), qformer_config=QFORMER | words | (qformer or {}), num_query_tokens=Q,
        text_config={"model_type": "opt"} | OPT | (language or {}), image_text_hidden_size=10, image_token_index=PLACE, **whole,
    )  # fmt: skip
    return getattr(transformers, kind)(config)


def qformer_alone(**changes):
    return transformers.Blip2QFormerModel(
        transformers.Blip2QFormerConfig(**QFORMER | {"use_qformer_text_input": False} | changes)
    )


def bert(kind, **changes):
    return getattr(transformers, kind)(transformers.BertConfig(**BERT | changes))


def opt(**changes):
    return transformers.OPTForCausalLM(transformers.OPTConfig(**OPT | changes))


# ---------------------------------------------------------------------- what is compared: pairs (ours, theirs)
def of_retrieval(ours, theirs):
    text = {"input_ids": torch.tensor(IDS), "attention_mask": MASK}
    yield (
        ours(IMAGES, IDS, REAL).data,
        theirs(pixel_values=PIXELS, **text, use_itm_head=False).itm_score,
    )
    yield (
        ours.itm_logits(ours.image_tokens(IMAGES), IDS, REAL).data,
        theirs(pixel_values=PIXELS, **text).itm_score,
    )


def of_captioning(ours, theirs):
    ids = np.where(np.arange(5) == 0, 38, IDS)
    logits = theirs(pixel_values=PIXELS, input_ids=torch.tensor(ids), attention_mask=MASK).logits
    yield ours.lm_logits(ours.image_tokens(IMAGES), IDS, REAL).data[REAL], logits[MASK.bool()]


def of_stage_1(ours, theirs):
    given = {"pixel_values": PIXELS, "input_ids": PLACES, "attention_mask": PLACED}
    yield (
        ours(IMAGES, IDS, REAL).data,
        theirs(**given, use_image_text_matching_head=False).logits_per_image,
    )
    match = theirs(**given, use_image_text_matching_head=True).logits_per_image
    yield ours.itm_logits(ours.image_tokens(IMAGES), IDS, REAL).data, match


def of_stage_2(ours, theirs):
    logits = theirs(pixel_values=PIXELS, input_ids=PLACES, attention_mask=PLACED).logits
    yield ours(IMAGES, IDS, REAL).data[REAL], logits[:, Q:][MASK.bool()]


def of_qformer(ours, theirs):
    rng = np.random.default_rng(1)
    memory, queries = rng.standard_normal((3, 5, 48)), rng.standard_normal((3, Q, 48))
    right = theirs(
        query_embeds=torch.tensor(queries), encoder_hidden_states=torch.tensor(memory)
    ).last_hidden_state
    yield ours(memory, queries=queries).data, right


def of_bert(ours, theirs):
    found = theirs(input_ids=torch.tensor(IDS), attention_mask=MASK)
    yield (
        ours(IDS, REAL).data[REAL],
        (found.logits if "logits" in found else found.prediction_logits)[MASK.bool()],
    )
    found = theirs(input_ids=torch.tensor(IDS))
    yield ours(IDS).data, found.logits if "logits" in found else found.prediction_logits


def of_looking_bert(ours, theirs):
    memory = np.random.default_rng(0).standard_normal((3, 4, 48))
    options = {"encoder_hidden_states": torch.tensor(memory), "attention_mask": MASK}
    yield (
        ours(IDS, REAL, memory=memory).data[REAL],
        theirs(input_ids=torch.tensor(IDS), **options).logits[MASK.bool()],
    )
    may_attend = causal_mask(5) & padding_mask(REAL)
    np.testing.assert_array_equal(
        ours(IDS, REAL, memory=memory).data, ours(IDS, None, may_attend, memory).data
    )


def of_opt(ours, theirs):
    yield (
        ours(IDS, REAL).data[REAL],
        theirs(input_ids=torch.tensor(IDS), attention_mask=MASK).logits[MASK.bool()],
    )


GELU_NEW = {"hidden_act": "gelu_new"}
#: name -> (build, compare, a pattern of the sentence if all its forms must be refused)
CASES = {
    "BLIP retrieval": (lambda: blip("BlipForImageTextRetrieval"), of_retrieval, None),
    "BLIP retrieval, own heads": (
        lambda: blip("BlipForImageTextRetrieval", {"num_attention_heads": 6}, {"num_attention_heads": 3}), of_retrieval, None,
    ),
    "BLIP retrieval, relu and quick_gelu": (
        lambda: blip(
            "BlipForImageTextRetrieval", {"hidden_act": "relu", "layer_norm_eps": 1e-5}, {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-3}
        ),
        of_retrieval, None,
    ),
    "BLIP retrieval, gelu_new": (lambda: blip("BlipForImageTextRetrieval", GELU_NEW), of_retrieval, "activation"),
    "BLIP captioning": (lambda: blip("BlipForConditionalGeneration"), of_captioning, None),
    "BLIP captioning, relu": (lambda: blip("BlipForConditionalGeneration", {"hidden_act": "relu"}), of_captioning, None),
    "BLIP captioning, quick_gelu": (lambda: blip("BlipForConditionalGeneration", {"hidden_act": "quick_gelu"}), of_captioning, None),
    "BLIP captioning, silu": (lambda: blip("BlipForConditionalGeneration", {"hidden_act": "silu"}), of_captioning, "activation"),
    "BLIP captioning, its own words": (lambda: blip("BlipForConditionalGeneration", UNTIED, **UNTIED), of_captioning, None),
    "BLIP, questions": (lambda: blip("BlipForQuestionAnswering"), None, "missing|unexpected|layout"),
    "BLIP, contrast": (lambda: blip("BlipModel"), None, "layout|missing|unexpected|clip"),
    "BLIP-2 retrieval": (lambda: blip2("Blip2ForImageTextRetrieval"), of_stage_1, None),
    "BLIP-2 retrieval, relu": (
        lambda: blip2("Blip2ForImageTextRetrieval", qformer={"hidden_act": "relu", "num_attention_heads": 4}, vision={"hidden_act": "quick_gelu"}),
        of_stage_1, None,
    ),
    "BLIP-2 captioning": (lambda: blip2("Blip2ForConditionalGeneration"), of_stage_2, None),
    "BLIP-2 captioning, eps and heads": (
        lambda: blip2(
            "Blip2ForConditionalGeneration", {"num_attention_heads": 4}, {"layer_norm_eps": 1e-3, "num_attention_heads": 3},
            {"layer_norm_eps": 1e-4, "cross_attention_frequency": 1},
        ),
        of_stage_2, None,
    ),
    "BLIP-2 captioning, its own words": (lambda: blip2("Blip2ForConditionalGeneration", UNTIED, **UNTIED), of_stage_2, None),
    "BLIP-2 captioning, gelu_fast": (lambda: blip2("Blip2ForConditionalGeneration", vision={"hidden_act": "gelu_fast"}), of_stage_2, "activation"),
    "BLIP-2 captioning, OPT's gelu": (
        lambda: blip2("Blip2ForConditionalGeneration", {"activation_function": "gelu"}), of_stage_2, "activation is relu",
    ),
    "BLIP-2, no key biases": (lambda: blip2("Blip2ForConditionalGeneration", vision={"qkv_bias": False}), of_stage_2, "qkv_bias|missing"),
    "Blip2Model": (lambda: blip2("Blip2Model"), of_stage_2, None),
    "Q-Former": (qformer_alone, of_qformer, None),
    "Q-Former, relu in each layer": (lambda: qformer_alone(hidden_act="relu", cross_attention_frequency=1, num_attention_heads=2), of_qformer, None),
    "BERT": (lambda: bert("BertForMaskedLM"), of_bert, None),
    "BERT, relu": (lambda: bert("BertForMaskedLM", hidden_act="relu", num_attention_heads=4, layer_norm_eps=1e-3), of_bert, None),
    "BERT, quick_gelu": (lambda: bert("BertForMaskedLM", hidden_act="quick_gelu"), of_bert, None),
    "BERT, gelu_pytorch_tanh": (lambda: bert("BertForMaskedLM", hidden_act="gelu_pytorch_tanh"), of_bert, "activation"),
    "BERT, its own words": (lambda: bert("BertForMaskedLM", **UNTIED), of_bert, None),
    "BERT of pretraining": (lambda: bert("BertForPreTraining"), of_bert, None),
    "BERT of pretraining, its own words": (lambda: bert("BertForPreTraining", **UNTIED), of_bert, None),
    "BERT that writes": (lambda: bert("BertLMHeadModel", is_decoder=True), of_bert, None),
    "BERT that writes, its own words": (lambda: bert("BertLMHeadModel", is_decoder=True, **UNTIED), of_bert, None),
    "BERT that writes, both ways": (lambda: bert("BertLMHeadModel"), of_bert, None),
    "BERT that writes and looks": (lambda: bert("BertLMHeadModel", is_decoder=True, add_cross_attention=True), of_looking_bert, None),
    "OPT": (opt, of_opt, None),
    "OPT, own heads": (lambda: opt(num_attention_heads=3), of_opt, None),
    "OPT, its own words": (lambda: opt(**UNTIED), of_opt, None),
    "OPT, norms behind": (lambda: opt(do_layer_norm_before=False), of_opt, "norm"),
    "OPT, narrow words": (lambda: opt(word_embed_proj_dim=24), of_opt, "narrow|missing|unexpected"),
    "OPT, gelu": (lambda: opt(activation_function="gelu"), of_opt, "activation is relu"),
    "OPT, no biases": (lambda: opt(enable_bias=False), of_opt, "enable_bias"),
}  # fmt: skip


# ---------------------------------------------------------------------- the forms
def saved(model, folder, **options):
    model.save_pretrained(folder, **options)
    return folder


def as_torch(model, folder, wrap=lambda state: state):
    model.config.save_pretrained(folder)
    torch.save(wrap(model.state_dict()), folder / "pytorch_model.bin")
    return folder


def as_shards_of_torch(model, folder):
    model.config.save_pretrained(folder)
    state = model.state_dict()
    files = {key: f"pytorch_model-0000{1 + i % 3}-of-00003.bin" for i, key in enumerate(state)}
    for name in set(files.values()):
        torch.save({key: state[key] for key in state if files[key] == name}, folder / name)
    (folder / "pytorch_model.bin.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": files})
    )
    return folder


def without_defaults(model, folder):
    """As 4.45 to 4.49 wrote nested parts: without what is their class's default."""
    saved(model, folder)
    settings = json.loads((folder / "config.json").read_text())
    for name, config in vars(model.config).items():
        if name.endswith("_config") and isinstance(settings.get(name), dict):
            plain = type(config)().to_dict()
            kept = {
                key: value
                for key, value in settings[name].items()
                if key == "model_type" or key not in plain or plain[key] != value
            }
            settings[name] = kept
    plain = type(model.config)().to_dict()
    settings = {
        k: v
        for k, v in settings.items()
        if k == "model_type" or k.endswith("_config") or k not in plain or plain[k] != v
    }
    settings["transformers_version"] = "4.45.2"
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


FORMS = {
    "safetensors": saved,
    "sharded": lambda model, folder: saved(model, folder, max_shard_size="20KB"),
    "bin": as_torch,
    "sharded bin": as_shards_of_torch,
    "module.": lambda model, folder: as_torch(
        model, folder, lambda state: {f"module.{key}": array for key, array in state.items()}
    ),
    "state_dict": lambda model, folder: as_torch(
        model, folder, lambda state: {"epoch": 3, "state_dict": dict(state)}
    ),
    "float16": saved,
    "bfloat16": saved,
    "float64": saved,
    "without defaults": without_defaults,
}


class Remembered:
    """A model of theirs in float64 that answers the same question once: all forms of one model are compared with the same numbers."""

    def __init__(self, model):
        self.model, self.said = copy.deepcopy(model).double(), {}

    def __call__(self, **given):
        key = tuple(
            (name, value if isinstance(value, bool) else None) for name, value in given.items()
        )
        if key not in self.said:
            with torch.no_grad():
                self.said[key] = self.model(**given)
        return self.said[key]


def randomized(model, seed):
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p) * 0.2 + (1.0 if p.ndim == 1 and p.mean() > 0.5 else 0.0))
    return model.eval()


def off(found, right):
    right = right.detach().numpy()
    return float(np.abs(found - right).max() / np.abs(right).max())


@pytest.mark.parametrize("case", CASES)
def test_it_agrees_or_is_refused_in_every_form(case, tmp_path):
    build, compare, refused = CASES[case]
    for seed in SEEDS:
        whole = randomized(build(), seed)
        models = {
            dtype: copy.deepcopy(whole).to(getattr(torch, dtype))
            for dtype in ("float32", "float64", "float16", "bfloat16")
        }
        theirs = {dtype: Remembered(model) for dtype, model in models.items()}
        for form, write in FORMS.items():
            dtype, folder = form if form in models else "float32", tmp_path / form.strip(".")
            folder.mkdir()
            write(models[dtype], folder)
            try:
                ours = pretrained.load(folder, dtype="float64")
            except TinymmError as problem:
                assert refused, (form, seed, problem)
                assert (
                    re.search(refused, str(problem))
                    and "\n" not in str(problem)
                    and ";" in str(problem)
                ), (form, seed, problem)
            else:
                assert not refused, (form, seed)
                worst = max(off(found, right) for found, right in compare(ours, theirs[dtype]))
                assert worst < 1e-9, (form, seed, worst)
            shutil.rmtree(folder)


# ---------------------------------------------------------------------- heads of their own, by the file and by the config
HEADS = {
    "BERT": (lambda: bert("BertForMaskedLM", **UNTIED), "cls.predictions.decoder.weight", of_bert),
    "OPT": (lambda: opt(**UNTIED), "lm_head.weight", of_opt),
    "BLIP": (
        lambda: blip("BlipForConditionalGeneration", UNTIED, **UNTIED),
        "text_decoder.cls.predictions.decoder.weight",
        of_captioning,
    ),
    "BLIP-2": (
        lambda: blip2("Blip2ForConditionalGeneration", UNTIED, **UNTIED),
        "language_model.lm_head.weight",
        of_stage_2,
    ),
}


def change_config(folder, change):
    settings = json.loads((folder / "config.json").read_text())
    for part in (settings, settings.get("text_config", {})):
        change(part)
    (folder / "config.json").write_text(json.dumps(settings))


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_that_nothing_unties_must_be_the_table_of_words(kind, tmp_path):
    build, key, _ = HEADS[kind]
    saved(randomized(build(), 0), tmp_path)
    for change in (
        lambda part: part.pop("tie_word_embeddings", None),
        lambda part: part.update(tie_word_embeddings=True),
    ):
        change_config(tmp_path, change)
        with pytest.raises(
            TinymmError, match=f"{re.escape(key)} and .* are one array unless config.json says"
        ):
            pretrained.load(tmp_path)


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_that_the_config_promises_must_be_there(kind, tmp_path):
    build, key, _ = HEADS[kind]
    model = randomized(build(), 0)
    state = {name: array for name, array in model.state_dict().items() if name != key}
    model.config.save_pretrained(tmp_path)
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(
        TinymmError, match=f"an output head of its own, and the file has no {re.escape(key)}"
    ):
        pretrained.load(tmp_path)


@pytest.mark.parametrize("kind", HEADS)
def test_a_model_with_a_head_of_its_own_is_written_and_opens_there_and_here(kind, tmp_path):
    build, key, compare = HEADS[kind]
    model = randomized(build(), 0)
    ours = pretrained.load(saved(model, tmp_path / "a"), dtype="float64")
    pretrained.save(ours, tmp_path / "b", format="huggingface")
    there = type(model).from_pretrained(tmp_path / "b", dtype=torch.float64).eval()
    there.config.image_token_index = PLACE  # the processor's
    assert max(off(found, right) for found, right in compare(ours, there)) < 1e-9
    again = pretrained.load(tmp_path / "b", dtype="float64")
    for name, array in ours.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], array)


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_of_its_own_learns_by_itself(kind, tmp_path):
    build, key, compare = HEADS[kind]
    model = randomized(build(), 0)
    ours = pretrained.load(saved(model, tmp_path), dtype="float64")
    if kind == "BLIP-2":
        ours.language_model.unfreeze()
    (found, right), *_ = _with_graph(kind, ours, model.double())
    weights = np.cos(np.arange(found.size)).reshape(found.shape)
    np.sum(found * weights).backward()
    (right * torch.tensor(weights)).sum().backward()
    gradients = pretrained.export(ours, "huggingface", gradients=True)
    theirs = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    for name in (
        key,
        key.replace("lm_head", "model.decoder.embed_tokens").replace(
            "predictions.decoder", "predictions.transform.dense"
        ),
    ):
        assert off(gradients[name], theirs[name]) < 1e-9, name


def _with_graph(kind, ours, theirs):
    """Return what is compared as Tensors, ours and theirs, of real tokens."""
    ids, rows = torch.tensor(IDS), np.nonzero(REAL)
    if kind == "BLIP":
        ids = torch.tensor(np.where(np.arange(5) == 0, 38, IDS))
        logits = theirs(pixel_values=PIXELS, input_ids=ids, attention_mask=MASK).logits
        return [(ours.lm_logits(ours.image_tokens(IMAGES), IDS, REAL)[rows], logits[MASK.bool()])]
    if kind == "BLIP-2":
        logits = theirs(pixel_values=PIXELS, input_ids=PLACES, attention_mask=PLACED).logits[:, Q:]
        return [(ours(IMAGES, IDS, REAL)[rows], logits[MASK.bool()])]
    return [(ours(IDS, REAL)[rows], theirs(input_ids=ids, attention_mask=MASK).logits[MASK.bool()])]


# ---------------------------------------------------------------------- configs that say what is not built, and less than nothing
@pytest.mark.parametrize(
    ("build", "path", "value", "said"),
    [
        (
            lambda: bert("BertForMaskedLM"),
            ("position_embedding_type",),
            "relative_key",
            "position_embedding_type",
        ),
        (lambda: bert("BertForMaskedLM"), ("pruned_heads",), {"0": [1]}, "pruned_heads"),
        (
            lambda: bert("BertForMaskedLM"),
            ("quantization_config",),
            {"bits": 4},
            "quantization_config",
        ),
        (lambda: bert("BertForMaskedLM"), ("model_type",), "roberta", "model_type"),
        (lambda: bert("BertForMaskedLM"), ("add_cross_attention",), True, "add_cross_attention"),
        (lambda: opt(), ("scale_embedding",), True, "scale_embedding"),
        (lambda: opt(), ("_remove_final_layer_norm",), True, "_remove_final_layer_norm"),
        (lambda: opt(), ("layer_norm_elementwise_affine",), False, "layer_norm_elementwise_affine"),
        (lambda: opt(), ("eos_token_id",), [2, 3], "language model's end is a whole number"),
        (
            lambda: blip("BlipForConditionalGeneration"),
            ("text_config", "is_decoder"),
            False,
            "is_decoder",
        ),
        (
            lambda: blip("BlipForConditionalGeneration"),
            ("text_config", "model_type"),
            "bert",
            "model_type",
        ),
        (
            lambda: blip("BlipForImageTextRetrieval"),
            ("vision_config", "num_channels"),
            1,
            "channels",
        ),
        (
            lambda: blip2("Blip2ForConditionalGeneration"),
            ("vision_config", "qkv_bias"),
            False,
            "qkv_bias",
        ),
        (
            lambda: blip2("Blip2ForConditionalGeneration"),
            ("qformer_config", "cross_attention_frequency"),
            1,
            "cross_every",
        ),
        (
            lambda: blip2("Blip2ForConditionalGeneration"),
            ("text_config", "model_type"),
            "t5",
            "OPT",
        ),
        (lambda: blip2("Blip2ForImageTextRetrieval"), ("image_text_hidden_size",), 11, "embed_dim"),
        (lambda: blip2("Blip2ForImageTextRetrieval"), ("num_query_tokens",), 4, "queries"),
    ],
)
def test_a_config_that_says_what_the_arrays_are_not_is_refused(build, path, value, said, tmp_path):
    saved(build(), tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    inner = settings
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(TinymmError) as caught:
        pretrained.load(tmp_path)
    assert said in str(caught.value) and ";" in str(caught.value)


@pytest.mark.parametrize(
    "case",
    ["BLIP retrieval", "BLIP captioning", "BLIP-2 retrieval", "BLIP-2 captioning", "BERT", "OPT"],
)
def test_every_key_is_known_or_named_and_a_file_without_a_config_is_refused(case, tmp_path):
    saved(CASES[case][0](), tmp_path)
    assert (
        pretrained.load_with_report(tmp_path)[1].unused == []
    )  # all that transformers writes has a line in a table
    change_config(tmp_path, lambda part: part.update(flavor="mild"))
    unused = pretrained.load_with_report(tmp_path)[1].unused
    assert unused and set(unused) <= {"flavor", "text_config.flavor"}
    (tmp_path / "config.json").unlink()
    with pytest.raises(TinymmError, match="copy that file too|pass heads="):
        pretrained.load(tmp_path)


def test_places_that_are_not_counted_are_refused(tmp_path):
    model = bert("BertForMaskedLM")
    state = copy.deepcopy(model.state_dict())
    model.config.save_pretrained(tmp_path)
    for places, fits in ((torch.arange(12)[None], True), (torch.arange(12).flip(0)[None], False)):
        torch.save(state | {"bert.embeddings.position_ids": places}, tmp_path / "pytorch_model.bin")
        if fits:
            assert (
                "bert.embeddings.position_ids" in pretrained.load_with_report(tmp_path)[1].ignored
            )
        else:
            with pytest.raises(TinymmError, match="counts the places 0, 1, 2"):
                pretrained.load(tmp_path)
