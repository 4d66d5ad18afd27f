"""What is delivered: the product and nothing else, from a clone or from an archive."""

from __future__ import annotations

import shutil
import sys
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest
from programs import run

from demo.pipeline import ROOT

UV = Path(sys.executable).with_name("uv")
PRODUCT = {
    str(path.relative_to(ROOT))
    for path in (ROOT / "tap_unleash").rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
}

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    # The wheel is made from the source archive, so that this is enough to build it.
    run(UV, "build", "--quiet", "--out-dir", folder, cwd=ROOT)
    return folder


def test_wheel_holds_the_product(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
    (info,) = {name.split("/")[0] for name in names - PRODUCT}
    assert info.endswith(".dist-info")
    assert names == PRODUCT | {
        f"{info}/{name}"
        for name in (
            "METADATA",
            "RECORD",
            "WHEEL",
            "entry_points.txt",
            "licenses/LICENSE",
        )
    }


def test_archive_holds_what_builds_it(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    others = {
        ".gitignore",
        "CHANGELOG.md",
        "LICENSE",
        "PKG-INFO",
        "README.md",
        "pyproject.toml",
    }
    assert names == PRODUCT | others


def test_wheel_runs_in_an_empty_environment(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    shutil.copy(ROOT / "constraints.txt", tmp_path)
    run(UV, "venv", "--quiet", "--python", sys.executable, "empty", cwd=tmp_path)
    run(
        *(UV, "pip", "install", "--quiet", "--python", "empty"),
        *("--constraint", "constraints.txt", wheel),
        cwd=tmp_path,
    )
    about = run("empty/bin/tap-unleash", "--about", cwd=tmp_path)
    assert f"Version: {wheel.name.split('-')[1]}" in about


def test_builds_without_a_history(tmp_path: Path) -> None:
    """As it is downloaded where there is no Git: with a version that says so."""
    clone = tmp_path / "a clone"
    shutil.copytree(ROOT / "tap_unleash", clone / "tap_unleash")
    for name in ("CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, clone)
    run(UV, "build", "--quiet", "--wheel", cwd=clone)
    assert [path.name for path in (clone / "dist").glob("*.whl")] == [
        "tap_unleash-0.1.0.dev0-py3-none-any.whl"
    ]
