"""Scores of real files against teacher forcing by transformers.

``python -m tests.likelihood FOLDER`` needs an environment with transformers 4.56.2, torch,
tokenizers and safetensors. It scores files of a folder with ``mini`` in float32 on both sides and
prints the largest relative differences; it fails beyond ``LIMIT``. ``--attention sdpa`` takes that
of both sides instead of eager. ``--golden`` writes what
transformers finds on a few texts of this repository, which ``test_golden.py`` holds the engine to
without it.
"""
