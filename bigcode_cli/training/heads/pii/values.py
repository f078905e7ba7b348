"""Made-up personal data and secrets, and what looks like them and is none.

Every value comes from a generator of random numbers. The two splits share no given name, family
name, domain or word of a password, and only some formats of keys, so that a head that has learned
the lists by heart fails on what is held out. Names are combined at random: whoever bears one is
not meant.
"""

import base64
import ipaddress
import string
import unicodedata
import uuid
from collections.abc import Callable

from bigcode_cli.training.heads.pii.fillers import (
    CAPITALS,
    HEX,
    LETTERS_DIGITS,
    URL_SAFE,
    Fillers,
    Random,
    in_base64,
    some,
)
from bigcode_cli.training.heads.pii.names import FAMILY, GIVEN

_DOMAINS = {
    "train": (
        "gmail yahoo hotmail outlook gmx web mail posteo acme-corp northwind initech brightlabs "
        "datawerk cloudforge stackline redwoodsoft nimbus kernelworks quantic orbitdb codehaus "
        "pixelpark greenfield bluecore hexagon metrica finvest medisoft logistix uni-berlin ethz "
        "cs.stanford mit inria rwth-aachen cam apache python gnu debian mozilla kde"
    ),
    "test": (
        "alpenware protonmail icloud fastmail zoho umbrella-soft vandelay hooli piedpiper "
        "tessellate fjordtech sunbeam-it kantine ironclad-sys lumina polystack riverbank "
        "softforge uni-graz kth cs.toronto epfl tuwien uu ubuntu eclipse freebsd openbsd"
    ),
}
_ENDINGS = {
    "train": "com com com com org net de io co.uk edu fr ch dev info",
    "test": "com com com org net at se ca es eu tech ai ac.uk pl",
}
_WORDS = {
    "train": (
        "secret letmein hunter dragon monkey sunshine winter summer admin root test qwerty "
        "football "
        "shadow master welcome coffee tiger falcon rocket banana orange purple silver server "
        "login guest super magic internet access mustang hello abc pepper ginger soccer "
        "foo bar tiger pw"
    ),
    "test": (
        "trustno spring autumn swordfish opensesame batman cookie maple thunder diamond wizard "
        "pumpkin yellow crimson copper backup deploy staging user demo penguin avocado bicycle "
        "spam eggs quux"
    ),
}

_ANYBODY = ("foo", "bar", "user", "test", "me", "joe", "x", "someone", "admin", "a")
_ANYWHERE = {
    "train": ("foo.com", "bar.com", "test.com", "domain.com", "company.com", "b.com", "x.org"),
    "test": ("baz.com", "email.com", "mydomain.com", "site.org", "q.net"),
}
_KINDS = {
    "train": ("new", "old", "other", "wrong", "my", "bad", "test"),
    "test": ("invalid", "right", "first", "second", "good"),
}
_HOSTS = ("db", "api", "www", "git", "cache", "queue", "mail", "ldap", "build", "auth")


def _coined(rng: Random) -> str:
    """A word that nobody has used yet, of two or three syllables."""
    syllables = (
        rng.choice("bcdfghjklmnprstvz") + rng.choice("aeiou") + rng.choice(("", "n", "r", "x", "l"))
        for _ in range(rng.randint(2, 3))
    )
    return "".join(syllables)


def _plain(name: str) -> str:
    """A name in small letters without accents."""
    letters = unicodedata.normalize("NFKD", name.replace("ł", "l").replace("Ł", "L"))
    return "".join(letter for letter in letters.lower() if letter in string.ascii_lowercase)


def _url_safe(rng: Random, size: int) -> str:
    return base64.urlsafe_b64encode(rng.randbytes(size)).decode().rstrip("=")


def _jwt(rng: Random) -> str:
    claims = f'{{"sub":"{rng.randrange(10**8)}","iat":{rng.randrange(10**9, 2 * 10**9)}}}'
    parts = ('{"alg":"HS256","typ":"JWT"}', claims)
    encoded = [base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts]
    return ".".join((*encoded, _url_safe(rng, 32)))


_Maker = Callable[[Random], str]

