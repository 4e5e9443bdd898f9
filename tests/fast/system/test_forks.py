"""A forked child has no copy of what must end with its parent."""

import gc
import os
import socket
import weakref
from pathlib import Path

import pytest

from amends.system.forks import keep_from_children
from tests.support.forked import forked


def test_a_listening_socket_ends_with_its_parent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        keep_from_children(listening, socket.socket.fileno)
        with forked():
            socket.create_connection(address).close()
            listening.close()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)


def test_a_peer_sees_the_end_of_a_connection_though_a_child_lives() -> None:
    ours, theirs = socket.socketpair()
    keep_from_children(ours, socket.socket.fileno)
    theirs.settimeout(5)
    with forked(), theirs:
        ours.close()
        assert theirs.recv(1) == b""


def test_a_number_that_was_given_anew_stays_with_the_child(tmp_path: Path) -> None:
    """The registered socket was closed, and the number of its descriptor is a file's by now."""
    made = socket.socket()
    number = made.fileno()
    keep_from_children(made, socket.socket.fileno)
    made.close()
    (tmp_path / "file").write_bytes(b"here")
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        assert descriptor == number
        with forked(lambda: os.pread(descriptor, 4, 0) == b"here"):
            pass
    finally:
        os.close(descriptor)


def test_the_child_keeps_the_number_so_that_closing_its_copy_harms_nothing() -> None:
    with socket.socket() as made:
        keep_from_children(made, socket.socket.fileno)
        with forked(lambda: os.path.samestat(os.fstat(made.fileno()), Path(os.devnull).stat())):
            pass


def test_an_owner_that_can_not_be_asked_saves_no_other() -> None:
    class HalfMade:
        pass

    def asked(_: HalfMade) -> int:
        raise AttributeError("not connected yet")

    before = HalfMade()
    keep_from_children(before, asked)
    with socket.socket() as made:
        keep_from_children(made, socket.socket.fileno)
        with forked(lambda: os.path.samestat(os.fstat(made.fileno()), Path(os.devnull).stat())):
            pass


def test_an_owner_is_not_kept_alive() -> None:
    made = socket.socket()
    keep_from_children(made, socket.socket.fileno)
    made.close()
    gone = weakref.ref(made)
    del made
    gc.collect()
    assert gone() is None
