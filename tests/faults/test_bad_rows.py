"""Bad rows and sources: file, row number, what is wrong and what to do, exit code 3; or skipped, counted and kept."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftl_runner import entry
from tests.e2e.ftl_cli import Ftl

pytestmark = pytest.mark.slow

Run = Callable[..., tuple[int, str]]
GOOD = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}
CALL = {"type": "function", "function": {"name": "find", "arguments": "{}"}}
RAISING = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system prompts, please') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
)


@pytest.fixture
def write(tmp_path: Path, smollm2: Path) -> Callable[..., str]:
    """Writes data.jsonl and a config for it."""

    def write(*lines: Any, name: str = "data.jsonl", **keys: Any) -> str:
        raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        (tmp_path / name).write_bytes(b"".join(line + b"\n" for line in raw))
        entry_keys = {"path": name, "type": "chat_template", "chat_template": "chatml", **keys.pop("entry", {})}
        config = {
            "base_model": str(smollm2),
            "special_tokens": {"eos_token": "<|im_end|>"},
            "datasets": [entry_keys, *keys.pop("more", [])],
            "dataset_prepared_path": "prepared",
            "output_dir": "out",
            "sequence_len": 64,
            "micro_batch_size": 1,
            "gradient_accumulation_steps": 1,
            "learning_rate": 1e-4,
            **keys,
        }
        (tmp_path / "config.yml").write_text(yaml.safe_dump(config))
        return "config.yml"

    return write


@pytest.fixture
def preprocess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """The runner's command line, in this process: it takes seconds to start one."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["ftl-runner", "preprocess", *arguments])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        output = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, output.out + output.err

    return run


def turns(*contents: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[n % 2], "content": text} for n, text in enumerate(contents)]}


BAD_ROWS = {
    "bad json": (b'{"messages": [', ("not JSON", "one complete JSON object")),
    "not an object": (b"[1, 2]", ("a list, not an object",)),
    "invalid utf-8": (b'{"messages": "\xff"}', ("not UTF-8 (byte 0xff at 15)", "save the file as UTF-8")),
    "half a character": (
        b'{"messages": [{"role": "user", "content": "\\ud83d"}]}',
        ("half a character (\\ud83d)", "repair it"),
    ),
    "missing field": ({"message": []}, ("no field 'messages' (fields: message)", "did you mean 'message'?")),
    "null": ({"messages": None}, ("field 'messages' is null", "fill it in")),
    "null content": (turns("hi", None), ("message 2 'content' is null",)),
    "number for text": (turns("hi", 3), ("content of message 2 is a number, not text",)),
    "no messages": ({"messages": []}, ("empty list",)),
    "empty content": (turns("hi", ""), ("message 2 (assistant) is empty", "fill it in")),
    "wrong role": (
        {"messages": [{"role": "asistant", "content": "x"}]},
        ("unknown role 'asistant'", "did you mean 'assistant'?"),
    ),
    "unknown role": (
        {"messages": [{"role": "robot", "content": "x"}]},
        ("unknown role 'robot'", "roles: {user: [robot]}"),
    ),
    "tool call": (
        {"messages": [*turns("hi")["messages"], {"role": "assistant", "content": "", "tool_calls": [CALL]}]},
        ("message 2", "chat template 'chatml' does not write", "choose a chat_template"),
    ),
}


@pytest.mark.parametrize("mistake", BAD_ROWS)
def test_a_bad_row_is_named(mistake: str, write: Any, preprocess: Run) -> None:
    bad, says = BAD_ROWS[mistake]
    code, text = preprocess(write(GOOD, GOOD, bad, GOOD))
    assert code == 3
    for wanted in ("data.jsonl, line 3: ", *says, "--skip-bad-rows"):
        assert wanted in text
    assert "Traceback" not in text


def test_bad_rows_are_skipped_counted_and_kept(write: Any, preprocess: Run, tmp_path: Path) -> None:
    bad = [line for line, _ in BAD_ROWS.values()]
    code, text = preprocess(write(GOOD, *bad, GOOD), "--skip-bad-rows")
    assert code == 0
    assert f"rows: {len(bad) + 2} read, {len(bad)} dropped ({len(bad)} bad)" in text
    (rejected,) = (tmp_path / "prepared").glob("*/rejected.jsonl")
    assert str(rejected.relative_to(tmp_path)) in text
    told = [json.loads(line) for line in rejected.read_text().splitlines()]
    assert [row["place"] for row in told] == [f"data.jsonl, line {n}" for n in range(2, len(bad) + 2)]
    for row, (line, says) in zip(told, BAD_ROWS.values(), strict=True):
        assert says[0] in f"{row['error']} {row['hint']}"
        given = line.decode("utf-8", "backslashreplace") if isinstance(line, bytes) else line
        assert row["row"] == given or row["row"] == json.loads(given)


