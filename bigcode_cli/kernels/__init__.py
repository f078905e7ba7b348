"""What makes decoding fast: one token's step as few launches over buffers that never move.

``weights`` and ``buffers`` are what a step reads and writes, ``step`` is the order of its
operations, and ``triton`` has them as kernels. Nothing here knows a model's modules: a backend
hands the tensors in. The slow twin of every operation stands in ``model``.

The two numbers of a step at batch 1 are its bytes, nearly all of them weights, and the time in
which the device can read them; its arithmetic, two operations a weight, is far below. On an H200
that reads 4.69 TB/s, per token (KV cache at 1,000 slots and activations add less than 2 %), and
as measured at 512 to 640 slots (``tests/benchmarks/speed-h200-*.json``, 2026-11-29):

=================== ======== ======== ========= ======== ======== =========
shape               bf16     floor    measured  int8     floor    measured
=================== ======== ======== ========= ======== ======== =========
tiny_starcoder_py   0.32 GB  0.07 ms  0.40 ms   0.16 GB  0.03 ms  0.45 ms
SantaCoder          2.24 GB  0.48 ms  1.04 ms   1.12 GB  0.24 ms  0.86 ms
StarCoder           30.9 GB  6.6 ms   7.8 ms    15.5 GB  3.3 ms   7.5 ms
=================== ======== ======== ========= ======== ======== =========

(int4 of the feed-forward layers alone: SantaCoder 0.86 ms.) A layer is five launches. Of
SantaCoder's, alone in a chain of their like: projection 4.2 microseconds, attention 10, output
3.3, up 9.9 and down 9.4 in bf16, 7.2 and 6.9 in int8, where the floors are 3.8. What is left:

- Attention of one row is split among programs, and to join the parts costs more than to make
  them: a step takes 0.88 ms while all slots are one split (64), then 1.05 ms.
- In eight and four bits it is instructions that bound, six a weight, not bytes.
- A whole step as one persistent kernel, in Triton and in CUDA, vectors handed from block to block
  word by word, took 0.97 to 1.2 ms where launches took 0.93: blocks with the same share of every
  matrix wait for the slowest one, and code that is as long as a layer leaves the instruction cache.

Many tokens or rows at once are bound by the matrix units instead, and cuBLAS's products come close
to them. There ``triton.wide`` has what stands between the products.
"""