KEYS: dict[str, dict[str, _Maker]] = {
    "train": {
        "github": lambda r: "ghp_" + some(r, LETTERS_DIGITS, 36),
        "github-app": lambda r: r.choice(("gho_", "ghs_")) + some(r, LETTERS_DIGITS, 36),
        "slack": lambda r: f"xoxb-{some(r, string.digits, 12)}-{some(r, LETTERS_DIGITS, 24)}",
        "stripe": lambda r: r.choice(("sk_live_", "sk_test_")) + some(r, LETTERS_DIGITS, 24),
        "google": lambda r: "AIza" + some(r, URL_SAFE, 35),
        "openai": lambda r: "sk-" + some(r, LETTERS_DIGITS, 48),
        "aws": lambda r: "AKIA" + some(r, CAPITALS, 16),
        "sendgrid": lambda r: f"SG.{some(r, URL_SAFE, 22)}.{some(r, URL_SAFE, 43)}",
        "jwt": _jwt,
        "bcrypt": lambda r: "$2b$12$" + some(r, LETTERS_DIGITS + "./", 53),
    },
    "test": {
        "github": lambda r: "ghp_" + some(r, LETTERS_DIGITS, 36),
        "github-fine": lambda r: "github_pat_" + some(r, LETTERS_DIGITS + "_", 82),
        "gitlab": lambda r: "glpat-" + some(r, URL_SAFE, 20),
        "slack-user": lambda r: f"xoxp-{some(r, string.digits, 11)}-{some(r, HEX, 32)}",
        "npm": lambda r: "npm_" + some(r, LETTERS_DIGITS, 36),
        "hugging-face": lambda r: "hf_" + some(r, string.ascii_letters, 34),
        "anthropic": lambda r: "sk-ant-api03-" + some(r, URL_SAFE, 93),
        "aws-session": lambda r: "ASIA" + some(r, CAPITALS, 16),
        "twilio": lambda r: "SK" + some(r, HEX, 32),
        "mailgun": lambda r: "key-" + some(r, HEX, 32),
        "jwt": _jwt,
        "argon2": lambda r: f"$argon2id$v=19$m=65536,t=3,p=4${in_base64(r, 16)}${in_base64(r, 32)}",
    },
}
"""Keys that show what they are, by the shapes that their issuers give them."""

PLAIN_KEYS: dict[str, tuple[_Maker, ...]] = {
    "train": (
        lambda r: some(r, HEX, r.choice((32, 40, 64))),
        lambda r: some(r, LETTERS_DIGITS, r.randint(20, 40)),
        lambda r: in_base64(r, r.choice((24, 32, 48))),
        lambda r: _url_safe(r, r.choice((16, 24, 32))),
        lambda r: some(r, LETTERS_DIGITS + "/+", 40),
        lambda r: str(uuid.UUID(int=r.getrandbits(128), version=4)),
        lambda r: some(r, string.ascii_lowercase + string.digits + "!@#$%^&*(-_=+)", 50),
    ),
    "test": (
        lambda r: some(r, HEX.upper(), r.choice((32, 48))),
        lambda r: some(r, HEX, r.choice((32, 56))),
        lambda r: some(r, string.ascii_lowercase + string.digits, r.randint(22, 36)),
        lambda r: in_base64(r, r.choice((20, 32, 64))),
        lambda r: "-".join(some(r, CAPITALS, 5) for _ in range(5)),
        lambda r: str(uuid.UUID(int=r.getrandbits(128), version=4)),
        lambda r: f"{some(r, LETTERS_DIGITS, 16)}.{some(r, LETTERS_DIGITS, 24)}",
    ),
}
"""Keys that only their place tells from other random text."""

PEM = {"train": ("RSA ", "", "EC "), "test": ("OPENSSH ", "", "DSA ")}


