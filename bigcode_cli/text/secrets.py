"""Files that are not to be shown to a model without being asked twice.

Names first, then the shapes that the issuers of keys and tokens give them, then long random values
that are assigned to a name such as ``password``. A guess: it knows common shapes, and misses what
looks like nothing.
"""

import math
import re
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import PurePath

_NAMES = (
    # Environments
    ".env", ".env.*", "*.env", ".envrc",
    # Private keys and stores of them
    "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*.pem", "*.key", "*.ppk", "*.p12", "*.pfx",
    "*.p8", "*.jks", "*.keystore", "*.kdbx", "*.kdb", "*.ovpn",
    # Logins
    ".netrc", "_netrc", ".npmrc", ".yarnrc.yml", ".pypirc", ".pgpass", "pgpass.conf", ".my.cnf",
    ".htpasswd", ".git-credentials", ".dockercfg", ".s3cfg", ".boto", ".vault-token",
    ".terraformrc", "credentials", ".credentials", "credentials.json", "credentials.y*ml",
    "credentials.toml", "credentials.ini", "credentials.csv", "credentials.xml", "credentials.db",
    "kubeconfig", "*.kubeconfig", "kubeconfig.*", "*.tfstate", "*.tfstate.backup", "*.tfvars",
    "secrets", "secrets.json", "secrets.y*ml", "secrets.toml", "secrets.ini", "secret.json",
    "secret.y*ml", "client_secret*.json", "service-account*.json", "service_account*.json",
)  # fmt: skip
_PLACES = (".aws/config", ".kube/config", ".docker/config.json")
"""Files whose folder tells what they are."""

_HARMLESS = (
    "*.pub", "*.example", "*.sample", "*.template", "*.dist", "*.defaults",
    # Source code is about such files.
    "*.py", "*.pyi", "*.c", "*.h", "*.cc", "*.cpp", "*.cs", "*.go", "*.java", "*.js", "*.kt",
    "*.lua", "*.php", "*.pl", "*.rb", "*.rs", "*.scala", "*.swift", "*.ts", "*.tsx",
)  # fmt: skip

