"""The model family against transformers 4.56.2, on random cases drawn from a seed.

Each case draws a model class, a configuration, wide weights and a combination of arguments, and
runs them there (eager attention) and here (eager, then fused attention), in float32. Compared are
the names, order and content of all outputs at real positions, the cache, losses, and the gradient
of every parameter. A new seed is a new suite. From the root of the repository, in an environment
of the oracle's own::

    python3.11 -m venv oracle
    oracle/bin/pip install "transformers==4.56.2" "torch>=2.11,<2.14" "safetensors[torch]"
    oracle/bin/python -m tests.parity --seed 0

``--cases N`` runs the first N, ``--only N`` a single one, ``--mutants`` plants mistakes and shows
that each is seen, ``--write-golden`` writes the share that ``test_golden.py`` compares without
transformers. The exit code is 1 if anything differs, or if a mistake goes unseen.

``plans.py`` chooses what a case combines and ``cases.py`` draws its numbers; ``ours.py`` and
``oracle.py`` run it, each into the names and tensors of ``results.py``; ``compare.py`` holds the
tolerances. Cross-attention is not here: no release of transformers can do it.
"""
