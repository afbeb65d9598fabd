"""What the page asks for, asked without one."""

import io
import struct
import time
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.inference.weird import DEEP, encoded, saved
from tests.serve.conftest import ADDRESS, photo, png
from tvt_jax.inference.images import decode_picture
from tvt_jax.inference.mark import is_mark
from tvt_jax.serve import server as module
from tvt_jax.serve import store, views, work

ASK = {"model": "one", "scale": 4, "colorFix": "adain"}


def upload(client, data=None, name="a.png", visitor="me"):
    return client.post("/api/pictures", params={"visitor": visitor, "name": name}, content=data or png(photo()))


def start(client, key, **more):
    return client.post(f"/api/pictures/{key}/job", json=ASK | more)


def told(client, key, visitor="me"):
    return next(held for held in client.get(f"/api/visitors/{visitor}").json() if held["key"] == key)


def wait(client, key, visitor="me", until=lambda told: told["job"]["state"] in ("done", "failed")):
    for _ in range(1000):
        if until(held := told(client, key, visitor)):
            return held
        time.sleep(0.01)
    raise AssertionError(held)


def restored(client, data=None, name="a.png", visitor="me", **more):
    key = upload(client, data, name, visitor).json()["key"]
    assert start(client, key, **more).status_code == 202
    assert wait(client, key, visitor)["job"]["state"] == "done"
    return key


def error_of(response, status):
    assert response.status_code == status, response.text
    message = response.json()["error"]
    assert "\n" not in message
    return message


