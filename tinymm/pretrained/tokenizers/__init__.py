"""Released tokenizers: text becomes the ids that the weights were trained on.

Read `cleaning` (a text before it is cut), `bpe` (CLIP's and OPT's byte pairs, and the one function
that opens any tokenizer), `wordpiece` (BERT's, for ALBEF, BLIP and BLIP-2) and `learned` (byte
pairs that are learned from your own captions).
"""
