"""plexrank where a run is submitted and plexrank where its jobs run, which may be another, in a container."""

from __future__ import annotations

import os

import plexrank
from plexrank.machine.gpus import container_image

SUBMITTED_BY = "PLEXRANK_SUBMITTED_BY"
"""Variable of a job: the version that wrote its script."""


def version_lines() -> list[str]:
    """Shell that tells a job which version submits it."""
    return [f"export {SUBMITTED_BY}={plexrank.__version__}"]


def other_version() -> str | None:
    """What to say where a job runs with another version than that which submitted it; ``None`` where all is well."""
    submitted_by = os.environ.get(SUBMITTED_BY, plexrank.__version__)
    if submitted_by == plexrank.__version__:
        return None
    image = container_image()
    here = f"{image} has" if image else "on this node is"
    return (
        f"{here} plexrank {plexrank.__version__}, but {submitted_by} submitted the job; "
        f"{'rebuild the image, or ' if image else ''}install one version in both places"
    )
