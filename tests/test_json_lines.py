"""Lines that a full disk cut off do not spoil the next one."""

import errno
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.json_lines import append

TEXTS = st.text(st.characters(), max_size=20)  # lone surrogates included


@given(st.lists(st.tuples(TEXTS, st.one_of(st.none(), st.integers(0, 60))), max_size=8))
def test_after_any_torn_writes_every_line_is_whole(tmp_path_factory, rows):
    """None: the write succeeds. A number: the disk takes so many bytes of it, and no more."""
    path = tmp_path_factory.mktemp("lines") / "rows.jsonl"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    whole = []
    with pytest.MonkeyPatch.context() as patch:
        real = os.write
        for text, room in rows:
            left = [room]

            def write(to, line, left=left):
                if left[0] is None:
                    return real(to, line)
                if not left[0]:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                written = real(to, line[: left[0]])
                left[0] -= written
                return written

            patch.setattr(os, "write", write)
            try:
                append(descriptor, {"text": text})
                whole.append({"text": text})
            except OSError as error:
                assert error.errno == errno.ENOSPC
    os.close(descriptor)
    assert [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] == whole
    assert path.read_bytes().endswith(b"\n") or not whole


def test_a_row_without_a_json_text_writes_nothing(tmp_path):
    descriptor = os.open(tmp_path / "rows", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with pytest.raises(ValueError, match="not JSON compliant"):
        append(descriptor, {"x": float("nan")})
    os.close(descriptor)
    assert (tmp_path / "rows").read_bytes() == b""
