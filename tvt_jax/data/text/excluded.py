"""What is never trained on: the benchmarks' faces and texts, and the faces of the pages that models are chosen by."""

import re

# Also what shares their outlines: DejaVu is Vera with more characters, Hack is its monospaced face, Noto Sans SC is
# Noto Sans CJK and Source Han Sans. Families are told by how their names begin.
BENCHMARK_FACES = (
    "DejaVu",
    "Bitstream Vera",
    "Hack",
    "WenQuanYi Zen Hei",
    "STIX",
    "Noto Sans SC",
    "Noto Serif SC",
    "Noto Sans CJK",
    "Noto Serif CJK",
    "Source Han",
)
HELD_OUT_FACES = (
    "Cantarell",
    "Comic Neue",
    "Manrope",
    "Inconsolata",
    "PT Serif",
    "BIZ UD",
    "Smiley Sans",
    "UnDotum",
)

# The words of the benchmarks' pages, and those on the signs of RealSR's test pairs.
BENCHMARK_WORDS = frozenset(
    (
        "about after again always before between bridge bright by camera castle change clear close cloud corner "
        "country detail distance early east edge every family field figure finger flower forest garden glass gold "
        "green ground harbour head heavy high history house image island join kitchen knife large leaf letter light "
        "line little machine market measure middle morning mountain narrow needle night north number ocean open "
        "orange paper pattern people picture place plane point public quarter question quick quiet river road rough "
        "school section shadow sharp shop silver simple small south square station stone street summer table thin "
        "through tower train turn under value village voice wall water weather west white window winter wood work "
        "yellow young zebra zone annexe auriculares beer bird building chan che china chuen city complex "
        "consultants diagnostic dual eduroam europäische feng fong frente frontal geistesgeschichte hall hornbill "
        "kinmay kong library lmotherboard lpuks martini memorial micrófono nce pao ping plaza podium polytechn "
        "polyu rhinoceros shing shu sie siemens sión stanley stephen sze tai tang trasero ure usb wheat woo ying "
        "yuan yue yuen"
    ).split()
)
BENCHMARK_PHRASES = (
    "些运动生命力太短",
    "30年生于安的列斯群岛的圣托马斯岛",
    "种程度上说明了这一运",
    "洗手間",
    "育才道",
    "香港理工大學",
    "中国",
)

_LETTERS = re.compile(r"[^\W\d_]+")


def excluded_face(family: str) -> bool:
    """Whether a family of faces is of the benchmarks or held out."""
    return family.startswith(BENCHMARK_FACES + HELD_OUT_FACES)


def excluded_word(word: str) -> bool:
    """Whether a run of characters without white space has a word or phrase of the benchmarks in it."""
    letters = (run.casefold() for run in _LETTERS.findall(word))
    return any(run in BENCHMARK_WORDS for run in letters) or any(phrase in word for phrase in BENCHMARK_PHRASES)
