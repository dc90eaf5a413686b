"""Pages of the site that stand elsewhere in the repository: as they are, with links that lead within the site."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pymdownx.slugs import slugify

ROOT = Path(__file__).parent.parent
PAGES = {
    "README.md": "index.md",
    "slurm/README.md": "slurm.md",
    "container/README.md": "container.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
}
"""Path in the repository → path in the site."""
PYTHON = "python.md"
PUBLIC = (
    "plexrank.api.commands.check",
    "plexrank.api.commands.run",
    "plexrank.api.commands.verify",
    "plexrank.api.comparison.compare",
    "plexrank.api.opened_run.open_run",
    "plexrank.api.opened_run.Run",
    "plexrank.ranking.features.rank_features",
    "plexrank.errors.PlexrankError",
)
"""What the reference shows, all of it importable from ``plexrank`` itself."""
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Anchors as the repository's pages have them, Greek letters included."""
    config.mdx_configs["toc"] = {"slugify": slugify(case="lower"), "permalink": True}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that stand elsewhere, and the reference of the Python interface."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=within_site((ROOT / source).read_text("utf-8"), source)))
    files.append(File.generated(config, PYTHON, content=_reference()))
    return files


def on_page_markdown(markdown: str, page: object, config: MkDocsConfig, files: Files) -> str:
    """Links of the pages in docs/ to what stands elsewhere."""
    source = page.file.src_uri  # type: ignore[attr-defined]
    return markdown if source in {*PAGES.values(), PYTHON} else within_site(markdown, f"docs/{source}")


def on_page_content(html: str, page: object, config: MkDocsConfig, files: Files) -> str:
    """Examples of docstrings as code, and names in them without the marks of Sphinx."""
    html = re.sub(r"(?:<blockquote>\s*){3}<p>(.*?)</p>\s*(?:</blockquote>\s*){3}", _example, html, flags=re.DOTALL)
    return re.sub(r":(?:class|func|meth|mod|data):<code>~?(?:plexrank\.)?", "<code>", html)


def _example(match: re.Match[str]) -> str:
    return f"<pre><code>&gt;&gt;&gt; {match[1]}</code></pre>"


def _reference() -> str:
    parts = ["# From Python", "Importing plexrank loads no torch, zarr or dask.", *(f"::: {name}" for name in PUBLIC)]
    return "\n\n".join(parts) + "\n"


def within_site(markdown: str, source: str) -> str:
    """Links to files of the repository as links of the site; what is no page there is named by its path instead.

    Args:
        markdown: of a page.
        source: its path in the repository.
    """

    def linked(match: re.Match[str]) -> str:
        picture, text, target, anchor = match.groups(default="")
        if "://" in target:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path in PAGES:
            return f"{picture}[{text}]({PAGES[path]}{anchor})"
        if path.startswith("docs/"):
            return f"{picture}[{text}]({path.removeprefix('docs/')}{anchor})"
        return f"`{path}`" if text in (target, path) else f"{text} (`{path}`)"

    return _LINK.sub(linked, markdown)
