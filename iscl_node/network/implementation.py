"""Who we are in every association."""

from pydicom.uid import UID
from pynetdicom import AE

from iscl_node import __version__
from iscl_node.domain import IMPLEMENTATION_CLASS_UID, implementation_version_name


def named_entity(ae_title: str) -> AE:
    """Return an application entity that names this implementation (PS3.7 D.3.3.2), not the library under it."""
    entity = AE(ae_title=ae_title)
    entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    entity.implementation_version_name = implementation_version_name(__version__)
    return entity
