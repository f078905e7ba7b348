"""Is a package's licence permissive? Read from SPDX expressions, classifiers, fields and texts.

The answer is the licence's short name, or ``None`` where there is no evidence or where any part of
it asks for more than attribution. In doubt a package is left out.
"""

import re
from collections.abc import Iterable

PERMISSIVE = frozenset(
    (
        *("0bsd", "afl-3.0", "apache-2.0", "blueoak-1.0.0", "bsl-1.0", "cc0-1.0", "cnri-python"),
        *("bsd", "bsd-1-clause", "bsd-2-clause", "bsd-3-clause", "hpnd", "hpnd-sell-variant"),
        *("isc", "mit", "mit-0", "mit-cmu", "ncsa", "psf", "psf-2.0", "python-2.0"),
        *("python-2.0.1", "unlicense", "upl-1.0", "wtfpl", "x11", "zlib", "zpl-2.1"),
    )
)
"""SPDX identifiers (lower case; ``bsd`` and ``psf`` where the number of clauses is not told)."""

_SPDX_TOKEN = re.compile(r"\(|\)|[^\s()]+")
_LONGEST_FIELD = 80
_FIELDS = (
    (r"apache.*2|apache( software)?( license)?$|asl ?2", "apache-2.0"),
    (r"(the )?mit( license)?( \(.*\))?$|expat", "mit"),
    (r"(the )?(new |modified |revised |simplified )?bsd\b|[23][- ]clause bsd", "bsd"),
    (r"isc\b", "isc"),
    (r"psf|python software foundation|python license", "psf"),
    (r"(the )?unlicense", "unlicense"),
    (r"zlib", "zlib"),
    (r"hpnd|historical permission", "hpnd"),
    (r"0bsd|zero[- ]clause bsd", "0bsd"),
    (r"mit-cmu", "mit-cmu"),
    (r"zope public", "zpl-2.1"),
    (r"boost software", "bsl-1.0"),
)
_DEMANDING = re.compile(
    r"\b(l?gpl|agpl|gnu|copyleft|mozilla|mpl|eclipse|epl|cddl|eupl|proprietary|commercial"
    r"|non-?commercial|other/proprietary|cc[- ]by|sspl|busl)",
    re.IGNORECASE,
)
_TEXTS = (
    ("permission is hereby granted, free of charge, to any person obtaining a copy", "mit"),
    ("redistribution and use in source and binary forms", "bsd"),
    ("apache license version 2.0", "apache-2.0"),
    ("permission to use, copy, modify, and/or distribute this software", "isc"),
    ("permission to use, copy, modify, and distribute this software", "isc"),
    ("python software foundation license", "psf"),
    ("this is free and unencumbered software", "unlicense"),
    ("this software is provided 'as-is', without any express or implied warranty", "zlib"),
)
_PYTHON = "a. history of the software python was created in the early 1990s by guido van rossum"
"""Python's own licence, which names the GPL to say that it is compatible with it."""
_DEMANDING_TEXTS = (
    "gnu general public license",
    "gnu lesser general public license",
    "gnu affero general public license",
    "gnu library general public license",
    "mozilla public license",
    "eclipse public license",
    "creative commons attribution",
    "common development and distribution license",
    "for non-commercial",
    "noncommercial use",
    "end user license agreement",
    "commons clause",
)


def from_spdx(expression: str) -> str | None:
    """The licence of an SPDX expression: all parts of an AND, one part of an OR permissive."""
    tokens = [token.lower() for token in _SPDX_TOKEN.findall(expression)]

    def alternatives() -> str | None:
        options = [conjunction()]
        while tokens and tokens[0] == "or":
            tokens.pop(0)
            options.append(conjunction())
        return next((option for option in options if option), None)

    def conjunction() -> str | None:
        parts = [term()]
        while tokens and tokens[0] == "and":
            tokens.pop(0)
            parts.append(term())
        known = [part for part in parts if part]
        return " AND ".join(dict.fromkeys(known)) if len(known) == len(parts) else None

    def term() -> str | None:
        name = tokens.pop(0) if tokens else ""
        if name == "(":
            inside = alternatives()
            if tokens:
                tokens.pop(0)
            return inside
        if tokens and tokens[0] == "with":
            del tokens[:2]
        return name if name in PERMISSIVE else None

    licence = alternatives()
    return licence if not tokens else None


def from_field(field: str) -> str | None:
    """The licence of a short free-text field such as ``BSD 3-Clause`` or ``MIT License``."""
    text = " ".join(field.split())
    if not text or len(text) > _LONGEST_FIELD or _DEMANDING.search(text):
        return None
    spdx = from_spdx(text)
    if spdx:
        return spdx
    return next((name for pattern, name in _FIELDS if re.match(pattern, text, re.IGNORECASE)), None)


def from_classifiers(classifiers: Iterable[str]) -> str | None:
    """The licence of ``License :: …`` classifiers; every one of them must be permissive."""
    names = [line.split(" :: ")[-1] for line in classifiers if line.startswith("License :: ")]
    names = [name for name in names if name != "OSI Approved"]
    found = [from_field(name) for name in names]
    known = [name for name in found if name]
    if not known or len(known) < len(found):
        return None
    return " AND ".join(dict.fromkeys(known))


def from_text(text: str) -> str | None:
    """The licence whose characteristic words a licence file holds."""
    words = " ".join(re.sub(r"[^\w\s'.,/-]", " ", text.lower()).split()).replace(
        "license, version", "license version"
    )
    if words.startswith(_PYTHON):
        return "psf"
    if any(phrase in words for phrase in _DEMANDING_TEXTS):
        return None
    return next((name for phrase, name in _TEXTS if phrase in words), None)