_SHAPES = {
    "a private key": (
        ("PRIVATE KEY",),
        r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----"
        # Some lines of headers, and what is the key itself; source code may escape line ends.
        r"(?:\s|\\[nr]|[\w-]+: [^\n]{1,80}|[\"'+,]){1,40}[A-Za-z0-9+/=]{40}",
    ),
    "an AWS access key": (("AKIA", "ASIA"), r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"),
    "a GitHub token": (
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{50,255})\b",
    ),
    "a GitLab token": (
        ("glpat-", "glrt-", "gldt-", "glft-", "glsoat-"),
        r"\bgl(?:pat|rt|dt|ft|soat)-[\w-]{20,}",
    ),
    "a Slack token": (
        ("xox", "hooks.slack.com"),
        r"\bxox[abeoprs]-[A-Za-z0-9-]{20,}"
        r"|hooks\.slack\.com/services/T[A-Z0-9]{6,}/B[A-Z0-9]{6,}/[A-Za-z0-9]{20,}",
    ),
    "a Google key": (
        ("AIza", "GOCSPX-", "ya29."),
        r"\bAIza[\w-]{35}\b|\bGOCSPX-[\w-]{28}\b|\bya29\.[\w-]{50,}",
    ),
    "an OpenAI or Anthropic key": (
        ("sk-",),
        r"\bsk-(?:[A-Za-z0-9]{48}\b|(?:proj|svcacct|admin|ant)-[\w-]{40,})",
    ),
    "a Hugging Face token": (("hf_",), r"\bhf_[A-Za-z0-9]{34,}\b"),
    "a Stripe key": (
        ("k_live_", "k_test_", "whsec_"),
        r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{20,}\b|\bwhsec_[A-Za-z0-9]{32,}\b",
    ),
    "an npm token": (("npm_",), r"\bnpm_[A-Za-z0-9]{36}\b"),
    "a PyPI token": (("pypi-AgE",), r"\bpypi-AgE[\w-]{50,}"),
    "a SendGrid key": (("SG.",), r"\bSG\.[\w-]{22}\.[\w-]{43}\b"),
    "a DigitalOcean token": (("_v1_",), r"\bdo[opr]_v1_[a-f0-9]{64}\b"),
    "a Telegram token": ((":AA",), r"\b[0-9]{8,10}:AA[\w-]{33}\b"),
    "an age key": (("AGE-SECRET-KEY-",), r"\bAGE-SECRET-KEY-1[A-Z0-9]{58}\b"),
    # Header and claims are JSON objects, so their base64 begins alike (RFC 7519).
    "a JSON Web Token": ((".eyJ",), r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{20,}"),
}
_SHAPE = {what: (parts, re.compile(shape)) for what, (parts, shape) in _SHAPES.items()}
"""What each looks like, and what one of its kind must hold: that is looked for much faster."""

_TELLING = ("passw", "passphrase", "pwd", "secret", "token", "key", "credential")
_KEY = re.compile(r"(?:api|access|auth|private|encryption|signing|account)[_-]?\Z", re.IGNORECASE)
"""What stands before ``key`` where it is a secret one."""
_LONGEST_BEFORE_KEY = 11
_GIVEN = re.compile(
    r"""(?ix)
    (?:passw(?:or)?d|passphrase|pwd|secret|token|key|credential)s?
    [a-z0-9_]{0,16} ["'\])]{0,3} \s{0,4}
    (?: => | [:=] ) \s{0,4}
    (?: (["'`]) ([^\s"'`]{16,200}) \1 | ([^\s"'`,;()\[\]{}<>$]{16,200}) \s*? $ )
    """,
    re.MULTILINE,
)
"""A name that tells a secret, and what it is given: in quotes, or to the line's end."""

_TYPE = re.compile(r"::\w*\Z")
"""Of ``Service::ApiKey``: a type's name, not one that is given a value."""

_URL = re.compile(r"://[^\s/:@\"'<>{}$]{1,60}:([^\s/@\"'<>{}$]{8,100})@")
"""A login with its password in an address."""

_PLACEHOLDER = re.compile(
    r"(?i)example|xxx|dummy|fake|sample|placeholder|redacted|\.\.\.|(\w)\1{4}|abcdef|123456|qwerty"
)
_WORDS = re.compile(r"(?i)change|your|insert|replace|todo|secret|password|token")
_VALUE = re.compile(r"[A-Za-z0-9+/=_.~!@#^&*:-]+")
_CHANGE = re.compile(r"[a-z](?=[A-Z0-9])|[A-Z](?=[a-z0-9])|[0-9](?=[A-Za-z])")
"""A character of another kind than the next: words have few of them."""

_IDENTIFIER = re.compile(
    r"(?>(?:\A|(?<=[._/:-]))[a-z]{2,}[0-9]{0,5}|[A-Z]{1,5}[a-z]{2,}[0-9]{0,5}"
    r"|(?:Id|Ip|Db|Ml|Ai|Io|To|Of|By|In|On|Is|No)(?![a-z])"
    r"|[A-Z]{1,4}[0-9]{0,2}(?=[A-Z._/:-]|\Z)|[._/:-])+"
)
"""Words with capitals, as ``V1LocalObjectReference``: three letters, or known words of two."""

MIN_CHANGES = 0.25
"""Places between characters of different kinds, of all: random lower-case letters and digits have
some 0.4, letters of both cases and digits 0.6."""

MIN_BITS = 2.6
"""Shannon entropy a character: of 16 random hexadecimal digits, one in a hundred has less."""


def secret_reason(name: str, text: str) -> str | None:
    """Why a file looks as if it held secrets, in a few words; ``None`` where it does not.

    Args:
        name: of the file, with or without its folder.
        text: what it holds.
    """
    path = PurePath(name.lower().replace("\\", "/"))
    if _is_named_secret(path):
        return "its name is that of a file with secrets"
    for what, (parts, shape) in _SHAPE.items():
        if not any(part in text for part in parts):
            continue
        for match in shape.finditer(text):
            if not _PLACEHOLDER.search(match[0]):
                return f"line {_line(text, match.start())} looks like {what}"
    for place in _telling_names(text):
        given = _GIVEN.match(text, place)
        if (
            given
            and _is_random(given[2] or given[3])
            and not _TYPE.search(text[max(0, place - 80) : place])
        ):
            return f"line {_line(text, place)} looks like a password or a key"
    for match in _URL.finditer(text):
        if _is_random(match[1]):
            return f"line {_line(text, match.start())} looks like an address with a password"
    return None


def _is_named_secret(path: PurePath) -> bool:
    if any(fnmatchcase(path.name, pattern) for pattern in _HARMLESS):
        return False
    return any(fnmatchcase(path.name, pattern) for pattern in _NAMES) or any(
        f"/{path.as_posix()}".endswith(f"/{place}") for place in _PLACES
    )


def _telling_names(text: str) -> list[int]:
    """Where the words stand that tell a secret, ascending."""
    lowered = text.lower()
    if len(lowered) != len(text):  # a letter became two, and places are no longer the same
        lowered = "".join(letter if len(letter.lower()) > 1 else letter.lower() for letter in text)
    places: list[int] = []
    for word in _TELLING:
        place = lowered.find(word)
        while place >= 0:
            before = text[max(0, place - _LONGEST_BEFORE_KEY) : place]
            if word != "key" or _KEY.search(before):
                places.append(place)
            place = lowered.find(word, place + 1)
    return sorted(places)


def _is_random(value: str) -> bool:
    """Whether a value was made by a machine: digits and letters mixed, no words, no pattern."""
    if _VALUE.fullmatch(value) is None:
        return False
    if _PLACEHOLDER.search(value) or _WORDS.search(value) or _IDENTIFIER.fullmatch(value):
        return False
    if len(_CHANGE.findall(value)) < len(value) * MIN_CHANGES:
        return False
    shares = [count / len(value) for count in Counter(value).values()]
    return -sum(share * math.log2(share) for share in shares) >= MIN_BITS


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1