def test_the_page_and_what_it_is_made_of(client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html") and "Enlarge photos" in page.text
    for name in ("page.css", "page.js", "slider.css", "slider.js"):
        assert name in page.text and client.get(f"/{name}").status_code == 200
    assert error_of(client.get("/server.py"), 404)
    assert error_of(client.get("/..%2fserver.py"), 404)
    told = client.get("/api/start").json()
    assert [model["name"] for model in told["models"]] == ["one", "two"]
    assert told["visitor"] != client.get("/api/start").json()["visitor"]


def test_a_photo_s_way(client, stepper):
    held = upload(client).json()
    assert (held["height"], held["width"], held["restored"]) == (12, 16, False)
    assert start(client, held["key"], scale=2, colorFix="wavelet").status_code == 202
    done = wait(client, held["key"])
    assert done["restored"] and done["view"]["part"] is None
    assert (done["view"]["height"], done["view"]["width"], done["view"]["share"]) == (24, 32, 1)
    assert stepper.seen == [((12, 16, 3), 2.0, "wavelet")]
    before, after = (client.get(f"/api/pictures/{held['key']}/{layer}") for layer in ("before", "after"))
    expected = Image.fromarray(photo()).resize((32, 24), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(Image.open(io.BytesIO(before.content)), expected)
    assert after.headers["content-type"] == "image/png"
    result = client.get(f"/api/pictures/{held['key']}/result")
    assert result.headers["content-disposition"] == "attachment; filename*=UTF-8''a.png"
    pixels = np.asarray(Image.open(io.BytesIO(result.content)))
    np.testing.assert_array_equal(pixels, Image.open(io.BytesIO(after.content)))


def test_every_strength_is_a_blend_of_what_is_shown(client):
    key = restored(client)
    before, after = (
        np.asarray(Image.open(io.BytesIO(client.get(f"/api/pictures/{key}/{layer}").content)), float)
        for layer in ("before", "after")
    )
    for strength in (0, 0.35, 1):
        file = client.get(f"/api/pictures/{key}/result", params={"strength": strength}).content
        pixels = np.asarray(Image.open(io.BytesIO(file)), float)
        # Half a level for rounding.
        assert np.abs(pixels - (before + strength * (after - before))).max() <= 0.51
    assert "strength=2" in error_of(client.get(f"/api/pictures/{key}/result?strength=2"), 422)
    assert error_of(client.get(f"/api/pictures/{key}/result?strength=much"), 422)


def test_a_part_is_tried_first(client, stepper, monkeypatch):
    monkeypatch.setattr(work, "TRIAL", 8)
    assert client.get("/api/start").json()["trial"] == 8
    image = photo(12, 16)
    key = upload(client, png(image)).json()["key"]
    start(client, key, part=[15, -5])
    done = wait(client, key)
    assert stepper.seen[0][0] == (8, 8, 3)
    assert not done["restored"] and done["view"]["part"] == [15, -5]
    before = Image.open(io.BytesIO(client.get(f"/api/pictures/{key}/before").content))
    expected = Image.fromarray(image[:8, 8:]).resize((32, 32), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(before, expected)
    assert "has not been restored yet" in error_of(client.get(f"/api/pictures/{key}/result"), 404)


def test_format_depth_and_metadata_are_the_original_s(client):
    exif = Image.Exif()
    exif[271], exif[274] = "Maker", 6
    file = saved(photo(), "JPEG", exif=exif, dpi=(300, 300))
    key = restored(client, file, "dir/Ünter den\nLinden.JPG")
    result = client.get(f"/api/pictures/{key}/result")
    assert result.headers["content-disposition"] == "attachment; filename*=UTF-8''%C3%9Cnter%20denLinden.JPG"
    with Image.open(io.BytesIO(result.content)) as image:
        assert (image.format, image.size, image.info["dpi"]) == ("JPEG", (48, 64), (300, 300))
        assert (image.getexif()[271], image.getexif()[274], is_mark(image.getexif()[11])) == ("Maker", 1, True)
    key = restored(client, encoded(DEEP, ".png"), "deep.png")
    deep = decode_picture(client.get(f"/api/pictures/{key}/result").content, "deep")
    assert (deep.pixels.dtype, deep.pixels.shape) == (np.uint16, (20, 28, 4))
    key = restored(client, saved(photo(), "BMP"), "a.bmp")
    assert client.get(f"/api/pictures/{key}/result").headers["content-disposition"].endswith("a.png")


def test_several_are_a_zip(client):
    for name in ("a.png", "A.png", "../b.jpg"):
        restored(client, name=name)
    upload(client, name="not asked for.png")
    with zipfile.ZipFile(io.BytesIO(client.get("/api/visitors/me/zip").content)) as archive:
        assert archive.namelist() == ["a.png", "A (2).png", "b.jpg"]
        assert Image.open(archive.open("b.jpg")).size == (64, 48)
    assert error_of(client.get("/api/visitors/other/zip"), 404)


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        (b"text", "a.png", "a.png can't be read as a picture: its content is of no kind that is known"),
        (png(photo())[:-40], "cut.png", "cut.png can't be read as a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a.png", "of no kind that is known"),
        (b"\0" * 100, "\u202e../../<b>\n.png", "b.png can't be read"),
        (b" ", "", "picture can't be read"),
    ],
)
def test_what_is_no_picture_gets_a_sentence(client, data, name, message):
    assert message in error_of(upload(client, data, name), 422)
    assert client.get("/api/visitors/me").json() == []


def test_damage_is_told(client):
    held = upload(client, saved(photo(), "JPEG")[:-2], "a.jpg").json()
    assert held["warnings"] == ["a.jpg: its end marker is missing, all pixels are there"]


def test_what_is_too_large_gets_a_sentence(serving):
    client = serving(megapixels=0.001)
    assert "has 0.0016 megapixels, and this page takes 0.001" in error_of(upload(client, png(photo(40, 40))), 422)
    # Told by the header alone: a bomb is not decoded.
    header = b"IHDR" + struct.pack(">2I5B", 65535, 65535, 8, 0, 0, 0, 0)
    bomb = png(photo())[:12] + header + struct.pack(">I", zlib.crc32(header)) + png(photo())[33:]
    assert "has 4295 megapixels" in error_of(upload(client, bomb), 422)
    assert "more than 4 MB" in error_of(upload(client, bytes(5_000_000)), 413)
    key = upload(client, png(photo(30, 30)), "a.webp").json()["key"]
    assert "too large to be enlarged 8 times: choose 4.2 or less" in error_of(start(client, key, scale=8), 422)


def test_formats_have_limits_of_their_own(client):
    key = upload(client, saved(np.zeros((1, 9000, 3), np.uint8), "PNG"), "a.webp").json()["key"]
    assert "is too large for this format" in error_of(start(client, key), 422)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"scale": 9}, "scale=9.0 is out of range"),
        ({"scale": "nan"}, "scale=nan is out of range"),
        ({"scale": None}, "lacks model, colorFix, scale or part"),
        ({"model": "three"}, "model='three' isn't known, use one of one, two"),
        ({"colorFix": "red"}, "color_fix='red' isn't known"),
        ({"part": [1]}, "lacks model, colorFix, scale or part"),
        ({"part": "ab"}, "invalid literal"),
    ],
)
def test_what_cannot_be_asked_for_gets_a_sentence(client, more, message):
    key = upload(client).json()["key"]
    assert message in error_of(start(client, key, **more), 422)


def test_questions_are_short_and_json(client):
    key = upload(client).json()["key"]
    assert error_of(client.post(f"/api/pictures/{key}/job", content=b"[]"), 400) == "the question is not JSON"
    assert error_of(client.post(f"/api/pictures/{key}/job", content=b"{" * 20000), 413)
    assert error_of(client.post("/api/pictures", content=b"x"), 400)


def test_what_fails_in_the_work_is_told(client, stepper, monkeypatch):
    def fail(height, width):
        raise MemoryError("needs about 9.0 GB of memory and 1.0 are free")

    monkeypatch.setattr(stepper, "check_fits", fail)
    key = upload(client).json()["key"]
    start(client, key)
    assert wait(client, key)["job"]["error"] == "needs about 9.0 GB of memory and 1.0 are free"
    monkeypatch.undo()
    start(client, key)
    assert wait(client, key)["job"]["state"] == "done"


