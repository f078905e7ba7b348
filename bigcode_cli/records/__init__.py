"""The records that cross rooms: what is asked for, what comes of it, and how it is told.

Frozen and self-validating: a record that exists is valid, and no room checks it again. Standard
library only, so that every room can import them at start-up.
"""

from bigcode_cli.records.classifying import (
    ChangeCosts,
    Classified,
    ClassifyOptions,
    ClassifyRequest,
    LabelledSpan,
    Spans,
)
from bigcode_cli.records.decoding import (
    MAX_SEED,
    Chunk,
    Completion,
    FinishReason,
    GenerateRequest,
    Passes,
    SamplingOptions,
    StopAt,
    StopOptions,
    Timing,
    TokenLogprob,
)
from bigcode_cli.records.infill import (
    Candidate,
    ContextFile,
    Infilled,
    InfillOrder,
    InfillRequest,
    Span,
)
from bigcode_cli.records.loading import (
    Attention,
    BackendName,
    Dtype,
    Failure,
    LoadOptions,
    ModelFolder,
    Quantize,
    Reporter,
    Silence,
)
from bigcode_cli.records.scoring import (
    Scored,
    ScoredTokens,
    ScoreOptions,
    ScoreRequest,
    TokenScore,
    bits_per_byte,
    perplexity,
)

__all__ = [
    "MAX_SEED",
    "Attention",
    "BackendName",
    "Candidate",
    "ChangeCosts",
    "Chunk",
    "Classified",
    "ClassifyOptions",
    "ClassifyRequest",
    "Completion",
    "ContextFile",
    "Dtype",
    "Failure",
    "FinishReason",
    "GenerateRequest",
    "InfillOrder",
    "InfillRequest",
    "Infilled",
    "LabelledSpan",
    "LoadOptions",
    "ModelFolder",
    "Passes",
    "Quantize",
    "Reporter",
    "SamplingOptions",
    "ScoreOptions",
    "ScoreRequest",
    "Scored",
    "ScoredTokens",
    "Silence",
    "Span",
    "Spans",
    "StopAt",
    "StopOptions",
    "Timing",
    "TokenLogprob",
    "TokenScore",
    "bits_per_byte",
    "perplexity",
]
