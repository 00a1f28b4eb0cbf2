"""Cheat sheets, one printed page each: masks, losses, NumPy's axes, evaluation. Every number and every "who sees whom" is computed here.

The shapes through the models are in `shapes_sheet`.
"""

import html
import json
import math

import numpy as np
from tree import ROOT

from tinymm import Tensor, losses
from tinymm.layers import masks
from tinymm.training.evaluate import recall_at_k, swap_accuracy
from tinymm.viz.mask_cells import sentence, states
from tinymm.viz.mask_svg import marks

SIDE = 17  # pixels of a cell
FILLS = {1: 'fill="currentColor" fill-opacity=".82"', 2: 'fill="none"'}


# ---------------------------------------------------------------------- masks
def drawn(mask: np.ndarray, rows: list[str], columns: list[str], is_real: np.ndarray | None) -> str:
    """Return a mask (Tq, Tk) as a small SVG in the page's own colors: ● on dark may attend, · is blocked, padding is hatched."""
    cells, signs, left, top = states(mask, is_real), marks(SIDE)["s"], 46, 40
    out = [f'<text x="{left - 4}" y="{top + i * SIDE + 12}" text-anchor="end">{html.escape(name)}</text>' for i, name in enumerate(rows)]
    for j, name in enumerate(columns):
        x = left + j * SIDE + 12
        out.append(f'<text x="{x}" y="{top - 4}" transform="rotate(-90 {x} {top - 4})">{html.escape(name)}</text>')
    for i, j in np.ndindex(*cells.shape):
        open_ = cells[i, j] == 1
        look = 'fill="var(--color-background-primary)"' if open_ else 'fill="none" stroke="currentColor" stroke-opacity=".7"'
        out.append(
            f'<g transform="translate({left + j * SIDE} {top + i * SIDE})"><rect width="{SIDE}" height="{SIDE}" stroke="currentColor" '
            f'stroke-opacity=".35" {FILLS[1] if open_ else FILLS[2]}/><path d="{signs[cells[i, j]]}" {look}/></g>'
        )
    width, height = left + len(columns) * SIDE + 2, top + len(rows) * SIDE + 2
    said = f"{int(mask.sum())} of {mask.size} cells may attend"
    return f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" aria-label="{said}" font-size="10.5" fill="currentColor">{"".join(out)}</svg>'


def crossing(mask: np.ndarray, rows: list[str], columns: list[str]) -> str:
    """Return in words which rows of a cross mask see which columns."""
    by_row = {name: [column for column, open_ in zip(columns, row, strict=True) if open_] for name, row in zip(rows, mask, strict=True)}
    groups: dict[str, list[str]] = {}
    for name, seen in by_row.items():
        groups.setdefault(", ".join(seen) or "nothing", []).append(name)
    return "; ".join(f"{', '.join(names)} see{'s' if len(names) == 1 else ''} {seen}" for seen, names in groups.items()) + "."


def mask_sheet() -> str:
    """Return the sheet of the seven masks of `layers.masks`."""
    real, words = np.array([[True, True, True, False]]), ["a", "red", "ball", "[PAD]"]
    both, text = ["q0", "q1", *words], {"query": 2, "text": 4}
    all_real = np.concatenate([np.ones((1, 2), bool), real], axis=1)
    square = np.broadcast_to(masks.padding_mask(real)[0, 0], (4, 4))
    rows_real, columns_real = np.array([[True, True, False]]), np.array([[True, True, True, False]])
    cross = masks.cross_mask(rows_real, columns_real)[0, 0]
    items = [
        ("causal_mask(T)", masks.causal_mask(4), words[:3] + ["!"], None, {"text": 4}, "language models, CLIP's text"),
        ("padding_mask(is_real)", square, words, real[0], {"text": 4}, "every text of a batch"),
        ("prefix_mask(prefix, T)", masks.prefix_mask(2, 4), words[:3] + ["!"], None, {"prefix": 2, "text": 2}, "a given beginning"),
        ("cross_mask(may_look, is_real)", cross, ["q0", "q1", "a"], columns_real[0], None, "queries look at a picture"),
        ("unimodal_mask(Q, is_real)", masks.unimodal_mask(2, real)[0, 0], both, all_real[0], text, "BLIP-2's ITC"),
        ("multimodal_causal_mask(Q, is_real)", masks.multimodal_causal_mask(2, real)[0, 0], both, all_real[0], text, "BLIP-2's ITG"),
        ("bidirectional_mask(Q, is_real)", masks.bidirectional_mask(2, real)[0, 0], both, all_real[0], text, "BLIP-2's ITM"),
    ]  # fmt: skip
    body = ""
    for call, mask, names, is_real, groups, use in items:
        columns = names if groups else ["p1", "p2", "p3", "pad"]
        said = sentence(mask, groups, is_real) if groups else crossing(mask, names, columns)
        said = said.replace("A prefix", "A token of the prefix").replace("all prefix", "all of the prefix")
        body += f"<figure><figcaption><code>{call}</code><br>{use}</figcaption>{drawn(mask, names, columns, is_real)}<p>{html.escape(said)}</p></figure>\n"
    return (
        "# Cheat sheet: masks\n\n{.sheet}\n"
        "Rows look, columns are looked at, **True = may attend**. ● may attend, · blocked, hatched padding; ○ on it: padding looks, and nobody reads it. Masks are boolean, combine with `&` (both allow) and "
        "`|` (either allows) and broadcast to `(B, H, Tq, Tk)`. A row that may look at nothing gives zeros.\n\n"
        f'<div class="sheet-grid">\n{body}</div>\n\n'
        f"Padding and order at once: `causal_mask(T) & padding_mask(is_real)`, shape {shown((masks.causal_mask(4) & masks.padding_mask(real)).shape)}. "
        "From elsewhere: `additive == 0` of a mask that is added, `~mask` where True means *ignore*. What a row can *know* after several layers: "
        "`reachability([mask] * layers)`. Check yours: `check.causal_mask(fn)`, `check.qformer_masks(fn)`.\n"
    )