def test_large_results_are_shown_smaller_and_downloaded_whole(client, monkeypatch):
    monkeypatch.setattr(views, "SHOWN_PIXELS", 768)
    key = restored(client)
    assert told(client, key)["view"]["share"] == 0.5
    assert Image.open(io.BytesIO(client.get(f"/api/pictures/{key}/after").content)).size == (32, 24)
    assert Image.open(io.BytesIO(client.get(f"/api/pictures/{key}/result").content)).size == (64, 48)


def test_visitors_take_turns_and_are_told_of_those_before(client, stepper):
    stepper.gate.clear()
    keys = {}
    for visitor, name in [("me", "1"), ("me", "2"), ("me", "3"), ("you", "4")]:
        keys[name] = upload(client, name=f"{name}.png", visitor=visitor).json()["key"]
        start(client, keys[name])
    wait(client, keys["1"], until=lambda told: told["job"]["state"] == "working")
    ahead = {name: told(client, key, "you" if name == "4" else "me")["job"]["ahead"] for name, key in keys.items()}
    # The first is worked on; then the other visitor's comes before this one's third.
    assert ahead == {"1": 0, "2": 1, "4": 2, "3": 3}
    assert "is being worked on already" in error_of(start(client, keys["1"]), 409)
    stepper.gate.set()
    assert wait(client, keys["3"])["job"]["state"] == "done"
    assert told(client, keys["4"], "you")["job"]["state"] == "done"


def test_steps_and_time_left_are_told(client, stepper):
    key = restored(client)
    stepper.pause = 0.02
    start(client, key)
    working = wait(client, key, until=lambda told: told["job"]["state"] != "waiting" and told["job"]["share"] > 0.3)
    assert 0.3 < working["job"]["share"] < 1
    assert 0 < working["job"]["left"] < 5
    assert wait(client, key)["job"]["left"] is None


def test_work_can_be_stopped(client, stepper):
    stepper.gate.clear()
    keys = [upload(client).json()["key"] for _ in range(2)]
    for key in keys:
        start(client, key)
        assert client.delete(f"/api/pictures/{key}/job").status_code == 200
    stepper.gate.set()
    for key in keys:
        done = wait(client, key)
        assert (done["job"]["state"], done["job"]["error"], done["restored"]) == ("failed", "", False)


def test_visitors_do_not_see_one_another(client):
    key = restored(client)
    assert client.get("/api/visitors/you").json() == []
    assert "choose it again" in error_of(client.get(f"/api/pictures/{key[:-1]}/result"), 404)
    assert len(key) >= 20


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:7860"},
        {"Host": "127.0.0.1.evil.example:7860"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_sites_are_refused(client, headers):
    for method, path in [("GET", "/api/start"), ("POST", "/api/pictures?visitor=me&name=a.png")]:
        response = client.request(method, path, headers=headers, content=png(photo()) if method == "POST" else None)
        assert error_of(response, 403)
    assert client.get("/api/visitors/me").json() == []


def test_its_own_page_is_not_refused(client, serving):
    own = {"Origin": ADDRESS, "Sec-Fetch-Site": "same-origin"}
    for host in ("localhost:7860", "127.0.0.1:7860", "[::1]:7860", "192.168.0.9:7860"):
        headers = own | {"Host": host, "Origin": f"http://{host}"}
        assert client.post("/api/visitors/me/forget", headers=headers).status_code == 200
    # A link on another site may lead here; nothing of this is shown within one.
    page = client.get("/", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"})
    assert page.status_code == 200
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
    named = serving(host="photos.example")
    assert named.get("/api/start", headers={"Host": "photos.example:80"}).status_code == 200


def test_only_so_many_are_held(client, monkeypatch):
    monkeypatch.setattr(store, "MOST", 1)
    assert upload(client).status_code == 201
    assert "try again later" in error_of(upload(client), 503)


def test_limits_are_the_documented_ones():
    limits = module.Limits()
    assert (limits.megapixels, limits.keep, limits.keep_downloaded) == (24, 600, 300)
    assert limits.bytes == 24_000_000 * 8 + (4 << 20)
    assert (work.TRIAL, views.SHOWN_PIXELS, store.MOST) == (256, 16_000_000, 200)


def test_the_model_can_be_chosen(client, stepper):
    restored(client, model="two")
    assert stepper.seen == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError()])
def test_a_full_machine_is_told(client, monkeypatch, error):
    def fail(self, data):
        raise error

    monkeypatch.setattr("tvt_jax.serve.blob.Blob.append", fail)
    assert "the server has no room for this: " in error_of(upload(client), 507)
