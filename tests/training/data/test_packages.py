import json
from pathlib import Path

import pytest

from bigcode_cli.errors import InputError
from bigcode_cli.training.data.packages import find_packages
from tests.training.conftest import MIT


def install(site: Path, name: str, metadata: str, files: list[str]) -> None:
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n{metadata}\n", "utf-8")
    record = [f"{file},sha256=x,1" for file in files]
    (info / "RECORD").write_text("\n".join(record), "utf-8")


def test_installed_packages_are_told_by_their_metadata(tmp_path: Path) -> None:
    install(tmp_path, "one", "License-Expression: MIT", ["one/b.py", "one/a.py", "one/x.so"])
    install(tmp_path, "two", "Classifier: License :: OSI Approved :: BSD License", ["two.py"])
    install(tmp_path, "three", "License: GPLv2", ["three.py"])
    install(tmp_path, "four", "License: MIT", ["../../bin/tool.py", "/etc/x.py"])
    found = {package.name: package for package in find_packages(tmp_path)}
    assert found["one"].files == ("one/a.py", "one/b.py")
    assert [found[name].licence for name in ("one", "two", "three")] == ["mit", "bsd", None]
    assert found["four"].files == ()


def test_facts_about_a_package_are_none_of_its_files(tmp_path: Path) -> None:
    install(tmp_path, "one", "License: MIT", ["one/a.js", "one-1.0.dist-info/METADATA", "b.py"])
    for globs, files in ((("*",), ("b.py", "one/a.js")), (("*.js", "*.py"), ("b.py", "one/a.js"))):
        assert [package.files for package in find_packages(tmp_path, globs=globs)] == [files]
    assert [package.files for package in find_packages(tmp_path)] == [("b.py",)]


def test_folders_are_told_by_source_json_or_licence_file(tmp_path: Path) -> None:
    for name in ("told", "texted", "bare"):
        (tmp_path / name / "pkg").mkdir(parents=True)
        (tmp_path / name / "pkg" / "m.py").write_text("x = 1\n")
    facts = {"repository": "github:a/told", "commit": "c0ffee", "licence": "Apache-2.0"}
    (tmp_path / "told" / "SOURCE.json").write_text(json.dumps(facts))
    (tmp_path / "texted" / "LICENSE").write_text(MIT)
    found = list(find_packages(tmp_path))
    assert [(p.name, p.version, p.licence, p.files) for p in found] == [
        ("texted", "", "mit", ("pkg/m.py",)),
        ("github:a/told", "c0ffee", "apache-2.0", ("pkg/m.py",)),
    ]
    assert [p.name for p in find_packages(tmp_path / "texted")] == ["texted"]


def test_a_folder_without_packages_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        list(find_packages(tmp_path))
    with pytest.raises(InputError):
        list(find_packages(tmp_path / "missing"))
