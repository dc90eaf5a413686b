"""What a paper cites that uses a run, as BibTeX."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Citation:
    """A work.

    Attributes:
        key: of BibTeX.
        short: as it stands in the text, such as ``Cox 1972``.
        kind: of BibTeX, ``article`` and so on.
        fields: of BibTeX, in their order.
    """

    key: str
    short: str
    kind: str
    fields: tuple[tuple[str, str], ...]

    def bibtex(self) -> str:
        """The entry."""
        lines = [f"  {name} = {{{value}}}," for name, value in self.fields]
        return "\n".join([f"@{self.kind}{{{self.key},", *lines, "}"])


def _article(
    key: str, short: str, author: str, title: str, journal: str, year: int, volume: str, pages: str, doi: str = ""
) -> Citation:
    fields = [
        ("author", author), ("title", title), ("journal", journal), ("year", str(year)), ("volume", volume),
        ("pages", pages),
    ]  # fmt: skip
    return Citation(key, short, "article", (*fields, *([("doi", doi)] if doi else [])))


METHOD = Citation(
    "abdelmagid2020channel",
    "Abdel Magid et al. 2020",
    "inproceedings",
    (
        (
            "author",
            "Abdel Magid, Salma and Jang, Won-Dong and Schapiro, Denis and Wei, Donglai and Tompkin, James and "
            "Sorger, Peter K. and Pfister, Hanspeter",
        ),
        ("title", "Channel Embedding for Informative Protein Identification from Highly Multiplexed Images"),
        ("booktitle", "Medical Image Computing and Computer Assisted Intervention -- MICCAI 2020"),
        ("volume", "12265"),
        ("pages", "3--13"),
        ("year", "2020"),
        ("publisher", "Springer"),
        ("doi", "10.1007/978-3-030-59722-1_1"),
    ),
)
FDR = _article(
    "benjamini1995controlling", "Benjamini & Hochberg 1995", "Benjamini, Yoav and Hochberg, Yosef",
    "Controlling the false discovery rate: a practical and powerful approach to multiple testing",
    "Journal of the Royal Statistical Society: Series B", 1995, "57", "289--300",
)  # fmt: skip
KRUSKAL_WALLIS = _article(
    "kruskal1952use", "Kruskal & Wallis 1952", "Kruskal, William H. and Wallis, W. Allen",
    "Use of ranks in one-criterion variance analysis", "Journal of the American Statistical Association", 1952, "47",
    "583--621",
)  # fmt: skip
SPEARMAN = _article(
    "spearman1904proof", "Spearman 1904", "Spearman, Charles",
    "The proof and measurement of association between two things",
    "The American Journal of Psychology", 1904, "15", "72--101",
)  # fmt: skip
ALIGNED_RANKS = _article(
    "hodges1962rank", "Hodges & Lehmann 1962", "Hodges, J. L. and Lehmann, E. L.",
    "Rank methods for combination of independent experiments in analysis of variance",
    "The Annals of Mathematical Statistics", 1962, "33", "482--497",
)  # fmt: skip
SIMULTANEOUS = _article(
    "beran1988balanced", "Beran 1988", "Beran, Rudolf", "Balanced simultaneous confidence sets",
    "Journal of the American Statistical Association", 1988, "83", "679--686",
)  # fmt: skip
PERMUTATION_IMPORTANCE = _article(
    "breiman2001random", "Breiman 2001", "Breiman, Leo", "Random forests", "Machine Learning", 2001, "45", "5--32",
)  # fmt: skip
VOLUME_RESNET = Citation(
    "tran2018closer",
    "Tran et al. 2018",
    "inproceedings",
    (
        ("author", "Tran, Du and Wang, Heng and Torresani, Lorenzo and Ray, Jamie and LeCun, Yann and Paluri, Manohar"),
        ("title", "A closer look at spatiotemporal convolutions for action recognition"),
        ("booktitle", "Proceedings of the IEEE Conference on Computer Vision and Pattern Recognition (CVPR)"),
        ("pages", "6450--6459"),
        ("year", "2018"),
    ),
)
ADAM = Citation(
    "kingma2015adam",
    "Kingma & Ba 2015",
    "inproceedings",
    (
        ("author", "Kingma, Diederik P. and Ba, Jimmy"),
        ("title", "Adam: a method for stochastic optimization"),
        ("booktitle", "International Conference on Learning Representations (ICLR)"),
        ("year", "2015"),
    ),
)
RESNET = Citation(
    "he2016deep",
    "He et al. 2016",
    "inproceedings",
    (
        ("author", "He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian"),
        ("title", "Deep residual learning for image recognition"),
        ("booktitle", "Proceedings of the IEEE Conference on Computer Vision and Pattern Recognition (CVPR)"),
        ("pages", "770--778"),
        ("year", "2016"),
    ),
)
ATTENTION = Citation(
    "ilse2018attention",
    "Ilse et al. 2018",
    "inproceedings",
    (
        ("author", "Ilse, Maximilian and Tomczak, Jakub M. and Welling, Max"),
        ("title", "Attention-based deep multiple instance learning"),
        ("booktitle", "Proceedings of the 35th International Conference on Machine Learning"),
        ("pages", "2127--2136"),
        ("year", "2018"),
    ),
)
ODDS = _article(
    "mccullagh1980regression", "McCullagh 1980", "McCullagh, Peter", "Regression models for ordinal data",
    "Journal of the Royal Statistical Society: Series B", 1980, "42", "109--142",
)  # fmt: skip
HUBER = _article(
    "huber1964robust", "Huber 1964", "Huber, Peter J.", "Robust estimation of a location parameter",
    "The Annals of Mathematical Statistics", 1964, "35", "73--101",
)  # fmt: skip
RIDGE = _article(
    "hoerl1970ridge", "Hoerl & Kennard 1970", "Hoerl, Arthur E. and Kennard, Robert W.",
    "Ridge regression: biased estimation for nonorthogonal problems", "Technometrics", 1970, "12", "55--67",
)  # fmt: skip
COX = _article(
    "cox1972regression", "Cox 1972", "Cox, D. R.", "Regression models and life-tables",
    "Journal of the Royal Statistical Society: Series B", 1972, "34", "187--220",
)  # fmt: skip
EFRON = _article(
    "efron1977efficiency", "Efron 1977", "Efron, Bradley",
    "The efficiency of Cox's likelihood function for censored data", "Journal of the American Statistical Association",
    1977, "72", "557--565",
)  # fmt: skip
MARTINGALE = _article(
    "therneau1990martingale", "Therneau et al. 1990",
    "Therneau, Terry M. and Grambsch, Patricia M. and Fleming, Thomas R.",
    "Martingale-based residuals for survival models", "Biometrika", 1990, "77", "147--160",
)  # fmt: skip
HARRELL = _article(
    "harrell1982evaluating", "Harrell et al. 1982",
    "Harrell, Frank E. and Califf, Robert M. and Pryor, David B. and Lee, Kerry L. and Rosati, Robert A.",
    "Evaluating the yield of medical tests", "JAMA", 1982, "247", "2543--2546",
)  # fmt: skip
UNO = _article(
    "uno2011cstatistics", "Uno et al. 2011",
    "Uno, Hajime and Cai, Tianxi and Pencina, Michael J. and D'Agostino, Ralph B. and Wei, L. J.",
    "On the {C}-statistics for evaluating overall adequacy of risk prediction procedures with censored survival data",
    "Statistics in Medicine", 2011, "30", "1105--1117",
)  # fmt: skip
BRIER = _article(
    "graf1999assessment", "Graf et al. 1999",
    "Graf, Erika and Schmoor, Claudia and Sauerbrei, Willi and Schumacher, Martin",
    "Assessment and comparison of prognostic classification schemes for survival data", "Statistics in Medicine", 1999,
    "18", "2529--2545",
)  # fmt: skip
FOLLOW_UP = _article(
    "schemper1996note", "Schemper & Smith 1996", "Schemper, Michael and Smith, Terry L.",
    "A note on quantifying follow-up in studies of failure time", "Controlled Clinical Trials", 1996, "17", "343--346",
)  # fmt: skip


def software(version: str) -> Citation:
    """This program, as ``CITATION.cff`` has it, at the version that ran."""
    return Citation(
        "plexrank",
        f"plexrank {version}".strip(),
        "software",
        (
            ("author", "{the plexrank developers}"),
            (
                "title",
                "plexrank: rank the protein channels of highly multiplexed tissue images by how well they separate "
                "patient groups",
            ),
            *([("version", version)] if version else []),
        ),
    )