def shown(shape: tuple) -> str:
    """Return a shape as code."""
    return f"`{tuple(int(n) for n in shape)}`"


# ---------------------------------------------------------------------- losses
def reached(loss: object, **tensors: Tensor) -> str:
    """Return which of the tensors have a gradient after the backward pass, and which have none."""
    loss.backward()  # type: ignore[attr-defined]
    has = {name: tensor.grad is not None and bool(np.abs(tensor.grad).max() > 0) for name, tensor in tensors.items()}
    names = [[name.replace("_", "\\_") for name, found in has.items() if found == wanted] for wanted in (True, False)]
    return ", ".join(names[0]) + (f"; none: {', '.join(names[1])}" if names[1] else "")


def value(loss: object) -> str:
    """Return a loss with four digits."""
    return f"{float(getattr(loss, 'data', loss)) + 0.0:.4f}"


def unit(rng: np.random.Generator, *shape: int) -> Tensor:
    """Return random unit rows that ask for a gradient."""
    rows = rng.normal(size=shape)
    return Tensor(rows / np.linalg.norm(rows, axis=-1, keepdims=True), requires_grad=True)


def loss_sheet() -> str:
    """Return the sheet of the losses: formula, level, floor, gradient, and who has one, each found by running the loss."""
    rng, n, K, E, V, e = np.random.default_rng(0), 8, 24, 16, 32, 0.1
    S = Tensor(rng.normal(size=(n, n)), requires_grad=True)
    doubled = np.kron(np.eye(n // 2), np.ones((2, 2))) * 1e3
    sides = {name: unit(rng, rows, E) for name, rows in (("I", n), ("T", n), ("I_m", n), ("T_m", n), ("queue_I", K), ("queue_T", K))}
    same = [np.ones((rows, E)) / math.sqrt(E) for rows in (n, n, n, n, K, K)]
    own = sides["I"].data, sides["T"].data, sides["I"].data, sides["T"].data, sides["queue_I"].data, sides["queue_T"].data
    ids, real = rng.integers(0, V, (2, 5)), np.ones((2, 5), bool)
    words, right = Tensor(rng.normal(size=(2, 5, V)), requires_grad=True), np.full((2, 5, V), -np.inf)
    for b, t in np.ndindex(2, 4):
        right[b, t] = np.log(e / V)
        right[b, t, ids[b, t + 1]] = np.log(1 - e + e / V)
    right[:, 4] = 0
    labels = np.where(np.arange(5) % 2, ids, -100)
    hidden = Tensor(rng.normal(size=(2, 5, V)), requires_grad=True)
    draws = (np.arange(n) + 1) % n
    _, _, is_pair = losses.itm_pairs(draws, draws)
    prior = np.log(np.tile([2 / 3, 1 / 3], (len(is_pair), 1)))
    judged, cosines = Tensor(rng.normal(size=(len(is_pair), 2)), requires_grad=True), unit(rng, n, 4, E)
    texts, pair = unit(rng, 1, E), Tensor(rng.normal(size=(n, n)), requires_grad=True)
    queried = losses.max_over_queries(cosines, texts)
    np.sum(queried).backward()
    winners = int((np.abs(cosines.grad).sum(axis=-1) > 0).sum(axis=1).max()) if cosines.grad is not None else 0
    rows = [
        ("ITC, CLIP", "itc_loss", r"\frac{1}{2n}\sum_i(-\ln P^{\mathrm{row}}_{ii}-\ln P^{\mathrm{col}}_{ii})", r"\frac{P^{\mathrm{row}}+P^{\mathrm{col}}}{2n}-\frac{I}{n}",
         rf"$\ln n$ = {value(losses.itc_loss(np.zeros((n, n))))}", f"{value(losses.itc_loss(np.eye(n) * 1e3))}; each caption twice {value(losses.itc_loss(doubled))}",
         reached(losses.itc_loss(S), logits=S) + ": both towers and the scale"),
        ("ITC with queue, ALBEF", "itc_with_queue", r"-\sum_j q_{ij}\ln p_{ij},\; q=\alpha\,\mathrm{softmax}(S')+(1-\alpha)e_i", r"\frac{p-q}{2n}",
         rf"$\ln(n+K)$ = {value(losses.itc_with_queue(*same, 0.07, 0.4)[0])}", f"the targets' entropy, here {value(losses.itc_with_queue(*own, 0.07, 1.0)[0])}",
         reached(losses.itc_with_queue(*sides.values(), 0.07, 0.4)[0], **sides)),
        ("SigLIP", "sigmoid_loss", r"\frac{1}{n}\sum_{ij}\ln(1+e^{-y_{ij}S_{ij}})", r"-\frac{y}{n}\,\sigma(-yS)",
         rf"$n\ln 2$ = {value(losses.sigmoid_loss(np.zeros((n, n))))}; at $b=-\ln(n-1)$ {value(losses.sigmoid_loss(np.full((n, n), -math.log(n - 1))))}",
         value(losses.sigmoid_loss(1e3 * (2 * np.eye(n) - 1))), reached(losses.sigmoid_loss(pair), logits=pair) + ", each entry by itself"),
        ("ITM", "itm_loss", r"\frac{1}{3n}\sum -\ln p_y", r"\frac{p-e_y}{3n}", f"prior 1:2 = {value(losses.itm_loss(prior, is_pair))}",
         value(losses.itm_loss(1e3 * np.eye(2)[is_pair], is_pair)), reached(losses.itm_loss(judged, is_pair), logits=judged) + ": text stack and picture; not the draw of negatives"),
        ("MLM", "masked_language_loss", r"\frac{1}{M}\sum_{t\,\mathrm{hidden}}-\ln p_{t,w_t}", r"\frac{p-e_w}{M}",
         rf"$\ln V$ = {value(losses.masked_language_loss(np.zeros((2, 5, V)), labels))}", "what the words leave open",
         reached(losses.masked_language_loss(hidden, labels), logits=hidden) + f" of {int((np.abs(hidden.grad).sum(-1) > 0).sum())} hidden places of {labels.size}"),
        ("LM, ITG", "language_loss", r"\frac{1}{T-1}\sum_t -\ln p(w_{t+1}\mid w_{\le t})", r"\frac{p-e_w}{T-1}",
         rf"$\ln V$ = {value(losses.language_loss(np.zeros((2, 5, V)), ids, real))}", f"0; with smoothing {e} {value(losses.language_loss(right, ids, real, smoothing=e))}",
         reached(losses.language_loss(words, ids, real), logits=words) + f" at {int((np.abs(words.grad).sum(-1) > 0).sum())} of {real.size} places: the last has no next"),
    ]  # fmt: skip
    text = "# Cheat sheet: losses\n\n{.sheet}\n"
    text += f"In nats. The numbers are those of n = {n} pairs, a queue of K = {K}, V = {V} words, random features of E = {E}; each was computed when this page was made.\n\n"
    text += "| loss | formula | gradient in the logits | says nothing | floor | has a gradient |\n|---|---|---|---|---|---|\n"
    text += "".join(f"| **{name}**<br>`{fn}` | ${formula}$ | ${slope}$ | {level} | {floor} | {who} |\n" for name, fn, formula, slope, level, floor, who in rows)
    fresh = np.mean([losses.itc_loss(unit(rng, 128, 64).data @ unit(rng, 128, 64).data.T / 0.07).item() for _ in range(10)])
    return text + (
        f"\nA *fresh* model does not stand at ln n: 128 random pairs in 64 dimensions at scale 1/0.07 cost {fresh:.2f}, and ln 128 is {math.log(128):.2f}. "
        f"The maximum over queries gives a gradient to {winners} of the 4 queries of each pair. Frozen weights get none and let it through; `no_grad`, `.data` and a twin "
        "let none through. Gradients of small batches do not add up to that of a large one.\n\nSee [the maths](/losses.md), and "
        "`check.contrastive_loss(fn)`, `check.itc_queue(fn)`, `check.sigmoid_loss(fn)`, `check.itm_loss(fn)`, `check.lm_loss(fn)` for yours.\n"
    )


# ---------------------------------------------------------------------- NumPy's axes
AXES = (
    "x.sum()", "x.sum(axis=0)", "x.sum(axis=-1)", "x.sum(axis=(0, 1))", "x.mean(axis=-1, keepdims=True)", "x.argmax(axis=-1)", "np.sort(x, axis=1)",
    "x[0]", "x[:, None]", "x[..., 0]", "x[:, 1:]", "x[:, ::-1]", "x[x > 0]", "x[[0, 1, 1]]", "x.reshape(6, 4)", "x.reshape(2, -1)", "x.swapaxes(-1, -2)",
    "np.moveaxis(x, -1, 0)", "np.stack([x, x])", "np.concatenate([x, x], axis=1)", "x + y", "x * y[None, :]", "x @ y", "x @ w", "x @ x.swapaxes(-1, -2)",
    "np.einsum('btd,de->bte', x, w)", "np.take_along_axis(x, i, axis=-1)", "np.broadcast_to(y, x.shape)", "np.linalg.norm(x, axis=-1)", "x.reshape(2, 3, 2, 2).swapaxes(1, 2)",
)  # fmt: skip
SAYS = {
    "x.sum()": "all axes go", "x.sum(axis=0)": "the axis that is named goes", "x.sum(axis=-1)": "the last axis", "x.mean(axis=-1, keepdims=True)": "stays as 1, so that the result broadcasts back",
    "x[:, None]": "a new axis of 1", "x[x > 0]": "flat: the number depends on x", "x.reshape(2, -1)": "what is left", "x + y": "aligned from the right",
    "x @ w": "last with last but one", "x @ x.swapaxes(-1, -2)": "who looks at whom", "x.reshape(2, 3, 2, 2).swapaxes(1, 2)": "(B, T, D) to (B, H, T, Dh)", "np.stack([x, x])": "a new axis in front",
    "np.take_along_axis(x, i, axis=-1)": "one index a place", "x[[0, 1, 1]]": "rows by number, also twice", "np.einsum('btd,de->bte', x, w)": "letters that end go", "np.broadcast_to(y, x.shape)": "nothing is copied",
}  # fmt: skip
WRONG = ("x + w", "w @ x", "x.reshape(5, 5)", "np.concatenate([x, y], axis=0)")


def axes_sheet() -> str:
    """Return the sheet of NumPy's axes: each line is evaluated."""
    rng = np.random.default_rng(0)
    names = {"np": np, "x": rng.normal(size=(2, 3, 4)), "y": rng.normal(size=(4,)), "w": rng.normal(size=(4, 5)), "i": np.zeros((2, 3, 1), int)}
    results = {line: eval(line, dict(names)) for line in AXES}  # noqa: S307 (our own lines)
    cells = [f"`{line}` | {shown(np.shape(result))} | {SAYS.get(line, '')}" for line, result in results.items()]
    half = (len(cells) + 1) // 2
    text = "# Cheat sheet: NumPy's axes\n\n{.sheet}\n`x` is (2, 3, 4), `y` (4,), `w` (4, 5), `i` (2, 3, 1). An axis counts from 0, from the end as −1; "
    text += "shapes are aligned **from the right**, and a length of 1 stretches. Every line was run when this page was made.\n\n"
    text += "| code | gives | | code | gives | |\n|---|---|---|---|---|---|\n"
    cells += [" | | "] * (2 * half - len(cells))
    text += "".join(f"| {left} | {right} |\n" for left, right in zip(cells[:half], cells[half:], strict=True)) + "\n## What goes wrong, as NumPy says it\n\n| code | error |\n|---|---|\n"
    for line in WRONG:
        try:
            eval(line, dict(names))  # noqa: S307
        except ValueError as error:
            text += f"| `{line}` | {html.escape(str(error).strip())} |\n"
    y = Tensor(names["y"], requires_grad=True)
    np.sum(names["x"] + y).backward()
    return text + (
        f"\nBackward, what was stretched is summed: in `np.sum(x + y)` the gradient of `y` has its shape, {shown(y.grad.shape)}, and each entry is {y.grad[0]:g} = 2 · 3. "
        "An op's axes here are in NumPy's own notation, `(m,k),(k,n)->(m,n)`. Pictures are (B, h, w, c), texts (B, T), rows of features (B, T, D).\n"
    )


# ---------------------------------------------------------------------- evaluation
def evaluation_sheet() -> str:
    """Return the sheet of the metrics, chance computed, beside what `demo` has."""
    kept = json.loads((ROOT / "notebooks" / "kept" / "demo.json").read_text(encoding="utf-8"))
    found, chance = kept["results"], kept["chance"]
    flat, n = np.zeros((150, 150)), 150
    alike = {k: recall_at_k(flat, k, ties="expected") for k in (1, 5, 10)}
    tied = recall_at_k(flat, 1)
    rows = [
        ("recall at k", "is the right one among the k best?", "`recall_at_k`", f"k/N: {alike[1]:.3f}, {alike[5]:.3f}, {alike[10]:.3f} of N = {n}",
         f"R@1 {found['unseen_characters_r1']:.2f}, R@5 {found['unseen_characters_text_to_image_r5']:.2f}, unseen characters"),
        ("both directions", "picture to text, and text to picture", "`retrieval`", f"{chance['unseen_characters_r1']:.3f}",
         f"{found['unseen_characters_image_to_text_r1']:.2f} and {found['unseen_characters_text_to_image_r1']:.2f}"),
        ("distractors", "the same, among all names", "`recalls`", f"{chance['unseen_characters_all_r1']:.3f}", f"{found['unseen_characters_all_r1']:.2f}"),
        ("zero-shot accuracy", "which class, told by its name?", "`zero_shot`", f"1/C: {chance['zero_shot_script']:.2f} of 5, {chance['zero_shot_case']:.2f} of 2",
         f"script {found['zero_shot_script']:.2f}, case {found['zero_shot_case']:.2f}"),
        ("linear probe", "what do frozen features hold?", "`linear_probe`", f"largest class: {chance['probe_script']:.2f}, {chance['probe_case']:.2f}",
         f"script {found['probe_script']:.2f}, case {found['probe_case']:.2f}"),
        ("swaps", "does it know the order of words?", "`swap_accuracy`", f"{swap_accuracy(np.zeros(4), np.zeros(4)):.2f}, exactly, for a bag of words", "–"),
        ("ITM accuracy", "a pair, or a hard negative?", "`matching`", f"{2 / 3:.3f}, saying no to all; loss {losses.ITM_PRIOR:.4f}", "–"),
        ("re-ranking", "ITM judges ITC's best", "`rerank`", "that of recall", "–"),
        ("perplexity", "among how many words does it hesitate?", "`perplexity`", f"V: e^ln V = {math.exp(math.log(32)):.0f} of 32 words", "–"),
    ]  # fmt: skip
    text = "# Cheat sheet: evaluation\n\n{.sheet}\nA number without its chance level says nothing. The last column is the kept run of "
    text += f"`{kept['command']}` ({kept['steps']:,} steps, batches of {kept['batch_size']}).\n\n| metric | question | function | chance | demo |\n|---|---|---|---|---|\n"
    text += "".join(f"| **{name}** | {asked} | {fn} | {level} | {has} |\n" for name, asked, fn, level, has in rows)
    return text + (
        f"\n- **Ties.** A collapsed model scores everything alike. Counted for the model it would have 1; here it has {tied:g}, and `ties=\"expected\"` gives it chance, {alike[1]:.3f}.\n"
        "- **Duplicates.** A picture with several captions is found by any of them; equal captions of other pictures are also right: pass `is_match`.\n"
        "- **Order, not size.** Compare scores within a row. The cosine of right pairs depends on the modality gap, BLIP-2's on its maximum over queries.\n"
        "- **Validation chooses, the test is looked at once.** Characters, faces or scenes of the test are in no training batch.\n"
        "- **A control beside the number**: shuffled pairs, a blank picture, the text alone, the nearest picture pixel by pixel.\n"
        "- **A loss is no metric.** A leak lowers the loss; look at the words. A loss depends on n, on the scale and on the queue.\n"
        "- **Zero-shot asks for the task's labels, not for unseen things.** Say what was held out.\n"
        "- **How sure?** A share p of N has a standard error of √(p(1 − p)/N): "
        f"{math.sqrt(found['unseen_characters_r1'] * (1 - found['unseen_characters_r1']) / n):.3f} for {found['unseen_characters_r1']:.2f} of {n}.\n"
    )
