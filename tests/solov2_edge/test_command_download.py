"""The download verb; the transfer itself is tested with ``download``."""

import argparse
import json

import pytest

from solov2_edge import command_download
from solov2_edge.console import Console
from solov2_edge.download import Downloaded
from solov2_edge.errors import InputError


@pytest.fixture
def fake_download(monkeypatch, tmp_path):
    """Replaces the network: returns the list of calls."""
    calls = []

    def download(entry, folder, *, progress):
        calls.append((entry.name, folder))
        if progress is not None:
            progress(10, 100)
            progress(100, 100)
        return Downloaded(tmp_path / entry.file_name, "ab" * 32, False, entry.sha256_prefix is not None)

    monkeypatch.setattr(command_download, "download", download)
    return calls


def run(*words, quiet=False):
    parser = argparse.ArgumentParser()
    command_download.add_arguments(parser)
    return command_download.run(parser.parse_args(list(words)), Console(quiet=quiet))


@pytest.mark.parametrize(
    ("name", "published", "licence"),
    [("mmdet-light-448-r18", True, "Apache-2.0"), ("authors-light-448-r18", False, "academic use")],
)
def test_path_hash_and_licence_are_said(capsys, fake_download, name, published, licence):
    result = run(name, "-o", "somewhere")
    out = capsys.readouterr().out
    assert fake_download == [(name, "somewhere")]
    assert out.splitlines()[0] == result.data["path"]
    assert ("ab" * 32 in out, licence in out, "publisher states none" in out) == (True, True, not published)
    assert json.loads(json.dumps(result.data))["hash_published"] is published


def test_the_bar_is_for_terminals(capsys, fake_download, monkeypatch):
    run("adelaidet-r50")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    run("adelaidet-r50")
    assert "SOLOv2_R50_3x.pth" in capsys.readouterr().err
    run("adelaidet-r50", quiet=True)
    assert capsys.readouterr().err == ""


def test_misspelt_names(fake_download):
    with pytest.raises(InputError, match="did you mean adelaidet-r50"):
        run("adelaidet-r5")
    assert fake_download == []
