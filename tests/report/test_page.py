"""The page tells what the folder holds: head, metrics, traffic, clients, timeline, failures."""

from __future__ import annotations

import html
import json
import re

import pytest

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def words_of(page: str) -> str:
    """The page as it is read: without tags, styles and tooltips."""
    body = page.partition("<body>")[2]
    body = re.sub("<title>.*?</title>", "", body)
    return html.unescape(re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", body)))


def test_the_head_says_whose_run_it_is_and_how_it_stands(folder):
    folder.spec["algorithm"] = {"name": "fedavgm", "parameters": {"momentum": 0.5}}
    folder.write_run()
    words = words_of(folder.report())
    for expected in (
        "default/digits",
        "Complete · 3 of 3 rounds done",
        "fedavgm (momentum 0.5)",
        "up int8, down none",
        "12345678-0000-4000-8000-000000000000",
        "2023-11-14 22:13:27 UTC",
        "sha256:" + "d" * 64,
        "1,000 parameters",
        "0.8750 accuracy",
        "nothing is logged there",
    ):
        assert expected in words


def test_every_metric_has_a_chart_with_the_clients_line_in_it(folder):
    folder.write_record()
    for number in range(4):
        folder.write_round(number, metrics={"loss": 1.0, "train/loss": 2.0, "train/only": 3.0})
    page = folder.report()
    assert re.findall("<h3>(.*?)</h3>", page) == ["loss", "only", "Traffic", "Time"]
    assert "evaluation 1.0000, clients 2.0000" in page


def test_a_metric_that_is_measured_every_other_round_is_one_line(folder):
    folder.write_record()
    for number in range(4):
        folder.write_round(number, metrics={"accuracy": 0.5} if number % 2 else {"train/loss": 1})
    (path,) = re.findall('class="line" d="([^"]*)"', folder.report())
    assert path.count("M") == 1
    assert path.count("L") == 1


def test_traffic_is_summed_and_compared_with_float32(folder):
    folder.write_run()
    words = words_of(folder.report())
    assert "In all 6.0 KB up and 25.2 KB down." in words
    # 6 updates of 1,000 parameters of 4 bytes
    assert "Updates took 25 % of the 24.0 KB they take as float32: 4 times less." in words


def test_without_the_model_there_is_no_ratio(folder):
    folder.write_run()
    (folder.artifacts / "round-0003/model.safetensors").unlink()
    words = words_of(folder.report())
    assert "In all 6.0 KB up" in words
    assert "float32" not in words


def test_the_table_of_clients_counts_rounds_and_failures(folder, succeeded, failing):
    folder.write_record()
    folder.write_round(0)
    folder.write_round(1, {"client-10": succeeded(5), "client-9": failing()})
    folder.write_round(2, {"client-10": succeeded(5), "client-9": failing("NotFinite", "NaN")})
    page = folder.report()
    rows = {row[0]: row[1:] for row in rows_of(page, "client")}
    assert list(rows) == ["client-9", "client-10"]
    assert rows["client-10"] == ["105", "", "505 ms", "", "2.0 KB", "", "2", "0", ""]
    assert rows["client-9"][-3:] == ["0", "2", "NotFinite 1, ScriptFailed 1"]
    reasons = rows_of(page, "reason")
    assert ["NotFinite", "1", "client-9", "client-9 in round 2: NaN"] in reasons
    assert "Answers" in page


def test_failed_attempts_are_marked_and_listed(folder):
    folder.write_record()
    folder.write_round(0)
    folder.write_attempt(1, 1)
    folder.write_round(1, attempt=2)
    folder.write_attempt(2, 1, message="only one came")
    page = folder.report()
    assert page.count('class="cross"') == 2 * 2
    assert [row[:2] for row in rows_of(page, "round")] == [["1", "1"], ["2", "1"]]
    assert "Not finished · 1 of 3 rounds done" in words_of(page)


def test_an_attempt_without_a_record_is_still_told(folder):
    folder.write_record()
    folder.write_round(0)
    folder.write_round(1, attempt=2)
    assert "NotRecorded" in words_of(folder.report())


def test_a_job_whose_attempts_are_used_up_has_failed(folder):
    folder.write_record()
    folder.write_round(0)
    folder.write_attempt(1, 1)
    folder.write_attempt(1, 2)
    page = folder.report()
    assert "Failed · 0 of 3 rounds done" in words_of(page)
    assert "TooFewClients: round 1 needs 2 updates, got 1" in words_of(page)


def test_a_stop_condition_that_is_met_completes_the_job(folder):
    folder.spec["stop_condition"] = {
        "metric": "accuracy",
        "goal": "maximize",
        "threshold": 0.7,
        "patience": None,
    }
    folder.write_run(2)
    words = words_of(folder.report())
    assert "Complete · 2 of 3 rounds done. After round 2: accuracy 0.75 has reached 0.7" in words


def test_rounds_that_were_added_later_count(folder):
    folder.write_run()
    folder.write_round(3, rounds=10)
    assert "Not finished · 3 of 10 rounds done" in words_of(folder.report())


def test_the_timeline_shows_the_last_five_rounds(folder):
    folder.spec["rounds"] = 8
    folder.write_run(8)
    page = folder.report()
    assert "round 4, a: train 400 ms" in page
    assert "round 3, a: train" not in page
    assert "round 8, server: aggregate 300 ms" in page


def test_only_round_0_shows_how_the_model_was_made(folder):
    folder.write_record()
    folder.write_round(0, server={"steps": {"initialize": [1_700_000_000.0, 1_700_000_000.5]}})
    page = folder.report()
    assert "round 0, server: initialize 500 ms" in page
    assert "No committed round has measured anything." in page


def test_no_round_at_all_is_a_page_that_says_so(folder):
    folder.write_record()
    words = words_of(folder.report())
    assert "Not finished · 0 of 3 rounds done. No round is committed yet" in words


def test_where_mlflow_is(folder, monkeypatch):
    from components.publication import Progress

    folder.write_run()

    def log_to(uri):
        (folder.root / "tracking.json").unlink(missing_ok=True)
        progress = Progress(folder.root / "tracking.json", json_uid(folder), uri)
        progress.belongs_to("run-77")
        progress.recorded_through = 3
        progress.save()

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    database = f"sqlite:///{folder.root}/mlflow.db"
    log_to(database)
    words = words_of(folder.report())
    assert f"mlflow ui --backend-store-uri {database}" in words
    assert "run run-77 , logged through round 3" in words

    server = "http://user:pass-word@mlflow:5000/?token=abc"
    log_to(server)
    words = words_of(folder.report())
    assert "a server that this folder does not name" in words
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    page = folder.report()
    assert '<a href="http://mlflow:5000/">' in page
    assert "pass-word" not in page
    assert "abc" not in page


def test_a_damaged_tracking_file_is_left_aside(folder):
    folder.write_run()
    for content in ("{", "[]", '{"target": 3}'):
        (folder.root / "tracking.json").write_text(content)
        assert "MLflow" in folder.report()


def test_hostile_text_is_escaped_wherever_it_comes_from(folder, succeeded, failing):
    folder.namespace, folder.name = "<b>n", "<script>"
    for part in ("uplink", "downlink"):
        folder.spec.setdefault("compression", {})[part] = {
            "codec": HOSTILE,
            "parameters": {"<": ">"},
        }
    folder.spec["algorithm"] = {"name": HOSTILE, "parameters": {HOSTILE: HOSTILE}}
    folder.write_record(created=HOSTILE)
    folder.write_round(0)
    start = 1_700_000_002.0
    clients = {
        HOSTILE: succeeded(node=HOSTILE, steps={HOSTILE: [start, start + 0.5]}),
        f"{HOSTILE}2": failing(HOSTILE, HOSTILE),
    }
    model = {"key": "k", "uri": HOSTILE, "digest": HOSTILE, "size_bytes": 4}
    folder.write_attempt(1, 1, reason=HOSTILE, message=HOSTILE, clients=clients)
    metrics = {HOSTILE: 1.0, f"train/{HOSTILE}": 2.0}
    folder.write_round(1, clients, metrics=metrics, model=model, attempt=2)
    page = folder.report()  # which lets no script, image or handler through
    assert "alert(1)" in page
    assert "<b>n" not in page


def test_a_page_needs_nothing_but_itself(folder):
    folder.write_run()
    page = folder.report()
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    assert not re.search(r"""(src|href)=["'](?!https?:)""", page)


def rows_of(page: str, first: str) -> list[list[str]]:
    """The rows of the table whose first column is named so, as text."""
    for table in re.findall("<table>.*?</table>", page, re.DOTALL):
        head, _, body = table.partition("<tbody>")
        if f">{first}</th>" in head.partition("</th>")[0] + "</th>":
            return [
                [html.unescape(re.sub("<[^>]+>", "", cell)) for cell in cells_of(row)]
                for row in re.findall("<tr>(.*?)</tr>", body, re.DOTALL)
            ]
    pytest.fail(f"no table of {first}")


def cells_of(row: str) -> list[str]:
    return re.findall("<td[^>]*>(.*?)</td>", row, re.DOTALL)


def json_uid(folder) -> str:
    return json.loads((folder.root / "job.json").read_text())["uid"]
