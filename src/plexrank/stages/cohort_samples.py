"""The cohort of a run as the statistics take it. Loads no torch."""

from __future__ import annotations

from plexrank.planning.plan import Plan
from plexrank.ranking.samples import Samples, make_samples


def cohort_samples(plan: Plan) -> Samples:
    """The samples of a run's cohort, each with the fold that holds it out.

    Raises:
        StudyError: as :func:`~plexrank.ranking.samples.make_samples`.
    """
    images = plan.cohort.images
    return make_samples(
        [image.patient_id for image in images],
        [image.label for image in images],
        [plan.fold_of_patient[image.patient_id] for image in images],
        [image.site for image in images],
        plan.cohort.outcome,
    )
