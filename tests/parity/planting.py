"""What a planted mistake is."""

from collections.abc import Callable

Patch = Callable[[object, str, object], object]
"""Puts a value in the place of an attribute, for a while."""

Plant = Callable[[Patch], object]
"""Makes a mistake in this package by patching it; torch itself, which the oracle shares, never."""
