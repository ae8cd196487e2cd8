from __future__ import annotations

import pytest

from serving.core.process_ending import ending


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (3, "ended with exit status 3"),
        (-11, "was ended by SIGSEGV"),
        (-9, "was ended by SIGKILL, as happens where memory runs out"),
        (-63, "was ended by signal 63"),
    ],
)
def test_a_status_is_told_by_its_number_or_its_signal_by_name(status: int, words: str):
    assert ending(status) == words
