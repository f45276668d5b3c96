"""Fixtures shared by all rooms."""

import pytest


@pytest.fixture(scope="session")
def real_data():
    """Path of the folder with the original public files; skips, saying why, where any of them is missing."""
    from instab_utils import data

    if not data.available():
        missing = [file.path for file in data.files() if not (data.folder() / file.path).is_file()]
        pytest.skip(
            f"{len(missing)} of {len(data.files())} public files are not in {data.folder()} (first: {missing[0]}); "
            "set INSTAB_DATA to the folder that has them"
        )
    return data.folder()
