"""A folder of anything: instances by series, and a reason for every file that is none."""

from pathlib import Path

from factories import ct_series, part10
from pydicom.data import get_testdata_file

from iscl_node.dicom.reading.folder import read_folder, read_instance


def test_reads_series_and_reports_the_rest(tmp_path: Path) -> None:
    for series_uid in ("1.2.3", "1.2.4"):
        for number, instance in enumerate(ct_series(2, SeriesInstanceUID=series_uid)):
            path = tmp_path / series_uid / f"{number}.dcm"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(part10(instance))
    (tmp_path / "readme.txt").write_text("text")
    (tmp_path / "broken.dcm").write_bytes((tmp_path / "1.2.3" / "0.dcm").read_bytes()[:-1])
    (tmp_path / "DICOMDIR").write_bytes(Path(str(get_testdata_file("DICOMDIR", download=False))).read_bytes())

    content = read_folder(tmp_path)

    assert {uid: [Path(str(each.filename)).name for each in found] for uid, found in content.series.items()} == {
        "1.2.3": ["0.dcm", "1.dcm"],
        "1.2.4": ["0.dcm", "1.dcm"],
    }
    assert {file.path.name: file.reason for file in content.skipped} == {
        "DICOMDIR": "the directory of a medium, not an instance",
        "broken.dcm": "the stream ends inside an element",
        "readme.txt": "not a DICOM file",
    }


def test_pixels_are_read_when_used(tmp_path: Path) -> None:
    instance = ct_series(1)[0]
    path = tmp_path / "a.dcm"
    path.write_bytes(part10(instance))
    assert (read_instance(path).pixel_array == instance.pixel_array).all()


def test_empty_folder(tmp_path: Path) -> None:
    assert read_folder(tmp_path).series == {}
