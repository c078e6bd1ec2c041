"""A receiver as a process of its own: ``receiver.py SPOOL NAME CONTENT``; receives one instance for each input line."""

import sys
from pathlib import Path

from spool_contents import header, part10

from iscl_node.store.spool import Spool

root, name, content = Path(sys.argv[1]), sys.argv[2], sys.argv[3].encode()
spool = Spool.open(root, 0, name)
spool.recover()
sys.stdout.write("ready\n")
sys.stdout.flush()
for uid in map(str.strip, sys.stdin):
    sys.stdout.write(f"{spool.store(header(uid), part10(content)).value}\n")
    sys.stdout.flush()