class Values(Fillers):
    """Values of one split.

    One object serves one text: its e-mail addresses belong to its people.

    Args:
        split: ``train`` or ``test``.
    """

    def __init__(self, split: str, rng: Random) -> None:
        super().__init__(rng)
        self._split = split
        self._given, self._family = GIVEN[split].split(), FAMILY[split].split()
        self._person = self._draw_person()

    def _draw_person(self) -> tuple[str, str]:
        family = self._rng.choice(self._family)
        if self._rng.random() < 0.15:
            family = _coined(self._rng).title()
        return self._rng.choice(self._given), family

    def name(self) -> str:
        """Given name and family name, in the ways that people write them."""
        rng = self._rng
        self._person = given, family = self._draw_person()
        draw = rng.random()
        if draw < 0.08:
            return f"{given} {rng.choice(string.ascii_uppercase)}. {family}"
        if draw < 0.14:
            return f"{given[0]}. {family}"
        if draw < 0.18:
            return f"{given} {self._draw_person()[0]} {family}"
        if draw < 0.22:
            return f"{given} {family}-{self._draw_person()[1]}"
        if draw < 0.25:
            return f"{given} {rng.choice(('van der', 'de', 'van', 'von', 'da', 'del'))} {family}"
        if draw < 0.27:
            return f"{given.upper()} {family.upper()}"
        return f"{given} {family}"

    def given(self) -> str:
        """A given name alone."""
        self._person = self._draw_person()
        return self._person[0]

    def handle(self) -> str:
        """What a person is called where they log in."""
        given, family = map(_plain, self._draw_person())
        last = str(self._rng.randrange(100))
        forms = (given[0] + family, given, given + family[0], f"{given}.{family}", family)
        return self._rng.choice((*forms, given[0] + family + last, f"{given}_{family}"))

    def email(self) -> str:
        """An address of the person last named, or of somebody else, or of an office."""
        rng = self._rng
        if rng.random() < 0.12:
            return f"{rng.choice(_ANYBODY)}@{rng.choice(_ANYWHERE[self._split])}"
        given, family = self._person if rng.random() < 0.6 else self._draw_person()
        given, family = _plain(given), _plain(family)
        offices = ("info", "support", "admin", "dev", "security", "contact", "noreply", "team")
        local = rng.choice(
            (
                *(
                    f"{given}.{family}",
                    f"{given[0]}{family}",
                    f"{given}{rng.randrange(1950, 2010)}",
                ),
                *(given, f"{family}.{given}", f"{given}_{family}", rng.choice(offices)),
                *(f"{given}+{rng.choice(('git', 'dev', 'oss'))}", f"{given[0]}.{family}"),
            )
        )
        return f"{local}@{self.domain()}"

    def domain(self) -> str:
        """A name of a host's owner; none that is reserved for examples."""
        rng = self._rng
        name = rng.choice((*_DOMAINS[self._split].split(), *(_coined(rng) for _ in range(12))))
        deeper = rng.choice(("mail.", "corp.", "dev.")) if rng.random() < 0.1 else ""
        return f"{deeper}{name}.{rng.choice(_ENDINGS[self._split].split())}"

    def host(self) -> str:
        """A machine."""
        first = self._rng.choice(_HOSTS)
        return self._rng.choice((f"{first}.{self.domain()}", f"{first}-{self.number(9)}", first))

    def ip(self) -> str:
        """An address that belongs to a machine, public or private, in version 4 or 6."""
        rng = self._rng
        if rng.random() < 0.12:
            first = rng.choice((0x20010DB9, 0x2A0104F8, 0x26064700, 0xFD000000, 0xFE800000))
            middle = rng.choice((0, rng.getrandbits(32) << 64))
            low = rng.choice((rng.getrandbits(64), rng.getrandbits(16)))
            return str(ipaddress.IPv6Address((first << 96) | middle | low))
        byte = rng.randrange
        if rng.random() < 0.3:
            return self._plain_ip()
        private = (
            f"10.{byte(256)}.{byte(256)}.{byte(1, 255)}",
            f"192.168.{byte(256)}.{byte(1, 255)}",
            f"172.{byte(16, 32)}.{byte(256)}.{byte(1, 255)}",
        )
        while True:
            public = ipaddress.IPv4Address(rng.getrandbits(32))
            if public.is_global:
                return rng.choice((*private, str(public), str(public), str(public)))

    def _plain_ip(self) -> str:
        """An address that people make up."""
        rng = self._rng
        first, last = rng.randrange(1, 30), rng.randrange(1, 30)
        return rng.choice(
            (
                *(f"10.0.0.{last}", f"10.0.{rng.randrange(3)}.{last}", f"10.{first}.0.1"),
                *(f"192.168.{rng.randrange(3)}.{last}", f"172.16.{rng.randrange(3)}.{last}"),
                *(f"{first}.{first + 1}.{first + 2}.{first + 3}", ".".join([str(first)] * 4)),
                f"{first}.2.3.{last}",
            )
        )

    def token(self) -> str:
        """A key that shows what it is."""
        return self._rng.choice(list(KEYS[self._split].values()))(self._rng)

    def key(self) -> str:
        """A key of any shape; half of them are only random."""
        if self._rng.random() < 0.5:
            return self.token()
        return self._rng.choice(PLAIN_KEYS[self._split])(self._rng)

    def pem(self) -> str:
        """A private key of several lines."""
        kind = self._rng.choice(PEM[self._split])
        body = in_base64(self._rng, self._rng.randrange(90, 300))
        lines = [body[at : at + 64] for at in range(0, len(body), 64)]
        return "\n".join(
            (f"-----BEGIN {kind}PRIVATE KEY-----", *lines, f"-----END {kind}PRIVATE KEY-----")
        )

    def password(self) -> str:
        """One that a person would choose, or one that a program chose; no quote and no blank."""
        rng = self._rng
        word, other = (rng.choice(_WORDS[self._split].split()) for _ in range(2))
        kinds = _KINDS[self._split]
        leet = word.translate(str.maketrans("aeio", "4310"))
        forms = (
            *(word, word + str(rng.randrange(1000)), word.title() + str(rng.randrange(100)) + "!"),
            *(
                f"{word}{other}",
                f"{leet}{rng.randrange(100)}",
                f"{word}-{other}-{rng.randrange(99)}",
            ),
            *(f"{rng.choice(kinds)}{rng.choice(('_', '-', ''))}password", f"{word}pass"),
            *(str(rng.randrange(10**5, 10**9)), f"{word}123"),
            *(f"{word.title()}{rng.choice('!@#$')}{rng.randrange(2030)}", f"my{word}"),
            some(rng, LETTERS_DIGITS, rng.randint(8, 16)),
            some(rng, LETTERS_DIGITS + "!@#%^*-_=+?", rng.randint(8, 20)),
        )
        return rng.choice(forms)

    def safe_password(self) -> str:
        """A password that can stand in an address."""
        allowed = LETTERS_DIGITS + "-_!"
        return "".join(letter for letter in self.password() if letter in allowed)

    def pem_line(self) -> str:
        """A private key as source code escapes it."""
        return self.pem().replace("\n", "\\n")
