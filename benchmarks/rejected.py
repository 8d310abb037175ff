"""What a file costs that its header rules out: processor time, and bytes of a bucket.

    python -m benchmarks.rejected
    python -m benchmarks.rejected --files 500 2500 --rounds 5

Archives of hand radiographs, lateral and adult chests, secondary captures, CT slices,
reports and PDF documents, of 15 MB each but for the reports. What the larger archive
takes more of is what its files cost: start-up does not count. Processor time of the job
and of all its processes, so that a busy machine says nearly the same. The bytes are
those of answers that crossed a proxy before a server of S3's protocol (moto). The files
are sparse: on a disk, and in the reading of it, nothing is saved by that.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import statistics
import tempfile
from pathlib import Path

from pydicom import dcmwrite, uid
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset

from benchmarks import watched

_TAIL_BYTES = 15_000_000
_BUCKET_FILES = 14
# Of equal length, so that a file's UID can be replaced in its bytes.
_NUMBER = "1.2.826.0.1.3680043.8.498.1{:08d}"
_CR = uid.ComputedRadiographyImageStorage
_CHEST = {"BodyPartExamined": "CHEST", "ViewPosition": "PA", "PatientAge": "004Y"}
# What rules each out, upon a chest that could be scored.
_KINDS = (
    {"BodyPartExamined": "HAND"},
    {"ViewPosition": "LL"},
    {"PatientAge": "054Y"},
    {"SOPClassUID": uid.SecondaryCaptureImageStorage},
    {"SOPClassUID": uid.CTImageStorage, "Modality": "CT"},
    {"SOPClassUID": uid.EnhancedSRStorage, "Modality": "SR"},
    {"SOPClassUID": uid.EncapsulatedPDFStorage, "Modality": "DOC"},
)


def main() -> None:
    """Print milliseconds of the processors and bytes, a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, nargs=2, default=(500, 2500))
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        costs = processor_seconds(Path(folder), sorted(given.files), given.rounds)
        print(
            f"processors: {1000 * statistics.median(costs):.2f} ms a file, median of "
            + ", ".join(f"{1000 * cost:.2f}" for cost in costs),
            flush=True,
        )
        crossed = bucket_bytes(Path(folder))
    print(f"bucket: {crossed:,.0f} bytes a file, of {_TAIL_BYTES:,}")


def processor_seconds(folder: Path, sizes: list[int], rounds: int) -> list[float]:
    """Of one file, by the difference of two archives; one figure a round."""
    small, large = sizes
    for files in sizes:
        build(folder / f"archive-{files}", files)
    found = []
    for number in range(rounds):
        spent = {files: score(folder, files, number) for files in sizes}
        found.append((spent[large] - spent[small]) / (large - small))
    return found


def score(folder: Path, files: int, number: int) -> float:
    """Processor seconds of a run over one of the archives."""
    finished = watched.run(
        "score",
        f"--input={folder / f'archive-{files}'}",
        f"--output={folder / f'out-{files}-{number}'}",
        "--allow_unblessed",
    )
    assert finished.returncode == 0, finished.printed
    assert f"{files} REJECTED" in finished.printed.replace(",", ""), finished.printed
    return finished.cpu_seconds


def bucket_bytes(folder: Path) -> float:
    """That answers to reads brought, a file; a run over a bucket of all kinds."""
    from tests.buckets import Proxy, s3_bucket, s3_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        os.environ.setdefault(name, "us-east-1")
    with s3_server() as server:
        proxy = Proxy(server)
        os.environ["AWS_ENDPOINT_URL_S3"] = proxy.url
        bucket = s3_bucket(proxy)
        for number in range(_BUCKET_FILES):
            header = headers()[number % len(_KINDS)]
            data = numbered(header, number)
            size = len(data) + tail(number)
            bucket.put(f"in/{number}.dcm", data.ljust(size, b"\0"))
        finished = watched.run(
            "score",
            f"--input={bucket.uri('in')}",
            f"--output={folder / 'out-bucket'}",
            "--allow_unblessed",
        )
        assert finished.returncode == 0, finished.printed
        crossed = sum(request.sent for request in proxy.reads("in/"))
        proxy.close()
    return crossed / _BUCKET_FILES


def build(archive: Path, files: int) -> None:
    """Write `files` files of all kinds, in equal parts."""
    archive.mkdir()
    kinds = headers()
    for number in range(files):
        data = numbered(kinds[number % len(kinds)], number)
        with (archive / f"{number:06}.dcm").open("wb") as stream:
            stream.write(data)
            stream.truncate(len(data) + tail(number))


def tail(number: int) -> int:
    """Bytes behind the header of a file."""
    kind = _KINDS[number % len(_KINDS)]
    return 0 if kind.get("Modality") == "SR" else _TAIL_BYTES


def numbered(header: bytes, number: int) -> bytes:
    """`header` with UIDs of its own."""
    return header.replace(_NUMBER.format(0).encode(), _NUMBER.format(number).encode())


