"""What is kept from a model. No secret stands here: they are put together when tests run."""

import random
import string
import time
from pathlib import Path

import pytest

from bigcode_cli.text.secrets import secret_reason

ROOT = Path(__file__).parents[2]
ALNUM = string.ascii_letters + string.digits
LOWER = string.ascii_lowercase + string.digits
HEX = "0123456789abcdef"


def drawn(length: int, alphabet: str = ALNUM, seed: int = 0) -> str:
    return "".join(random.Random(seed).choices(alphabet, k=length))


@pytest.mark.parametrize(
    "name",
    [
        ".env", ".env.production", "config/prod.env", ".ENV", "id_rsa", "id_ed25519", "id_ecdsa_sk",
        "server.pem", "tls.key", "cert.p12", "cert.pfx", "store.jks", "AuthKey.p8", "me.ppk",
        ".netrc", "_netrc", ".npmrc", ".pypirc", ".pgpass", ".git-credentials", ".htpasswd",
        "credentials", "/home/me/.aws/credentials", "credentials.json", "credentials.yml",
        "kubeconfig", "prod.kubeconfig", "/home/me/.kube/config", ".docker/config.json",
        r"C:\Users\me\.aws\config", "main.tfstate", "prod.tfvars", "secrets.yaml",
        "client_secret_123.apps.json", "service-account-prod.json",
    ],
)  # fmt: skip
def test_a_name_tells_a_secret(name: str) -> None:
    assert secret_reason(name, "") == "its name is that of a file with secrets"


@pytest.mark.parametrize(
    "name",
    [
        "app.py", "environment.py", "env.py", ".envelope", ".env.example", ".env.sample",
        ".env.template", "id_rsa.pub", "credentials.py", "secrets.py", "token.py", "keys.py",
        "config", "src/config.json", "docker/config.json", "monkey", "key.c", "pem.go", "netrc.py",
        "kubeconfig.py", "id_rsa.go", ".env.ts",
    ],
)  # fmt: skip
def test_an_ordinary_name_tells_none(name: str) -> None:
    assert secret_reason(name, "x = 1\n") is None


SHAPES = {
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----\n" + drawn(64) + "\n" + drawn(64),
    "an AWS access key": "AKIA" + drawn(16, string.ascii_uppercase + "234567"),
    "a GitHub token": "ghp_" + drawn(36),
    "a GitLab token": "glpat-" + drawn(20),
    "a Slack token": "xoxb-" + drawn(12, string.digits) + "-" + drawn(24),
    "a Google key": "AIza" + drawn(35),
    "an OpenAI or Anthropic key": "sk-proj-" + drawn(60),
    "a Hugging Face token": "hf_" + drawn(34),
    "a Stripe key": "sk_live_" + drawn(24),
    "an npm token": "npm_" + drawn(36),
    "a PyPI token": "pypi-AgE" + drawn(60),
    "a SendGrid key": "SG." + drawn(22) + "." + drawn(43),
    "a DigitalOcean token": "dop_v1_" + drawn(64, HEX),
    "a Telegram token": drawn(9, "3456789") + ":AA" + drawn(33),
    "a JSON Web Token": f"eyJ{drawn(20)}.eyJ{drawn(40)}.{drawn(43)}",
    "an age key": "AGE-SECRET-KEY-1" + drawn(58, string.ascii_uppercase + string.digits),
}


@pytest.mark.parametrize(("what", "secret"), SHAPES.items(), ids=list(SHAPES))
def test_a_shape_tells_a_secret_wherever_it_stands(what: str, secret: str) -> None:
    assert secret_reason("app.py", f"# one\n# two\n{secret}\n") == f"line 3 looks like {what}"
    assert secret_reason("app.py", f'connect("{secret}")') == f"line 1 looks like {what}"


def test_further_private_keys() -> None:
    for kind in ("", "EC ", "OPENSSH ", "ENCRYPTED "):
        key = f"-----BEGIN {kind}PRIVATE" + " KEY-----"
        assert secret_reason("a", f"{key}\r\n{drawn(64)}\r\n") == "line 1 looks like a private key"
        assert secret_reason("a", f'"{key}\\n{drawn(64)}\\n"') == "line 1 looks like a private key"
        assert (
            secret_reason("a.py", f'if line == "{key}":\n    return parse_the_rest(line)') is None
        )
    block = "-----BEGIN PGP PRIVATE" + " KEY BLOCK-----\nVersion: 1\nComment: mine\n\n"
    assert secret_reason("a", block + drawn(64)) == "line 1 looks like a private key"