def test_a_template_that_raises(write: Any, preprocess: Run) -> None:
    system = {"messages": [{"role": "system", "content": "S"}, *GOOD["messages"]]}
    template = {"chat_template": "jinja", "chat_template_jinja": RAISING}
    code, text = preprocess(write(GOOD, system, entry=template))
    assert code == 3
    assert "data.jsonl, line 2: chat template 'chat_template_jinja' refuses the conversation: no system" in text


def test_files_of_different_shape(write: Any, preprocess: Run, tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text('{"conversations": []}\n')
    more = [{"path": "other.jsonl", "type": "chat_template", "chat_template": "chatml"}]
    code, text = preprocess(write(GOOD, GOOD, more=more))
    assert code == 3
    assert "other.jsonl, line 1: no field 'messages' (fields: conversations)" in text


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ((), ("data.jsonl is empty",)),
        ((turns("only a question"),), ("no row is left to train on, of 1 read: 1 no trained token", "roles_to_train")),
        ((turns("hi", "ho " * 100),), ("1 too long", "sequence_len (now 64)", "excess_length_strategy: truncate")),
    ],
    ids=["empty file", "nothing trained", "too long"],
)
def test_no_row_is_left(lines: Any, says: tuple[str, ...], write: Any, preprocess: Run) -> None:
    code, text = preprocess(write(*lines))
    assert code == 3
    for wanted in says:
        assert wanted in text


def test_all_rows_are_bad(write: Any, preprocess: Run) -> None:
    code, text = preprocess(write(turns("hi", None), turns("hi", "")), "--skip-bad-rows")
    assert code == 3
    assert "no row is left to train on, of 2 read: 2 bad" in text


def test_a_huge_row_counts_as_long(write: Any, preprocess: Run) -> None:
    code, text = preprocess(write(GOOD, turns("hi", "word " * 1_000_000), GOOD))
    assert code == 0
    assert "1 of 3 rows are longer than sequence_len 64" in text
    assert "WARNING" in text
    assert "rows: 3 read, 1 dropped (1 too long)" in text


def test_long_rows_and_what_the_other_choice_keeps(write: Any, preprocess: Run, tmp_path: Path) -> None:
    rows = [GOOD] * 7 + [turns("hi", "yes", "more", "word " * 60)]
    code, text = preprocess(write(*rows))
    assert code == 0
    assert "WARNING: 1 of 8 rows are longer" in text
    assert "drop loses 1 rows" in text
    assert "truncate would lose" in text
    code, text = preprocess(write(*rows, excess_length_strategy="truncate"))
    assert "truncate loses" in text
    assert "in answers that were cut); drop would lose 1 rows" in text
    code, text = preprocess(write(*rows, excess_length_strategy="raise"))
    assert code == 3
    assert "data.jsonl, line 8: " in text


def test_preprocess_shows_rows_steps_and_a_plot(write: Any, preprocess: Run, tmp_path: Path) -> None:
    config = write(*[turns("hi", "ho " * n) for n in range(1, 9)], sample_packing=True)
    code, text = preprocess(config, "--debug", "--debug-num-examples", "2")
    assert code == 0
    assert "row 2: " in text
    assert "<|im_end|>(2, 2)" in text
    bins = re.search(r"packed into (\d+) rows of 64 tokens, [\d.]+ % full", text)
    assert bins
    assert f"training: {bins[1]} steps (1 epochs, {bins[1]} steps an epoch) of 1 rows" in text
    (plot,) = (tmp_path / "prepared").glob("*/lengths.png")
    assert plot.read_bytes().startswith(b"\x89PNG")
    code, text = preprocess(config, "--debug-text-only")
    assert "[[ho" in text
    assert "found in the cache" in text


@pytest.fixture
def gated_hub() -> Iterator[str]:
    """A hub that wants a token for everything."""

    class Gate(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.send_header("X-Error-Code", "GatedRepo")
            self.send_header("X-Error-Message", "Access to this dataset is restricted")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Gate)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_the_command_line_itself(write: Any, tmp_path: Path, gated_hub: str) -> None:
    """A dataset that needs a token, and a skipped row, through `ftl` in a process of its own."""
    hub = Ftl(tmp_path / "home", tmp_path, {"HF_ENDPOINT": gated_hub, "HF_HUB_OFFLINE": "0"})
    result = hub.run("preprocess", write(GOOD, entry={"path": "someone/gated"}), check=False)
    text = result.stdout + result.stderr
    assert result.returncode == 3, text
    assert "someone/gated" in text
    assert "set HF_TOKEN" in text
    assert "Traceback" not in text
    ftl = Ftl(tmp_path / "home", tmp_path, {})
    result = ftl.run("preprocess", write(GOOD, b"nonsense"), "--skip-bad-rows", "--debug")
    assert "rows: 2 read, 1 dropped (1 bad)" in result.stdout
    assert "tokenized 2 of 2 rows" in result.stderr
