"""docs/jetson.md and docker/Dockerfile.l4t, which cannot be carried out here: held to the code they speak of."""

import argparse
import importlib
import re
import shlex
import sys

import pytest

from solov2_edge.cli import VERBS
from solov2_edge.runtime.ort_tensorrt import CACHE_VARIABLE, SWITCHES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

INSTRUCTIONS = {
    *("FROM", "ARG", "RUN", "ENV", "WORKDIR", "COPY", "VOLUME", "USER", "EXPOSE", "ENTRYPOINT", "CMD"),
}


def joined(text):
    """Lines without comments, continued ones in one."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return [line.strip() for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines() if line.strip()]


@pytest.fixture
def page(checkout):
    return (checkout / "docs/jetson.md").read_text(encoding="utf-8")


@pytest.fixture
def dockerfile(checkout):
    lines = joined((checkout / "docker/Dockerfile.l4t").read_text(encoding="utf-8"))
    return [tuple(line.split(maxsplit=1)) for line in lines]


@pytest.fixture
def project(checkout):
    return tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def commands(page):
    """The words behind ``solov2-edge`` of every command on the page, the container's and the service's among them."""
    found = []
    for block in re.findall(r"```(?:sh|ini)\n(.*?)```", page, re.DOTALL):
        for line in joined(block):
            words = shlex.split(line.removeprefix("ExecStart="), comments=True)
            names = [place for place, word in enumerate(words) if word.rpartition("/")[2] == "solov2-edge"]
            if names and len(words) > names[-1] + 1 and words[names[-1] + 1] in VERBS:
                found.append(words[names[-1] + 1 :])
    return found


def test_every_command_on_the_page_is_one_this_version_takes(page):
    found = commands(page)
    assert len(found) == 9
    assert {words[0] for words in found} == {"convert", "verify", "doctor", "live", "segment"}
    for verb, *words in found:
        parser = argparse.ArgumentParser(exit_on_error=False)
        importlib.import_module(VERBS[verb][0]).add_arguments(parser)
        parser.add_argument("--quiet", action="store_true")
        parser.parse_args(words)


def test_a_command_this_version_does_not_take_would_be_noticed(page):
    found = commands(page.replace("--providers", "--engines", 1))
    parser = argparse.ArgumentParser(exit_on_error=False)
    importlib.import_module(VERBS["live"][0]).add_arguments(parser)
    live = next(words for words in found if words[0] == "live")
    with pytest.raises((argparse.ArgumentError, SystemExit)):
        parser.parse_args(live[1:])


def test_the_page_names_the_options_the_code_sets(page):
    table = page[page.index("| option | value |") :]
    assert all(name in table for name in SWITCHES)
    assert CACHE_VARIABLE in page
    assert "*(not run on a device)*" in page


def test_what_the_page_links_to_is_there(checkout, page):
    links = [link for link in re.findall(r"\]\(([^)#]+)", page) if "://" not in link]
    assert len(links) >= 4
    assert all((checkout / "docs" / link).resolve().exists() for link in links)


def test_the_service_ends_as_the_program_does(page):
    unit = page[page.index("[Unit]") : page.index("[Install]")]
    keys = re.findall(r"^(\w+)=", unit, re.MULTILINE)
    assert len(set(keys)) == len(keys)
    assert "SuccessExitStatus=130 143" in unit, "128 + SIGINT and 128 + SIGTERM"
    assert f"Environment={CACHE_VARIABLE}=/var/cache/{re.search(r'CacheDirectory=(.+)', unit).group(1)}" in unit


def test_the_instructions_are_dockers(dockerfile):
    assert {name for name, _ in dockerfile} <= INSTRUCTIONS
    assert [name for name, _ in dockerfile][:2] == ["ARG", "FROM"]
    assert dockerfile[-2:] == [("ENTRYPOINT", '["solov2-edge"]'), ("CMD", '["doctor"]')]


def test_everything_that_is_copied_is_there_and_reaches_the_builder(checkout, dockerfile, project):
    sources = [word for name, rest in dockerfile if name == "COPY" for word in rest.split()[:-1]]
    allowed = (checkout / "docker/Dockerfile.l4t.dockerignore").read_text(encoding="utf-8").split("\n")
    assert "*" in allowed
    for source in sources:
        assert (checkout / source).exists()
        assert f"!{source}" in allowed
    document = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(document["tool"]["setuptools"]["package-dir"].values()) <= set(sources)
    assert {project["readme"], *project["license-files"]} <= set(sources)


def version(text):
    return tuple(int(part) for part in text.split("."))


def pins(dockerfile):
    text = " ".join(rest for name, rest in dockerfile if name == "RUN")
    return dict(re.findall(r"([\w.-]+)==([\d.]+)", text))


def test_the_versions_are_those_the_project_allows(checkout, dockerfile, project):
    pinned = pins(dockerfile)
    for requirement in project["dependencies"]:
        name, _, least = requirement.partition(">=")
        assert name in pinned, f"pip gets --no-deps, so {name} has to be named"
        assert version(pinned[name]) >= version(least)
    build = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    for requirement in build:
        name, _, least = requirement.partition(">=")
        assert version(pinned[name]) >= version(least)


def test_numpy_and_opencv_are_those_the_runtime_is_tested_with(checkout, dockerfile, page):
    tested = dict(
        line.split("==") for line in (checkout / "requirements/numpy1.txt").read_text().split() if "==" in line
    )
    pinned = pins(dockerfile)
    assert {name: pinned[name] for name in ("numpy", "opencv-python-headless")} == {
        name: tested[name] for name in ("numpy", "opencv-python-headless")
    }
    assert f"numpy=={pinned['numpy']}" in page


def test_the_image_is_of_the_jetpack_the_page_speaks_of(dockerfile):
    base = next(rest for name, rest in dockerfile if name == "ARG" and rest.startswith("BASE="))
    assert re.search(r":r36\.\d", base), "Jetson Linux 36 is JetPack 6, whose Python is 3.10"


def test_no_build_without_the_index_and_no_address_of_one(dockerfile):
    run = next(rest for name, rest in dockerfile if name == "RUN" and "JETPACK_INDEX" in rest)
    assert run.startswith('test -n "$JETPACK_INDEX" || ')
    assert not [rest for _, rest in dockerfile if "://" in rest]
