import pytest

from bigcode_cli.training.heads.pii.screen import is_clean


@pytest.mark.parametrize(
    "text",
    [
        "mail = 'ann@acme.io'\n",
        "host = '10.1.2.3'\n",
        "host = 'fe80::1:2:3:4'\n",
        "url = 'ftp://me:hunter2@host/'\n",
        "password = 'hunter2'\n",
        '"api_key": "abc",\n',
        "DB_PASSWORD=hunter2\n",
        "key = 'a1B2c3D4e5F6a7B8c9D0e1F2'\n",
        "-----BEGIN RSA PRIVATE KEY-----\n",
        "# Author: somebody\n",
        "# Copyright 2020\n",
        "# TODO(ann): more\n",
        "# as Maria says\n",
        "# by Ada Schmidt\n",
        "# thanks @octocat\n",
    ],
)
def test_what_may_be_personal_or_secret_is_not_clean(text: str) -> None:
    assert not is_clean(text)


@pytest.mark.parametrize(
    "text",
    [
        "server.bind(('127.0.0.1', 80))\n",
        "mail = 'user@example.com'\n",
        "@pytest.fixture\ndef password() -> str:\n    return read()\n",
        "sha256 = '0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9'\n",
        "token, kind = lexer.next_token()\n",
        "class HttpResponseParser(BaseResponseParserWithState):\n",
    ],
)
def test_what_never_counts_is_clean(text: str) -> None:
    assert is_clean(text)


def test_what_is_assigned_without_quotes_is_no_literal_of_python() -> None:
    text = "password = read_password()\n"
    assert is_clean(text, bare_values=False)
    assert not is_clean(text)
