"""The file as bytes: encodings, line ends, sizes, syntax; and files that cannot be read at all."""

import os

import pytest

from gateway.errors import ConfigError
from gateway.settings import check, load


def only_problem(path):
    site, [problem] = check(path)
    assert site is None
    assert problem.file == str(path)
    assert problem.advice
    with pytest.raises(ConfigError) as raised:
        load(path)
    assert raised.value.problems == (problem,)
    return problem


def test_byte_order_mark_and_windows_line_ends_are_accepted(site_file):
    usual = load(site_file.saved())
    site_file.path.write_bytes(b"\xef\xbb\xbf" + site_file.text.replace("\n", "\r\n").encode())
    windows = load(site_file.path)
    assert windows.buses == usual.buses
    assert windows.sha256 != usual.sha256


def test_lines_are_right_with_windows_line_ends(site_file):
    site_file.replaced("address = 2", "address = 0")
    site_file.path.write_bytes(site_file.text.replace("\n", "\r\n").encode())
    assert only_problem(site_file.path).line == site_file.line("address = 0")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf16_is_named(site_file, encoding):
    site_file.path.write_bytes(site_file.text.encode(encoding))
    problem = only_problem(site_file.path)
    assert "UTF-16" in problem.text
    assert "UTF-8" in problem.advice


def test_bad_utf8_is_named_with_its_line(site_file):
    site_file.path.write_bytes(site_file.text.encode().replace("tủ".encode(), b"t\xfa"))
    problem = only_problem(site_file.path)
    assert "UTF-8" in problem.text
    assert problem.line == site_file.line("tủ điện")


def test_a_file_over_one_mebibyte_is_refused_unread(site_file):
    site_file.path.write_bytes(b"#" * (2**20 + 1))
    assert "1 MiB" in only_problem(site_file.path).text
    site_file.path.write_bytes(b"#" * 2**20)
    assert check(site_file.path)[1][0].path == "gateway"


def test_a_missing_file_says_how_to_name_one(tmp_path):
    problem = only_problem(tmp_path / "none.toml")
    assert problem.line == 0
    assert "--config" in problem.advice
    assert "GATEWAY_CONFIG" in problem.advice


def test_a_directory_is_named_as_one(tmp_path):
    assert "directory" in only_problem(tmp_path).text


def test_a_path_through_a_file_is_named(site_file):
    assert "cannot be read" in only_problem(site_file.saved() / "gateway.toml").text


def test_a_file_that_may_not_be_read_is_named(site_file):
    """Root may read everything, so it plays somebody else meanwhile."""
    site_file.saved().chmod(0)
    me = os.geteuid()
    if me == 0:
        site_file.path.parent.chmod(0o711)
        os.seteuid(65534)
    try:
        with pytest.raises(PermissionError):
            site_file.path.read_bytes()
        assert "may not be read" in only_problem(site_file.path).text
    finally:
        os.seteuid(me)


@pytest.mark.parametrize(
    ("line", "text", "advice"),
    [
        ('name "x"', "no = after the key", 'name = "x"'),
        ("name = x", "cannot be read", "quotes"),
        ("every = 10s", "something after the value", "one key"),
        ('name = "x', "not closed on this line", "end"),
        ("name = 'x", "not closed on this line", "end"),
        ("a = 1\na = 2", "second time", "remove"),
        ("b = { a = 1, a = 2 }", "twice", "remove"),
        ("[clock", "] of the table header", "[gateway]"),
        ("[[bus", "]] of the table header", "[[bus]]"),
        ("[clock]\n[clock]", "stands here a second time", "[[...]]"),
        ("[[bus]]\n[bus]", "stands here a second time", "[[...]]"),
        ("b = [1", "list is not closed", "]"),
        ("b = [1\n[clock]", "list is not closed", "]"),
        ("b = { a = 1", "table is not closed", "}"),
        ('name = "C:\\x"', "\\ in a text", "\\\\"),
        ("= 1", "not key = value", "#"),
        ("name = 1 2", "something after the value", "one key"),
        ("đ = 1", "not key = value", "#"),
        ("a.đ = 1", "cannot begin like this", "letters"),
        ("b = { a = 1 }\nb.c = 2", "cannot be added to", "{ and }"),
        ("name = 2024-02-31", "not a date", "quotes"),
        ('name = "a\x01"', "must not stand here", "delete"),
        ('name = "\\uZZZZ"', "", ""),
        ("name = " + "9" * 5000, "", ""),
    ],
)
def test_a_syntax_error_is_one_problem_with_its_line_and_advice(site_file, line, text, advice):
    site_file.text = f"# first\n\n{line}\n"
    problem = only_problem(site_file.saved())
    assert text in problem.text
    assert advice in problem.advice
    assert problem.line >= 3 or "9999" in line
    assert problem.line <= site_file.text.count("\n")


@pytest.mark.parametrize("suffix", ["toml", "json"])
def test_nesting_without_end_is_refused(tmp_path, suffix):
    path = tmp_path / f"gateway.{suffix}"
    path.write_text(("a = " if suffix == "toml" else "") + "[" * 100_000)
    assert "nested too deeply" in only_problem(path).text


def test_the_json_form_is_the_same_site(site_file, tmp_path):
    import json
    import tomllib

    path = tmp_path / "gateway.json"
    path.write_text(json.dumps(tomllib.loads(site_file.text)), encoding="utf-8")
    assert load(path).buses == load(site_file.saved()).buses
    path.write_text(path.read_text().replace('"baud"', '"bauds"'))
    problem = only_problem(path)
    assert (problem.path, problem.line) == ("bus[0].serial.bauds", 0)


@pytest.mark.parametrize(("text", "said"), [("{", "not JSON"), ("[]", "not a JSON object"), ("9" * 5000, "not JSON")])
def test_wrong_json_is_one_problem(tmp_path, text, said):
    path = tmp_path / "gateway.json"
    path.write_text(text)
    assert said in only_problem(path).text
