"""The key with which the log hashes UIDs."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from iscl_node.store.log_key import KEY_FILE, known_log_key, made_log_key, places_of_uids
from iscl_node.store.spool import Spool


def test_the_key_is_made_once_for_all_processes_and_readable_for_its_owner_only(tmp_path: Path) -> None:
    assert known_log_key(tmp_path) is None
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(made_log_key, [tmp_path] * 8))
    assert keys == {known_log_key(tmp_path)}
    assert len(keys.pop()) == 32
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_two_spools_have_two_keys(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    assert made_log_key(tmp_path / "one") != made_log_key(tmp_path / "two")


def test_series_and_instances_are_found_where_they_lie(spool: Spool) -> None:
    for place in ("open/1.2/1.2.1.dcm", "done/1.3/20261123T000000.000000Z/1.3.1.dcm"):
        path = spool.root / place
        path.parent.mkdir(parents=True)
        path.touch()
    batch = "done/1.3/20261123T000000.000000Z"
    assert places_of_uids(spool.root) == {"1.2": "open/1.2", "1.2.1": "open/1.2", "1.3": batch, "1.3.1": batch}
