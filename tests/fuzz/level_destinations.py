"""Destinations: peers that answer our requests, to store, commit, find, move and verify, with what is no answer."""

import contextlib
import socket
import threading
from collections.abc import Callable
from functools import partial
from io import BufferedReader
from pathlib import Path
from random import Random
from typing import Final

from campaign import Input
from element_tree import Element
from factories import ct_series
from file_mutations import TEXTS
from prometheus_client import CollectorRegistry
from protocol_parts import (
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    IS_COMMAND,
    IS_LAST,
    P_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    WORDS,
    Context,
    Part,
    associate_ac,
    changed,
    changed_bytes,
    command_set,
    number,
    p_data,
    pdv,
    plain,
    uid,
)

from iscl_node.domain import CT_IMAGE_STORAGE, InstanceReference, Peer
from iscl_node.errors import QuarantineSeriesError, RetryLaterError
from iscl_node.metrics import Metrics
from iscl_node.network.scu import association, query
from iscl_node.network.scu.query import find_instances, move_instances
from iscl_node.network.scu.storage_commitment import STORAGE_COMMITMENT, request
from iscl_node.network.scu.storage_scu import send

LIMIT_SECONDS: Final = 0.5
"""Our own time limits."""
PATIENCE_SECONDS: Final = 30.0
MOST_THREADS: Final = 12
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
FIND, MOVE = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.2"
STATUSES: Final = (0, 0, 0, 0xB000, 0x0111, 0x0110, 0xA700, 0xA801, 0xA900, 0xC000, 0xFE00, 0xFF00, 0xFF01, 0x0211)
TRANSACTION, STUDY, SERIES, INSTANCE = "1.2.3.9", "1.2.3.4", "1.2.3.5", "1.2.3.6"

ACTIONS: Final = {
    "store": ((Context(1, CT_IMAGE_STORAGE, (IMPLICIT,)), Context(3, CT_IMAGE_STORAGE, (EXPLICIT,))), 0x8001),
    "commit": ((Context(1, STORAGE_COMMITMENT, (EXPLICIT,)),), 0x8130),
    "find": ((Context(1, FIND, (EXPLICIT,)),), 0x8020),
    "move": ((Context(1, MOVE, (EXPLICIT,)),), 0x8021),
}
"""What we ask for: the presentation contexts that we propose, in pynetdicom's order, and the answer's Command Field."""


class Destinations:
    """The level."""

    def __init__(self, folder: Path) -> None:
        for name in ("_ACSE_SECONDS", "_DIMSE_SECONDS", "_NETWORK_SECONDS", "_CONNECTION_SECONDS"):
            setattr(association, name, LIMIT_SECONDS)
        association.prepare_connection = partial(association.prepare_connection, seconds=LIMIT_SECONDS)  # type: ignore[attr-defined]
        for name in ("_FIND_SECONDS", "_MOVE_ANSWER_SECONDS", "_MOVE_SECONDS"):
            setattr(query, name, 2 * LIMIT_SECONDS)
        self._files = _files(folder)
        self._metrics = Metrics(CollectorRegistry())

    def make(self, random: Random) -> Input:
        """What is asked, how the destination ends, and its answers, one for each of our turns."""
        action = random.choice(tuple(ACTIONS))
        contexts, field = ACTIONS[action]
        answers = [[associate_ac(contexts)]]
        for turn in range(2 if action == "store" else 1):
            answers.append(
                [_answer(random, contexts[-1].number, field, turn + 1) for _ in range(random.choice((1, 1, 1, 2, 5)))]
            )
        if action in ("find", "move"):
            answers[-1].append(_answer(random, 1, field, 1, status=0))
        if action == "commit":
            answers[-1].append(_report(random))
        answers.append([plain(RELEASE_RP)])
        data = [_encoded(random, pdus) for pdus in answers]
        return [action.encode(), random.choice((b"close", b"close", b"close", b"close", b"hold")), *data]

    def give(self, given: Input) -> str:
        """Ask a destination that answers so."""
        action, end, *answers = given
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(PATIENCE_SECONDS)
            let_go = threading.Event()
            server = threading.Thread(target=_serve, args=(listener, answers, end == b"hold", let_go))
            server.start()
            peer = Peer("archive", "ARCHIVE", "127.0.0.1", listener.getsockname()[1])
            try:
                self._ask(action.decode(), peer)
            except (RetryLaterError, QuarantineSeriesError) as error:
                return f"{action.decode()}: {type(error).__name__}"
            finally:
                let_go.set()
                server.join()
        return f"{action.decode()}: done"

    def check(self) -> None:
        """No threads are left behind."""
        end = threading.Event()
        for _ in range(int(PATIENCE_SECONDS / 0.05)):
            if threading.active_count() <= MOST_THREADS:
                return
            end.wait(0.05)
        raise AssertionError([thread.name for thread in threading.enumerate()])

    def close(self) -> None:
        """Nothing runs between inputs."""

    def _ask(self, action: str, peer: Peer) -> None:
        calls: dict[str, Callable[[], object]] = {
            "store": lambda: send(peer, "ISCL_NODE", self._files, self._metrics),
            "commit": lambda: request(
                peer, "ISCL_NODE", TRANSACTION, [InstanceReference(CT_IMAGE_STORAGE, INSTANCE)], LIMIT_SECONDS
            ),
            "find": lambda: find_instances(peer, "ISCL_NODE", STUDY, SERIES),
            "move": lambda: move_instances(peer, "ISCL_NODE", STUDY, SERIES, [INSTANCE]),
        }
        calls[action]()


