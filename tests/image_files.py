"""Files as instruments and pipelines write them, for tests of the readers."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from ome_zarr.writer import write_image

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
DCIS = DATA / "dcis_mibi" / "images"
IMC = DATA / "imc_testdata"
NAMES = ("CD3", "pan-Keratin <ε>", "HLA-DR/DP")
METALS = ("Er170", "Nd148", "Ir191")


def noise(shape: tuple[int, ...] = (3, 40, 50), dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def write_ome(path: Path, pixels: np.ndarray, names: Sequence[str] | None = NAMES, **options: Any) -> Path:
    metadata = {"axes": "CYX"} if names is None else {"axes": "CYX", "Channel": {"Name": list(names)}}
    tifffile.imwrite(path, pixels, ome=True, photometric="minisblack", metadata=metadata, **options)
    return path


def write_pyramid(path: Path, pixels: np.ndarray) -> Path:
    metadata = {"axes": "CYX", "Channel": {"Name": list(NAMES)}}
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(pixels, subifds=1, tile=(16, 16), photometric="minisblack", metadata=metadata, compression="lzw")
        file.write(pixels[:, ::2, ::2], subfiletype=1, tile=(16, 16), photometric="minisblack", compression="lzw")
    return path


def write_qptiff(path: Path, pixels: np.ndarray, descriptions: Sequence[str]) -> Path:
    """As the instrument does: full resolution, a thumbnail, a reduced resolution, macro and label pictures."""
    options: dict[str, Any] = {"software": "PerkinElmer-QPI", "metadata": None}
    grey = {**options, "photometric": "minisblack", "tile": (16, 16), "compression": "lzw"}
    size = {"resolution": (20000, 40000), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for plane, description in zip(pixels, descriptions, strict=True):
            file.write(plane, description=description.encode(), **grey, **size)
        file.write(noise((10, 12, 3), "uint8"), photometric="rgb", **options)
        for plane, description in zip(pixels[:, ::2, ::2], descriptions, strict=True):
            file.write(plane, description=description.encode(), **grey)
        file.write(noise((14, 16, 3), "uint8"), photometric="rgb", **options)
        file.write(noise((8, 9, 3), "uint8"), photometric="rgb", **options)
    return path


def qptiff_description(biomarker: str | None, name: str | None) -> str:
    root = ET.Element("PerkinElmer-QPI-ImageDescription")
    for tag, text in (("Biomarker", biomarker), ("Name", name)):
        if text is not None:
            ET.SubElement(root, tag).text = text
    ET.SubElement(ET.SubElement(ET.SubElement(root, "Responsivity"), "Filter"), "Name").text = "Cy5"
    return '<?xml version="1.0" encoding="utf-16"?>' + ET.tostring(root, encoding="us-ascii").decode().split("?>")[-1]


def write_mibitiff(path: Path, pixels: np.ndarray, names: Sequence[str]) -> Path:
    """A page a mass, then an optical picture."""
    with tifffile.TiffWriter(path) as file:
        for plane, name in zip(pixels, names, strict=True):
            file.write(
                plane,
                photometric="minisblack",
                software="IonpathMIBIv1.0",
                description=json.dumps({"image.type": "SIMS", "channel.target": name.split(" (")[0], "mibi.run": "r"}),
                metadata=None,
                compression="zlib",
                resolution=(20000, 20000),
                resolutionunit="CENTIMETER",
                extratags=[(285, "s", 0, name, True)],
            )
        optical = json.dumps({"image.type": "Optical"})
        file.write(noise((30, 30, 3), "uint8"), photometric="rgb", description=optical, metadata=None)
    return path


def write_tiff_folder(folder: Path, pixels: np.ndarray, names: Sequence[str] = ("CD3", "CD8", "Ki-67")) -> Path:
    folder.mkdir(parents=True)
    for plane, name in zip(pixels, names, strict=True):
        tifffile.imwrite(folder / f"{name}.tif", plane, photometric="minisblack", compression="zlib")
    return folder


def write_ome_zarr(path: Path, pixels: np.ndarray, version: Any, axes: str = "cyx") -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=version.zarr_format)
    window = {"start": 0, "end": 200, "min": 0, "max": 200}
    omero = {"channels": [{"label": name, "color": "FFFFFF", "window": window} for name in NAMES]}
    shape = tuple({"c": 3, "y": 40, "x": 50}.get(axis, 1) for axis in axes)
    write_image(
        pixels.reshape(shape),
        group,
        scale_factors=(2,),
        fmt=version,
        axes=axes,
        scale={"y": 0.5, "x": 250, **dict.fromkeys(set(axes) - {"y", "x"}, 1.0)},
        axes_units={"y": "micrometer", "x": "nanometer"},
        storage_options={"chunks": tuple({"c": 2, "y": 16, "x": 16}.get(axis, 1) for axis in axes)},
    )
    attributes = zarr.open_group(path, mode="r+").attrs  # versions of ome-zarr take omero in other ways
    in_ome = {"ome": {**attributes.get("ome", {}), "omero": omero}}
    attributes.update(in_ome if version.zarr_format == 3 else {"omero": omero})
    return path


def imc_table(pixels: np.ndarray) -> np.ndarray:
    """(pixel, x y z and channels) in the order of the image's lines."""
    num_channels, height, width = pixels.shape
    y, x = np.indices((height, width))
    z = np.arange(height * width)
    return np.column_stack([x.ravel(), y.ravel(), z, pixels.reshape(num_channels, -1).T]).astype("<f4")


