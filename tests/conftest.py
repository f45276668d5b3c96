"""Fixtures shared by all rooms."""

import os

import browser
import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give each worker whole files; one of them has the built book and the only browser."""
    from xdist.scheduler import LoadScopeScheduling

    class Files(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            text = (config.rootpath / file).read_text("utf-8")
            return "book" if "book_site" in text or "chromium" in text else file

    return Files(config, log)


@pytest.fixture(scope="session")
def real_data():
    """Path of the folder with the original public files; skips, saying why, where any of them is
    missing.
    """
    from instab_utils import data

    if not data.available():
        missing = [file.path for file in data.files() if not (data.folder() / file.path).is_file()]
        pytest.skip(
            f"{len(missing)} of {len(data.files())} public files are not in {data.folder()} "
            f"(first: {missing[0]}); "
            "set INSTAB_DATA to the folder that has them"
        )
    return data.folder()


@pytest.fixture(scope="session")
def smoke_weights(tmp_path_factory):
    """Folder of weights that tests share: each smoke network is trained at most once a session."""
    root = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        root = root.parent  # of all workers
    folder = root / "smoke-weights"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def own_results(tmp_path, monkeypatch, smoke_weights):
    """Results of one test alone, but for the weights, which it shares with the others."""
    results = tmp_path / "results"
    results.mkdir()
    (results / "weights").symlink_to(smoke_weights)
    monkeypatch.setenv("INSTAB_RESULTS", str(results))
    return results


@pytest.fixture(scope="session")
def chromium():
    """A browser whose contexts cannot reach anything but the book's own server."""
    path = browser.find()
    if not path:
        reason = (
            "no Chromium: none on the PATH, INSTAB_CHROMIUM not set, none installed by playwright"
        )
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        yield opened
        opened.close()
