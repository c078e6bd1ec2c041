"""``iscl-node password``."""

import typer


def password() -> None:
    """Ask for a password of the page, and print its hash for the users in \\[http] of the settings."""
    from iscl_node.web.passwords import password_hash

    typed = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    print(password_hash(typed))  # noqa: T201 - for the settings
