"""What is made of errors that nobody raised on purpose."""

import pytest

from iscl_node.errors import OutsideBytesError, QuarantineSeriesError, RetryLaterError, outside_bytes, text_of


@pytest.mark.parametrize("error", [ValueError("Doe^John"), RecursionError(), KeyError("Doe^John"), MemoryError()])
def test_what_a_decoder_raises_is_one_error_without_its_text(error: Exception) -> None:
    with pytest.raises(OutsideBytesError, match=f"^{type(error).__name__}$") as raised, outside_bytes():
        raise error
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", [QuarantineSeriesError("ours"), FileNotFoundError(2, "gone")])
def test_what_is_meant_goes_through(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, outside_bytes(FileNotFoundError):
        raise error
    assert raised.value is error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RetryLaterError("peer pacs does not answer"), "peer pacs does not answer"),
        (OSError(28, "No space left on device", "/spool/2.25.1/2.25.2.dcm"), "No space left on device"),
        (OSError("without a number"), "OSError"),
        (ValueError("Doe^John"), "ValueError"),
    ],
)
def test_an_error_is_told_without_paths_and_without_what_others_quote(error: Exception, text: str) -> None:
    assert text_of(error) == text
