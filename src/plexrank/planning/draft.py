"""Drafts a study from a folder of images: what ``plexrank init`` does. Every guess is said."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from plexrank.cohorts.folds import most_folds
from plexrank.cohorts.panel import Channel, Panel, read_panel
from plexrank.cohorts.panel_match import locate_channels
from plexrank.errors import MissingInputError, PlexrankError, StudyError, naming_input, resolve_input
from plexrank.images.channel_names import fold_name
from plexrank.images.find import FoundImage, find_images, show_the_same
from plexrank.planning.draft_labels import NO_COLUMNS, JoinedLabels, TableColumns, find_samplesheet, join_labels
from plexrank.planning.draft_sizes import Sizes, choose_cofactor, choose_sizes
from plexrank.rundir import write_text
from plexrank.wording import counted

FILES = ("samplesheet.csv", "panel.csv", "study.yaml")
_PANELS = ("panel.csv", "markers.csv")
_PLAIN_FOLDERS = frozenset(
    {"", "images", "image", "img", "imgs", "data", "raw", "tif", "tiff", "tiffs", "ome", "ometiff", "input", "mcd"}
)
_SHOWN = 5
_COFACTORS = "1 for IMC and MIBI counts, 5 for 8-bit images, 100 and more for 16-bit fluorescence"
_PANELS_DIFFER = "the panels beside the images differ: each image has its own, in the column panel of the samplesheet"
_COMPARED = 3  # pairs of images that must show the same before a folder is taken for a copy


@dataclass(frozen=True)
class Draft:
    """The study file that was written, what was found and guessed: (topic, sentence), and what is left to do first."""

    study: Path
    notes: tuple[tuple[str, str], ...]
    left_to_do: str

    def to_text(self) -> str:
        """For a person."""
        lines = [f"{topic:12} {sentence}" for topic, sentence in self.notes]
        first = f"{self.left_to_do}; then " if self.left_to_do else ""
        return "\n".join([*lines, f"next: {first}plexrank check {self.study}"])


def draft_study(images: Path, out: Path, labels: Path | None = None, columns: TableColumns = NO_COLUMNS) -> Draft:
    """Write samplesheet.csv, panel.csv and study.yaml for the images in a folder.

    Args:
        images: searched with all folders below it; image paths start there.
        out: where the three files go.
        labels: a table with a row for each image or patient; by default a samplesheet in the folder or beside it.
        columns: what its columns mean.

    Raises:
        MissingInputError: there is no such folder, or no image that opens.
        StudyError: a file that would be written exists, or the table of labels does not fit or is not there.
    """
    with naming_input(str(images)):
        if not images.is_dir():
            what = "a file, not a folder" if images.exists() else "no such folder"
            raise MissingInputError(f"{images}: {what}; give the folder of the images")
    taken = [out / name for name in FILES if (out / name).exists()]
    if taken:
        raise StudyError(f"{taken[0]}: exists already and is not overwritten; give --out another folder")
    root = resolve_input(images, f"--images {images}")
    home = resolve_input(out, f"--out {out}")
    found = find_images(root)
    if not found.images:
        reasons = "".join(f"\n{reason}" for reason in found.passed_over[:_SHOWN])
        raise MissingInputError(f"{images}: no image that can be read is in it{reasons}")
    chosen, notes = _choose(root, found.images)
    notes += [("passed over", _inside(root, reason)) for reason in found.passed_over]
    own_panels = _own_panels(root, chosen)
    panel, panel_notes = (None, [("channels", _PANELS_DIFFER)]) if own_panels else _draft_panel(root, chosen)
    ids = _image_ids(chosen)
    table = labels or find_samplesheet(root)
    if table is None and columns.options():
        raise StudyError(f"{' '.join(columns.options())}: no table that has such a column; give it by --labels TABLE")
    joined = None if table is None else join_labels(table, columns, root, chosen, ids)
    known = [channel.channel_id for channel in panel] if panel is not None else list(chosen[0].channel_names or ())
    sizes, cofactor = choose_sizes(chosen, known), choose_cofactor(chosen)
    outcome_notes = []
    if joined is not None and joined.outcome is not None:
        folds = most_folds(joined.outcome.members, sizes.folds, joined.outcome.outcome)
        if not joined.outcome.unknown_words:
            sizes = replace(sizes, folds=folds or 2)
        outcome_notes = joined.outcome.notes(has_folds=folds is not None)
    write_text(out / "samplesheet.csv", _samplesheet(root, chosen, ids, joined, own_panels))
    if panel is not None:
        rows = [(c.channel_id, c.name, int(c.keep)) for c in panel]
        write_text(out / "panel.csv", _table(("channel", "name", "keep"), rows))
    study = _study(root, home, sizes, cofactor, joined, has_panel=panel is not None)
    write_text(out / "study.yaml", study)
    notes += [
        *panel_notes,
        *(joined.notes if joined is not None else ()),
        *outcome_notes,
        *sizes.describe(),
        ("cofactor", f"{cofactor:g}; {_COFACTORS}"),
        *([] if joined is not None and joined.patient is not None else _of_one_slide(chosen)),
    ]
    return Draft(out / "study.yaml", tuple(notes), _left_to_do(out, joined))


def _left_to_do(out: Path, joined: JoinedLabels | None) -> str:
    """What the user has to do before the draft can be checked, empty for nothing."""
    if joined is None:
        sheet = out / "samplesheet.csv"
        return f"fill in label and patient_id in {sheet}, or run init again with --labels and another --out"
    if joined.outcome is not None:
        words = ", ".join(map(repr, joined.outcome.unknown_words[:_SHOWN]))
        return f"say in cohort.event_values of {out / 'study.yaml'} which of {words} is the event" if words else ""
    if joined.candidates:
        return f"set cohort.label in {out / 'study.yaml'} to one of: {', '.join(joined.candidates)}"
    return f"fill in groups in the column label of {out / 'samplesheet.csv'}"


def _choose(root: Path, images: Sequence[FoundImage]) -> tuple[list[FoundImage], list[tuple[str, str]]]:
    """Leave out what is there twice, and images with another number of channels than most."""
    groups: dict[tuple[Path, str], list[FoundImage]] = {}
    for image in images:
        groups.setdefault((image.path.parent, image.reader), []).append(image)
    kept: list[tuple[str, list[FoundImage]]] = []
    chosen: list[FoundImage] = []
    notes: list[tuple[str, str]] = []
    for (folder, reader), group in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        where = f"{_inside(root, str(folder))} ({reader})"
        twin = next(((other, members) for other, members in kept if _same_images(members, group)), None)
        if twin is None:
            kept.append((where, [*group]))
            chosen += group
        else:
            notes.append(("left out", f"{counted(len(group), 'image')} in {where}: the same as in {twin[0]}"))
            twin[1].extend(group)  # what is named like a copy is one too
    usual = Counter(image.shape[0] for image in chosen).most_common(1)[0][0]
    for image in chosen:
        if image.shape[0] != usual:
            where = _inside(root, str(image.path))
            notes.append(("left out", f"{where}: {counted(image.shape[0], 'channel')}, where most images have {usual}"))
    chosen = [image for image in chosen if image.shape[0] == usual]
    return chosen, [("found", _describe_images(root, chosen)), *notes]


def _same_images(known: Sequence[FoundImage], group: Sequence[FoundImage]) -> bool:
    """Whether most of a group are called like known images, and the first of these show the same."""
    by_name = {name: image for image in known for name in (image.name, *image.other_names)}
    pairs = []
    for image in group:
        name = next((name for name in (image.name, *image.other_names) if name in by_name), None)
        if name is not None:
            pairs.append((by_name[name].path, image.path))
    return 2 * len(pairs) > len(group) and all(show_the_same(*pair) for pair in pairs[:_COMPARED])


def _draft_panel(root: Path, images: Sequence[FoundImage]) -> tuple[list[Channel] | None, list[tuple[str, str]]]:
    """The panel file beside the images, else the names in them, else numbers; None where images differ in names."""
    notes: list[tuple[str, str]] = []
    num_channels = images[0].shape[0]
    for path in _panel_files(root, images):
        where = _inside(root, str(path))
        try:
            panel: Panel = read_panel(path)
            for image in images:
                source = str(image.path)
                locate_channels(panel, image.channel_names, image.shape[0], source, image.channel_ids)
        except PlexrankError as error:
            notes.append(("panel", f"{where} is not used: {_inside(root, str(error))}"))
            continue
        named = any(image.names_channels for image in images)
        channels = list(panel.channels) if named else _with_own_ids(panel.channels)
        return channels, [*notes, ("channels", f"{num_channels}, from {where}")]
    if all(not image.names_channels for image in images):
        notes.append(("channels", f"{num_channels}, which the images do not name: give the names in panel.csv"))
        names = images[0].channel_names or [f"channel {number}" for number in range(1, num_channels + 1)]
        is_plain = len({fold_name(name) for name in names}) == num_channels
        return [
            Channel(str(number), name if is_plain else f"channel {number} {name}")
            for number, name in enumerate(names, start=1)
        ], notes
    first = _names_of(images[0])
    other = next((image for image in images if _names_of(image) != first), None)
    if other is not None:
        one, two = (", ".join(image.channel_names or ("no names",)) for image in (images[0], other))
        count = sum(_names_of(image) != first for image in images)
        places = f"{_inside(root, str(images[0].path))} has {one}; {_inside(root, str(other.path))} has {two}"
        sentence = (
            f"{counted(count, 'image', 'names')} channels otherwise than the first ({places}): no panel.csv is "
            "drafted, and channels are joined by the names in the images"
        )
        return None, [*notes, ("channels", sentence)]
    names = images[0].channel_names or ()
    notes.append(("channels", f"{num_channels}, as the images name them"))
    ids = images[0].channel_ids if len({image.names_and_ids for image in images}) == 1 else None
    return _unique(names, ids or names, notes), notes


def _own_panels(root: Path, images: Sequence[FoundImage]) -> list[Path]:
    """The panel that lies nearest to each image, where all have one that fits and these are not all the same."""
    nearest: list[Path] = []
    read: dict[Path, Panel] = {}
    for image in images:
        paths = _panel_files(root, [image])
        if not paths:
            return []
        try:
            panel = read.setdefault(paths[0], read_panel(paths[0]))
            locate_channels(panel, image.channel_names, image.shape[0], str(image.path), image.channel_ids)
        except PlexrankError:
            return []
        nearest.append(paths[0])
    return nearest if len({panel.channels for panel in read.values()}) > 1 else []


def _names_of(image: FoundImage) -> Counter[str]:
    """The names of an image's channels, whatever their order; none where they tell no more than a place."""
    return Counter(map(fold_name, image.channel_names or ())) if image.names_channels else Counter()


