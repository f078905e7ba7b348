"""Local code completion for the GPTBigCode family."""

__version__ = "0.1.0"
