"""The page in a real browser: what people do with it."""

import io
import re
import threading
import urllib.error
import urllib.request
import zipfile

import numpy as np
import pytest
import uvicorn
from PIL import Image

from tests.evaluation.test_report import CHROMIUM, UNATTENDED
from tests.serve.conftest import Stepper, photo, png
from tvt_jax.inference.mark import is_mark
from tvt_jax.serve.server import make_app
from tvt_jax.serve.work import Model

pytestmark = [pytest.mark.slow]
PHONE, DESK = 390, 1280


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as runtime:
        browser = runtime.chromium.launch(executable_path=CHROMIUM, args=[*UNATTENDED, "--disable-quic"])
        yield browser
        browser.close()


@pytest.fixture
def address(stepper):
    """A real server, at a port that is free."""
    models = {"one": Model(upscaler=stepper, fingerprint="01"), "two": Model(upscaler=Stepper(), fingerprint="23")}
    server = uvicorn.Server(uvicorn.Config(make_app(models), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        threading.Event().wait(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    stepper.gate.set()
    server.should_exit = True
    thread.join()


@pytest.fixture
def visit(chromium, address):
    """Opens the page as a new visitor; nothing may go wrong on it, and nothing be asked of another server."""
    contexts, problems = [], []

    def visit(width=DESK, **options):
        context = chromium.new_context(viewport={"width": width, "height": 844}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request",
            lambda request: request.url.startswith((address, "blob:", "data:")) or problems.append(request.url),
        )
        page.goto(address)
        page.locator("#scale option").first.wait_for(state="attached")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not problems


def file(name="a.png", data=None, **kind):
    return {"name": name, "mimeType": "image/png", "buffer": data or png(photo(300, 400))}


def choose(page, *files):
    page.locator("#files").set_input_files(list(files))
    return page.locator(".card").last


def saved(page, button):
    with page.expect_download() as download:
        button.click()
    return download.value.suggested_filename, download.value.path().read_bytes()


@pytest.mark.parametrize("width", [DESK, PHONE])
def test_a_photo_s_way(visit, stepper, width):
    page = visit(width, has_touch=width == PHONE)
    exif = Image.Exif()
    exif[271] = "Maker"
    stream = io.BytesIO()
    Image.fromarray(photo(300, 400)).save(stream, "JPEG", exif=exif)
    card = choose(page, file("höliday.jpg", stream.getvalue()))
    card.locator(".size").get_by_text("400 × 300 → 1600 × 1200").wait_for()
    assert card.locator("h2").inner_text() == "höliday.jpg"
    try_a_part(page, card, stepper)
    watch_progress(card, stepper)
    move_the_slider(page, card)
    zoom(page, card)
    # Nothing is wider than the screen, and everything is large enough for a finger.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(
        "[...document.querySelectorAll('button, select')].every((b) => !b.offsetHeight || b.offsetHeight >= 43)"
    )
    page.locator("#strength").fill("0")
    name, data = saved(page, card.locator(".download"))
    assert name == "höliday.jpg"
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == ("JPEG", (1600, 1200))
        assert image.getexif()[271] == "Maker" and is_mark(image.getexif()[11])
        expected = Image.open(stream).resize(image.size, Image.Resampling.BICUBIC)
        # JPEG's own loss; what is restored is brighter by 64 levels on average.
        assert abs(np.asarray(image, float).mean() - np.asarray(expected, float).mean()) < 1
    card.locator(".remove").click()
    card.wait_for(state="detached")


def try_a_part(page, card, stepper):
    """The frame moves by keyboard and by pointer."""
    picker, frame = card.locator(".picker"), card.locator(".frame")
    picker.focus()
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    assert frame.evaluate("(frame) => frame.style.left") == "0%"
    box = picker.bounding_box()
    picker.click(position={"x": box["width"] - 2, "y": 2})
    assert frame.evaluate("(frame) => [frame.style.left, frame.style.top]") == ["36%", "0%"]
    card.get_by_text("Try this part").click()
    card.locator(".result .shown").get_by_text("part, 1024 × 1024").wait_for()
    assert stepper.seen[-1][0] == (256, 256, 3)
    assert not card.locator(".download").is_visible()


def watch_progress(card, stepper):
    stepper.pause = 0.15
    card.get_by_text("Restore the whole photo").click()
    card.locator(".progress span").get_by_text(re.compile(r"^\d+ %, about .+ left$")).wait_for()
    assert 0 < card.locator("progress").evaluate("(bar) => bar.value") < 1
    assert card.locator(".try").is_disabled()
    card.locator(".result .shown").get_by_text("whole, 1600 × 1200").wait_for()
    stepper.pause = 0.0
    assert not card.locator(".progress").is_visible()


def cut(card):
    return float(card.locator(".pair").evaluate("(box) => parseFloat(box.style.getPropertyValue('--cut'))"))


def move_the_slider(page, card):
    pair, sides = (
        card.locator(".pair"),
        "(box) => [...box.querySelectorAll('img')].map((image) => [image.complete, image.naturalWidth])",
    )
    page.evaluate("Promise.all([...document.querySelectorAll('.pair img')].map((image) => image.decode()))")
    assert pair.evaluate(sides) == [[True, 1600], [True, 1600]]
    card.locator(".between").fill("25")
    assert cut(card) == 25
    pair.focus()
    page.keyboard.press("ArrowRight")
    assert cut(card) == 27
    pair.scroll_into_view_if_needed()
    box = pair.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + 20, steps=4)
    page.mouse.up()
    assert cut(card) == pytest.approx(80, abs=1)
    assert "zoomed" not in pair.get_attribute("class")
    # What is seen left of the border is the enlarged input, and right of it what was made of it, brighter.
    seen = np.asarray(Image.open(io.BytesIO(pair.screenshot())).convert("L"), float)
    left, right = seen[:, : int(0.78 * seen.shape[1])].mean(), seen[:, int(0.82 * seen.shape[1]) :].mean()
    assert right - left > 40
    # Half the strength is half as far from it, at once.
    page.locator("#strength").fill("50")
    half = np.asarray(Image.open(io.BytesIO(pair.screenshot())).convert("L"), float)[
        :, int(0.82 * seen.shape[1]) :
    ].mean()
    assert half - left == pytest.approx((right - left) / 2, abs=3)
    assert page.locator("#strong").inner_text() == "50 %"


def zoom(page, card):
    pair = card.locator(".pair")
    pair.click(position={"x": 10, "y": 10})
    assert "zoomed" in pair.get_attribute("class") and pair.get_attribute("aria-pressed") == "true"
    scale = "(box) => new DOMMatrix(getComputedStyle(box.querySelector('img')).transform).a"
    assert pair.evaluate(scale) == 4
    place = "(box) => parseFloat(box.style.getPropertyValue('--x'))"
    before = pair.evaluate(place)
    page.keyboard.press("ArrowRight")
    assert pair.evaluate(place) == pytest.approx(before + 5)
    page.keyboard.press("Escape")
    assert "zoomed" not in pair.get_attribute("class")
    page.keyboard.press("Enter")
    assert "zoomed" in pair.get_attribute("class")
    page.keyboard.press("Enter")


def test_dropped_and_pasted(visit):
    page = visit()
    data = list(png(photo(20, 30)))
    make = (
        f"const t = new DataTransfer(); t.items.add(new File([new Uint8Array({data})], NAME, {{ type: 'image/png' }}));"
    )
    for name, send in [
        (
            "dropped.png",
            "document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: t, bubbles: true, cancelable: true }))",
        ),
        ("pasted.png", "document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: t, bubbles: true }))"),
    ]:
        page.evaluate(f"() => {{ const NAME = '{name}'; {make} {send}; }}")
        page.locator("h2", has_text=name).wait_for()
    # So small a picture is tried whole.
    assert not page.locator(".try").first.is_visible()


def test_several_become_a_zip(visit):
    page = visit()
    choose(
        page, file("a.png", png(photo(10, 12))), file("b.png", png(photo(12, 10))), file("b.png", png(photo(11, 10)))
    )
    page.locator(".card").nth(2).wait_for()
    page.get_by_text("Restore all").click()
    for number in range(3):
        page.locator(".card").nth(number).locator(".download").wait_for()
    name, data = saved(page, page.get_by_text("Download all (zip)"))
    assert name == "restored.zip"
    assert zipfile.ZipFile(io.BytesIO(data)).namelist() == ["a.png", "b.png", "b (2).png"]
    page.get_by_text("Remove all").click()
    page.locator(".card").first.wait_for(state="detached")
    assert page.locator(".card").count() == 0


def test_errors_are_said_where_they_happen(visit, stepper):
    page = visit()
    choose(page, file("<b>bad</b>.png", b"text"), file("good.png"))
    page.locator(".card").wait_for()
    said = page.locator("#said").inner_text()
    assert said == "b.png can't be read as a picture: its content is of no kind that is known"
    assert page.locator("h2").inner_text() == "good.png"

    def fail(height, width):
        raise MemoryError("needs about 9.0 GB of memory and 1.0 are free")

    stepper.check_fits = fail
    page.get_by_text("Restore the whole photo").click()
    page.locator(".error", has_text="needs about 9.0 GB").wait_for()
    # What was said before is not wiped by looking how pictures stand.
    assert page.locator("#said").inner_text() == said
    assert page.locator(".restore").is_enabled()


def test_two_visitors_at_once(visit, stepper):
    stepper.gate.clear()
    first, second = visit(), visit(PHONE)
    cards = [choose(page, file(name)) for page, name in [(first, "first.png"), (second, "second.png")]]
    cards[0].get_by_text("Restore the whole photo").click()
    cards[0].locator(".progress span").get_by_text("working").wait_for()
    cards[1].get_by_text("Restore the whole photo").click()
    cards[1].locator(".progress span").get_by_text("1 before it").wait_for()
    stepper.gate.set()
    for card, name in zip(cards, ("first.png", "second.png"), strict=True):
        card.locator(".download").wait_for()
        assert card.page.locator("h2").all_inner_texts() == [name]


def test_a_page_that_is_closed_leaves_nothing(visit, address):
    page = visit()
    choose(page, file()).wait_for()
    picture = page.locator(".small").get_attribute("src")
    assert urllib.request.urlopen(f"{address}/{picture}").status == 200
    page.goto("about:blank")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        for _ in range(100):
            urllib.request.urlopen(f"{address}/{picture}")
            threading.Event().wait(0.05)
