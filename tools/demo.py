"""Upscale the bundled photo, and lay the result between its bicubic enlargement and the truth: `make demo`."""

import time
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

import tvt_jax

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
CROP = (150, 100)
# Corners of the crops to zoom into, in pixels of the enlarged photo, and the frame's colour of each.
CROPS = {(300, 225): "#ffd23f", (440, 20): "#3bceac"}
LABEL_HEIGHT = 34
GAP = 6

Photo = UInt8[np.ndarray, "h w 3"]


def main(model: Path | None = None, out: Path = ROOT / "demo") -> None:
    """Upscale examples/coffee.jpg 4x with MODEL (the embedded one unless given) and write two pictures into OUT."""
    small = Image.open(EXAMPLES / "coffee.jpg")
    truth = Image.open(EXAMPLES / "coffee_truth.png")
    upscaler = tvt_jax.load(model)
    start = time.perf_counter()
    ours = upscaler.upscale(np.asarray(small), scale=4)
    seconds = time.perf_counter() - start
    bicubic = small.resize(truth.size, Image.Resampling.BICUBIC)
    comparison = side_by_side({"bicubic": np.asarray(bicubic), "ours": ours, "truth": np.asarray(truth)})

    out.mkdir(parents=True, exist_ok=True)
    result_path, comparison_path = out / "coffee_x4.png", out / "side_by_side.png"
    Image.fromarray(ours).save(result_path)
    comparison.save(comparison_path)
    print(f"{small.width}x{small.height} -> {truth.width}x{truth.height} in {seconds:.1f} s, compilation included")
    print(f"result:       {result_path}")
    print(f"side by side: {comparison_path}")


def side_by_side(photos: dict[str, Photo]) -> Image.Image:
    """Make one column a photo: its name, the whole of it, and a row for each of CROPS, enlarged to the same width."""
    columns = [column(name, photo) for name, photo in photos.items()]
    width, height = columns[0].size
    sheet = Image.new("RGB", (len(columns) * (width + GAP) - GAP, height), "white")
    for i, image in enumerate(columns):
        sheet.paste(image, (i * (width + GAP), 0))
    return sheet


def column(name: str, photo: Photo) -> Image.Image:
    """Stack the label, the photo with the crops framed, and the crops: larger pixels, nothing smoothed."""
    whole = Image.fromarray(photo)
    width = whole.width
    rows = [framed(whole)]
    for (left, top), colour in CROPS.items():
        crop = whole.crop((left, top, left + CROP[0], top + CROP[1]))
        zoomed = crop.resize((width, width * CROP[1] // CROP[0]), Image.Resampling.NEAREST)
        ImageDraw.Draw(zoomed).rectangle((0, 0, zoomed.width - 1, zoomed.height - 1), outline=colour, width=4)
        rows.append(zoomed)
    image = Image.new("RGB", (width, LABEL_HEIGHT + sum(row.height + GAP for row in rows) - GAP), "white")
    font = ImageFont.load_default(size=22)
    ImageDraw.Draw(image).text((width // 2, LABEL_HEIGHT // 2), name, "black", font, anchor="mm")
    top = LABEL_HEIGHT
    for row in rows:
        image.paste(row, (0, top))
        top += row.height + GAP
    return image


def framed(photo: Image.Image) -> Image.Image:
    """Copy the photo, with a rectangle around each of CROPS."""
    copy = photo.copy()
    for (left, top), colour in CROPS.items():
        ImageDraw.Draw(copy).rectangle((left, top, left + CROP[0], top + CROP[1]), outline=colour, width=2)
    return copy


if __name__ == "__main__":
    tyro.cli(main)
