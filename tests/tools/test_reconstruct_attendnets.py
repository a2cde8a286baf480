"""The search for AttendNets' widths, as a command."""

import json


def test_finalists_are_written(run_tool, tmp_path):
    file = tmp_path / "found.json"
    done = run_tool("reconstruct_attendnets.py", "--candidates", 3000, "--output", file)
    assert done.returncode == 0, done.stderr
    networks = json.loads(file.read_text())["networks"]
    assert networks.keys() == {"attendnet_a", "attendnet_b"}
    rows = [row for rows in networks.values() for row in rows]
    assert rows
    assert all(row["error"] <= 0.005 for row in rows)


def test_too_few_candidates_are_said(run_tool, tmp_path):
    file = tmp_path / "found.json"
    done = run_tool("reconstruct_attendnets.py", "--candidates", 1, "--output", file)
    assert done.returncode == 1
    assert "no candidate has the published sizes: raise --candidates" in done.stderr
    assert not file.exists()
