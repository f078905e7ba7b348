"""The engine for CPUs, in C++: a step, a pass or a score is one call, and nothing imports torch."""
