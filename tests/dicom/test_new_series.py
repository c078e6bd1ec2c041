"""A volume without attributes becomes a valid CT series."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread

from iscl_node.dicom.copies.new_series import NewSeries, new_series
from iscl_node.dicom.deriving.derived import encode
from iscl_node.dicom.reading.volume import to_hu
from iscl_node.dicom.selecting.series import select_series


@pytest.fixture
def series() -> NewSeries:
    volume = np.random.default_rng(0).integers(-1024, 3000, (3, 16, 24)).astype(np.int16)
    return NewSeries(volume, (1.5, 0.8, 0.9570312), "DEMO^HEAD", "DEMO", "HEAD", "Head CT")


def test_every_instance_is_valid(series: NewSeries, complaints: Callable[[bytes], Counter[str]]) -> None:
    for instance in new_series(series):
        # The only warnings are about the date and time of the study, which nobody knows.
        assert all("Study Date" in each or "Study Time" in each for each in complaints(encode(instance)))


def test_the_node_takes_it_as_one_series_with_the_same_values(series: NewSeries) -> None:
    written = [dcmread(BytesIO(encode(instance))) for instance in new_series(series)]
    ordered = select_series(reversed(written)).instances
    np.testing.assert_array_equal(np.stack([to_hu(each) for each in ordered]), series.volume_hu)


def test_the_slices_lie_where_the_spacing_says(series: NewSeries) -> None:
    first, second, _ = new_series(series)
    assert first.PixelSpacing == [0.8, 0.9570312]
    assert [float(x) for x in first.ImagePositionPatient] == pytest.approx([-0.9570312 * 11.5, -0.8 * 7.5, 0], abs=1e-4)
    assert second.ImagePositionPatient[2] == 1.5
    assert first.FrameOfReferenceUID == second.FrameOfReferenceUID


def test_uids_are_computed_from_the_volume(series: NewSeries) -> None:
    def uids(of: NewSeries) -> list[str]:
        return [str(instance.SOPInstanceUID) for instance in new_series(of)]

    assert uids(series) == uids(series)
    assert not set(uids(series)) & set(uids(replace(series, volume_hu=series.volume_hu + np.int16(1))))
    assert len({*uids(series), series.uid("study"), series.uid("series")}) == 5