def write_txt(path: Path, pixels: np.ndarray, labels: Sequence[str] = NAMES, metals: Sequence[str] = METALS) -> Path:
    channels = [f"{label}({metal}Di)" for label, metal in zip(labels, metals, strict=True)]
    header = ["Start_push", "End_push", "Pushes_duration", "X", "Y", "Z", *channels]
    table = imc_table(pixels)
    lines = [
        "\t".join(["1", "2", "3", *(f"{v:.0f}" for v in row[:3]), *(f"{v:.3f}" for v in row[3:])]) for row in table
    ]
    path.write_text("\n".join(["\t".join(header), *lines, ""]), encoding="utf-8")
    return path


def write_mcd(
    path: Path,
    acquisitions: dict[int, np.ndarray],
    labels: Sequence[str] = NAMES,
    metals: Sequence[str] = METALS,
    order: slice | np.ndarray = slice(None),
) -> Path:
    """A slide with one panorama; ``order`` is that of the pixels in the file. A (c, 0, 0) image is an empty one."""
    root = ET.Element("MCDSchema", xmlns="http://www.fluidigm.com/IMC/MCDSchema_V2_0.xsd")
    _element(root, "Slide", ID=0, Description="slide")
    _element(root, "Panorama", ID=1, SlideID=0, Type="Instrument")
    content = b"\0" * 100
    for number, pixels in acquisitions.items():
        table = imc_table(pixels)[order].tobytes()
        _element(root, "AcquisitionROI", ID=number, PanoramaID=1)
        _element(
            root,
            "Acquisition",
            ID=number,
            AcquisitionROIID=number,
            Description=f"ROI_{number:03d}",
            DataStartOffset=len(content),
            DataEndOffset=len(content) + len(table),
            ValueBytes=4,
            MaxX=pixels.shape[2] or 10,
            MaxY=pixels.shape[1] or 10,
            AblationDistanceBetweenShotsX=1,
            AblationDistanceBetweenShotsY=2,
        )
        channels = [("X", "X"), ("Y", "Y"), ("Z", "Z")]
        channels += [(f"{metal[:2]}({metal[2:]})", label) for metal, label in zip(metals, labels, strict=True)]
        for place, (name, label) in enumerate(channels):
            _element(
                root,
                "AcquisitionChannel",
                AcquisitionID=number,
                OrderNumber=place,
                ChannelName=name,
                ChannelLabel=label,
            )
        content += table
    path.write_bytes(content + ET.tostring(root, encoding="unicode").encode("utf-16-le"))
    return path


def _element(parent: ET.Element, tag: str, **children: object) -> None:
    element = ET.SubElement(parent, tag)
    for name, value in children.items():
        ET.SubElement(element, name).text = str(value)
