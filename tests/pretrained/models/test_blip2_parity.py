"""BLIP-2 beside transformers: tiny random models of every kind that it has, saved there and opened here, and the other way round."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tinymm import pretrained  # noqa: E402
from tinymm.layers import bidirectional_mask, multimodal_causal_mask  # noqa: E402
from tinymm.models.blip2 import BLIP2Stage1  # noqa: E402
from tinymm.models.blip2_stage2 import BLIP2Stage2  # noqa: E402
from tinymm.models.qformer import QFormer  # noqa: E402
from tinymm.tasks import losses  # noqa: E402

pytestmark = pytest.mark.parity
TOLERANCE = {"float64": 1e-9, "float32": 2e-5}
Q = 4
VISION = dict(
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=3,
    image_size=16,
    patch_size=8,
    attention_dropout=0.0,
)
QFORMER = dict(
    hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24, encoder_hidden_size=24, vocab_size=30,
    max_position_embeddings=12, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)  # fmt: skip
TEXT = dict(
    model_type="opt", hidden_size=20, num_hidden_layers=2, num_attention_heads=2, ffn_dim=32, vocab_size=40, max_position_embeddings=30,
    word_embed_proj_dim=20, dropout=0.0, attention_dropout=0.0, pad_token_id=1, bos_token_id=2, eos_token_id=3,
)  # fmt: skip


def randomized(model):
    """Return the model in evaluation with no parameter left at its initialization, which hides mistakes (zero queries, unit gains)."""
    torch.manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p) * 0.15 + (1.0 if p.ndim == 1 and p.mean() > 0.5 else 0.0))
    return model.eval()


def config(text=False, **changes):
    return transformers.Blip2Config(
        vision_config=VISION, qformer_config=QFORMER | {"use_qformer_text_input": text}, text_config=TEXT, num_query_tokens=Q,
        image_text_hidden_size=10, image_token_index=39, attn_implementation="sdpa", **changes,
    )  # fmt: skip


def theirs_and_ours(model, folder, dtype, **saving):
    randomized(model).save_pretrained(folder, **saving)
    return model.to(getattr(torch, dtype)), pretrained.load(folder, dtype=dtype)


def pictures(dtype, count=3):
    images = np.random.default_rng(0).standard_normal((count, 16, 16, 3)).astype(dtype)
    return images, torch.tensor(images.transpose(0, 3, 1, 2).copy())


def off(found, right):
    right = right.detach().numpy() if hasattr(right, "detach") else right
    return float(np.abs(np.asarray(found) - right).max() / np.abs(right).max())


IDS = np.array([[5, 7, 9, 11, 3], [5, 8, 3, 0, 0], [5, 12, 13, 3, 0]])
REAL = IDS > 0


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_image_text_retrieval_scores(tmp_path, dtype):
    theirs, ours = theirs_and_ours(
        transformers.Blip2ForImageTextRetrieval(config(text=True)), tmp_path, dtype
    )
    assert isinstance(ours, BLIP2Stage1) and ours.config.norm_eps == 1e-6
    images, pixels = pictures(dtype)
    places = np.full((3, Q), 39)  # where the queries will stand: transformers cuts them off again
    text = {
        "input_ids": torch.tensor(np.concatenate([places, IDS], 1)),
        "attention_mask": torch.tensor(np.concatenate([np.ones((3, Q), int), REAL], 1)),
    }
    contrast = theirs(
        pixel_values=pixels, **text, use_image_text_matching_head=False
    ).logits_per_image
    assert off(ours(images, IDS, REAL).data, contrast) < TOLERANCE[dtype]
    match = theirs(pixel_values=pixels, **text, use_image_text_matching_head=True).logits_per_image
    assert off(ours.itm_logits(ours.image_tokens(images), IDS, REAL).data, match) < TOLERANCE[dtype]
    np.testing.assert_allclose(
        ours.itm_probability(images, IDS, REAL), match.softmax(-1)[:, 1].detach().numpy(), rtol=1e-4
    )


def test_what_a_retrieval_folder_lacks_begins_anew_and_is_named(tmp_path):
    randomized(transformers.Blip2ForImageTextRetrieval(config(text=True))).save_pretrained(tmp_path)
    _, report = pretrained.load_with_report(tmp_path)
    assert "temperature" in report.newly_initialized and all(
        name == "temperature" or name.startswith("language_head.")
        for name in report.newly_initialized
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("use", ["queries", "text", "itm", "itg"])
def test_the_qformer_alone_in_its_four_uses(tmp_path, use, dtype):
    alone = transformers.Blip2QFormerConfig(
        **QFORMER, use_qformer_text_input=True, attn_implementation="sdpa"
    )
    theirs, ours = theirs_and_ours(transformers.Blip2QFormerModel(alone), tmp_path, dtype)
    assert isinstance(ours, QFormer)
    assert ours.initialize_missing() == ["queries", "embedding.words.weight", "embedding.positions"]
    rng = np.random.default_rng(1)
    ours.queries.data = rng.standard_normal((Q, 16)).astype(
        dtype
    )  # the folder has neither queries nor words
    ours.config = type(ours.config)(**{**vars(ours.config), "queries": Q})
    words = ours.embedding
    memory = rng.standard_normal((3, 5, 24)).astype(dtype)
    queries = torch.tensor(np.broadcast_to(ours.queries.data, (3, Q, 16)).copy())
    embedded = torch.tensor(words(IDS).data)
    memory_there = torch.tensor(memory)

    def reference(embeddings, length, mask):
        additive = torch.zeros(mask.shape, dtype=getattr(torch, dtype)).masked_fill(
            torch.tensor(~mask), torch.finfo(getattr(torch, dtype)).min
        )
        options = {"encoder_hidden_states": memory_there} if length else {}
        return (
            theirs(query_embeds=embeddings, query_length=length, attention_mask=additive, **options)
            .last_hidden_state.detach()
            .numpy()
        )

    if use == "queries":
        right = reference(queries, Q, np.ones((3, 1, Q, Q), bool))
        found = ours(memory).data
    elif use == "text":
        mask = np.broadcast_to(REAL[:, None, None, :], (3, 1, 5, 5)).copy()
        right, found = reference(embedded, 0, mask)[REAL], ours(ids=IDS, may_attend=mask).data[REAL]
    else:
        mask = (bidirectional_mask if use == "itm" else multimodal_causal_mask)(Q, REAL)
        rows = np.concatenate([np.ones((3, Q), bool), REAL], axis=1)
        right = reference(torch.cat([queries, embedded], dim=1), Q, mask)[rows]
        found = ours(memory, IDS, mask).data[rows]
    assert off(found, right) < TOLERANCE[dtype]


def caption_inputs():
    """Return the ids as transformers wants them, with Q places for the queries in front, and as we do."""
    ids = np.array([[2, 7, 9, 11, 3], [2, 8, 3, 1, 1], [2, 12, 13, 3, 1]])
    real = ids != 1
    places = np.full((3, Q), 39)
    return (
        ids,
        real,
        torch.tensor(np.concatenate([places, ids], 1)),
        torch.tensor(np.concatenate([np.ones((3, Q), int), real], 1)),
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shard", ["10GB", "8KB"])
def test_captioning_logits_loss_and_all_gradients(tmp_path, dtype, shard):
    theirs, ours = theirs_and_ours(
        transformers.Blip2ForConditionalGeneration(config()), tmp_path, dtype, max_shard_size=shard
    )
    assert isinstance(ours, BLIP2Stage2) and (
        (tmp_path / "model.safetensors.index.json").exists() == (shard == "8KB")
    )
    images, pixels = pictures(dtype)
    ids, real, input_ids, mask = caption_inputs()
    logits = theirs(pixel_values=pixels, input_ids=input_ids, attention_mask=mask).logits
    tokens = ours.image_tokens(images)
    found = ours.prompted_logits(ours.visual_prompts(tokens), ids, real).data
    assert off(found[:, 1:][real], logits[:, Q:][torch.tensor(real)]) < TOLERANCE[dtype]
    targets = torch.tensor(np.where(real, ids, -100))
    loss = torch.nn.functional.cross_entropy(
        logits[:, Q - 1 : -1].reshape(-1, 40), targets.reshape(-1), ignore_index=-100
    )
    mine = losses(ours, images, ids, real)["lm"]
    assert off(mine.data, loss) < TOLERANCE[dtype]
    loss.backward()
    mine.backward()
    gradients = pretrained.export(ours, "huggingface", gradients=True)
    right = {name: p.grad.numpy() for name, p in theirs.named_parameters() if p.grad is not None}
    assert all(
        name.startswith(
            ("qformer.", "query_tokens", "language_projection.", "vision_model.post_layernorm.")
        )
        for name in gradients
    )
    largest = max(np.abs(right[name]).max() for name in gradients)
    for name, g in gradients.items():
        if name.endswith("key.bias"):
            assert np.abs(g - right[name]).max() < 1e-6 * largest
        else:
            assert off(g, right[name]) < TOLERANCE[dtype] * (1 if dtype == "float64" else 2), name


def test_a_prompt_is_no_target(tmp_path):
    _, ours = theirs_and_ours(
        transformers.Blip2ForConditionalGeneration(config()), tmp_path, "float64"
    )
    images, _ = pictures("float64")
    ids, real, *_ = caption_inputs()
    target = real.copy()
    target[:, :2] = False
    other = ids.copy()
    prompts = ours.visual_prompts(ours.image_tokens(images))
    logits = ours.prompted_logits(prompts, ids, real).data[:, :-1]
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -np.take_along_axis(log_p, other[..., None], -1)[..., 0][target].mean()
    assert abs(losses(ours, images, ids, real, is_target=target)["lm"].data - expected) < 1e-12


@pytest.mark.parametrize("beams", [1, 3])
def test_greedy_and_beam_captions(tmp_path, beams):
    theirs, ours = theirs_and_ours(
        transformers.Blip2ForConditionalGeneration(config()), tmp_path, "float64"
    )
    images, pixels = pictures("float64", 6)
    prompt = np.full((6, 1), 2)
    input_ids = torch.tensor(np.concatenate([np.full((6, Q), 39), prompt], 1))
    out = theirs.generate(
        pixel_values=pixels,
        input_ids=input_ids,
        attention_mask=torch.ones_like(input_ids),
        max_new_tokens=9,
        num_beams=beams,
        do_sample=False,
    )
    right = [[t for t in row[Q + 1 :] if t not in (3, 1)] for row in out.tolist()]
    assert ours.generate(images, beams=beams, max_new_tokens=9) == right


@pytest.mark.parametrize("kind", ["retrieval", "generation"])
def test_what_we_save_opens_there(tmp_path, kind):
    there = (
        transformers.Blip2ForImageTextRetrieval
        if kind == "retrieval"
        else transformers.Blip2ForConditionalGeneration
    )
    theirs, ours = theirs_and_ours(
        there(config(text=kind == "retrieval")), tmp_path / "a", "float32"
    )
    pretrained.save(ours, tmp_path / "b", format="huggingface")
    again = there.from_pretrained(tmp_path / "b").eval()
    for name, array in theirs.state_dict().items():
        assert torch.equal(again.state_dict()[name], array), name
    assert (
        again.config.num_query_tokens == Q and again.config.qformer_config.num_attention_heads == 2
    )
