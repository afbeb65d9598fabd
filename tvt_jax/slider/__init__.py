"""Two pictures over each other, for pages: a slider between them, and a magnifier."""

from pathlib import Path

_HERE = Path(__file__).parent
STYLE = (_HERE / "slider.css").read_text(encoding="utf-8")
SCRIPT = (_HERE / "slider.js").read_text(encoding="utf-8")