def _with_own_ids(channels: Sequence[Channel]) -> list[Channel]:
    """Markers of MCMICRO have their names for ids; numbers keep their order when the rows are sorted."""
    if any(channel.channel_id != channel.name for channel in channels):
        return list(channels)
    return [Channel(str(number), one.name, one.keep) for number, one in enumerate(channels, start=1)]


def _unique(names: Sequence[str], ids: Sequence[str], notes: list[tuple[str, str]]) -> list[Channel]:
    """A row a channel; names that stand twice cannot be told apart, and are not kept."""
    counts = Counter(name.casefold() for name in names)
    doubled = sorted({name for name in names if counts[name.casefold()] > 1})
    if doubled:
        notes.append(("channels", f"{', '.join(doubled)}: several channels of that name, keep is 0 for all of them"))
    ids = (
        ids if len({own.casefold() for own in ids}) == len(ids) else [f"{n} {name}" for n, name in enumerate(names, 1)]
    )
    return [Channel(own, name, name not in doubled) for own, name in zip(ids, names, strict=True)]


def _panel_files(root: Path, images: Sequence[FoundImage]) -> list[Path]:
    """Panels between the first image and the root, the nearest first; then that beside the root (steinbock)."""
    folders = [*(folder for folder in images[0].path.parents if folder.is_relative_to(root)), root.parent]
    return [folder / name for folder in folders for name in _PANELS if (folder / name).is_file()]


