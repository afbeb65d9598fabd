"""Pages for people: what they name is there."""

import re
from pathlib import Path

import pytest

import tvt_jax
from tvt_jax.inference import command

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("page", ["choosing.md", "files.md", "upscaling.md"])
def test_options_of_upscale_are_there(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    named = re.findall(r"^\|[^|]*\|?[^|]*`(--[a-z-]+)", text, re.MULTILINE)
    with pytest.raises(SystemExit):
        command.main(["--help"])
    known = re.findall(r"--[a-z-]+", capsys.readouterr().out)
    assert named and not set(named) - set(known)


def test_the_version_has_its_changes() -> None:
    headings = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased" and headings[1] == tvt_jax.__version__
