"""What makes decoding fast: one token's step as few launches over buffers that never move.

``weights`` and ``buffers`` are what a step reads and writes, ``step`` is the order of its
operations, and ``triton`` has them as kernels. Nothing here knows a model's modules: a backend
hands the tensors in. The slow twin of every operation stands in ``model``.

The two numbers of a step at batch 1 are its bytes, nearly all of them weights, and the time in
which the device can read them; its arithmetic, two operations a weight, is far below. On an H100
that reads 3.18 TB/s, per token (KV cache at 1,000 slots and activations add less than 2 %):

=================== ======== ========= ======== ========= ======== =========
shape               bf16     floor     int8     floor     int4     floor
=================== ======== ========= ======== ========= ======== =========
tiny_starcoder_py   0.32 GB  0.10 ms   0.16 GB  0.05 ms   0.09 GB  0.03 ms
SantaCoder          2.24 GB  0.70 ms   1.12 GB  0.35 ms   0.64 GB  0.20 ms
StarCoder           30.9 GB  9.7 ms    15.5 GB  4.9 ms    8.5 GB   2.7 ms
=================== ======== ========= ======== ========= ======== =========

(int4 holds the vocabulary projection, which is the embedding, in int8.) A layer is five launches;
one costs about a microsecond that overlaps with its neighbours (programmatic dependent launch),
else two. Attention adds the latency of some four dependent reads, 3 to 5 microseconds a layer.

Measured there, per token at 500 slots (``tests/benchmarks/graph-steps-h100.json``):

=================== ======== ======== ========
shape               bf16     int8     int4
=================== ======== ======== ========
tiny_starcoder_py   0.35 ms  0.35 ms  0.80 ms
SantaCoder          1.14 ms  0.92 ms  5.3 ms
StarCoder           10.6 ms  7.2 ms   34.5 ms
=================== ======== ======== ========

In int4 unpacking takes the time, so it saves memory alone.

Many tokens or rows at once are bound by the matrix units instead, and cuBLAS's products come close
to them. There ``triton.wide`` has what stands between the products.
"""
