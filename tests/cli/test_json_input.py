"""JSON from arguments, files and stdin."""

import pytest

from salesmachine_async.cli.json_input import DocumentError, parse_document, read_document


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a":', """it ends too early, expecting value at line 1, column 6, after '{"a":'"""),
        ("", "it is empty at line 1, column 1"),
        ('{\n  "a": x\n}', "expecting value at line 2, column 8"),
        ('{"a": 1} x', "extra data at line 1, column 10"),
        ('{"a', "unterminated string starting at line 1, column 2"),
        ("{a: 1}", "did the shell remove the quotes?"),
        ('{"a": NaN}', "NaN is not JSON"),
        ("[-1e400]", "-1e400 is too large for a number"),
        ('{"a": {"b": 1, "b": 2}}', "duplicate key 'b'"),
        ("[" * 100_000, "nested too deeply"),
        ('"\udcff"', "is not valid UTF-8"),
        ("1" * 5000, "cannot be used"),
    ],
)
def test_what_is_wrong_and_where(text: str, problem: str) -> None:
    """An error names the option, the problem and the place."""
    with pytest.raises(DocumentError) as caught:
        parse_document("--params", text)
    assert str(caught.value).startswith("--params ")
    assert problem in str(caught.value)


def test_only_the_place_is_quoted() -> None:
    """Only the text before an error is shown."""
    with pytest.raises(DocumentError) as caught:
        parse_document("--params", '{"secret": "' + "x" * 1000 + '", }')
    assert len(str(caught.value)) < 150


def test_a_file(tmp_path: object) -> None:
    """`@FILE` is read; an unreadable file is an error with its name."""
    file = f"{tmp_path}/params.json"
    with pytest.raises(DocumentError, match=r"cannot read --params @.*params\.json: No such file"):
        read_document("--params", f"@{file}")
    with open(file, "wb") as opened:
        opened.write(b'{"a": "\xff"}')
    with pytest.raises(DocumentError, match=r"is not valid UTF-8 \(byte 8\)"):
        read_document("--params", f"@{file}")
    with open(file, "w") as opened:
        opened.write('{"a": [1, 2.5, null, "\u00e9"]}')
    assert read_document("--params", f"@{file}") == {"a": [1, 2.5, None, "é"]}


def test_what_has_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device or pipe without an end does not fill the memory."""
    for value in ("@/dev/zero", "-"):
        with open("/dev/zero") as endless:
            monkeypatch.setattr("sys.stdin", endless)
            with pytest.raises(DocumentError, match=r"--params .*is longer than 64 MiB|--params is longer than 64 MiB"):
                read_document("--params", value)