def headers() -> list[bytes]:
    """Of each kind all that stands before what is large."""
    return [header(kind) for kind in _KINDS]


def header(kind: dict[str, str]) -> bytes:
    """The bytes of a file up to what is large; of a report all bytes."""
    dataset = _described(kind)
    modality = dataset.Modality
    if modality == "SR":
        dataset.ContentSequence = [_said(f"finding {n}") for n in range(50)]
    elif modality == "DOC":
        dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    else:
        _add_picture(dataset)
    stream = io.BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue() + _beginning(modality)


def _beginning(modality: str) -> bytes:
    """Tag, VR and length of the large element."""
    if modality == "SR":
        return b""
    document = modality == "DOC"
    tag = b"\x42\0\x11\0OB\0\0" if document else b"\xe0\x7f\x10\0OW\0\0"
    return tag + _TAIL_BYTES.to_bytes(4, "little")


def _described(kind: dict[str, str]) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = uid.UID(kind.get("SOPClassUID", _CR))
    meta.MediaStorageSOPInstanceUID = _NUMBER.format(0)
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for keyword, value in {**_EVERY, **_CHEST, **kind}.items():
        setattr(dataset, keyword, value)
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        setattr(dataset, keyword, _NUMBER.format(0))
    dataset.ProcedureCodeSequence = [_code("36643-5", "LN", "XR Chest 2 Views")]
    dataset.ReferencedStudySequence = [Dataset()]
    dataset.ReferencedStudySequence[0].ReferencedSOPInstanceUID = "1.2.3.4"
    dataset["ReferencedStudySequence"].is_undefined_length = True
    private = dataset.private_block(0x0019, "BENCHMARK 1.0", create=True)
    for element in range(12):
        private.add_new(element, "LO", f"a value of the console {element}")
    dataset.private_block(0x0029, "BENCHMARK 1.0", create=True).add_new(
        1, "OB", bytes(4000)
    )
    return dataset


# What consoles write into every file, of what kind it may be.
_EVERY = {
    "SpecificCharacterSet": "ISO_IR 100",
    "ImageType": ["DERIVED", "PRIMARY"],
    "InstanceCreationDate": "20261120",
    "InstanceCreationTime": "101112",
    "SOPClassUID": _CR,
    "StudyDate": "20261120",
    "SeriesDate": "20261120",
    "AcquisitionDate": "20261120",
    "ContentDate": "20261120",
    "StudyTime": "101112",
    "SeriesTime": "101112",
    "AcquisitionTime": "101112",
    "ContentTime": "101112",
    "AccessionNumber": "4711",
    "Modality": "CR",
    "Manufacturer": "Benchmark",
    "InstitutionName": "Hospital",
    "ReferringPhysicianName": "Doe^Jane",
    "StationName": "ROOM1",
    "StudyDescription": "a study",
    "SeriesDescription": "a series",
    "InstitutionalDepartmentName": "Radiology",
    "OperatorsName": "Roe^Richard",
    "ManufacturerModelName": "Model",
    "PatientName": "Nobody^At All",
    "PatientID": "0815",
    "PatientBirthDate": "20221011",
    "PatientSex": "F",
    "PatientComments": "none",
    "KVP": "110",
    "DeviceSerialNumber": "1234",
    "PlateID": "77",
    "SoftwareVersions": ["1.0", "2.0"],
    "ProtocolName": "a protocol",
    "DistanceSourceToDetector": "1800",
    "ExposureTime": "8",
    "XRayTubeCurrent": "320",
    "Exposure": "2",
    "ImagerPixelSpacing": [0.143, 0.143],
    "FilterType": "NONE",
    "AcquisitionDeviceProcessingDescription": "a processing",
    "AcquisitionDeviceProcessingCode": "11",
    "CassetteOrientation": "PORTRAIT",
    "CassetteSize": "35CMX43CM",
    "Sensitivity": "400",
    "StudyID": "1",
    "SeriesNumber": "1",
    "InstanceNumber": "1",
    "PerformedProcedureStepStartDate": "20261120",
    "PerformedProcedureStepStartTime": "101112",
    "PerformedProcedureStepID": "1",
}
_PICTURE = {
    "PatientOrientation": ["L", "F"],
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "Rows": 3000,
    "Columns": 2500,
    "PixelSpacing": [0.143, 0.143],
    "BitsAllocated": 16,
    "BitsStored": 12,
    "HighBit": 11,
    "PixelRepresentation": 0,
    "BurnedInAnnotation": "NO",
    "WindowCenter": 2048,
    "WindowWidth": 4096,
    "RescaleIntercept": 0,
    "RescaleSlope": 1,
    "LossyImageCompression": "00",
}


def _add_picture(dataset: Dataset) -> None:
    for keyword, value in _PICTURE.items():
        setattr(dataset, keyword, value)


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = value, scheme
    item.CodeMeaning = meaning
    return item


def _said(text: str) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "TEXT"
    item.ConceptNameCodeSequence = [_code("121071", "DCM", "Finding")]
    item.TextValue = text
    return item


if __name__ == "__main__":
    main()
