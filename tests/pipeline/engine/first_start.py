"""One of several nodes that start at the same instant, where there is neither a database nor a spool yet."""

import sys
from pathlib import Path

from iscl_node.errors import IsclNodeError
from iscl_node.pipeline.engine.leases import taken_lease
from iscl_node.pipeline.engine.workers import Worker
from iscl_node.store.identity import settle_identity

if __name__ == "__main__":
    url, name, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    try:
        lease = taken_lease(url, Worker(name, "all", "1"))
        identity = settle_identity(folder / "spool", folder / f"{name}.spool", "1", lease.spool_id())
        lease.belong_to(identity)
        sys.stdout.write(f"{identity}\n")
        sys.stdout.flush()
        sys.stdin.readline()
        lease.stop()
    except IsclNodeError as error:
        sys.stdout.write(f"{error}\n")
