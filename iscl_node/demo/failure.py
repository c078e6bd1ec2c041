"""What ends the demonstration before its time."""

from iscl_node.errors import IsclNodeError


class DemoError(IsclNodeError):
    """The demonstration cannot go on; the message says what happened and shows the log where there is one."""