def _describe_images(root: Path, images: Sequence[FoundImage]) -> str:
    places = sorted({f"{_inside(root, str(image.path.parent))} ({image.reader})" for image in images})
    shown = ", ".join(places[:_SHOWN]) + (", …" if len(places) > _SHOWN else "")
    heights, widths = (sorted({image.shape[axis] for image in images}) for axis in (1, 2))
    size = " × ".join(f"{side[0]}–{side[-1]}" if len(side) > 1 else f"{side[0]}" for side in (heights, widths))
    return f"{counted(len(images), 'image')} of {counted(images[0].shape[0], 'channel')}, {size} px, in {shown}"


def _image_ids(images: Sequence[FoundImage]) -> list[str]:
    plain = [_image_id(image.name) for image in images]
    ids: list[str] = []
    for own, image in zip(plain, images, strict=True):
        wanted = _image_id(f"{image.path.parent.name}_{own}") if plain.count(own) > 1 else own
        numbered = (f"{wanted}-{number}" for number in range(2, len(images) + 2))
        ids.append(next(candidate for candidate in (wanted, *numbered) if candidate not in ids))
    return ids


def _samplesheet(
    root: Path, images: Sequence[FoundImage], ids: Sequence[str], joined: JoinedLabels | None, panels: Sequence[Path]
) -> str:
    paths = [image.path.relative_to(root).as_posix() for image in images]
    own = [(str(panel),) for panel in panels] if panels else [()] * len(images)
    panel_column = ("panel",) if panels else ()
    if joined is None:
        rows = [(*row, "", "", *panel) for *row, panel in zip(ids, paths, own, strict=True)]
        return _table(("image_id", "path", "patient_id", "label", *panel_column), rows)
    more = () if joined.outcome is not None or joined.candidates or "label" in joined.columns else ("label",)
    rows = [
        (image_id, path, *((row or {}).get(column, "") for column in joined.columns), *("" for _ in more), *panel)
        for image_id, path, row, panel in zip(ids, paths, joined.rows, own, strict=True)
        if row is not None
    ]
    return _table(("image_id", "path", *joined.columns, *more, *panel_column), rows)


