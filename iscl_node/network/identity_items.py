"""User identity in an association request (PS3.7 D.3.3.7)."""

from pynetdicom.pdu_primitives import UserIdentityNegotiation

from iscl_node.domain import UserIdentity

USER_NAME_AND_PASSWORD = 2
"""User-Identity-Type (PS3.7 Table D.3-14)."""


def user_identity(user: UserIdentity) -> UserIdentityNegotiation:
    """What we present as a requestor (PS3.7 D.3.3.7.1)."""
    item = UserIdentityNegotiation()
    item.user_identity_type = USER_NAME_AND_PASSWORD
    item.primary_field = user.name.encode()
    item.secondary_field = user.password.encode()
    return item
