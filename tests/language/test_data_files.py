"""Files of data: what is no JSON lines is named, with the line that converts it."""

import gzip
import json
import re
import subprocess
import sys
import zipfile

import pytest

from proximo.errors import UserError
from proximo.language.text.data_files import lines_of

RECORDS = [{"prompt": "a"}, {"prompt": "b é"}]
LINES = "".join(json.dumps(record) + "\n" for record in RECORDS)


def refused(source, message):
    with pytest.raises(UserError, match=message) as error:
        list(lines_of(source))
    assert "\n" not in str(error.value)
    return str(error.value)


def zipped(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.jsonl", LINES)


FORMATS = {
    "gzip": (lambda path: path.write_bytes(gzip.compress(LINES.encode())), "is gzip, .* gunzip -k"),
    "zip": (zipped, "is a zip archive, .* unzip"),
    "bzip2": (lambda path: path.write_bytes(b"BZh91AY&SY"), "is bzip2, .* bunzip2 -k"),
    "Parquet": (lambda path: path.write_bytes(b"PAR1\x15\x04"), r"is Parquet, .*load_dataset\('parquet'"),
    "Arrow": (lambda path: path.write_bytes(b"ARROW1\x00\x00"), r"is Arrow, .*load_dataset\('arrow'"),
    "Arrow's stream": (lambda path: path.write_bytes(b"\xff\xff\xff\xff\x10"), "is Arrow, .*'arrow'"),
    "UTF-16": (lambda path: path.write_bytes(LINES.encode("utf-16")), "is UTF-16, .* iconv -f UTF-16 "),
    "UTF-16 without a mark": (
        lambda path: path.write_bytes(LINES.encode("utf-16-le")),
        "is UTF-16, .* iconv -f UTF-16LE",
    ),
    "a table": (lambda path: path.write_text("prompt\na\n"), r"is a table \(csv\), .*load_dataset\('csv'"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_of_another_format_is_named_with_what_converts_it(tmp_path, name):
    path = tmp_path / "data.csv"
    write, message = FORMATS[name]
    write(path)
    refused(path, f"^{path} {message}.*{path}")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (json.dumps(RECORDS), "array"),
        (json.dumps(RECORDS, indent=2), "array"),
        (json.dumps(RECORDS[0], indent=2), "object"),
    ],
)
def test_json_that_is_not_in_lines_is_named_and_the_line_converts_it(tmp_path, text, what):
    path = tmp_path / "data.json"
    path.write_text(text)
    message = refused(path, f"^{path} is one JSON {what}, not JSON lines; convert it: python -c ")
    program = re.search(r'python -c "(.*)"$', message)[1]
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    found = [line.record for line in lines_of(tmp_path / "data.jsonl")]
    assert found == (RECORDS if what == "array" else RECORDS[:1])


def test_records_over_several_lines_are_named(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(json.dumps(record, indent=2) for record in RECORDS))
    refused(path, f"^{path} is JSON over several lines, not JSON lines; convert it: jq -c .")


def test_a_torn_line_is_no_other_format(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text('{"prompt": "a"')
    refused(path, f"^{path}, line 1: is not JSON")


@pytest.mark.parametrize("name", ["https://host/data.jsonl", "hf://datasets/a/b.jsonl", "s3://bucket/c"])
def test_an_address_is_named_as_one(name):
    scheme = name.partition(":")[0]
    assert refused(name, f"is an address .{scheme}., and data must be a file").startswith(f"{name} is")


def test_an_address_that_became_a_path_is_one_too():
    from pathlib import Path

    refused(Path("https://host/data.jsonl"), "is an address .https.")


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (b'{"prompt": "a", "prompt": "b"}', "prompt"),
        (b'{"prompt": [{"role": "user", "content": "a", "content": "b"}]}', "content"),
        (b'{"prompt": "a", "meta": {"x": 1, "y": 2, "x": 1}}', "x"),
    ],
)
def test_a_key_that_occurs_twice_is_an_error(tmp_path, line, key):
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'{"prompt": "a"}\n\n' + line)
    refused(path, f'^{path}, line 3: has "{key}" twice in one object: keep one')
