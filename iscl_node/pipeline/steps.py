"""The steps of a batch: check, derive (per instance), send (per destination), release.

Each step takes its input from the spool and leaves its result there, under names that are computed:
run twice, it does the same again. Values that pass between steps are plain strings and lists, because the
workflow database keeps them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from iscl_node.denoise.denoiser import Denoiser, blend
from iscl_node.dicom.derived import derive, encode
from iscl_node.dicom.folder import Instance, read_instance
from iscl_node.dicom.quality import judge
from iscl_node.dicom.rules import choose_rule
from iscl_node.dicom.series import select_series
from iscl_node.dicom.uids import INSTANCE, SERIES, derived_uid
from iscl_node.dicom.volume import to_hu
from iscl_node.domain import Batch, Derivation, Peer, Rule
from iscl_node.errors import QuarantineSeriesError, RetryLaterError
from iscl_node.store.spool import Spool

Send = Callable[[Peer, Sequence[Path]], None]
"""Sends files over one association; raises RetryLaterError or QuarantineSeriesError."""


class SeriesSteps:
    """What is done to a batch, without the order.

    Parameters
    ----------
    spool : Spool
        Holds the batch.
    rules : sequence of Rule
        The first that matches decides.
    peers : mapping of str to Peer
        Destinations by name.
    denoisers : mapping of str to Denoiser
        By profile.
    send : callable
        See :data:`Send`.
    max_hu_drift : float
        Limit of the judge, HU.
    node_version : str
        For the derived objects.
    """

    def __init__(
        self,
        spool: Spool,
        rules: Sequence[Rule],
        peers: Mapping[str, Peer],
        denoisers: Mapping[str, Denoiser],
        send: Send,
        max_hu_drift: float,
        node_version: str,
    ) -> None:
        self._spool = spool
        self._rules = {rule.name: rule for rule in rules}
        self._peers = peers
        self._denoisers = denoisers
        self._send = send
        self._max_hu_drift = max_hu_drift
        self._node_version = node_version

    def check(self, batch: Batch) -> tuple[str, str, list[str]]:
        """Decide what happens to the batch.

        Returns
        -------
        tuple of str, str and list of str
            The rule's name, the derived Series Instance UID, and the files of the instances in the order of
            their positions.

        Raises
        ------
        QuarantineSeriesError
            If the instances cannot be processed or no rule matches them.
        """
        instances = select_series([read_instance(path) for path in self._spool.instances(batch)])
        rule = choose_rule(self._rules.values(), instances[0])
        if rule is None:
            raise QuarantineSeriesError("no rule matches this series; add one under [[rules]] and requeue")
        files = [Path(str(instance.filename)).name for instance in instances]
        return rule.name, self._derived_series_uid(batch, rule), files

    def derive(self, batch: Batch, rule_name: str, derived_series_uid: str, file_name: str) -> None:
        """Make the derived instance of one source instance and put it into the outbox.

        Raises
        ------
        QuarantineSeriesError
            If the pixels cannot be read, the result is not plausible, or the model or the rule were changed
            after the batch was begun: half a series of each would be sent.
        """
        rule = self._rule(rule_name)
        if self._derived_series_uid(batch, rule) != derived_series_uid:
            raise QuarantineSeriesError("the model or the rule was changed in the middle of this series; requeue it")
        derivation = self._derivation(rule)
        source = self._source(batch, file_name)
        uid = derived_uid(str(source.SOPInstanceUID), derivation, INSTANCE)
        if self._spool.has_derived(batch, uid):
            return
        source_hu = to_hu(source)
        derived_hu = blend(source_hu, self._denoisers[rule.profile].denoise(source_hu), rule.strength)
        judge(source_hu, derived_hu, self._max_hu_drift)
        started = self._spool.first_closed(batch).astimezone()
        self._spool.write_derived(
            batch, uid, encode(derive(source, derived_hu, derivation, started, datetime.now().astimezone()))
        )

    def destinations(self, rule_name: str) -> tuple[str, ...]:
        """Where the derived instances of a rule go."""
        return self._rule(rule_name).send_to

    def send(self, batch: Batch, peer_name: str, source_count: int) -> None:
        """Send every derived instance of the batch to one destination.

        Raises
        ------
        RetryLaterError
            If the destination does not take them now.
        QuarantineSeriesError
            If it never will, or the derived instances are not one for each source.
        """
        files = self._spool.derived(batch)
        if len(files) != source_count:
            raise QuarantineSeriesError(f"{source_count} source instances, but {len(files)} derived ones")
        self._send(self._peers[peer_name], files)

    def release(self, batch: Batch) -> None:
        """Mark the batch as delivered.

        Raises
        ------
        RetryLaterError
            If the disk refuses it now.
        """
        with _disk_refusals_retried():
            self._spool.release(batch)

    def quarantine(self, batch: Batch, reason: str) -> None:
        """Set the batch aside with a reason.

        Raises
        ------
        RetryLaterError
            If the disk refuses it now.
        """
        with _disk_refusals_retried():
            self._spool.quarantine(batch, reason)

    def _rule(self, name: str) -> Rule:
        if name not in self._rules:
            raise QuarantineSeriesError(f"rule {name!r} is gone from the settings; requeue the series to choose anew")
        return self._rules[name]

    def _derived_series_uid(self, batch: Batch, rule: Rule) -> str:
        return str(derived_uid(batch.series_instance_uid, self._derivation(rule), SERIES))

    def _derivation(self, rule: Rule) -> Derivation:
        model = self._denoisers[rule.profile].model
        return Derivation(model, rule.profile, rule.strength, rule.suffix, self._node_version)

    def _source(self, batch: Batch, file_name: str) -> Instance:
        for path in self._spool.instances(batch):
            if path.name == file_name:
                return read_instance(path)
        raise QuarantineSeriesError(f"{file_name} is gone from the spool")


@contextmanager
def _disk_refusals_retried() -> Iterator[None]:
    """A full disk may have room later; a batch that a person took away will not come back."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RetryLaterError(f"the spool cannot move the batch: {error.strerror}") from error
