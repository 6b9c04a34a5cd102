"""The web app with its ClickHouse, and a project in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.clickhouse import ClickHouseProject, new_project, running


@pytest.fixture(scope="session")
def web_app() -> Iterator[str]:
    """The address of the web app. Its ClickHouse is large, so it is an extra: `pip install -e '.[verify-test]'`."""
    pytest.importorskip("chdb", reason="needs the extra verify-test", exc_type=ImportError)
    with running() as url:
        yield url


@pytest.fixture
def project(web_app: str) -> ClickHouseProject:
    return new_project(web_app)
