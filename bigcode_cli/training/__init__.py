"""Training: corpus, objective, loop."""
