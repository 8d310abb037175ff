"""Rules 20 to 22: burned-in text, overlays, and objects that are no images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import uid
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset

from beam_pipeline.errors import Flag, Unreadable
from beam_pipeline.records import Outcome, Ready
from tests import radiographs
from tests.radiographs import CR, dicom, flags_of, picture_of


def film(**attributes: object) -> FileDataset:
    return dicom(radiographs.chest(0.5), **attributes)


def flags(**attributes: object) -> tuple[str, ...]:
    return flags_of(film(**attributes))


# Rule 20: burned-in annotation and overlays


@pytest.mark.parametrize(
    "said",
    [
        {"BurnedInAnnotation": "YES"},
        {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
        {"ImageType": ["DERIVED", "SECONDARY", "", "SCREENSAVE"]},
        {"SecondaryCaptureDeviceManufacturer": "Canary Scanners"},
        {"SecondaryCaptureDeviceManufacturerModelName": "Canary 1"},
    ],
    ids=str,
)
def test_rule_20_what_may_hold_text_is_flagged(said: dict) -> None:
    assert flags(**said) == (Flag.BURNED_IN_ANNOTATION,)


def test_rule_20_a_clean_image_is_not() -> None:
    said = {"BurnedInAnnotation": "NO", "ImageType": ["ORIGINAL", "PRIMARY"]}
    assert flags(**said) == ()


def test_rule_20_overlays_are_never_drawn() -> None:
    dataset = film()
    for tag, vr, value in (
        (0x60000010, "US", 80),
        (0x60000011, "US", 70),
        (0x60000040, "CS", "G"),
        (0x60000050, "SS", [1, 1]),
        (0x60000100, "US", 1),
        (0x60000102, "US", 0),
        (0x60003000, "OW", b"\xff" * 700),
    ):
        dataset.add_new(tag, vr, value)
    assert dataset.overlay_array(0x6000).all()
    np.testing.assert_array_equal(picture_of(dataset).pixels, picture_of(film()).pixels)


# Rule 21: objects that are no images


def rejected(source: FileDataset | bytes, folder: Path) -> str | None:
    found = radiographs.reading_of(source, folder / "a.dcm")
    assert isinstance(found, Outcome)
    assert found.status == "REJECTED"
    return found.reason


@pytest.mark.parametrize(
    "name",
    [
        "reportsi.dcm",
        "test-SR.dcm",
        "rtplan.dcm",
        "rtdose.dcm",
        "waveform_ecg.dcm",
        "DICOMDIR",
    ],
)
def test_rule_21_real_objects_without_a_picture(name: str, tmp_path: Path) -> None:
    path = Path(str(get_testdata_file(name, download=False)))
    assert rejected(path.read_bytes(), tmp_path) == "NON_IMAGE"


def without_pixels(sop_class: str) -> FileDataset:
    dataset = film(SOPClassUID=sop_class, Modality="PR")
    for keyword in ("PixelData", "Rows", "Columns", "BitsStored"):
        delattr(dataset, keyword)
    icon = Dataset()
    icon.Rows = icon.Columns = 64
    icon.PhotometricInterpretation, icon.SamplesPerPixel = "MONOCHROME2", 1
    icon.BitsAllocated = icon.BitsStored = 8
    icon.HighBit, icon.PixelRepresentation = 7, 0
    icon.PixelData = bytes(range(64)) * 64
    dataset.IconImageSequence = [icon]
    return dataset


@pytest.mark.parametrize(
    "sop_class",
    [
        uid.BasicTextSRStorage,
        uid.KeyObjectSelectionDocumentStorage,
        uid.EncapsulatedPDFStorage,
        uid.RealWorldValueMappingStorage,
        uid.RTStructureSetStorage,
        "1.2.840.10008.5.1.4.1.1.999",
    ],
)
def test_rule_21_an_icon_is_no_picture(sop_class: str, tmp_path: Path) -> None:
    assert rejected(without_pixels(sop_class), tmp_path) == "NON_IMAGE"


def test_rule_21_an_image_with_nothing_but_an_icon_is_an_error() -> None:
    dataset = without_pixels(CR)
    dataset.Rows, dataset.Columns, dataset.BitsStored = 80, 70, 8
    with pytest.raises(Unreadable) as caught:
        picture_of(dataset)
    assert caught.value.reason == "NO_PIXEL_DATA"


# Rule 22: presentation states


def test_rule_22_a_presentation_state_is_no_image(tmp_path: Path) -> None:
    state = without_pixels(uid.GrayscaleSoftcopyPresentationStateStorage)
    assert rejected(state, tmp_path) == "NON_IMAGE"


def test_rule_22_it_changes_nothing_of_the_image_beside_it(tmp_path: Path) -> None:
    image = film()
    alone = radiographs.reading_of(image, tmp_path / "image.dcm")
    state = without_pixels(uid.GrayscaleSoftcopyPresentationStateStorage)
    reference = Dataset()
    reference.ReferencedSOPClassUID = CR
    reference.ReferencedSOPInstanceUID = image.SOPInstanceUID
    state.ReferencedImageSequence = [reference]
    state.PresentationLUTShape = "INVERSE"
    radiographs.reading_of(state, tmp_path / "state.dcm")
    beside = radiographs.reading_of(image, tmp_path / "image.dcm")
    assert isinstance(alone, Ready)
    assert isinstance(beside, Ready)
    assert beside.outcome.image_digest == alone.outcome.image_digest


def test_rule_22_what_only_a_state_may_hold_is_not_applied() -> None:
    softcopy = Dataset()
    softcopy.WindowCenter, softcopy.WindowWidth = 10, 5
    stated = film(
        SoftcopyVOILUTSequence=[softcopy],
        PresentationLUTSequence=[radiographs.lut(0, [65535, 0])],
    )
    np.testing.assert_array_equal(picture_of(stated).pixels, picture_of(film()).pixels)
