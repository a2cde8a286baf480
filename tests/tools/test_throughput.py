"""tools/throughput.py as a user runs it."""

import json


def test_a_table_and_json_beside_mobilenet(run_tool, tmp_path):
    output = tmp_path / "speed.json"
    arguments = ["--networks", "attonet_d", "--input", 32, "--batch", 2, "--repeats", 1]
    done = run_tool("throughput.py", *arguments, "--threads", 1, "--output", output)
    assert done.returncode == 0, done.stderr
    assert "attonet_d" in done.stdout
    content = json.loads(output.read_text())
    base, own = content["networks"]
    assert (base["network"], base["training"]["ratio"]) == ("mobilenetv2_100", 1)
    assert own["inference"]["ratio"] == (
        own["inference"]["images_per_second"] / base["inference"]["images_per_second"]
    )
    assert content["threads"] == 1
    assert content["versions"]["torch"]


def test_mistakes(run_tool, sentence):
    assert "unknown network 'foo'" in sentence(run_tool("throughput.py", "--networks", "foo"))
    assert "at least 1" in sentence(run_tool("throughput.py", "--batch", 0))
    for device in ("cuda", "gpu"):
        text = sentence(run_tool("throughput.py", "--device", device))
        assert f"--device is {device}, which cannot be used here" in text
    text = sentence(run_tool("throughput.py", "--batch", 1, "--input", 32))
    assert "a batch norm cannot train on one pixel" in text