ASSIGNMENTS = [
    'password = "{}"',
    "PASSWORD={}",
    "export DB_PASSWORD='{}'",
    'client_secret: "{}"',
    '"api_key": "{}",',
    "apiKey: '{}',",
    'self.auth_token = "{}"',
    "aws_secret_access_key = {}",
    "AccountKey={}",
    'secret_key => "{}"',
    'os.environ["SECRET_KEY"] = "{}"',
]


@pytest.mark.parametrize("line", ASSIGNMENTS)
def test_a_long_random_value_of_a_telling_name_is_a_secret(line: str) -> None:
    values = [drawn(32, alphabet, seed) for alphabet in (ALNUM, LOWER, HEX) for seed in range(20)]
    texts = ["x = 1\n" + line.format(value) + "\ny = 2\n" for value in values]
    reasons = [secret_reason("settings.py", text) for text in texts]
    assert set(reasons) <= {"line 2 looks like a password or a key", None}
    assert reasons.count(None) <= 3


def test_letters_that_grow_when_lowered_hide_nothing() -> None:
    text = "İstanbul = 1\n" * 9 + f'password = "{drawn(32)}"\n'
    assert secret_reason("app.py", text) == "line 10 looks like a password or a key"


def test_the_first_of_several_lines_is_named() -> None:
    text = f'x = 1\napi_key = "{drawn(32)}"\npassword = "{drawn(32)}"\n'
    assert secret_reason("app.py", text) == "line 2 looks like a password or a key"


@pytest.mark.parametrize(
    "line",
    [
        'password = "short1234"',
        'password = "correct horse battery staple"',
        'token = "next_page_token_2_of_3"',
        'api_key = "your-api-key-goes-here-1"',
        'api_key = "xxxxxxxxxxxxxxxxxxxx12"',
        "password = hash_password(user, 12345678)",
        "token = self.tokens[position_1_of_22]",
        'secret_name = "production/database/primary2"',
        "PASSWORD=${DB_PASSWORD_1234567890}",
        'password: "{{ vault_password_12 }}"',
        'TOKEN_URL = "https://example.com/oauth2/v1/token"',
        'token_type = "urn:ietf:params:oauth:token-type:jwt"',
        f'checksum = "{drawn(64, HEX)}"',
        f'"AWS::ApiGateway::ApiKey": "{drawn(16, HEX)}"',
        '"secret_ref": "V1LocalObjectReference",',
        "private_key: GetPrivateKeyFormat",
        "AccessKeyId: AccessKeyIdValue",
        'ml_credentials: "AzureMlCredentials"',
        'public_key = "9f8d7c6b5a4e3f2d1c0b9a8f7e6d5c4b"',
        f"two parts are none: eyJ{drawn(20)}.eyJ{drawn(40)}",
        "AKIAIOSFODNN7EXAMPLE",
        "keyboard = 'qwertyuiop1234567'",
    ],
)
def test_ordinary_lines_are_none(line: str) -> None:
    assert secret_reason("app.py", line) is None


def test_an_address_with_a_random_password_is_a_secret() -> None:
    url = "postgres://me:{}@localhost:5432/db"
    assert (
        secret_reason("app.py", f'URL = "{url.format(drawn(20))}"')
        == "line 1 looks like an address with a password"
    )
    assert secret_reason("app.py", f'URL = "{url.format("password")}"') is None
    assert secret_reason("app.py", f'URL = "{url.format("hunter2")}"') is None
    assert secret_reason("app.py", f'URL = "{url.format(drawn(9))}"') is not None
    assert secret_reason("app.py", 'URL = "http://localhost:8080/a@b"') is None


def test_no_source_of_this_project_is_a_secret() -> None:
    files = sorted(ROOT.glob("bigcode_cli/**/*.py")) + sorted(ROOT.glob("tests/text/*.py"))
    assert len(files) > 50
    reasons = {str(file): secret_reason(str(file), file.read_text("utf-8")) for file in files}
    assert not [name for name, reason in reasons.items() if reason]


@pytest.mark.parametrize(
    "text",
    [
        "password = " + "a1" * 200_000,
        "token" * 100_000,
        "token" + " " * 300_000,
        "a" * 400_000 + "://",
        ("x://" + "a" * 60 + ":") * 5_000,
        "-----BEGIN RSA " + "PRIVATE KEY-----" + "\n+" * 200_000,
        ("-----BEGIN RSA " + "PRIVATE KEY-----" + "A: b\n" * 40) * 500,
        ("A-" * 200_000),
        'key = "' + "A" * 199 + '"\n' + ("api_key = " + "AB" * 99 + "!\n") * 2_000,
        "://" * 200_000,
    ],
    ids=range(10),
)
def test_no_text_takes_long(text: str) -> None:
    start = time.process_time()
    secret_reason("app.py", text)
    assert time.process_time() - start < 3
