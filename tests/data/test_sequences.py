"""Texts as windows, sequences of states, and how both are refused and shown."""

from pathlib import Path

import numpy as np
import pytest
import torch

from genus.data import DataOptions, open_source, preview
from genus.data.sequences import read_states, read_text
from genus.errors import DataFormatError, SettingsError
from genus.kinds import Sheet, Tokens
from genus.kinds.tokens import GAP
from genus.report.pictures import sheet

STORY = "".join(f"{n} bottles, Łódź\n" for n in range(400))


def written(folder: Path, content: str | bytes, name: str = "story.txt") -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def test_a_text_is_windows_in_its_order(tmp_path: Path) -> None:
    source = open_source(written(tmp_path, STORY), DataOptions(length=50))
    domain = source.domain
    assert isinstance(domain, Tokens) and domain.length == 50
    assert domain.names == tuple(sorted(set(STORY))) and source.name == "story.txt (windows of 50)"
    windows = [text for split in source.splits.values() for text in domain.texts(split.x)]
    assert "".join(windows) == STORY[: len(STORY) // 50 * 50]  # every character once, no window across a split
    count = len(STORY) // 50
    assert [len(split) for split in source.splits.values()] == [count - 2 * (count // 10), count // 10, count // 10]
    assert f"the last {len(STORY) % 50} fill no window" in source.notes
    assert source.train.x.dtype == torch.uint8
    again = open_source(written(tmp_path, STORY), DataOptions(length=50))
    assert again.fingerprint == source.fingerprint
    assert open_source(written(tmp_path, STORY)).domain.shape == (64,)


def test_many_characters_are_more_than_a_byte(tmp_path: Path) -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 1200)))
    source = open_source(written(tmp_path, text), DataOptions(length=100))
    assert source.domain.dtype == torch.int64 and source.domain.levels == 1200
    assert "".join(t for s in source.splits.values() for t in source.domain.texts(s.x)) == text


def test_a_mark_at_the_start_and_foreign_ends_of_lines_are_not_text(tmp_path: Path) -> None:
    path = Path(written(tmp_path, b"\xef\xbb\xbfone\r\ntwo\rthree\n"))
    assert read_text(path) == "one\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the text is empty"),
        (b"\xef\xbb\xbf", "the text is empty"),
        ("café ".encode("latin-1") * 100, r"not UTF-8 text \(byte 0xe9 at 3\); save it as UTF-8"),
        ("hello".encode("utf-16"), "not UTF-8 text"),
        (b"ab\ncd\x00ef" * 99, r"line 2: not text, it holds the control character '\\x00'"),
        (b"ab\x1b[2J" * 99, "control character"),
        (b"a" * 500, "at least two different characters; got 'a' only"),
        (b"too short", "9 characters are too few for windows of 64: expected at least 3"),
        (b"ab" * 95, "190 characters are too few"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(DataFormatError, match=said):
        open_source(written(tmp_path, content))


def test_a_text_that_is_too_large_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huge = tmp_path / "huge.txt"
    with huge.open("wb") as file:
        file.truncate((256 << 20) + 1)  # a sparse file
    monkeypatch.setattr(Path, "open", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(DataFormatError, match="more than 256 MiB of text"):
        read_text(huge)


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'size' does not fit"):
        open_source(written(tmp_path, STORY), DataOptions(size=8))
    with pytest.raises(SettingsError, match="'length' does not fit"):
        open_source("digits", DataOptions(length=8))
    assert len(open_source(written(tmp_path, STORY), DataOptions(limit=5)).train) == 5


# -- states -----------------------------------------------------------------------------------


def test_states_of_a_table(tmp_path: Path) -> None:
    table = Path(written(tmp_path, "day,city,weather\n1,A,sun\n1,B,rain\n2,A, rain\n2,B,rain\n", "w.csv"))
    assert read_states(table, "weather") == [["sun", "rain", "rain", "rain"]]
    assert read_states(table, "weather", "city") == [["sun", "rain"], ["rain", "rain"]]
    one = Path(written(tmp_path, "a;b\nx;1\nx;1\ny;2\n", "two.csv"))
    assert read_states(one, by="b") == [["x", "x"], ["y"]]
    assert read_states(Path(written(tmp_path, "0\n1\n0\n", "codes.csv"))) == [["0", "1", "0"]]


def test_states_of_texts_and_arrays(tmp_path: Path) -> None:
    assert read_states(Path(written(tmp_path, "abba"))) == [["a", "b", "b", "a"]]
    np.save(tmp_path / "codes.npy", np.array([[3, 1], [2, 2]], np.uint8))
    assert read_states(tmp_path / "codes.npy") == [["3", "1"], ["2", "2"]]
    np.save(tmp_path / "line.npy", np.array([True, False]))
    assert read_states(tmp_path / "line.npy") == [["1", "0"]]


def test_malformed_states_are_refused(tmp_path: Path) -> None:
    table = Path(written(tmp_path, "a,b\nx,1\n,2\n", "t.csv"))
    with pytest.raises(SettingsError, match=r"option 'column' which column to read: there are several; there are a, b"):
        read_states(table)
    with pytest.raises(SettingsError, match="there is none called 'c'"):
        read_states(table, "a", "c")
    with pytest.raises(DataFormatError, match="row 3, column 'a': expected a state"):
        read_states(table, "a")
    with pytest.raises(DataFormatError, match="expected 2 cells; got 3"):
        read_states(Path(written(tmp_path, "a,b\nx,1,2\n", "u.csv")), "a")
    with pytest.raises(DataFormatError, match="a header without rows"):
        read_states(Path(written(tmp_path, "a,b\n", "v.csv")), "a")
    with pytest.raises(SettingsError, match="are for tables"):
        read_states(Path(written(tmp_path, "abba")), "a")
    np.save(tmp_path / "f.npy", np.zeros(3))
    for path, said in ((tmp_path / "f.npy", "expected integers; got float64"), (tmp_path / "no.csv", "no such file")):
        with pytest.raises(DataFormatError, match=said):
            read_states(path)
    with pytest.raises(DataFormatError, match="cannot tell what it holds"):
        read_states(Path(written(tmp_path, "x", "x.doc")))


# -- pictures ---------------------------------------------------------------------------------


def test_text_is_shown_as_text_and_codes_as_strips(tmp_path: Path) -> None:
    source = open_source(written(tmp_path, STORY))
    assert preview(source).width > 600
    x = source.train.x[:7]
    words, strips = sheet(x, source.domain), sheet(x, Tokens(64, source.domain.levels))
    assert words[:4] == strips[:4] == b"\x89PNG" and words != strips and words == sheet(x, source.domain)
    page = np.asarray(Tokens(3, 3).draw(torch.tensor([[0, 1, 2], [2, 1, 0]]), Sheet(width=100)))
    row = [tuple(page[12, 12 + 30 * k]) for k in range(3)]
    assert len(set(row)) == 3 and row[::-1] == [tuple(page[12 + GAP + 24, 12 + 30 * k]) for k in range(3)]
    assert not Tokens(2, 2, ("ab", "c")).is_text and not Tokens(2, 2).is_text


@pytest.mark.parametrize("length", [1, 5, 5000])
@pytest.mark.parametrize("columns", [None, 1, 9])
def test_sequences_of_any_length_have_a_picture(length: int, columns: int | None) -> None:
    x = torch.arange(4 * length).view(4, length) % 40
    for domain in (Tokens(length, 40), Tokens(length, 40, tuple(map(chr, range(65, 105))))):
        width, height = domain.draw(x, Sheet(columns)).size
        assert height < 2000 and 10 < width < 1000
