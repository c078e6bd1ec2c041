"""The steps of a batch on a real spool, with a bundle that changes nothing."""

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from factories import CT_IMAGE, ct_series, part10
from multiframe import enhanced_ct
from phantom import BODY_SPACING, anatomy, noise

from iscl_node.denoise.bundle_denoiser import load_bundle
from iscl_node.dicom.reading.header import read_header
from iscl_node.dicom.uids import INSTANCE, derived_uid
from iscl_node.domain import (
    FIRST_UID_SCHEME,
    NO_EVIDENCE,
    UID_SCHEME,
    Batch,
    EvidenceChoice,
    InstanceReference,
    Peer,
    QualityLimits,
    ReceivedInstance,
    Rule,
    Site,
    StoreAnswer,
)
from iscl_node.domain.strength import AutoStrength, StrengthChoice
from iscl_node.errors import IgnoreSeriesError, QuarantineSeriesError, RetryLaterError
from iscl_node.metrics import Metrics
from iscl_node.pipeline.delivery.deadline import Deadline
from iscl_node.pipeline.delivery.destination import Destinations
from iscl_node.pipeline.delivery.send import SendFiles, Sending
from iscl_node.pipeline.kept_headers import KeptHeaders
from iscl_node.pipeline.reception.receive import reception
from iscl_node.pipeline.steps.plan import BegunRule
from iscl_node.pipeline.steps.series import SeriesSteps
from iscl_node.settings import QualitySettings
from iscl_node.store.records.deliveries import Deliveries
from iscl_node.store.records.exams import Exams
from iscl_node.store.records.refused_slice import refused_in, refused_result
from iscl_node.store.spool import Spool

LIMITS = QualitySettings().limits()
PACS = Peer("pacs", "PACS", "127.0.0.1", 104)


@pytest.fixture
def batch(spool: Spool, write_series: Callable[..., Path]) -> Batch:
    for path in write_series(3).iterdir():
        spool.store(read_header(path.read_bytes()), path.read_bytes())
    (series_uid,) = (folder.name for folder in (spool.root / "open").iterdir())
    return spool.close(series_uid, datetime.now(UTC))


def sending(spool: Spool, send_files: SendFiles, running_seconds: Callable[[], float] = lambda: 0.0) -> Sending:
    """The step that sends, with an hour until it gives up."""
    deliveries = Deliveries(spool.root)
    destinations = Destinations(spool, deliveries, {"pacs": PACS})
    return Sending(destinations, send_files, Deadline(deliveries, running_seconds, 3600))


def taking(sent: list[str]) -> SendFiles:
    """A destination that takes everything."""

    def send(_peer: Peer, files: Sequence[Path], answered: Callable[[StoreAnswer], object]) -> None:
        for path in files:
            sent.append(str(path))
            answered(StoreAnswer(InstanceReference(CT_IMAGE, path.stem), 0x0000, True))

    return send


@pytest.fixture
def steps_for(spool: Spool, identity_bundle: Path) -> Callable[..., SeriesSteps]:
    denoisers = {"abdomen": load_bundle(identity_bundle, "abdomen", "cpu")}

    def make(
        strengths: tuple[StrengthChoice, ...] = (1.0,),
        modality: str = "CT",
        ignore: str = "",
        evidence: EvidenceChoice = NO_EVIDENCE,
        suffix: str = " ISCL",
        metrics: Metrics | None = None,
        limits: QualityLimits = LIMITS,
        send_to: tuple[str, ...] = ("pacs",),
    ) -> SeriesSteps:
        rule = Rule("all", {"Modality": modality}, "abdomen", strengths, suffix, send_to, ignore, evidence=evidence)
        return SeriesSteps(spool, [rule], denoisers, limits, "0", Site(), metrics=metrics)

    return make


@pytest.mark.parametrize(
    ("strengths", "descriptions"),
    [((1.0,), ["THORAX ISCL"]), ((0.5, 1.0), ["THORAX ISCL 50%", "THORAX ISCL 100%"])],
)
def test_steps_in_their_order_send_one_derived_instance_for_each_source_and_strength(
    spool: Spool,
    batch: Batch,
    steps_for: Callable[..., SeriesSteps],
    strengths: tuple[float, ...],
    descriptions: list[str],
) -> None:
    sent: list[str] = []
    steps = steps_for(strengths)

    rule, series_uids, files = steps.check(batch)
    for file in [*files, files[0]]:  # the first twice, as after a kill
        steps.derive(batch, rule, series_uids, file)
    derived = [[pydicom.dcmread(path) for path in spool.derived(batch, uid)] for uid in series_uids]
    steps.destinations(batch, rule, [(uid, len(files)) for uid in series_uids])
    sending(spool, taking(sent)).send(batch, "pacs")

    assert [len(each) for each in derived] == [len(files)] * len(strengths)
    assert len(sent) == 3 * len(strengths)
    assert [{str(each.SeriesInstanceUID) for each in series} for series in derived] == [{uid} for uid in series_uids]
    assert [series[0].SeriesDescription for series in derived] == descriptions
    assert len({series[0].SeriesNumber for series in derived}) == len(strengths)


