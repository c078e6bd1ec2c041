"""PDUs as trees whose every length, type and field can be made to lie (PS3.8 9.3), and messages of them (PS3.7 6)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from element_tree import Element, Encoding, encoded

IMPLICIT: Final = Encoding(True, True)
"""Of command sets (PS3.7 6.3.1)."""

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
IS_COMMAND, IS_LAST = 1, 2
"""Bits of the message control header (PS3.8 E.2)."""

APPLICATION_CONTEXT: Final = b"1.2.840.10008.3.1.1.1"
WORDS: Final = (0, 1, 2, 3, 4, 5, 7, 8, 16, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF)
TEXTS: Final = (
    *(b"", b" " * 16, b"\0" * 16, b"1.2.3", b"1." * 33, b"1" * 65, b"../../x", b"1.2.840.10008.1.1", b"\xff" * 20),
    *(
        b"1.2.840.10008.5.1.4.1.1.2",
        b"1.2.840.10008.1.2",
        b"1.2.840.10008.1.2.5",
        b"A" * 20_000,
        b"\x1b$B\\",
        b"1..2",
        b".",
    ),
)


@dataclass
class Part:
    """A PDU or one of its items: type, reserved byte, length, fields, then parts; a PDV has no type.

    ``length``, where set, is written in place of what is true.
    """

    kind: int | None
    fields: bytes = b""
    parts: "list[Part] | None" = None
    length_size: int = 2
    length: int | None = None

    def encoded(self) -> bytes:
        """The bytes, lies included."""
        content = self.fields + b"".join(part.encoded() for part in self.parts or ())
        length = len(content) if self.length is None else self.length
        start = b"" if self.kind is None else bytes((self.kind, 0))
        return start + (length % (1 << 8 * self.length_size)).to_bytes(self.length_size, "big") + content


def copy_of(part: Part) -> Part:
    """A copy at every depth."""
    return replace(part, parts=None if part.parts is None else [copy_of(each) for each in part.parts])


@dataclass(frozen=True)
class Context:
    """A presentation context."""

    number: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


def associate_rq(calling: str, called: str, contexts: Sequence[Context], negotiation: Sequence[Part] = ()) -> Part:
    """An A-ASSOCIATE-RQ."""
    items = [
        Part(0x20, bytes((each.number, 0, 0, 0)), [_uid(0x30, each.abstract_syntax), *_syntaxes(each)])
        for each in contexts
    ]
    return _associate(ASSOCIATE_RQ, called, calling, items, negotiation)


def associate_ac(contexts: Sequence[Context]) -> Part:
    """An A-ASSOCIATE-AC that accepts all contexts with their first transfer syntax."""
    items = [Part(0x21, bytes((each.number, 0, 0, 0)), _syntaxes(each)[:1]) for each in contexts]
    return _associate(ASSOCIATE_AC, "ARCHIVE", "ISCL_NODE", items, ())


def _associate(kind: int, called: str, calling: str, items: list[Part], negotiation: Sequence[Part]) -> Part:
    fields = b"\0\1\0\0" + called.ljust(16).encode() + calling.ljust(16).encode() + bytes(32)
    user = [Part(0x51, (16384).to_bytes(4, "big")), _uid(0x52, "1.2.3.4"), *negotiation]
    return Part(kind, fields, [Part(0x10, APPLICATION_CONTEXT), *items, Part(0x50, parts=user)], 4)


def _uid(kind: int, uid: str) -> Part:
    return Part(kind, uid.encode())


def _syntaxes(context: Context) -> list[Part]:
    return [_uid(0x40, each) for each in context.transfer_syntaxes]


def rare_negotiation(random: Random, sop_class: str) -> list[Part]:
    """Items of PS3.7 D.3.3 that few use: roles, extended negotiation, asynchronous operations, user identity."""
    uid = len(sop_class).to_bytes(2, "big") + sop_class.encode()
    name = b"user"
    secret = random.randbytes(random.choice((0, 4, 40)))
    identity = bytes((random.randrange(7), random.randrange(3))) + len(name).to_bytes(2, "big") + name
    every = (
        Part(0x53, b"\0\5\0\5"),
        Part(0x54, uid + random.choice((b"\0\1", b"\1\0", b"\1\1", b"\2\2", b""))),
        Part(0x55, b"VERSION_1"),
        Part(0x56, uid + random.randbytes(4)),
        Part(0x57, uid + uid + len(uid).to_bytes(2, "big") + uid),
        Part(0x58, identity + len(secret).to_bytes(2, "big") + secret),
        Part(random.randrange(256), random.randbytes(6)),
    )
    return [each for each in every if random.random() < 0.3]


def pdv(context: int, header: int, data: bytes) -> Part:
    """A presentation data value."""
    return Part(None, bytes((context, header)) + data, length_size=4)


def p_data(*pdvs: Part) -> Part:
    """A P-DATA-TF."""
    return Part(P_DATA, parts=list(pdvs), length_size=4)


def plain(kind: int) -> Part:
    """A PDU of one of the other types: reject, release, abort."""
    return Part(kind, bytes(4), length_size=4)


def command_set(elements: Sequence[Element]) -> bytes:
    """A command set with its group length."""
    content = encoded(list(elements), IMPLICIT)
    return encoded([Element(0x00000000, b"UL", len(content).to_bytes(4, "little"))], IMPLICIT) + content


def number(tag: int, value: int) -> Element:
    """An element of US."""
    return Element(tag, b"US", (value & 0xFFFF).to_bytes(2, "little"))


def uid(tag: int, value: str) -> Element:
    """An element of UI."""
    text = value.encode()
    return Element(tag, b"UI", text + bytes(len(text) % 2))


def changed(random: Random, root: Part) -> Part:
    """A copy with some of it changed."""
    root = copy_of(root)
    for _ in range(random.choice((1, 1, 2, 4))):
        random.choice(_CHANGES)(random, random.choice(list(_all(root))))
    return root


def changed_bytes(random: Random, data: bytes) -> bytes:
    """Some bytes changed, cut or put in."""
    result = bytearray(data)
    for _ in range(random.choice((1, 2, 8))):
        at = random.randrange(len(result) + 1)
        act = random.randrange(4)
        if act == 0:
            result[at : at + 1] = random.randbytes(1)
        elif act == 1:
            result[at:at] = random.randbytes(random.choice((1, 4, 200)))
        elif act == 2:
            del result[at : at + random.choice((1, 4, 1000))]
        else:
            result[at:at] = result[at : at + 64]
    return bytes(result)


def _all(part: Part) -> Iterator[Part]:
    yield part
    for each in part.parts or ():
        yield from _all(each)


def _kind(random: Random, part: Part) -> None:
    if part.kind is not None:
        part.kind = random.choice((random.randrange(256), part.kind ^ 1, 0x10, 0x20, 0x21, 0x30, 0x40, 0x50))


def _length(random: Random, part: Part) -> None:
    true = len(part.fields) + sum(len(each.encoded()) for each in part.parts or ())
    part.length = random.choice(
        (0, 1, true - 1, true + 1, true + 4, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, random.choice(WORDS))
    )


def _fields(random: Random, part: Part) -> None:
    if not part.fields or random.random() < 0.3:
        part.fields = random.choice(TEXTS)
        return
    at = random.randrange(len(part.fields))
    part.fields = part.fields[:at] + random.randbytes(1) + part.fields[at + 1 :]


def _cut(random: Random, part: Part) -> None:
    part.fields = part.fields[: random.randrange(len(part.fields) + 1)]


def _remove(random: Random, part: Part) -> None:
    if part.parts:
        del part.parts[random.randrange(len(part.parts))]


def _repeat(random: Random, part: Part) -> None:
    if part.parts:
        chosen = random.choice(part.parts)
        part.parts.extend(copy_of(chosen) for _ in range(random.choice((1, 2, 130, 300))))


def _nest(random: Random, part: Part) -> None:
    if part.parts:
        part.parts.insert(random.randrange(len(part.parts) + 1), copy_of(random.choice(list(_all(part)))))


def _shuffle(random: Random, part: Part) -> None:
    if part.parts:
        random.shuffle(part.parts)


_CHANGES: Final = (_kind, _length, _fields, _fields, _cut, _remove, _repeat, _nest, _shuffle)
