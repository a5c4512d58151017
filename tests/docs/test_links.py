"""Every link of the README and of the documentation leads somewhere, read as text and as a site."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.example_process import ROOT

pytestmark = pytest.mark.one_python

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
]
LINK = re.compile(r"\]\(([^)\s]+)\)")
# Addresses of others; no address of this project exists yet.
OTHERS = ("https://keepachangelog.com/", "https://semver.org/", "https://docs.salesmachine.io")


def prose(text: str) -> str:
    """Return a page without its code, in which brackets are no links."""
    return re.sub(r"^( *)```.*?^\1```$|`[^`\n]*`|<!--.*?-->", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-") for heading in headings}


def broken(page: Path, text: str) -> list[str]:
    """List the links of a page that lead nowhere."""
    found: list[str] = []
    for link in LINK.findall(prose(text)):
        target, _, anchor = link.partition("#")
        if "://" in link:
            if not link.startswith(OTHERS):
                found.append(link)
            continue
        path = page.parent / target if target else page
        if not path.is_file() or (anchor and anchor not in anchors(path.read_text())):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """To a file, to a heading of it, or to one of the few known places outside."""
    assert broken(page, page.read_text()) == []


def test_a_broken_link_is_noticed(tmp_path: Path) -> None:
    """By the test above."""
    page = tmp_path / "page.md"
    page.write_text("# The page: `x`\n")
    text = "[a](page.md) [b](#the-page-x) [c](other.md) [d](page.md#nothing) [e](https://example.com) `[f](g.md)`"
    assert broken(page, text) == ["other.md", "page.md#nothing", "https://example.com"]
