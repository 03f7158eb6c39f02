"""The list of checkpoints."""

import argparse
import json

from solov2_edge import command_models
from solov2_edge.console import Console
from solov2_edge.zoo import ZOO


def run(capsys, *words, json_mode=False):
    parser = argparse.ArgumentParser()
    command_models.add_arguments(parser)
    result = command_models.run(parser.parse_args(list(words)), Console(json_mode=json_mode))
    return result, capsys.readouterr().out


def test_every_checkpoint_has_an_aligned_row(capsys):
    result, out = run(capsys)
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[1 : len(ZOO) + 1]] == list(ZOO)
    column = lines[0].index("AP")
    assert lines[list(ZOO).index("mmdet-light-448-r18") + 1][column:].startswith("29.7")
    assert lines[list(ZOO).index("authors-full-x101-dcn-3x") + 1][column:].startswith("42.4")
    assert max(map(len, lines)) <= 160
    assert (result.exit_code, "https://" in out) == (0, False)


def test_urls_on_request(capsys):
    _, out = run(capsys, "--urls")
    assert all(entry.url in out for entry in ZOO.values())


def test_json_is_the_whole_table(capsys):
    result, out = run(capsys, json_mode=True)
    assert out == ""
    entries = json.loads(json.dumps(result.data))["models"]
    assert [entry["name"] for entry in entries] == list(ZOO)
    assert {entry["name"] for entry in entries if entry["variant"] in ("full-r101-dcnv2", "full-x101-dcnv2")} == {
        f"{publisher}-full-{backbone}-dcn-3x" for publisher in ("authors", "mmdet") for backbone in ("r101", "x101")
    }
    assert all(entry["licence"] and entry["source"] for entry in entries)
