"""DIMSE: commands and data sets that lie, over an association that is sound."""

import contextlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Final

from campaign import Input
from element_tree import Element
from file_mutations import TEXTS, VRS, Mutations
from file_seeds import seeds
from node_under_fire import KNOWN_TRANSACTION, NodeUnderFire, answers, commands
from protocol_parts import (
    ABORT,
    ASSOCIATE_AC,
    IS_COMMAND,
    IS_LAST,
    P_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    WORDS,
    Context,
    Part,
    associate_rq,
    command_set,
    number,
    p_data,
    pdv,
    plain,
    uid,
)
from pydicom.filereader import read_dataset

from iscl_node.domain import CT_IMAGE_STORAGE

VERIFICATION: Final = "1.2.840.10008.1.1"
STORAGE_COMMITMENT: Final = "1.2.840.10008.1.20.1"
COMMANDS: Final = (
    0x0001,
    0x0010,
    0x0020,
    0x0021,
    0x0030,
    0x0100,
    0x0110,
    0x0120,
    0x0130,
    0x0140,
    0x0150,
    0x0FFF,
    0x8001,
)
"""Command Fields (PS3.7 E.1): C-STORE, C-GET, C-FIND, C-MOVE, C-ECHO, the N-services, C-CANCEL, and a response."""
C_STORE, C_ECHO, N_EVENT_REPORT = 0x0001, 0x0030, 0x0100
NO_DATA_SET, DATA_SET = 0x0101, 0x0001
FIRST_STORAGE: Final = 5
"""The presentation contexts' ID from which on they are for storage; 1 is for verification and 3 for reports."""


@dataclass(frozen=True)
class Message:
    """A message as it is sent: where, and its command and data sets."""

    context: int
    command: bytes
    data: bytes | None


class Messages:
    """The level."""

    def __init__(self, folder: Path) -> None:
        self._node = NodeUnderFire(folder)
        files = {name: data for name, data in seeds().items() if len(data) < 3000}
        self._mutations = Mutations(list(files.values()))
        syntaxes = self._mutations.transfer_syntaxes()
        self._contexts = [
            Context(1, VERIFICATION, ("1.2.840.10008.1.2",)),
            Context(3, STORAGE_COMMITMENT, ("1.2.840.10008.1.2",)),
            *(Context(FIRST_STORAGE + 2 * i, CT_IMAGE_STORAGE, (each,)) for i, each in enumerate(syntaxes)),
        ]
        self._acceptance: list[int] = []

    def make(self, random: Random) -> Input:
        """The PDUs behind the association request."""
        pdus = [plain(ABORT if random.random() < 0.1 else RELEASE_RQ)]
        for _ in range(random.choice((1, 1, 2, 3))):
            pdus[:0] = _fragmented(random, self._message(random))
        return [pdu.encoded() for pdu in pdus]

    def give(self, given: Input) -> str:
        """Send them, and hold the answers against the spool."""
        role = Part(0x54, len(STORAGE_COMMITMENT).to_bytes(2, "big") + STORAGE_COMMITMENT.encode() + b"\0\1")
        request = associate_rq("SCANNER", "ISCL_NODE", self._contexts, [role]).encoded()
        seen: list[tuple[int, bytes]] = []
        with self._node.connected() as connection, contextlib.suppress(ConnectionError):
            connection.sendall(request)
            pdus = answers(connection)
            first = next(pdus, (0, b""))
            assert first[0] == ASSOCIATE_AC, f"a legitimate association got a PDU of type {first[0]}"
            connection.sendall(b"".join(given))
            seen.extend(pdus)
        statuses = self._statuses(seen, given)
        end = {RELEASE_RP: "released", ABORT: "aborted"}.get(seen[-1][0] if seen else 0, "dropped")
        return f"{end}, {', '.join(sorted(statuses)) or 'no answer'}"

    def check(self) -> None:
        """The node serves others."""
        self._node.check()
        self._node.forget()

    def close(self) -> None:
        """Stop the node."""
        self._node.close()

    def _statuses(self, seen: list[tuple[int, bytes]], given: Input) -> set[str]:
        """What was answered; no success is told of what is not in the spool as it was sent."""
        told = [read_dataset(BytesIO(each), True, True) for each in commands(seen)]
        stored_claims = [each for each in told if each.CommandField == 0x8001 and each.Status == 0]
        if stored_claims:
            sent = [each.data for each in received(given) if each.data]
            kept = self._node.stored()
            assert len(stored_claims) <= sum(data in kept for data in sent), (
                "a success without its instance in the spool"
            )
        claims = [each for each in told if each.CommandField == 0x8100 and each.Status == 0]
        assert not claims or self._node.reports, "a success without its report"
        return {
            f"{each.CommandField:04X} {each.Status >> 12:X}xxx" if each.Status else f"{each.CommandField:04X} 0000"
            for each in told
        }

    def _message(self, random: Random) -> Message:
        kind = random.choices((C_STORE, C_ECHO, N_EVENT_REPORT, random.choice(COMMANDS)), (60, 10, 15, 15))[0]
        if kind == C_STORE:
            message, elements = self._store(random)
        elif kind == N_EVENT_REPORT:
            message, elements = _report(random)
        else:
            has_data = random.random() < 0.3
            message = Message(random.choice((1, 3, 5)), b"", random.randbytes(20) if has_data else None)
            elements = [uid(0x2, VERIFICATION), number(0x100, kind), number(0x110, 7), _data_set_type(message)]
        if random.random() < 0.6:
            _change_command(random, elements)
        return Message(message.context, command_set(elements), message.data)

    def _store(self, random: Random) -> tuple[Message, list[Element]]:
        index, data, sop_uid = self._mutations.data_set(random)
        context = FIRST_STORAGE + 2 * index
        if random.random() < 0.05:
            context = random.choice((1, 3, FIRST_STORAGE + 2 * random.randrange(20), 2, 0, 255))
        message = Message(context, b"", data)
        sop_class = CT_IMAGE_STORAGE
        elements = [
            uid(0x2, sop_class),
            number(0x100, C_STORE),
            number(0x110, random.choice((1, 7, 65535))),
            number(0x700, random.choice((0, 0, 1, 2, 3))),
            _data_set_type(message),
            uid(0x1000, sop_uid),
        ]
        return message, elements


