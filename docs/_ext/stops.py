"""The first walk through the source: twelve stops, each with a question whose answer is one line, found by what stands in it."""

from tree import PACKAGE, page

#: File, question, and words that stand in one line of it alone: the answer.
STOPS = (
    (
        "autodiff/tensor",
        "Which line says that `a @ b` is NumPy's `matmul`, and so asks the catalogue?",
        "np.matmul",
    ),
    (
        "autodiff/graph",
        "Where does a value come to point to its inputs?",
        "out.made_by = (self, links)",
    ),
    (
        "autodiff/backward",
        "Where are gradients added that arrive on two roads, for the first time?",
        "arrived[x] = arrived[x] + part",
    ),
    (
        "autodiff/ops/reduce",
        "Where does `softmax` take care that nothing overflows?",
        "p = _exp_shifted(x, axis)",
    ),
    (
        "layers/masks",
        "Which line makes ITG's words causal, and is the whole difference to ITM?",
        "to_device_like(prefix_mask(",
    ),
    (
        "layers/attention",
        "Where does a long sequence take another way, on which no weights are kept?",
        "ops.blockwise_attention(q, k, v",
    ),
    (
        "tasks/clip",
        "Which line of Figure 3 decides which picture belongs to which text?",
        "labels = np.arange(n)",
    ),
    (
        "losses/matching",
        "Where are true pairs taken out, before anything is drawn?",
        "np.where(wrong, text_to_image, -np.inf)",
    ),
    (
        "models/momentum",
        "Where is a row of the queue overwritten?",
        "renewed[rows_taken] = to_device_like(rows, renewed)",
    ),
    (
        "models/blip",
        "Which weights has the decoder for itself, beside its head and norms?",
        "self.attentions = [",
    ),
    (
        "models/qformer",
        "Where do queries look at the picture, and words do not?",
        "queries + self.cross(queries, memory)",
    ),
    (
        "models/blip2_stage2",
        "Where do visual prompts and the text become one sequence?",
        "[visual_prompts, model.embed(ids)]",
    ),
)


def answer(file: str, words: str) -> tuple[int, str]:
    """Return the number and the text of the one line of a file in which the words stand; LookupError if that is not one line."""
    lines = (PACKAGE / f"{file}.py").read_text(encoding="utf-8").splitlines()
    found = [(number, line.strip()) for number, line in enumerate(lines, 1) if words in line]
    if len(found) != 1:
        raise LookupError(
            f"the answer of a stop is one line, and {words!r} stands in {len(found)} lines of {file}.py; say it in other words"
        )
    return found[0]


def walk() -> str:
    """Return the stops as a numbered list; each answer is folded, and leads to its line."""
    text = ""
    for number, (file, question, words) in enumerate(STOPS, 1):
        line, code = answer(file, words)
        where = f"{page(PACKAGE / f'{file}.py')}"
        shown = code.replace("&", "&amp;").replace("<", "&lt;")
        text += f'{number}. {{doc}}`{file} </{where}>`: {question}\n    <details class="answer"><summary>answer</summary>'
        text += f'<a href="{where}.html#L{line}">line {line}</a>: <code>{shown}</code></details>\n'
    return text
