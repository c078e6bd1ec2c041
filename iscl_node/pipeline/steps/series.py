"""The steps that make what is sent of a batch: check, derive (per instance), judge, destinations.

Each step takes its input from the spool and leaves its result there, under names that are computed:
run twice, it does the same again. Values that pass between steps are plain strings and lists, because the
workflow database keeps them.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import structlog
from prometheus_client import CollectorRegistry

from iscl_node.denoise.denoiser import Denoiser
from iscl_node.dicom.deriving.derived import encode
from iscl_node.dicom.judging.content import check_content
from iscl_node.dicom.judging.exam_facts import ExamFacts
from iscl_node.dicom.judging.picture import picture
from iscl_node.dicom.judging.regions import changed_most
from iscl_node.dicom.judging.slices import ImplausibleResultError
from iscl_node.dicom.reading.display import as_int16
from iscl_node.dicom.reading.folder import Instance, read_with_pixels
from iscl_node.dicom.selecting.rules import decide
from iscl_node.domain import Batch, QualityLimits, Rule, Site
from iscl_node.domain.hours import wait_seconds
from iscl_node.domain.strength import ChosenStrength
from iscl_node.errors import QuarantineSeriesError
from iscl_node.making.evidence import evidence
from iscl_node.making.products import Products, check_suited, checked_strengths, derivations
from iscl_node.making.read_back import read_back
from iscl_node.metrics import Metrics
from iscl_node.pipeline.disk_refusals import disk_refusals_retried
from iscl_node.pipeline.kept_headers import KeptHeaders
from iscl_node.pipeline.steps.earlier_batches import begun_uid_scheme, processed_before, uid_scheme_of
from iscl_node.pipeline.steps.plan import (
    BegunRule,
    Plan,
    chosen_strengths,
    expected_bytes,
    joined,
    order_of,
    place_in_time,
)
from iscl_node.pipeline.steps.turns import Turns
from iscl_node.store.batches.earlier import earlier_plans
from iscl_node.store.batches.recovery import remove_other_series
from iscl_node.store.receiving.conflicts import noted_conflict
from iscl_node.store.records.deliveries import Deliveries
from iscl_node.store.records.exams import Exams
from iscl_node.store.records.plan import keep_plan, kept_plan
from iscl_node.store.records.refused_slice import keep_refused
from iscl_node.store.spool import Spool
from iscl_node.store.tree import is_file

_log = structlog.get_logger(__name__)


class SeriesSteps:
    """What is done to a batch, without the order.

    Parameters
    ----------
    spool : Spool
        Holds the batch.
    rules : sequence of Rule
        The first that matches decides.
    denoisers : mapping of str to Denoiser
        By profile.
    limits : QualityLimits
        Of the judge.
    node_version : str
        For the derived objects.
    site : Site
        For the derived objects.
    running_seconds : callable, optional
        How long the node has run so far, over all its starts.
    metrics : Metrics, optional
        Strengths and noise by rule are counted here.
    headers : KeptHeaders, optional
        What is known of the instances without reading them.
    """

    def __init__(
        self,
        spool: Spool,
        rules: Sequence[Rule],
        denoisers: Mapping[str, Denoiser],
        limits: QualityLimits,
        node_version: str,
        site: Site,
        running_seconds: Callable[[], float] = lambda: 0.0,
        metrics: Metrics | None = None,
        headers: KeptHeaders | None = None,
    ) -> None:
        self._spool = spool
        self._rules = {rule.name: rule for rule in rules}
        self._denoisers = denoisers
        self._deliveries = Deliveries(spool.root)
        self._exams = Exams(spool.root, spool.worker)
        self._running_seconds = running_seconds
        self._limits = limits
        self._node_version = node_version
        self._site = site
        self._turns = Turns()
        self._metrics = metrics or Metrics(CollectorRegistry())
        self._headers = headers or KeptHeaders()

    def making(self, batch: Batch) -> AbstractContextManager[None]:
        """Mark, for the length of a ``with`` block, that the steps of a batch are done here."""
        return self._spool.room.made_here(batch)

    def check(self, batch: Batch) -> tuple[BegunRule, list[str], list[str]]:
        """Decide what happens to the batch, and write it down in the spool; what was decided before stays.

        Returns
        -------
        tuple of BegunRule and two lists of str
            Of the `Plan`: the rule, the derived series' UIDs, and the files in their order.

        Raises
        ------
        IgnoreSeriesError, QuarantineSeriesError
            As ``rules.decide``; quarantine also if something is missing and the rule says so.
        RetryLaterError
            The disk refuses it now, or an earlier batch moves.
        """
        plan = self._kept_plan(batch)
        if plan is None:
            plan = self._planned(batch)
            with disk_refusals_retried():
                keep_plan(self._spool.root, batch, {**plan})
        return plan["rule"], plan["series_uids"], plan["files"]

    def when(self, batch: Batch, begun: BegunRule) -> tuple[int, float]:
        """In which order a batch is made, the lower number first, and how many seconds from now at the earliest."""
        waits = wait_seconds(begun)
        if waits:
            _log.info("batch.postponed", batch=batch.key, rule=begun["name"], until=begun["not_before"])
        return order_of(begun), waits

    def planned(self, batch: Batch) -> tuple[BegunRule, list[str], list[str]]:
        """What was decided; anew, if the model or the rule was changed while the batch waited. See `check`."""
        return self.check(batch)

    def _kept_plan(self, batch: Batch) -> Plan | None:
        """What was decided before, if it is of the same instances and of what this model and these settings make."""
        kept = kept_plan(self._spool.root, batch)
        with suppress(QuarantineSeriesError, KeyError, TypeError):  # the rule is gone, or the file damaged
            plan = cast(Plan, kept)
            is_same = plan["instances"] == [path.name for path in self._spool.instances(batch)]
            made = self._products(plan["rule"]).series_uids(batch.series_instance_uid)
            return plan if is_same and made == plan["series_uids"] else None
        return None

    def _planned(self, batch: Batch) -> Plan:
        missing = self._spool.incomplete(batch)
        if missing:
            raise QuarantineSeriesError(f"incomplete at the time-out: {missing}; requeue processes it as it is")
        difference = noted_conflict(self._spool.root, batch)
        if difference:
            told = f"two images have the same SOP Instance UID, but differ in {difference}"
            raise QuarantineSeriesError(f"{told}; requeue processes those that came first")
        files = self._spool.instances(batch)
        if not all(map(is_file, files)):
            raise QuarantineSeriesError("a link, or what is no file, lies among the instances; it is not followed")
        instances = [self._headers.instance(path) for path in files]
        count = self._spool.instance_count(batch.series_instance_uid)
        earlier = processed_before(self._spool.root, batch, self._headers.instance)
        decision = decide(self._rules.values(), instances, count, earlier)
        for note in decision.notes:
            _log.info("batch.left_out", batch=batch.key, note=note)
        if any(decision.rule.strengths):
            window_hu = self._denoisers[decision.rule.profile].window_hu
            check_content(decision.instances, decision.rule.profile, window_hu, joins=bool(earlier))
        with self._pictured(batch):
            tell = partial(self._note_facts, batch, decision.rule.name)
            strengths = checked_strengths(decision.rule.strengths, decision.instances, self._limits, tell)
        check_suited(strengths, decision.rule)
        begun = self._begun(batch, decision.rule, strengths)
        series_uids = self._products(begun).series_uids(batch.series_instance_uid)
        begun = joined(begun, series_uids, earlier_plans(self._spool.root, batch))
        self._tell_strengths(begun)
        return Plan(
            rule=begun,
            series_uids=series_uids,
            files=[Path(str(each.filename)).name for each in decision.instances],
            instances=[path.name for path in files],
            expected_bytes=expected_bytes(decision.instances, decision.rule),
            notes=list(decision.notes),
        )

    def _begun(self, batch: Batch, rule: Rule, strengths: Sequence[ChosenStrength]) -> BegunRule:
        return BegunRule(
            name=rule.name,
            suffix=rule.suffix,
            transfer_syntax=rule.transfer_syntax,
            strengths=[each.value for each in strengths],
            source_noise_hu=strengths[0].source_noise_hu,
            body_mm=strengths[0].body_mm,
            cautions=list(strengths[0].cautions),
            slice_mm=strengths[0].slice_mm,
            started=self._spool.first_closed(batch).astimezone().isoformat(),
            send_to=list(rule.send_to),
            uid_scheme=begun_uid_scheme(self._spool, batch),
            **place_in_time(rule, self._site.time_zone),
        )

    def _tell_strengths(self, begun: BegunRule) -> None:
        strengths = chosen_strengths(self._rule(begun), begun)
        for each in strengths:
            _log.info("strength.chosen", rule=begun["name"], **asdict(each))
        if begun.get("cautions"):
            _log.warning("series.found_unsuited", rule=begun["name"], cautions=begun.get("cautions"))
        self._metrics.observe_strengths(begun["name"], strengths)

    def _note_facts(self, batch: Batch, rule: str, facts: ExamFacts) -> None:
        self._exams.note(batch, {"rule": rule, **asdict(facts)})
        self._metrics.observe_exam(facts.scanner, facts.body_part, asdict(facts))

    def derive(self, batch: Batch, begun: BegunRule, series_uids: Sequence[str], file_name: str) -> None:
        """Make the derived instances of one source instance and put them into the outbox.

        Raises
        ------
        QuarantineSeriesError
            If the pixels cannot be read, the result is not plausible, or the model or the rule were changed
            after the batch was planned: half a series of each would be sent.
        """
        products = self._products(begun)
        if products.series_uids(batch.series_instance_uid) != list(series_uids):
            raise QuarantineSeriesError("the model or the rule was changed in the middle of this series; requeue it")
        (path,) = self._files(batch, [file_name])
        source = read_with_pixels(path)
        if all(map(partial(self._spool.has_derived, batch), series_uids, products.instance_uids(source))):
            return
        with disk_refusals_retried():
            self._spool.room.admit(batch)
        turn = self._turns.turn((order_of(begun), batch.key))
        with self._pictured(batch, str(source.SOPInstanceUID)), turn:
            for derived in products.made_of(source, datetime.fromisoformat(begun["started"])):
                self._put(batch, derived)

    def judge(self, batch: Batch, begun: BegunRule, file_names: Sequence[str]) -> list[tuple[str, int]]:
        """Hold what lies in the outbox against the sources, slice by slice, and count the noise that is left.

        What the rule wants beside each derived series is made on the way, and put into the outbox.

        Returns
        -------
        list of tuple of str and int
            The UID of each series that goes beside the derived ones, and how many instances of it there are.

        Raises
        ------
        QuarantineSeriesError
            If a derived slice is missing or is not that of its source, or pixels cannot be read.
        """
        choice, derivations = self._rule(begun).evidence, self._products(begun).derivations
        sources = self._files(batch, file_names)
        outbox, started = self._spool.outbox(batch), datetime.fromisoformat(begun["started"])
        counts: Counter[str] = Counter()
        changes: list[dict[str, float | None]] = []
        with self._pictured(batch):
            for series in read_back(sources, outbox, derivations, choice):
                changes.append({"derived_noise_hu": series.noise_hu, "drift_hu": series.drift_hu})
                self._metrics.observe_derived(begun["name"], series.noise_hu, series.drift_hu)
                counts.update(self._put(batch, made) for made in evidence(series, started, choice))
        if changes:
            self._exams.note(batch, changes[0])
        return list(counts.items())

    def _put(self, batch: Batch, made: Instance) -> str:
        """Put an object into the outbox; its Series Instance UID."""
        series_uid, sop_uid = str(made.SeriesInstanceUID), str(made.SOPInstanceUID)
        if not self._spool.has_derived(batch, series_uid, sop_uid):
            encoded = encode(made)
            self._headers.keep(self._spool.write_derived(batch, series_uid, sop_uid, encoded), encoded)
        return series_uid

    def destinations(self, batch: Batch, begun: BegunRule, made: Sequence[tuple[str, int]]) -> tuple[str, ...]:
        """Decide where the series that were made go, and write it down in the spool.

        What was decided once stays. What else is in the outbox goes: an upgrade begins a batch anew, maybe with another
        model, and what the earlier one made in part must not be sent as what a destination lacks.

        Raises
        ------
        RetryLaterError
            If the disk refuses it now.
        """
        with disk_refusals_retried():
            if not self._deliveries.destinations(batch):
                remove_other_series(self._spool.outbox(batch), {series_uid for series_uid, _ in made})
                self._deliveries.begin(batch, self._rule(begun).send_to, self._running_seconds(), made)
        return self._deliveries.destinations(batch)

    def ignore(self, batch: Batch, reason: str) -> None:
        """Leave the batch alone, with a reason.

        Raises
        ------
        RetryLaterError
            If the disk refuses it now.
        """
        with disk_refusals_retried():
            self._spool.ignore(batch, reason)

    def quarantine(self, batch: Batch, reason: str) -> None:
        """Set the batch aside with a reason.

        Raises
        ------
        RetryLaterError
            If the disk refuses it now.
        """
        with disk_refusals_retried():
            self._spool.quarantine(batch, reason)

    def _rule(self, begun: BegunRule) -> Rule:
        name = begun["name"]
        if name not in self._rules or self._rules[name].ignore:
            raise QuarantineSeriesError(f"rule {name!r} is gone from the settings; requeue the series to choose anew")
        return replace(
            self._rules[name],
            suffix=begun["suffix"],
            transfer_syntax=begun["transfer_syntax"],
            send_to=tuple(begun["send_to"]),
        )

    def _products(self, begun: BegunRule) -> Products:
        rule = self._rule(begun)
        denoiser = self._denoisers[rule.profile]
        strengths = chosen_strengths(rule, begun)
        made = derivations(denoiser.model, rule.profile, strengths, rule.suffix, self._node_version, self._site)
        scheme = uid_scheme_of({"rule": begun})
        return Products(
            denoiser, tuple(replace(each, uid_scheme=scheme) for each in made), self._limits, rule.transfer_syntax
        )

    @contextmanager
    def _pictured(self, batch: Batch, sop_uid: str = "") -> Iterator[None]:
        """Keep the picture of what the judge turns down, and the slice of an instance; without there is the reason."""
        try:
            yield
        except ImplausibleResultError as error:
            try:
                self._spool.keep_picture(batch, picture(error.source_hu, error.derived_hu, str(error)))
                if sop_uid:
                    boxes = changed_most(error.source_hu, error.derived_hu)
                    facts = {"sop_instance_uid": sop_uid, "frame": error.frame, "boxes": boxes}
                    keep_refused(self._spool.root, batch, facts, as_int16(np.nan_to_num(error.derived_hu)))
            except (OSError, ValueError, RuntimeError, MemoryError) as fault:
                _log.warning("picture.not_kept", batch=batch.key, fault=type(fault).__name__)
            raise QuarantineSeriesError(str(error)) from None  # the workflow database keeps it, without the images

    def _files(self, batch: Batch, file_names: Sequence[str]) -> list[Path]:
        paths = {path.name: path for path in self._spool.instances(batch)}
        for name in file_names:
            if name not in paths:
                raise QuarantineSeriesError("an instance of the batch is gone from the spool")
        return [paths[name] for name in file_names]
