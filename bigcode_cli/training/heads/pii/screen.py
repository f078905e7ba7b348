"""Whether a stretch of code is free of all that might be personal or secret.

Only such code may stand around made-up values: what is not marked counts as an example of what is
none. In doubt a stretch is refused. What never counts (``127.0.0.1``, ``user@example.com``) passes,
so that real ones are among what is learned.
"""

import re
from itertools import pairwise

from bigcode_cli.training.heads.pii.names import FAMILY, GIVEN

_EMAIL = re.compile(r"[\w.+-]+@([\w-]+(?:\.[\w-]+)*)")
_RESERVED = re.compile(r"(?i)(?:.*\.)?(?:example(?:\.(?:com|org|net))?|test|invalid|localhost)")
_IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.])")
_FREE_IPV4 = re.compile(
    r"127\.|0\.0\.0\.0|255\.255\.|192\.0\.2\.|198\.51\.100\.|203\.0\.113\.", re.ASCII
)
_IPV6 = re.compile(
    r"(?i)(?<![\w:])(?:[0-9a-f]{1,4}:){3,7}[0-9a-f]{1,4}|[0-9a-f]{2,4}::[0-9a-f]|::ffff"
)
_URL_LOGIN = re.compile(r"://[^\s/@:\"']+:[^\s/@\"']+@")
_LONG = re.compile(r"[A-Za-z0-9+/_=-]{20,}")
_DIGEST_LINE = re.compile(r"(?i)sha\d*|md5|digest|checksum|hash|commit|revision|uuid|integrity")
_SECRET_NAME = (
    r"(?:passw(?:or)?d|passwd|passphrase|pwd|pw|pass|secret|token|api_?key|access_?key|auth_?key"
    r"|private_?key|credential|apikey|auth)s?"
)
_SECRET = re.compile(
    rf"(?i){_SECRET_NAME}\w*[\"'\])]{{0,3}}\s*(?:[:=]|==|,|=>)\s*[bruf]*[\"'][^\"']"
)
_SECRET_PLAIN = re.compile(rf"(?im)^\s*(?:export )?[\w.-]*{_SECRET_NAME}\s*[:=]\s*[^\s\"'$<{{(\[]")
_LOGIN = re.compile(r"(?i)basic_?auth|\blogin\(|\bauth=|\bsshpass|-p ?['\"]|curl .*-u ")
_PRIVATE = re.compile(r"-----BEGIN|eyJ[A-Za-z0-9]|\bAKIA|\bghp_|\bxox[a-z]-|\bsk-")
_CREDIT = re.compile(
    r"(?i)copyright|\(c\)|©|\bauthors?\b|\bmaintain(?:ers?|ed by)\b|contribut|credits?\b|thanks? to"
    r"|(?:written|reported|suggested|reviewed|created|contributed|ported|modified|code) by"
    r"|signed-off|todo ?\(|fixme ?\(|xxx ?\(|hack ?\(|note ?\([a-z]|:user:|\bet al\b"
    r"|[^\w.@]@[a-z][\w-]*\b(?! *\()"
)
_DECORATOR = re.compile(r"(?m)^\s*@[\w.]+")
_MORE_NAMES = """
Alex Alice Armin Ben Bill Bob Chris Dan Dave Donald Doug Fred Glyph Greg Guido Ian Jack Jane Jeff
Jim Joe John Josh Ken Larry Matt Mike Nick Phil Raymond Rob Ron Sam Steve Ted Terry Tom Tim Victor
"""
_NAMES = frozenset(f"{GIVEN['train']} {GIVEN['test']} {_MORE_NAMES}".split())
_FAMILIES = frozenset(f"{FAMILY['train']} {FAMILY['test']}".split())
_CAPITALISED = re.compile(r"\b[A-Z][a-z]+\b")
_FULL = re.compile(r"\b[A-Z][a-z]+ (?:[A-Z]\. )?([A-Z][A-Za-z]+)\b")


def is_clean(text: str, *, bare_values: bool = True) -> bool:
    """Whether nothing in a text might be personal or secret.

    Args:
        bare_values: what is assigned without quotes may be a literal, as in YAML.
    """
    if any(pattern.search(text) for pattern in (_URL_LOGIN, _SECRET, _LOGIN)):
        return False
    if bare_values and _SECRET_PLAIN.search(text):
        return False
    if _PRIVATE.search(text) or _CREDIT.search(_DECORATOR.sub("", text)) or _IPV6.search(text):
        return False
    if any(not _RESERVED.fullmatch(found[1]) for found in _EMAIL.finditer(text)):
        return False
    if any(not _FREE_IPV4.match(found[0]) for found in _IPV4.finditer(text)):
        return False
    if not _NAMES.isdisjoint(_CAPITALISED.findall(text)):
        return False
    if any(found[1] in _FAMILIES for found in _FULL.finditer(text)):
        return False
    return not any(map(_is_suspicious, text.splitlines()))


def _is_suspicious(line: str) -> bool:
    """Whether a line holds a long text that may be random, and does not say that it is a digest."""
    if _DIGEST_LINE.search(line) and not re.search(_SECRET_NAME, line, re.IGNORECASE):
        return False
    return any(_is_mixed(found[0]) for found in _LONG.finditer(line))


def _is_mixed(word: str) -> bool:
    """Whether letters and digits stand as they do in no name."""
    digits = sum(character.isdigit() for character in word)
    changes = sum(a.isdigit() != b.isdigit() for a, b in pairwise(word))
    swings = sum(a.islower() and b.isupper() for a, b in pairwise(word))
    return (digits >= 3 and changes >= 5) or (swings > len(word) / 4 and digits > 0)
