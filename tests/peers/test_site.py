"""The documentation as a site: every link within it leads somewhere, and nothing is fetched from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import plexrank

ROOT = Path(__file__).parents[2]


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {page.name: page.read_text() for page in (tmp_path / "site").glob("*.html")}
    assert {"index.html", "study.html", "columns.html", "python.html", "slurm.html"} <= pages.keys()
    fetched = [tag for text in pages.values() for tag in re.findall(r"<(?:script|link|img)[^>]*https?:[^>]*>", text)]
    assert not [tag for tag in fetched if 'rel="canonical"' not in tag]
    for name in plexrank.__all__:
        assert re.search(rf'<h2 id="[\w.]*\.{name}"', pages["python.html"]), name
    assert not re.search(r":(?:meth|func|class|mod|data):", pages["python.html"])
