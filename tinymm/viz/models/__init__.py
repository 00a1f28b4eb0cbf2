"""What one model is made of, drawn from its own numbers.

Read `architecture` (encoder, connector and language model in the four papers), `systems` (the four
models trained side by side), `queue_ring` (ALBEF's queue, and what age does to
it), `blip_stack` (BLIP's layers, used in three ways), `capfilt` (captions that BLIP kept, dropped
and rewrote) and `blip2_strip` (BLIP-2, from picture to words).
"""
