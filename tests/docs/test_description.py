"""The README as a package index shows it: short, and without links, pictures and comments that lead nowhere there."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tests.support.example_process import ROOT

pytestmark = pytest.mark.one_python


def test_description_for_an_index() -> None:
    """What is relative is text there."""
    ended = subprocess.run(
        [sys.executable, "-m", "hatchling", "metadata"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    readme = json.loads(ended.stdout)["readme"]
    text = readme["text"]
    assert readme["content-type"] == "text/markdown"
    assert [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link] == []
    assert "<!--" not in text
    assert "![" not in text
    assert "Tutorial (`docs/tutorial.md`)" in text


def test_readme_is_short() -> None:
    """The rest is in the documentation."""
    assert len((ROOT / "README.md").read_text().split()) < 900
