"""What is written: runs of real text, and numbers, prices, dates and code made up by chance."""

import re
from collections.abc import Mapping

import numpy as np

from tvt_jax.data.text.excluded import excluded_word

CHARACTERS = "".join(chr(code) for code in range(33, 127)) + "€£¥°"  # of figures and code
UNSPACED = ("zh", "ja")
_SPACE_BESIDE_IDEOGRAPH = re.compile(r"(?<=[^\x00-\x7f]) | (?=[^\x00-\x7f])")

# {w} becomes a word, {d} a digit of 1 to 9, {0} any digit, {A} a letter.
_FIGURES = (
    "{d}{0}.{0}{0}", "{d}.{0}{0}", "€ {d}{0},{0}{0}", "${d}{0}.{0}{0}", "£{d}.{0}{0}", "¥{d},{0}{0}{0}",
    "{d}{0}{0} kg", "{d}{0}%", "-{d}{0}°C", "20{0}{0}-0{d}-1{0}", "1{0}.0{d}.{0}{0}", "0{d}/2{0}/{0}{0}",
    "{d}:{0}{0}", "1{0}:3{0}:{0}{0}", "+{d}{0} {0}{0}{0} {0}{0}{0}{0}", "{A}{A}-{0}{0}{0}{0}", "{A}{0}{0}{A}{0}",
    "No. {0}{0}{0}", "#{0}{0}{0}{0}{0}", "({d})", "{d} x {d}{0}", "{d}/{d}", "v{d}.{0}.{0}", "0x{0}{0}{A}{0}",
    "{0}{0}{0}{0} {0}{0}{0}{0} {0}{0}{0}{0}", "www.{w}.org", "{w}@{w}.net", "/{w}/{w}.{d}", "{w}_{w}",
    "[{0}{0}:{0}{0}]", "{d}{0}{0} x {d}{0}{0}", "{d}{0} mm", "{d}.{0} V",
)  # fmt: skip
_CODE = (
    "for {w} in range({d}{0}):", "if ({w} == {d}) {{", "return {w}[{d}];", "{w} = {w}({w}, {d}.{0})",
    "int {w} = {d}{0};", "def {w}(self, {w}):", "// {w} {w} {w}", "# {w}: {w} {w}", "}} else {{", "import {w}.{w}",
    "print(\"{w}\", {w})", "{w}->{w} += {d};", "<{w} id=\"{w}\">", "$ {w} --{w} {d} | {w}",
    "const {w} = ({w}) => {w};", "while (!{w}) {w}++;",
)  # fmt: skip
# The most frequent characters of their languages, first in the national standards: coding, first and last row there.
_STANDARDS = {"zh_gb2312": ("gb2312", 16, 55), "ja_jis": ("euc_jp", 16, 47), "ko_ksx1001": ("euc_kr", 16, 40)}
_PATTERNS = {"figures": _FIGURES, "code": _CODE}


def characters_by_chance(seed: int) -> dict[str, str]:
    """Texts of Chinese, Japanese and Korean characters in no order, as real texts have but a few of them."""
    texts = {}
    for name, (coding, first, last) in _STANDARDS.items():
        cells = [bytes([160 + row, 160 + cell]) for row in range(first, last + 1) for cell in range(1, 95)]
        known = [text for cell in cells if (text := cell.decode(coding, errors="ignore"))]
        drawn = np.random.default_rng(seed).choice(known, 20_000)
        texts[name] = " ".join("".join(drawn[start : start + 4]) for start in range(0, len(drawn), 4))
    return texts


class Writing:
    """Texts to draw from; words of the benchmarks are left out.

    Args:
        texts: The name of each text, of which the first part is the language ("zh_CN"), and the text.

    Raises:
        ValueError: A text has no word.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._words: dict[str, list[str]] = {}
        for name, text in texts.items():
            self._words[name] = [word for word in text.split() if not excluded_word(word)]
            if not self._words[name]:
                raise ValueError(f"the text '{name}' has no word to write")
        self._latin = [word for words in self._words.values() for word in words if word.isascii() and word.isalpha()]

    def running(self, name: str, length: int, generator: np.random.Generator) -> str:
        """About so many characters of a text, from a random word on; made up where its name is "figures" or "code"."""
        if name in _PATTERNS:
            drawn = generator.integers(len(_PATTERNS[name]), size=1 + length // 6)
            return "   ".join(self._filled(_PATTERNS[name][number], generator) for number in drawn)[:length]
        known = self._words[name]
        at, text = int(generator.integers(len(known))), ""
        while len(text) <= length:
            text += known[at % len(known)] + " "
            at += 1
        if name.split("_")[0] in UNSPACED:
            text = _SPACE_BESIDE_IDEOGRAPH.sub("", text)
        return text[:length]

    def _filled(self, pattern: str, generator: np.random.Generator) -> str:
        parts = pattern.replace("{{", "\0").replace("}}", "\1").split("{")
        text = parts[0]
        for part in parts[1:]:
            text += self._drawn(part[0], generator) + part[2:]
        return text.replace("\0", "{").replace("\1", "}")

    def _drawn(self, kind: str, generator: np.random.Generator) -> str:
        if kind == "w":
            return self._latin[int(generator.integers(len(self._latin)))].lower() if self._latin else "x"
        if kind == "A":
            return chr(65 + int(generator.integers(26)))
        return str(int(generator.integers(kind == "d", 10)))