def _of_one_slide(images: Sequence[FoundImage]) -> list[tuple[str, str]]:
    slides = Counter(str(image.path).rpartition("#")[0] for image in images)
    count = sum(number for slide, number in slides.items() if slide and number > 1)
    if not count:
        return []
    return [("patients", f"{count} images share a slide: fill in patient_id where that means a patient")]


def _image_id(name: str) -> str:
    own = re.sub(r"[^A-Za-z0-9._ +-]", "_", name)[:190]
    return own if re.match("[A-Za-z0-9]", own) else f"i{own}"


def _study_name(root: Path) -> str:
    """That of the folder, or of the first above it that says more than that images are in it."""
    named = next((folder.name for folder in (root, *root.parents) if folder.name.lower() not in _PLAIN_FOLDERS), "")
    return re.sub("[^A-Za-z0-9._-]", "-", named).lstrip("._-")[:64] or "study"


def _study(
    root: Path, out: Path, sizes: Sizes, cofactor: float, joined: JoinedLabels | None, *, has_panel: bool
) -> str:
    if joined is not None and joined.outcome is not None:
        outcome = "\n  ".join(joined.outcome.lines())
    else:
        outcome = f"label: {_open_label(joined) if joined is not None and joined.candidates else 'label'}"
    start = root.relative_to(out) if root.is_relative_to(out) else root
    reduction = f"downsample: {sizes.downsample}" if sizes.um_per_px is None else f"um_per_px: {sizes.um_per_px}"
    if sizes.guessed_um is not None:
        reduction += f", image_um_per_px: {sizes.guessed_um:g}"
    panel = "panel: panel.csv             " if has_panel else "# panel: panel.csv           "
    return f"""\
# Drafted by plexrank init. Every key: docs/study.md
name: {json.dumps(_study_name(root))}
cohort:
  samplesheet: samplesheet.csv   # an empty label leaves the image out; patient_id where patients have several images
  root: {json.dumps(str(start), ensure_ascii=False)}
  {panel}  # keep 0 leaves a channel out
  {outcome}
  exclude_channels: []           # negative controls, such as DNA: shown, but out of the ranking
tile: {{tile_px: {sizes.tile_px}, {reduction}}}
intensity: {{cofactor: {cofactor:g}}}       # {_COFACTORS}
model: {{backbone: shallow, weights: none}}   # runs on a CPU; resnet18 for a GPU
train:
  epochs: {sizes.epochs}
  batch_tiles: {sizes.batch_tiles}
  crop_px: {sizes.tile_px}
  learning_rate: 3.0e-3
  folds: {sizes.folds}
  seeds: {sizes.seeds}               # more where time allows: networks trained on few patients differ by chance
"""


def _open_label(joined: JoinedLabels) -> str:
    """An empty value, which check refuses, and the columns to choose from."""
    columns = ", ".join(json.dumps(column, ensure_ascii=False) for column in joined.candidates)
    return f'""                      # one of: {columns}'


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def _inside(root: Path, text: str) -> str:
    """A path or message with paths told from the root on."""
    return "." if text == str(root) else text.replace(f"{root}/", "")
