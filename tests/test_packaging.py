"""The archives: the product and nothing else, from a clone or from an archive."""

from __future__ import annotations

import shutil
import sys
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest
from programs import PROGRAMS, run

from demo.pipeline import ROOT

UV = PROGRAMS / "uv"
PRODUCT = {
    str(path.relative_to(ROOT))
    for path in (ROOT / "tap_unleash").rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
}
SOURCES = {"CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml"}

pytestmark = pytest.mark.timeout(600)


def test_archives_hold_the_product_and_run_in_an_empty_environment(
    tmp_path: Path,
) -> None:
    # The wheel is made from the source archive, so that this is enough to build it.
    run(UV, "build", "--quiet", "--out-dir", tmp_path, cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    (sdist,) = tmp_path.glob("*.tar.gz")
    with ZipFile(wheel) as archive:
        others = {Path(name).name for name in {*archive.namelist()} - PRODUCT}
        assert {*archive.namelist()} > PRODUCT
    assert others == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "LICENSE"}
    with tarfile.open(sdist) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert names == PRODUCT | SOURCES | {".gitignore", "PKG-INFO"}

    run(UV, "venv", "--quiet", "--python", sys.executable, "empty", cwd=tmp_path)
    shutil.copy(ROOT / "constraints.txt", tmp_path)
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
    for name in SOURCES:
        shutil.copy(ROOT / name, clone)
    run(UV, "build", "--quiet", "--wheel", cwd=clone)
    assert (clone / "dist" / "tap_unleash-0.1.0.dev0-py3-none-any.whl").exists()
