"""Nothing of a visitor stays: not while the server runs, longer than it is wanted, and not when it ends."""

import gc
import os
import tempfile

import pytest

from tests.serve.test_server import restored, start, told, upload, wait
from tvt_jax.serve.blob import Blob
from tvt_jax.serve.store import Store

DESCRIPTORS = "/proc/self/fd"


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def open_files(folder):
    """Files of the folder that this process holds open, though they have no name."""
    if not os.path.isdir(DESCRIPTORS):
        pytest.skip("this system doesn't tell what is open")
    gc.collect()
    links = []
    for number in os.listdir(DESCRIPTORS):
        try:
            links.append(os.readlink(f"{DESCRIPTORS}/{number}"))
        except FileNotFoundError:
            continue
    return [link for link in links if link.startswith(str(folder))]


def test_nothing_has_a_name_on_the_disk(client, temporary):
    restored(client)
    assert list(temporary.rglob("*")) == []
    # The file, its small picture, the result, and the two that are shown.
    assert len(open_files(temporary)) == 5


def test_a_picture_that_is_removed_is_gone(client, temporary):
    key = restored(client)
    assert client.delete(f"/api/pictures/{key}").status_code == 200
    assert client.get(f"/api/pictures/{key}/after").status_code == 404
    assert open_files(temporary) == []


def test_all_is_gone_when_the_page_is_closed(client, temporary):
    for _ in range(2):
        restored(client)
    other = restored(client, visitor="you")
    client.post("/api/visitors/me/forget")
    assert client.get("/api/visitors/me").json() == []
    assert len(open_files(temporary)) == 5
    assert told(client, other, "you")["restored"]


def test_what_is_worked_on_is_given_up_when_it_is_removed(client, temporary, stepper):
    stepper.gate.clear()
    key = upload(client).json()["key"]
    start(client, key)
    wait(client, key, until=lambda told: told["job"]["state"] == "working")
    client.delete(f"/api/pictures/{key}")
    stepper.gate.set()
    restored(client, visitor="you")
    client.post("/api/visitors/you/forget")
    assert open_files(temporary) == []


def test_a_result_takes_the_place_of_the_one_before(client, temporary):
    key = restored(client)
    for part in ([0, 0], None):
        start(client, key, part=part)
        wait(client, key)
    assert len(open_files(temporary)) == 5


def test_all_is_gone_when_the_server_ends(serving, temporary, stepper):
    client = serving()
    restored(client)
    stepper.gate.clear()
    key = upload(client).json()["key"]
    start(client, key)
    stepper.gate.set()
    client.__exit__(None, None, None)
    client.__enter__ = client.__exit__ = lambda *_: None
    assert open_files(temporary) == [] and list(temporary.rglob("*")) == []


def test_what_is_refused_is_not_held(client, temporary):
    assert upload(client, b"text").status_code == 422
    assert open_files(temporary) == []


def test_a_picture_expires_after_its_page_was_last_heard_of_and_sooner_after_its_download():
    now = [0.0]
    store = Store(keep=600.0, keep_downloaded=300.0, clock=lambda: now[0])
    kept, left, downloaded = (
        store.add(visitor, "a", Blob(), Blob(), (1, 1), []) for visitor in ("kept", "left", "downloaded")
    )
    store.downloaded(downloaded)
    for now[0] in (290.0, 310.0, 590.0, 610.0):
        store.of("kept"), store.of("downloaded")
        store.sweep()
        present = {held.visitor for held in (kept, left, downloaded) if not held.data.closed}
        expected = {290: {"kept", "left", "downloaded"}, 310: {"kept", "left"}, 590: {"kept", "left"}, 610: {"kept"}}
        assert present == expected[now[0]]
    store.close()
    assert kept.data.closed


def test_the_server_sweeps(serving):
    client = serving(keep_downloaded=0.05)
    key = restored(client)
    assert client.get(f"/api/pictures/{key}/result").status_code == 200
    wait_until_gone = [1 for _ in range(200) if client.get(f"/api/pictures/{key}/small").status_code == 200]
    assert len(wait_until_gone) < 200
