"""GPTBigCode in PyTorch: the reference that every fast path is tested against."""
