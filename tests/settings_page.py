"""docs/settings.md: every key of the settings file, from the classes that read it.

Run as ``python tests/settings_page.py > docs/settings.md``.
"""

import sys
from collections.abc import Iterator
from itertools import groupby

from iscl_node.conformance.statement import parameters
from iscl_node.domain import SCAN_FACTS
from iscl_node.settings import Settings

HEAD = """# Settings

One TOML file; `config/iscl-node.toml` is a commented example. An unknown key is an error, and all faults of a file are
reported at once. Relative paths start at the folder of the file. Environment variables win over the file:
`ISCL_NODE__SCP__PORT=11113` sets `[scp] port`. `iscl-node check --config FILE` shows what the node makes of it.

Names in double brackets are tables that may occur several times. A dash means that there is no default. Times are in
seconds unless the name says otherwise. The page is generated from the program:

```
python tests/settings_page.py > docs/settings.md
```
"""

PAGES = {
    "http": "page.md",
    "bundle": "bundles.md",
    "spool": "spool.md",
    "delivery": "delivery.md",
    "derived": "derived.md",
    "quality": "quality.md",
    "audit": "audit.md",
    "scp": "security.md",
    "peers": "security.md",
    "dicomweb": "delivery.md",
    "rules": "rules.md",
}
"""Where more is said about a table."""


def _rows() -> Iterator[tuple[str, str, str, str]]:
    """Table, key in it, default and meaning, in the order of the classes."""
    for name, default, meaning in parameters(Settings, ""):
        key = name.strip("`")
        table, _, rest = key.rpartition(" ") if " " in key else key.rpartition(".")
        if not key.startswith("[") and "." in key:
            table, _, rest = key.partition(".")
        elif key.startswith("["):
            table, _, rest = key.partition(" ")
        yield table, rest, default, meaning


def _default(key: str, default: str) -> str:
    if default == "see 8.2":
        return f"{len(SCAN_FACTS)} elements, listed in [conformance.md](conformance.md), 8.2"
    return "-" if default == "-" else f"`{default}`" if default != "not set" else default


def page() -> str:
    """The text of docs/settings.md."""
    parts = [HEAD]
    for table, rows in groupby(_rows(), key=lambda row: row[0]):
        name = table.strip("[]")
        heading = f"`{table}`" if table.startswith("[") else f"`[{table}]`" if table else "At the top of the file"
        more = f"\n\nMore: [{PAGES[name]}]({PAGES[name]})." if name in PAGES else ""
        lines = [f"| `{key}` | {_default(key, default)} | {_cell(meaning)} |" for _, key, default, meaning in rows]
        parts.append(f"## {heading}{more}\n\n| key | default | meaning |\n|---|---|---|\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("``", "`")


if __name__ == "__main__":
    sys.stdout.write(page())