@pytest.mark.fault(
    "machine",
    "an upgrade changes the order of the steps and the model, or the strengths, while a batch is under way",
    "the batch is started again; what was derived in part for the earlier series goes nowhere",
)
def test_what_is_not_made_any_more_goes_nowhere(
    spool: Spool, batch: Batch, steps_for: Callable[..., SeriesSteps]
) -> None:
    earlier, now = steps_for(strengths=(0.5,)), steps_for()
    begun, (earlier_uid,), files = earlier.check(batch)
    earlier.derive(batch, begun, [earlier_uid], files[0])
    begun, (series_uid,), files = now.check(batch)
    for file in files:
        now.derive(batch, begun, [series_uid], file)
    for _ in range(2):  # as after a kill
        now.destinations(batch, begun, [(series_uid, 3)])
        assert set(spool.derived_instances(batch).values()) == {series_uid}
    assert len(spool.derived(batch, series_uid)) == 3


@pytest.mark.fault(
    "processing",
    "a link, or what is no file, lies among the instances of a batch",
    "quarantine with that reason; it is not read",
)
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "link"])
def test_what_is_no_file_is_not_read(
    spool: Spool, batch: Batch, steps_for: Callable[..., SeriesSteps], make: Callable[[Path], object]
) -> None:
    make(spool.instances(batch)[0].with_name("1.2.3.dcm"))
    with pytest.raises(QuarantineSeriesError, match="not followed"):
        steps_for().check(batch)


def plan_of(spool: Spool, batch: Batch) -> Path:
    return spool.root / "closed" / batch.series_instance_uid / batch.key / f"{batch.key}.plan.json"


@pytest.mark.fault(
    "machine",
    "the workflow database is lost, and the settings are changed, while a batch is under way",
    "rule, order, UIDs, strengths, description, encoding, start and destinations stay as its `plan.json` has them",
)
def test_what_was_decided_stays(
    spool: Spool, batch: Batch, steps_for: Callable[..., SeriesSteps], monkeypatch: pytest.MonkeyPatch
) -> None:
    decided = steps_for().check(batch)
    monkeypatch.setattr(KeptHeaders, "instance", None)  # it is not even looked at again
    changed = steps_for(suffix=" OTHER", send_to=("pacs", "elsewhere"))
    assert changed.check(batch) == decided
    assert changed.destinations(batch, decided[0], [(uid, 3) for uid in decided[1]]) == ("pacs",)
    assert json.loads(plan_of(spool, batch).read_bytes())["rule"]["suffix"] == " ISCL"


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b'{"instances": 3}'])
def test_a_damaged_plan_is_made_anew(
    spool: Spool, batch: Batch, steps_for: Callable[..., SeriesSteps], damage: bytes
) -> None:
    decided = steps_for().check(batch)
    plan_of(spool, batch).write_bytes(damage)
    assert steps_for().check(batch) == decided
    assert json.loads(plan_of(spool, batch).read_bytes())["files"] == decided[2]


def test_a_batch_is_decided_anew_for_other_strengths_or_instances_or_when_it_is_requeued(
    spool: Spool, batch: Batch, steps_for: Callable[..., SeriesSteps]
) -> None:
    _, series_uids, files = steps_for().check(batch)
    assert steps_for(strengths=(0.5,)).check(batch)[1] != series_uids
    spool.instances(batch)[0].unlink()
    assert set(steps_for().check(batch)[2]) < set(files)
    spool.quarantine(batch, "why")
    (requeued,) = spool.requeue(batch.series_instance_uid, datetime.now(UTC))
    assert steps_for(suffix=" OTHER").check(requeued)[0]["suffix"] == " OTHER"