def _data_set_type(message: Message) -> Element:
    return number(0x800, NO_DATA_SET if message.data is None else DATA_SET)


def _report(random: Random) -> tuple[Message, list[Element]]:
    """A storage commitment report, or what is nearly one."""
    transaction = random.choice((KNOWN_TRANSACTION, "1.2.3.8", "", "x" * 70))
    items = random.randbytes(random.choice((0, 8, 40)))
    body = uid(0x00081195, transaction), Element(0x00081199, b"SQ", items)
    message = Message(3, b"", command_body(list(body)))
    elements = [
        uid(0x2, STORAGE_COMMITMENT),
        number(0x100, N_EVENT_REPORT),
        number(0x110, 9),
        _data_set_type(message),
        uid(0x1000, "1.2.840.10008.1.20.1.1"),
        number(0x1002, random.choice((1, 1, 2, 3, 65535))),
    ]
    return message, elements


def command_body(elements: list[Element]) -> bytes:
    """A data set in Implicit VR Little Endian."""
    return command_set(elements)[12:]


def _change_command(random: Random, elements: list[Element]) -> None:
    """Something of a command set is missing, twice there, of another length, or a lie."""
    for _ in range(random.choice((1, 1, 2))):
        at = random.randrange(len(elements)) if elements else 0
        act = random.randrange(6)
        if act == 0:
            del elements[at : at + 1]
        elif act == 1 and elements:
            elements.insert(at, elements[at])
        elif act == 2:
            elements.insert(
                at,
                Element(
                    random.choice((0x3, 0x600, 0x900, 0x902, 0x1001, 0x1030, 0x00080018)), b"UN", random.choice(TEXTS)
                ),
            )
        elif act == 3 and elements:
            elements[at] = Element(elements[at].tag, b"UN", random.choice(TEXTS))
        elif act == 4 and elements:
            elements[at] = number(elements[at].tag, random.choice((*WORDS, *COMMANDS)))
        elif elements:
            elements[at] = Element(
                elements[at].tag, random.choice(VRS), elements[at].value, length=random.choice(WORDS)
            )


def _fragmented(random: Random, message: Message) -> list[Part]:
    """The PDUs of a message, with fragments of any length, some with a lie in their header."""
    values = _values(random, message.context, IS_COMMAND, message.command)
    if message.data is not None:
        values += _values(random, message.context, 0, message.data)
    if random.random() < 0.15:
        _lie(random, values)
    pdus: list[Part] = []
    while values:
        count = random.choice((1, 1, 2, 5))
        pdus.append(p_data(*values[:count]))
        del values[:count]
    return pdus


def _values(random: Random, context: int, header: int, data: bytes) -> list[Part]:
    size = random.choice((max(1, len(data)), 1000, 200))
    pieces = [data[start : start + size] for start in range(0, len(data), size)] or [b""]
    return [pdv(context, header | (IS_LAST if piece is pieces[-1] else 0), piece) for piece in pieces]


def _lie(random: Random, values: list[Part]) -> None:
    at = random.randrange(len(values))
    context, header = values[at].fields[:2]
    act = random.randrange(6)
    if act == 0:
        values[at].fields = bytes((context, header ^ random.choice((1, 2, 3, 0x80)))) + values[at].fields[2:]
    elif act == 1:
        values[at].fields = bytes((context ^ random.choice((1, 2, 4)), header)) + values[at].fields[2:]
    elif act == 2:
        del values[at]
    elif act == 3:
        values.insert(at, values[at])
    elif act == 4:
        random.shuffle(values)
    else:
        values[at].fields = values[at].fields[: random.choice((0, 1, 2))]


def received(pdus: Input) -> list[Message]:
    """The messages as pynetdicom puts them together: what follows a message's end in the same PDU belongs to none."""
    messages: list[Message] = []
    command, data = b"", b""
    for pdu in pdus:
        content = pdu[6:] if pdu[0] == P_DATA else b""
        while len(content) >= 6:
            length, context, header = int.from_bytes(content[:4], "big"), content[4], content[5]
            piece, content = content[6 : 4 + length], content[4 + length :]
            if header & IS_COMMAND:
                command += piece
            else:
                data += piece
            if header & IS_LAST and (not header & IS_COMMAND or _is_without_data(command)):
                messages.append(Message(context, command, data))
                command, data = b"", b""
                break
    return messages


def _is_without_data(command: bytes) -> bool:
    try:
        return bool(read_dataset(BytesIO(command), True, True).get("CommandDataSetType") == NO_DATA_SET)
    except Exception:  # noqa: BLE001 - the server ends the association at such a command
        return False
