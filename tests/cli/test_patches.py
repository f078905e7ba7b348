"""Lines that a patch adds, whatever the texts in it look like."""

from io import BytesIO

import pytest

from bigcode_cli.cli import patches
from bigcode_cli.cli.patches import read_patch

LONG = 1 << 16


@pytest.mark.parametrize(
    "text",
    [
        b"++ b/other",
        b"",
        b"\\ No newline at end of file",
        b"x" * (LONG - 1) + b"+++ b/other",
        b"x" * (LONG - 1) + b"@@ -1 +9 @@",
        b"\\" * (3 * LONG),
        b"x" * (LONG - 1),
    ],
)
def test_lines_of_a_file_are_never_read(text: bytes) -> None:
    assert patches._PART == LONG
    patch = (
        b"diff --git a/one b/one\nindex 0..1\n--- a/one\n+++ b/one\n@@ -1,2 +4,2 @@ x\n"
        b"-%b\n-old\n\\ No newline at end of file\n+%b\n+%b\n"
        b"@@ -5,0 +8 @@\n+%b\n"
        b'diff --git a/two b/two\n--- /dev/null\n+++ "b/t\\two\\303\\251"\t\n@@ -0,0 +1 @@\n+%b\n'
        b"diff --git a/less b/less\n--- a/less\n+++ b/less\n@@ -3 +2,0 @@\n-%b\n"
    ) % (text, text, text, text, text, text)
    assert list(read_patch(BytesIO(patch))) == [
        (b"one", frozenset({4, 5, 8})),
        ("t\twoé".encode(), None),
    ]