def test_a_plan_that_the_disk_refuses_is_tried_again(
    spool: Spool, batch: Batch, steps_for: Callable[..., SeriesSteps], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("iscl_node.store.records.plan.replace_synced", full)
    with pytest.raises(RetryLaterError, match="No space"):
        steps_for().check(batch)


def test_what_is_not_made_any_more_stays_if_its_sending_had_begun(
    spool: Spool, batch: Batch, steps_for: Callable[..., SeriesSteps]
) -> None:
    earlier, now = steps_for(strengths=(0.5,)), steps_for()
    begun, (earlier_uid,), files = earlier.check(batch)
    for file in files:
        earlier.derive(batch, begun, [earlier_uid], file)
    earlier.destinations(batch, begun, [(earlier_uid, 3)])
    begun, (series_uid,), files = now.check(batch)
    now.destinations(batch, begun, [(series_uid, 3)])
    assert len(spool.derived(batch, earlier_uid)) == 3


@pytest.mark.fault(
    "delivery",
    "the destination stores a part of a series, and then fails",
    "the next try sends the rest; each answer is on record",
)
def test_a_retry_sends_what_is_not_stored_yet(
    spool: Spool, batch: Batch, steps_for: Callable[..., SeriesSteps], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, tries = steps_for(), []
    (begun, (series_uid,), files), deliveries = steps.check(batch), Deliveries(spool.root)
    for file in files:
        steps.derive(batch, begun, [series_uid], file)
    steps.destinations(batch, begun, [(series_uid, 3)])
    derived = spool.derived(batch, series_uid)

    def two_of_three(_peer: Peer, paths: Sequence[Path], answered: Callable[[StoreAnswer], object]) -> None:
        tries.append([path.stem for path in paths])
        for path in paths[:2]:
            answered(StoreAnswer(InstanceReference(CT_IMAGE, path.stem), 0x0000, True))
        if len(paths) > 2:
            answered(StoreAnswer(InstanceReference(CT_IMAGE, paths[2].stem), 0xA700, False))
            raise RetryLaterError("full")

    step = sending(spool, two_of_three)
    with pytest.raises(RetryLaterError, match="full"):
        step.send(batch, "pacs")
    step.send(batch, "pacs")
    deliveries.note_missing(batch, "pacs", {derived[0].stem: "0112"}, 1)
    step.send(batch, "pacs")
    assert tries == [[path.stem for path in paths] for paths in (derived, derived[2:], derived[:1])]
    assert deliveries.record(batch, "pacs").stored.keys() == {path.stem for path in derived}

    deliveries.note_missing(batch, "pacs", {"2.25.99": "0112"}, 2)
    with pytest.raises(QuarantineSeriesError, match="gone from the outbox"):
        step.send(batch, "pacs")
    spool.quarantine(batch, "why")
    step.send(batch, "pacs")  # nothing is to be sent any more
    assert len(tries) == 3


def test_a_destination_that_is_down_is_given_up_if_the_settings_say_so(
    spool: Spool, batch: Batch, steps_for: Callable[..., SeriesSteps]
) -> None:
    def refusing(*_: object) -> None:
        raise RetryLaterError("no connection")

    steps, running_seconds = steps_for(), [1_000.0]
    begun, (series_uid,), files = steps.check(batch)
    steps.derive(batch, begun, [series_uid], files[0])
    steps._running_seconds = lambda: running_seconds[0]
    steps.destinations(batch, begun, [(series_uid, 1)])
    step = sending(spool, refusing, lambda: running_seconds[0])
    for seconds, error in ((1_000.0, RetryLaterError), (4_599.0, RetryLaterError), (4_600.0, QuarantineSeriesError)):
        running_seconds[0] = seconds
        with pytest.raises(error, match="no connection"):
            step.send(batch, "pacs")


def test_evidence_goes_beside_each_derived_series_and_repeats_itself(
    spool: Spool, batch: Batch, steps_for: Callable[..., SeriesSteps]
) -> None:
    sent: list[str] = []
    steps = steps_for((0.5, 1.0), evidence=EvidenceChoice(noise_map=True, report=True))
    rule, series_uids, files = steps.check(batch)
    for file in files:
        steps.derive(batch, rule, series_uids, file)

    counts = steps.judge(batch, rule, files)
    paths = [path for uid, _ in counts for path in spool.derived(batch, uid)]
    first = {path: path.read_bytes() for path in paths}
    for path in paths:
        path.unlink()  # as a kill before the write leaves it
    again = steps.judge(batch, rule, files)
    steps.destinations(batch, rule, [*((uid, len(files)) for uid in series_uids), *counts])
    sending(spool, taking(sent)).send(batch, "pacs")

    assert [count for _, count in counts] == [1, 1, 1, 1]  # a map and a report for each strength
    assert not {uid for uid, _ in counts} & set(series_uids)
    assert again == counts
    assert {path: path.read_bytes() for path in paths} == first
    assert sent[2 * len(files) :] == list(map(str, paths))  # the images come first


def test_no_evidence_is_made_unless_the_rule_wants_it(batch: Batch, steps_for: Callable[..., SeriesSteps]) -> None:
    steps = steps_for()
    rule, series_uids, files = steps.check(batch)
    for file in files:
        steps.derive(batch, rule, series_uids, file)
    assert steps.judge(batch, rule, files) == []


@pytest.mark.fault(
    "processing", "the rule's settings change in the middle of a series", "quarantine; the reason says to requeue it"
)
def test_other_settings_in_the_middle_of_a_series_are_quarantined(
    batch: Batch, steps_for: Callable[..., SeriesSteps]
) -> None:
    rule, series_uids, files = steps_for((1.0,)).check(batch)
    with pytest.raises(QuarantineSeriesError, match="changed in the middle of this series; requeue it"):
        steps_for((0.5,)).derive(batch, rule, series_uids, files[0])


@pytest.mark.fault(
    "processing",
    "`suffix` is changed, or an earlier batch goes, in the middle of a series",
    "the whole series keeps the description and the time that it was started with",
)
def test_a_series_begun_keeps_its_time_and_description(
    spool: Spool, batch: Batch, steps_for: Callable[..., SeriesSteps]
) -> None:
    """Whatever becomes of an earlier batch, and of the settings, before the last slice is derived."""
    (spool.root / "closed" / batch.series_instance_uid / "20260101T000000.000000Z").mkdir()
    rule, series_uids, files = steps_for(evidence=EvidenceChoice(report=True)).check(batch)
    steps_for().derive(batch, rule, series_uids, files[0])
    (spool.root / "closed" / batch.series_instance_uid / "20260101T000000.000000Z").rmdir()
    changed = steps_for(suffix=" OTHER", evidence=EvidenceChoice(report=True))
    for file in files[1:]:
        changed.derive(batch, rule, series_uids, file)
    ((evidence_uid, _count),) = changed.judge(batch, rule, files)

    uids = [*series_uids, evidence_uid]
    made = [pydicom.dcmread(path) for uid in uids for path in spool.derived(batch, uid)]
    started = datetime.fromisoformat(rule["started"])
    assert started.astimezone(UTC) == datetime(2026, 1, 1, tzinfo=UTC)
    assert {each.SeriesDate + each.SeriesTime for each in made} == {f"{started:%Y%m%d%H%M%S}.000000"}
    assert {"ISCL" in each.SeriesDescription for each in made} == {True}


def noisy_batch(spool: Spool, noise_hu: float, count: int = 3) -> Batch:
    for number in range(count):
        image = np.rint(anatomy(number / count) + noise(noise_hu, number) + 1024).astype(np.int16)
        stream = part10(ct_series(count, pixels=image, PixelSpacing=BODY_SPACING)[number])
        spool.store(read_header(stream), stream)
    (series_uid,) = (folder.name for folder in (spool.root / "open").iterdir())
    return spool.close(series_uid, datetime.now(UTC))


@pytest.mark.fault(
    "processing",
    "the node is restarted, or the way to choose a strength changes, in the middle of a series",
    "the whole series keeps the strength that was chosen from its noise when it was started",
)
def test_the_noise_decides_once_for_a_series(spool: Spool, steps_for: Callable[..., SeriesSteps]) -> None:
    batch = noisy_batch(spool, 25)
    steps = steps_for((AutoStrength(10),))
    begun, (series_uid,), files = steps.check(batch)
    assert begun["source_noise_hu"] == pytest.approx(25, rel=0.1)
    assert begun["strengths"] == [pytest.approx(1 - 10 / begun["source_noise_hu"], abs=1e-3)]

    otherwise = BegunRule(**(begun | {"strengths": [0.321]}))  # as an earlier release chose it
    for file in files:
        steps_for((AutoStrength(10),)).derive(batch, otherwise, [series_uid], file)
    descriptions = {pydicom.dcmread(path).DerivationDescription for path in spool.derived(batch, series_uid)}
    assert all("strength 0.321 (auto: 2" in each and "target 10 HU)" in each for each in descriptions)


def test_a_sharp_kernel_is_processed_with_a_warning_in_every_derived_object(
    spool: Spool, steps_for: Callable[..., SeriesSteps]
) -> None:
    image = np.rint(anatomy() + noise(60, 0) + 1024).astype(np.int16)
    stream = part10(ct_series(1, pixels=image, PixelSpacing=BODY_SPACING, ConvolutionKernel="BONE")[0])
    spool.store(read_header(stream), stream)
    (series_uid,) = (folder.name for folder in (spool.root / "open").iterdir())
    batch = spool.close(series_uid, datetime.now(UTC))
    steps = steps_for((AutoStrength(10),))
    begun, (derived_uid,), files = steps.check(batch)
    assert (begun["strengths"], begun["cautions"][:1]) == ([0.5], ["sharp kernel"])
    steps.derive(batch, begun, [derived_uid], files[0])
    (path,) = spool.derived(batch, derived_uid)
    assert "not what the model was made for: sharp kernel" in pydicom.dcmread(path).DerivationDescription


@pytest.mark.fault(
    "processing",
    "slices arrive after their series was closed, too few to tell its noise by",
    "they get the strength that the earlier slices have, and join their derived series",
)
@pytest.mark.parametrize("end", [Spool.mark_sent, Spool.release, None], ids=["sent", "done", "not yet"])
def test_a_late_slice_gets_the_strength_of_its_series(
    spool: Spool, steps_for: Callable[..., SeriesSteps], end: Callable[[Spool, Batch], None] | None
) -> None:
    first = noisy_batch(spool, 25)
    earlier, earlier_uids, _ = steps_for((AutoStrength(10), 0.3)).check(first)
    if end is not None:
        end(spool, first)
    late = ct_series(4, pixels=np.rint(anatomy() + noise(60, 9) + 1024).astype(np.int16))[3]
    spool.store(read_header(part10(late)), part10(late))
    begun, series_uids, files = steps_for((AutoStrength(10), 0.3)).check(
        spool.close(first.series_instance_uid, datetime.now(UTC))
    )
    assert (len(files), series_uids) == (1, earlier_uids)
    kept = "strengths", "source_noise_hu", "body_mm", "slice_mm"
    assert [begun.get(key) for key in kept] == [earlier.get(key) for key in kept]
    assert begun.get("slice_mm") == 5
    other, _, _ = steps_for((AutoStrength(14),)).check(spool.closed_batches()[-1])
    assert other["source_noise_hu"] != earlier["source_noise_hu"]  # another derived series: its own noise decides


def test_strengths_and_noise_are_counted_by_rule(
    spool: Spool, steps_for: Callable[..., SeriesSteps], metrics: Metrics
) -> None:
    batch = noisy_batch(spool, 25)
    steps = steps_for((AutoStrength(10), 1.0), metrics=metrics)
    begun, series_uids, files = steps.check(batch)
    for file in files:
        steps.derive(batch, begun, series_uids, file)
    steps.judge(batch, begun, files)

    def value(name: str) -> float | None:
        return metrics.registry.get_sample_value(name, {"rule": "all"})

    assert value("iscl_node_series_strength_count") == 2
    assert value("iscl_node_series_strength_sum") == pytest.approx(1.6, abs=0.05)
    assert value("iscl_node_source_noise_hu_sum") == begun["source_noise_hu"]
    assert value("iscl_node_derived_noise_hu_count") == 2  # the bundle changes nothing
    assert value("iscl_node_derived_noise_hu_sum") == pytest.approx(2 * begun["source_noise_hu"], rel=0.02)
    assert value("iscl_node_drift_hu_count") == 2


def test_noise_and_dose_of_a_series_are_kept_and_counted_by_scanner(
    spool: Spool, steps_for: Callable[..., SeriesSteps], metrics: Metrics
) -> None:
    batch = noisy_batch(spool, 25)
    steps = steps_for((AutoStrength(10),), metrics=metrics)
    begun, series_uids, files = steps.check(batch)
    for file in files:
        steps.derive(batch, begun, series_uids, file)
    steps.judge(batch, begun, files)
    steps.judge(batch, begun, files)  # after a kill
    (exam,) = Exams(spool.root).since(datetime(2000, 1, 1, tzinfo=UTC))
    assert (exam["rule"], exam["noise_hu"]) == ("all", begun["source_noise_hu"])
    assert exam["derived_noise_hu"] == pytest.approx(begun["source_noise_hu"], rel=0.02)  # the bundle changes nothing
    labels = {"scanner": f"{exam['manufacturer']} {exam['model']}".strip(), "body_part": exam["body_part"]}
    assert metrics.registry.get_sample_value("iscl_node_exam_noise_hu_sum", labels) == exam["noise_hu"]


def test_a_series_too_noisy_for_the_model_is_measured_all_the_same(
    spool: Spool, steps_for: Callable[..., SeriesSteps]
) -> None:
    batch = noisy_batch(spool, 25)
    with pytest.raises(QuarantineSeriesError):
        steps_for((AutoStrength(10),), limits=replace(LIMITS, max_noise_hu=5)).check(batch)
    (exam,) = Exams(spool.root).since(datetime(2000, 1, 1, tzinfo=UTC))
    assert exam["noise_hu"] == pytest.approx(25, rel=0.1)
    assert "derived_noise_hu" not in exam


def test_a_target_that_was_changed_in_the_middle_of_a_series_is_quarantined(
    batch: Batch, steps_for: Callable[..., SeriesSteps]
) -> None:
    rule, series_uids, files = steps_for((AutoStrength(10),)).check(batch)
    for other in ((AutoStrength(14),), (0.5,), (AutoStrength(10), 1.0)):
        with pytest.raises(QuarantineSeriesError, match="changed in the middle of this series; requeue it"):
            steps_for(other).derive(batch, rule, series_uids, files[0])


@pytest.mark.fault("processing", "the rule is set to ignore in the middle of a series", "quarantine with the reason")
def test_a_rule_that_ignores_by_now_is_quarantined(batch: Batch, steps_for: Callable[..., SeriesSteps]) -> None:
    rule, series_uids, files = steps_for().check(batch)
    with pytest.raises(QuarantineSeriesError, match="rule 'all' is gone"):
        steps_for(ignore="not any more").derive(batch, rule, series_uids, files[0])


@pytest.mark.fault(
    "delivery",
    "derived instances are missing when a series is to be sent",
    "quarantine with the counts, and not half a series",
)
def test_an_incomplete_outbox_is_not_sent(spool: Spool, batch: Batch, steps_for: Callable[..., SeriesSteps]) -> None:
    steps = steps_for()
    rule, series_uids, files = steps.check(batch)
    steps.derive(batch, rule, series_uids, files[0])
    steps.destinations(batch, rule, [(series_uids[0], len(files))])
    with pytest.raises(QuarantineSeriesError, match="3 instances should be sent, but 1 are in the outbox"):
        sending(spool, taking([])).send(batch, "pacs")


@pytest.mark.fault(
    "delivery", "the destination is taken from the settings while a batch waits", "quarantine with its name"
)
def test_a_sent_batch_without_its_outbox_and_its_records_is_a_reason(spool: Spool, batch: Batch) -> None:
    Deliveries(spool.root).begin(batch, ["pacs"])
    spool.mark_sent(batch)
    with pytest.raises(QuarantineSeriesError, match="gone from the outbox"):
        sending(spool, taking([])).send(batch, "pacs")


def test_a_destination_that_is_gone_by_now_is_a_reason(spool: Spool, batch: Batch) -> None:
    with pytest.raises(QuarantineSeriesError, match="destination 'vault' is gone from the settings"):
        sending(spool, taking([])).send(batch, "vault")


def test_a_rule_sees_what_functional_groups_tell(spool: Spool, identity_bundle: Path) -> None:
    stream = part10(enhanced_ct())
    spool.store(read_header(stream), stream)
    (series_uid,) = (folder.name for folder in (spool.root / "open").iterdir())
    batch = spool.close(series_uid, datetime.now(UTC))
    denoisers = {"abdomen": load_bundle(identity_bundle, "abdomen", "cpu")}
    rules = [
        Rule(kernel, {"ConvolutionKernel": kernel}, "abdomen", (1.0,), " ISCL", ("pacs",))
        for kernel in ("B70f", "B30f")
    ]
    steps = SeriesSteps(spool, rules, denoisers, LIMITS, "0", Site())

    rule, (derived_uid,), (file,) = steps.check(batch)
    steps.derive(batch, rule, [derived_uid], file)

    assert rule["name"] == "B30f"
    (derived,) = (pydicom.dcmread(path) for path in spool.derived(batch, derived_uid))
    assert derived.NumberOfFrames == 3


def test_a_rule_may_ignore_its_series(spool: Spool, batch: Batch, steps_for: Callable[..., SeriesSteps]) -> None:
    steps = steps_for(ignore="not worth it")
    with pytest.raises(IgnoreSeriesError, match="rule 'all': not worth it") as caught:
        steps.check(batch)
    steps.ignore(batch, str(caught.value))
    assert [each.reason for each in spool.ignored()] == ["rule 'all': not worth it"]


def test_what_was_closed_as_incomplete_is_quarantined_with_what_is_missing(
    spool: Spool, batch: Batch, steps_for: Callable[..., SeriesSteps]
) -> None:
    (spool.root / "closed" / batch.series_instance_uid / batch.key / "incomplete.txt").write_text("1 slice missing\n")
    with pytest.raises(QuarantineSeriesError, match="incomplete at the time-out: 1 slice missing; requeue"):
        steps_for().check(batch)


@pytest.mark.fault(
    "reception",
    "two images of one SOP Instance UID before the series is closed, for example one UID for all slices",
    "nothing of the series is made: quarantine, naming what differs; requeue processes those that came first",
)
def test_a_series_with_two_images_of_one_uid_is_quarantined_as_a_whole(
    spool: Spool, metrics: Metrics, steps_for: Callable[..., SeriesSteps]
) -> None:
    receive, slices = reception(spool, metrics), ct_series(3)
    for each in slices:
        each.SOPInstanceUID = each.file_meta.MediaStorageSOPInstanceUID = slices[0].SOPInstanceUID
        receive(ReceivedInstance(part10(each), "SCANNER", "127.0.0.1"))
    series_uid = slices[0].SeriesInstanceUID
    batch = spool.close(series_uid, datetime.now(UTC))
    with pytest.raises(QuarantineSeriesError, match="the same SOP Instance UID, but differ in Pixel Data"):
        steps_for().check(batch)
    spool.quarantine(batch, "reason")
    (again,) = spool.requeue(series_uid, datetime.now(UTC))
    assert len(steps_for().check(again)[2]) == 1


@pytest.mark.fault("processing", "no rule matches a series", "quarantine with the reason")
def test_a_series_without_a_rule_is_quarantined(batch: Batch, steps_for: Callable[..., SeriesSteps]) -> None:
    with pytest.raises(QuarantineSeriesError, match="no rule matches"):
        steps_for(modality="MR").check(batch)


@pytest.fixture
def processed(
    batch: Batch, steps_for: Callable[..., SeriesSteps]
) -> tuple[SeriesSteps, BegunRule, list[str], list[str]]:
    """A batch with all its derived instances."""
    steps = steps_for()
    rule, series_uids, files = steps.check(batch)
    for file in files:
        steps.derive(batch, rule, series_uids, file)
    return steps, rule, series_uids, files


def test_what_was_derived_of_its_own_source_is_let_pass(
    spool: Spool, batch: Batch, processed: tuple[SeriesSteps, BegunRule, list[str], list[str]]
) -> None:
    steps, rule, _series_uids, files = processed
    steps.judge(batch, rule, files)
    assert list(spool.root.rglob("judge.png")) == []


@pytest.mark.fault(
    "processing", "two derived instances have their pixels exchanged", "quarantine with the reason and a picture"
)
def test_pixels_of_another_slice_are_quarantined_with_a_picture(
    spool: Spool, batch: Batch, processed: tuple[SeriesSteps, BegunRule, list[str], list[str]]
) -> None:
    steps, rule, (series_uid,), files = processed
    paths = spool.derived(batch, series_uid)
    first, second = (pydicom.dcmread(path) for path in paths[:2])
    first.PixelData, second.PixelData = second.PixelData, first.PixelData
    for path, dataset in zip(paths, (first, second), strict=False):
        dataset.save_as(path)
    with pytest.raises(QuarantineSeriesError, match="shows what is in source slice") as caught:
        steps.judge(batch, rule, files)
    steps.quarantine(batch, str(caught.value))
    (quarantined,) = spool.quarantined()
    assert quarantined.picture == quarantined.folder / "judge.png"
    assert quarantined.picture.read_bytes().startswith(b"\x89PNG")
    (again,) = spool.requeue(batch.series_instance_uid, datetime.now(UTC))
    left = [path.suffix for path in spool.instances(again)[0].parent.iterdir()]
    assert sorted(left) == [".dcm"] * 3 + [".json"]  # the plan of the earlier try, which has its key


@pytest.mark.fault("processing", "a derived instance is gone before the series is judged", "quarantine with the reason")
def test_a_missing_derived_instance_is_quarantined(
    spool: Spool, batch: Batch, processed: tuple[SeriesSteps, BegunRule, list[str], list[str]]
) -> None:
    steps, rule, (series_uid,), files = processed
    spool.derived(batch, series_uid)[0].unlink()
    with pytest.raises(QuarantineSeriesError, match="has no derived instance"):
        steps.judge(batch, rule, files)


@pytest.mark.fault(
    "processing", "a source is taken away from the spool while it is in work", "quarantine with the name of its file"
)
def test_a_source_that_a_person_took_away_is_named(
    spool: Spool, batch: Batch, processed: tuple[SeriesSteps, BegunRule, list[str], list[str]]
) -> None:
    steps, rule, series_uids, files = processed
    spool.instances(batch)[0].unlink()
    for step in (
        lambda: steps.derive(batch, rule, series_uids, files[0]),
        lambda: steps.judge(batch, rule, files),
    ):
        with pytest.raises(QuarantineSeriesError, match="an instance of the batch is gone from the spool"):
            step()


def test_the_slice_that_the_judge_refuses_is_kept_with_where_it_changed(
    spool: Spool, batch: Batch, steps_for: Callable[..., SeriesSteps], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = steps_for()
    rule, series_uids, files = steps.check(batch)
    ruined = np.full((64, 64), 500, np.float32)
    monkeypatch.setattr("iscl_node.denoise.bundle_denoiser.BundleDenoiser.denoise", lambda *_: ruined)
    with pytest.raises(QuarantineSeriesError, match="a region was shifted by"):
        steps.derive(batch, rule, series_uids, files[0])
    steps.quarantine(batch, "as told")
    (quarantined,) = spool.quarantined()
    facts = refused_in(quarantined.folder)
    assert (facts["sop_instance_uid"], facts["frame"]) == (files[0].removesuffix(".dcm"), 0)
    assert facts["boxes"]
    assert np.frombuffer(refused_result(quarantined.folder), "<i2").size == ruined.size


@pytest.mark.fault(
    "spool", "the disk has no room for the picture of an implausible slice", "quarantine without the picture"
)
def test_a_disk_without_room_for_the_picture_does_not_keep_a_series_from_quarantine(
    spool: Spool, batch: Batch, steps_for: Callable[..., SeriesSteps], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def ruined(*_: object) -> np.ndarray:
        return np.full((64, 64), 500, np.float32)

    steps = steps_for()
    rule, series_uids, files = steps.check(batch)
    monkeypatch.setattr(Spool, "keep_picture", no_room)
    monkeypatch.setattr("iscl_node.denoise.bundle_denoiser.BundleDenoiser.denoise", ruined)
    with pytest.raises(QuarantineSeriesError, match="a region was shifted by"):
        steps.derive(batch, rule, series_uids, files[0])
    steps.quarantine(batch, "as told")
    (quarantined,) = spool.quarantined()
    assert quarantined.picture is None


@pytest.mark.fault(
    "processing",
    "a late slice of another patient comes under the UID of a series that was delivered",
    "quarantine; the derived series stays that of the first patient",
)
def test_a_late_slice_of_another_patient_does_not_join(
    spool: Spool, batch: Batch, steps_for: Callable[..., SeriesSteps]
) -> None:
    steps = steps_for()
    late = pydicom.dcmread(spool.instances(batch)[0])
    late.SOPInstanceUID = late.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    same_patient = part10(late)
    late.PatientID, late.PatientName = "T2", "Other^Person"
    for state in (spool.release, spool.mark_sent):
        with suppress(FileNotFoundError):
            state(batch)
        spool.store(read_header(part10(late)), part10(late))
        late_batch = spool.close(batch.series_instance_uid, datetime.now(UTC))
        with pytest.raises(QuarantineSeriesError, match="2 patients in one series: Patient ID and Patient's Name"):
            steps.check(late_batch)
        spool.quarantine(late_batch, "2 patients")
    spool.store(read_header(same_patient), same_patient)
    assert len(steps.check(spool.close(batch.series_instance_uid, datetime.now(UTC)))[2]) == 1


def test_an_earlier_batch_that_moves_is_looked_for_again(
    spool: Spool, batch: Batch, steps_for: Callable[..., SeriesSteps], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iscl_node.pipeline.steps.earlier_batches.earlier_instances", lambda *_: [Path("gone.dcm")])
    with pytest.raises(RetryLaterError, match="moves"):
        steps_for().check(batch)


@pytest.mark.fault(
    "processing",
    "a late slice comes after an upgrade that computes UIDs otherwise",
    "it joins the derived series that was sent; a series that is started again has the new UIDs",
)
def test_a_series_keeps_the_uids_that_it_was_begun_with(
    spool: Spool, batch: Batch, steps_for: Callable[..., SeriesSteps]
) -> None:
    steps = steps_for()
    begun, (series_uid,), _ = steps.check(batch)
    assert begun["uid_scheme"] == UID_SCHEME
    late = pydicom.dcmread(spool.instances(batch)[0])
    late.SOPInstanceUID = late.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    (spool.root / "closed" / batch.series_instance_uid / batch.key / f"{batch.key}.plan.json").unlink()
    spool.mark_sent(batch)  # by a release that wrote no plan down
    spool.release(batch)
    spool.store(read_header(part10(late)), part10(late))
    late_batch = spool.close(batch.series_instance_uid, datetime.now(UTC))
    begun, (late_series_uid,), (file,) = steps.check(late_batch)
    assert begun["uid_scheme"] == FIRST_UID_SCHEME
    assert late_series_uid != series_uid
    steps.derive(late_batch, begun, [late_series_uid], file)
    (derived,) = spool.derived(late_batch, late_series_uid)
    first = replace(steps._products(begun).derivations[0], uid_scheme=FIRST_UID_SCHEME)
    assert derived.stem == derived_uid("1.2.3.4", first, INSTANCE)
