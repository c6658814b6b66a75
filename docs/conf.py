"""Builds the pages: Sphinx with furo and myst, offline. References are made from the code at every build."""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))
sys.path.insert(0, str(DOCS.parent))

import pages  # noqa: E402 - beside this file

import dfs  # noqa: E402

project = "dfs"
author = "The dfs developers"
project_copyright = "The dfs developers"
version = release = dfs.__version__
extensions = ["myst_parser"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"dfs {release}"
html_copy_source = False
html_static_path: list[str] = []
nitpicky = True


def link_changelog(_app: object, _page: str, source: list[str]) -> None:
    """Let a link to the changelog, right for who reads the source, be right in the pages, too."""
    source[0] = source[0].replace("](../CHANGELOG.md)", "](changelog.md)")


def setup(app: object) -> None:
    """Write the references, then let Sphinx read them."""
    pages.write(DOCS / "reference")
    app.connect("source-read", link_changelog)  # type: ignore[attr-defined]
