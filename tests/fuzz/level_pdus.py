"""The upper layer: PDUs that are broken, or come when they should not, on connections that end or hang."""

import contextlib
import select
import socket
from pathlib import Path
from random import Random
from typing import Final

from campaign import Input
from element_tree import Element
from node_under_fire import NodeUnderFire, answers
from protocol_parts import (
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    IS_COMMAND,
    IS_LAST,
    P_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    Context,
    Part,
    associate_rq,
    changed,
    changed_bytes,
    command_set,
    number,
    p_data,
    pdv,
    plain,
    rare_negotiation,
    uid,
)

from iscl_node.domain import CT_STORAGE
from iscl_node.network.scp.storage_scp import TRANSFER_SYNTAXES

VERIFICATION: Final = "1.2.840.10008.1.1"
ECHO: Final = p_data(
    pdv(
        1,
        IS_COMMAND | IS_LAST,
        command_set([uid(0x2, VERIFICATION), number(0x100, 0x30), number(0x110, 7), number(0x800, 0x101)]),
    )
)
CLOSE, HALF_CLOSE, HOLD = b"\0", b"\1", b"\2"
ANSWER_SECONDS: Final = 0.3
ENDS: Final = {
    ASSOCIATE_AC: "accepted",
    ASSOCIATE_RJ: "rejected",
    RELEASE_RP: "released",
    P_DATA: "answered",
    7: "aborted",
}


class Pdus:
    """The level."""

    def __init__(self, folder: Path) -> None:
        self._node = NodeUnderFire(folder)

    def make(self, random: Random) -> Input:
        """How the connection ends, and the PDUs."""
        end = random.choices((CLOSE, HALF_CLOSE, HOLD), (40, 59, 1))[0]
        pdus = self._script(random)
        broken = random.randrange(len(pdus))
        if random.random() < 0.6:
            pdus[broken] = changed(random, pdus[broken])
        data = [pdu.encoded() for pdu in pdus]
        if random.random() < 0.2:
            data[broken] = changed_bytes(random, data[broken])
        if random.random() < 0.1:
            data[-1] = data[-1][: random.randrange(len(data[-1]) + 1)]
        return [end, *data]

    def give(self, given: Input) -> str:
        """Send the PDUs one after the other, and see how the server ends it."""
        end, *pdus = given
        with self._node.connected() as connection, contextlib.suppress(ConnectionError):
            for pdu in pdus:
                connection.sendall(pdu)
                select.select([connection], [], [], ANSWER_SECONDS)
            if end == CLOSE:
                return "closed"
            if end == HALF_CLOSE:
                with contextlib.suppress(OSError):  # the server was faster
                    connection.shutdown(socket.SHUT_WR)
            seen = [ENDS.get(kind, "other") for kind, _ in answers(connection)]
            return ", ".join(dict.fromkeys(seen)) or "dropped"
        return "dropped"

    def check(self) -> None:
        """The node serves others."""
        self._node.check()
        self._node.forget()

    def close(self) -> None:
        """Stop the node."""
        self._node.close()

    def _script(self, random: Random) -> list[Part]:
        contexts = [Context(1, VERIFICATION, TRANSFER_SYNTAXES[:2])]
        contexts += [
            Context(3 + 2 * index, random.choice(CT_STORAGE), (random.choice(TRANSFER_SYNTAXES),))
            for index in range(random.choice((0, 1, 3, 30)))
        ]
        calling, called = ("SCANNER", "ISCL_NODE") if random.random() < 0.8 else ("STRANGER", "SOMEBODY ELSE")
        request = associate_rq(calling, called, contexts, rare_negotiation(random, contexts[-1].abstract_syntax))
        stray = plain(random.choice((ASSOCIATE_AC, ASSOCIATE_RJ, RELEASE_RQ, RELEASE_RP, 7, 0, 8, 255)))
        release = plain(RELEASE_RQ)
        return random.choice(
            (
                [request],
                [request, ECHO, release],
                [request, ECHO, ECHO, release],
                [ECHO],
                [release],
                [stray],
                [stray, request],
                [request, stray],
                [request, request],
                [request, release, ECHO],
                [request, ECHO, stray, ECHO],
                [request, _some_message(random), release],
            )
        )


def _some_message(random: Random) -> Part:
    """A P-DATA-TF whose values break the rules of PS3.8 E.2."""
    elements = [Element(random.getrandbits(32), b"UN", random.randbytes(4)) for _ in range(random.choice((0, 1, 3)))]
    values = [
        pdv(random.choice((0, 1, 2, 3, 255)), random.randrange(256), random.choice((b"", command_set(elements))))
        for _ in range(random.choice((0, 1, 2, 20)))
    ]
    return p_data(*values)
