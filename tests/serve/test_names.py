import pytest

from tvt_jax.serve.names import LONGEST, as_attachment, clean, distinct


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("photo.jpg", "photo.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\a.png", "a.png"),
        ("a\0b\r\nc.png", "abc.png"),
        ("\u202egnp.exe.png", "gnp.exe.png"),
        ('"><img src=x>.png', "img src=x.png"),
        ("..", "picture"),
        ("", "picture"),
        ("///", "picture"),
        (".hidden.png", "hidden.png"),
        ("Größe 東京.tif", "Größe 東京.tif"),
        ("a\ud800b.png", "ab.png"),
    ],
)
def test_names_are_made_harmless(name, expected):
    assert clean(name) == expected


def test_long_names_keep_their_ending():
    name = clean("x" * 5000 + ".jpeg")
    assert len(name) == LONGEST and name.endswith("x.jpeg")
    assert len(clean("a." + "x" * 5000)) <= LONGEST


def test_names_are_told_apart():
    assert distinct(["a.png", "a.png", "a (2).png", "A.PNG"]) == ["a.png", "a (2).png", "a (2) (2).png", "A (3).PNG"]


def test_a_header_holds_any_name():
    assert as_attachment('a"b;東.png') == {"Content-Disposition": "attachment; filename*=UTF-8''a%22b%3B%E6%9D%B1.png"}
