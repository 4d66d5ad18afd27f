"""The tests on every Python that is supported: `nox`, or `nox --python 3.12 -- -k state`."""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "uv"
nox.options.envdir = ".venvs/nox"
nox.options.error_on_missing_interpreters = False

PROJECT = nox.project.load_toml("pyproject.toml")


@nox.session(python=nox.project.python_versions(PROJECT))
def tests(session: nox.Session) -> None:
    """Run the tests, or some of them."""
    group = nox.project.dependency_groups(PROJECT, "test")
    session.install("--constraint", "constraints.txt", "--editable", ".", *group)
    session.run("pytest", "--numprocesses", "auto", *session.posargs)