def _files(folder: Path) -> list[Path]:
    paths = []
    for dataset in ct_series(2):
        paths.append(folder / f"{dataset.SOPInstanceUID}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def _answer(random: Random, context: int, field: int, message: int, status: int | None = None) -> Part:
    """A response, or what is nearly one; pending ones of C-FIND come with a data set."""
    status = random.choice(STATUSES) if status is None else status
    has_data = field == 0x8020 and status >> 8 == 0xFF
    elements = [
        uid(0x2, CT_IMAGE_STORAGE),
        number(0x100, field),
        number(0x120, message),
        number(0x800, 1 if has_data else 0x0101),
        number(0x900, status),
    ]
    if field == 0x8021:
        elements += [
            number(0x1020 + index, random.choice((0, 1, 65535))) for index in range(4) if random.random() < 0.6
        ]
    if random.random() < 0.3:
        _change(random, elements)
    values = [pdv(context, IS_COMMAND | IS_LAST, command_set(elements))]
    if has_data:
        values.append(pdv(context, IS_LAST, _match(random)))
    return p_data(*values)


def _change(random: Random, elements: list[Element]) -> None:
    at = random.randrange(len(elements))
    act = random.randrange(4)
    if act == 0:
        del elements[at]
    elif act == 1:
        elements[at] = Element(elements[at].tag, b"UN", random.choice(TEXTS))
    elif act == 2:
        elements[at] = number(elements[at].tag, random.choice(WORDS))
    else:
        elements.append(Element(0x902, b"LO", random.choice(TEXTS)))


def _match(random: Random) -> bytes:
    """The data set of a match, in Explicit VR Little Endian, often broken."""
    whole = b"\x08\0\x18\0UI\x06\0" + INSTANCE.encode() + b"\0" + b"\x20\0\x0e\0UI\x06\0" + SERIES.encode() + b"\0"
    return whole if random.random() < 0.5 else changed_bytes(random, whole)


def _report(random: Random) -> Part:
    """An N-EVENT-REPORT of storage commitment on the same association, often broken."""
    item = b"\xfe\xff\0\xe0\x0e\0\0\0" + b"\x08\0\x55\x11UI\x06\0" + INSTANCE.encode() + b"\0"
    items = b"\x08\0\x99\x11SQ\0\0" + len(item).to_bytes(4, "little") + item
    body = b"\x08\0\x95\x11UI\x08\0" + TRANSACTION.encode() + b"\0" + items
    elements = [
        uid(0x2, STORAGE_COMMITMENT),
        number(0x100, 0x0100),
        number(0x110, 1),
        number(0x800, 1),
        uid(0x1000, "1.2.840.10008.1.20.1.1"),
        number(0x1002, random.choice((1, 1, 2, 7))),
    ]
    if random.random() < 0.3:
        _change(random, elements)
    data = body if random.random() < 0.5 else changed_bytes(random, body)
    return p_data(pdv(1, IS_COMMAND | IS_LAST, command_set(elements)), pdv(1, IS_LAST, data))


def _encoded(random: Random, pdus: list[Part]) -> bytes:
    """The PDUs of one turn, some of them changed, or others in their place."""
    if random.random() < 0.1:
        pdus = [plain(random.choice((ASSOCIATE_AC, ASSOCIATE_RJ, RELEASE_RQ, RELEASE_RP, 7, 0, 1, 255)))]
    if random.random() < 0.15:
        pdus = [changed(random, each) for each in pdus]
    data = b"".join(each.encoded() for each in pdus)
    return changed_bytes(random, data) if random.random() < 0.1 else data


def _serve(listener: socket.socket, answers: list[bytes], holds: bool, let_go: threading.Event) -> None:
    """Answer each turn of the node, then end, or do not."""
    with contextlib.suppress(OSError):
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(2 * LIMIT_SECONDS)
            stream = connection.makefile("rb")
            for answer in answers:
                _read_turn(stream)
                connection.sendall(answer)
            if holds:
                let_go.wait(PATIENCE_SECONDS)


def _read_turn(stream: BufferedReader) -> None:
    """Read what the node sends until it waits: an association PDU, or a message, all of which have data sets."""
    while True:
        header = stream.read(6)
        if len(header) < 6:
            raise OSError("the node ended the connection")
        content = stream.read(int.from_bytes(header[2:6], "big"))
        if header[0] != P_DATA or _last_header(content) & (IS_COMMAND | IS_LAST) == IS_LAST:
            return


def _last_header(content: bytes) -> int:
    """The message control header of a P-DATA-TF's last value."""
    header = 0
    while len(content) >= 6:
        header = content[5]
        content = content[4 + int.from_bytes(content[:4], "big") :]
    return header
