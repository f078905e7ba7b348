"""What stands beside personal data in code, and what looks like it and is none."""

import base64
import random
import string
import uuid
from collections.abc import Callable

HEX = "0123456789abcdef"
LETTERS_DIGITS = string.ascii_letters + string.digits
URL_SAFE = LETTERS_DIGITS + "-_"
CAPITALS = string.ascii_uppercase + string.digits

Random = random.Random


def some(rng: Random, alphabet: str, length: int) -> str:
    """Characters drawn at random."""
    return "".join(rng.choices(alphabet, k=length))


def in_base64(rng: Random, size: int) -> str:
    """Random bytes in base 64."""
    return base64.b64encode(rng.randbytes(size)).decode()


_VERSIONS: tuple[Callable[[Random], str], ...] = (
    lambda r: ".".join(str(r.randrange(0, 20)) for _ in range(4)),
    lambda r: f"{r.randrange(1, 9)}.{r.randrange(20)}.{r.randrange(20)}.{r.randrange(300)}",
    lambda r: f"{r.randrange(60, 130)}.0.{r.randrange(1000, 7000)}.{r.randrange(30, 200)}",
)


class Fillers:
    """Values that are never marked; each method is a slot of the templates."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def number(self, most: int = 10_000) -> str:
        """Any number."""
        return str(self._rng.randrange(1, most))

    def random_hex(self, length: int) -> str:
        """A digest or the id of a commit."""
        return some(self._rng, HEX, length)

    def uuid(self) -> str:
        """An id of something."""
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))

    def version(self) -> str:
        """A version of four numbers."""
        return self._rng.choice(_VERSIONS)(self._rng)

    def sha(self) -> str:
        """The id of a commit, whole or cut short."""
        return self.random_hex(self._rng.choice((40, 40, 40, 12, 8, 7)))

    def md5(self) -> str:
        """A digest of a file."""
        return self.random_hex(32)

    def sha256(self) -> str:
        """A longer one."""
        return self.random_hex(64)

    def integrity(self) -> str:
        """A digest as lock files and pages hold it."""
        return "sha512-" + in_base64(self._rng, 64)

    def certificate(self) -> str:
        """What looks like a private key and is public."""
        kind = self._rng.choice(("CERTIFICATE", "PUBLIC KEY"))
        body = in_base64(self._rng, self._rng.randrange(90, 200))
        lines = [body[at : at + 64] for at in range(0, len(body), 64)]
        return "\n".join((f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----"))

    def local_ip(self) -> str:
        """An address that is everybody's, or kept for documentation."""
        rng, last = self._rng, self._rng.randrange(256)
        common = ("127.0.0.1", "0.0.0.0", "::1", "127.0.0.1", "255.255.255.0", "255.255.255.255")
        documented = (f"192.0.2.{last}", f"198.51.100.{last}", f"203.0.113.{last}", "2001:db8::1")
        return rng.choice((*common, *documented))

    def example_email(self) -> str:
        """An address in a domain that is reserved."""
        rng = self._rng
        local = rng.choice(("user", "admin", "you", "foo", "test", "me", "jdoe", "no-reply"))
        domains = ("example.com", "example.com", "example.org", "example.net", "localhost")
        return f"{local}@{rng.choice((*domains, 'mail.example.com', 'test.invalid', 'a.test'))}"

    def no_key(self) -> str:
        """What stands for a key."""
        rng = self._rng
        plain = ("your-api-key", "YOUR_API_KEY", "<token>", "xxxxxxxxxxxxxxxx", "API_KEY", "token")
        shaped = ("sk-...", "ghp_xxxxxxxxxxxxxxxxxxxx", "AKIAIOSFODNN7EXAMPLE", "<your-token-here>")
        others = ("changeme", "REPLACE_ME", "${API_KEY}", "%(api_key)s", "fake-token", "dummy_key")
        return rng.choice((*plain, *shaped, *others, "my-api-key", "test-token", "secret", "***"))

    def no_password(self) -> str:
        """What stands for a password."""
        rng = self._rng
        plain = ("password", "changeme", "<password>", "your-password", "********", "YOUR_PASSWORD")
        others = (
            "pass",
            "passwd",
            "**",
            "${DB_PASSWORD}",
            "%(password)s",
            "xxxxxx",
            "<your password here>",
            "PASSWORD",
        )
        return rng.choice((*plain, *others, "{password}", "...", "$PASSWORD", "CHANGE_ME"))

    def no_name(self) -> str:
        """Who is nobody: stand-ins, groups, firms, and those who gave a method their name."""
        rng = self._rng
        nobody = ("John Doe", "Jane Doe", "Your Name", "Alice", "Bob", "Foo Bar", "Full Name")
        groups = (
            *("The Authors", "Google LLC", "Core Team", "Red Hat, Inc.", "the contributors"),
            *("Microsoft Corporation", "OpenStack Foundation", "Facebook, Inc.", "The Go Authors"),
        )
        methods = ("Newton-Raphson", "Dijkstra", "Bayes", "Monte Carlo", "Levenshtein", "Euler")
        return rng.choice((*nobody, *groups, *methods))

    def user(self) -> str:
        """An account that is no person's."""
        users = ("admin", "root", "postgres", "deploy", "app", "guest", "ubuntu", "svc-build", "ci")
        return self._rng.choice(users)

    def key_var(self) -> str:
        """What a key is assigned to."""
        rng = self._rng
        first = (
            "",
            "",
            "github_",
            "aws_",
            "stripe_",
            "slack_",
            "client_",
            "app_",
            "openai_",
            "hmac_",
        )
        last = ("api_key", "token", "secret", "access_token", "secret_key", "auth_token", "apikey")
        return rng.choice(first) + rng.choice(
            (*last, "webhook_secret", "signing_key", "private_key")
        )

    def pw_var(self) -> str:
        """What a password is assigned to."""
        rng = self._rng
        first = ("", "", "db_", "admin_", "smtp_", "ssh_", "root_", "user_", "redis_", "ldap_")
        return rng.choice(first) + rng.choice(
            ("password", "password", "passwd", "pwd", "passphrase")
        )

    def ip_var(self) -> str:
        """What an address is assigned to."""
        names = ("host", "server", "ip", "bind_address", "gateway", "remote_addr", "node_ip", "dns")
        return self._rng.choice((*names, "target", "proxy", "peer", "master", "ip_address"))

    def upper_key_var(self) -> str:
        """The same as a constant."""
        return self.key_var().upper()

    def upper_pw_var(self) -> str:
        """The same as a constant."""
        return self.pw_var().upper()

    def upper_ip_var(self) -> str:
        """The same as a constant."""
        return self.ip_var().upper()

    def port(self) -> str:
        """A port."""
        return self._rng.choice(("22", "80", "443", "5432", "3306", "6379", "8000", "8080", "9200"))

    def year(self) -> str:
        """A year of this time."""
        return str(self._rng.randrange(2004, 2025))

    def noun(self) -> str:
        """A thing of a program."""
        nouns = ("parser", "cache", "session", "client", "worker", "schema", "router", "handler")
        return self._rng.choice((*nouns, "config", "index", "queue", "loader", "encoder", "plugin"))

    def mention(self) -> str:
        """How a page of a forge calls somebody; a name that is no one's alone."""
        rng = self._rng
        first = rng.choice(("octo", "dark", "code", "py", "tiny", "hyper", "web", "neo", "bit"))
        return (
            "@" + first + rng.choice(("cat", "smith", "dev", "fox", "ninja", "bot", "labs", "wolf"))
        )

    def title(self) -> str:
        """Two words that begin like a name."""
        rng = self._rng
        places = ("New York", "San Francisco", "Los Angeles", "Stack Overflow", "Visual Studio")
        things = ("Hello World", "Content Type", "Access Control", "Apache License", "Mac OS")
        tools = ("Amazon Web Services", "Django Channels", "Google Cloud", "Red Hat", "Open Stack")
        return rng.choice((*places, *things, *tools, "Unit Test", "Monday Morning", "Happy Path"))

    def ident(self) -> str:
        """An identifier that is given to what sounds secret."""
        rng = self._rng
        plain = ("access_token", "X-Api-Key", "id", "name", "string", "bearer", "primary", "csrf")
        return rng.choice((*plain, "my-secret", "default", "none", "auth_token", "ssh-rsa", "user"))

    def date(self) -> str:
        """A day."""
        day = (self._rng.randrange(1, 13), self._rng.randrange(1, 29))
        return f"{self.year()}-{day[0]:02}-{day[1]:02}"
