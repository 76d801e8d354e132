"""The recipe of the image: one for both kinds of container, all of it pinned."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from spython.main.parse.parsers import get_parser
from spython.main.parse.writers import get_writer

from brainchop_bids import __version__

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
DOCKERFILE, DEFINITION = ROOT / 'Dockerfile', ROOT / 'singularity' / 'brainchop.def'


def stages(lines: list[str]) -> list[list[str]]:
    """Return what each stage of a Dockerfile does to files, in order."""
    text = '\n'.join(lines).replace('\\\n', ' ')
    made: list[list[str]] = []
    for line in text.splitlines():
        word, _, rest = line.strip().partition(' ')
        if word == 'FROM':
            made.append([])
        elif word in ('RUN', 'COPY', 'ADD'):
            made[-1].append(' '.join(part for part in rest.split() if '--mount' not in part))
    return made


def recipe(steps: list[str]) -> list[str]:
    return [step for step in steps if 'install.sh' in step]


@pytest.fixture(scope='module')
def dockerfile() -> list[list[str]]:
    return stages(DOCKERFILE.read_text().replace('${VARIANT}', 'cpu').splitlines())


@pytest.fixture(scope='module')
def converted() -> str:
    """Return the Singularity definition as the Dockerfile that spython makes of it."""
    parsed = get_parser('singularity')(str(DEFINITION)).recipe
    return str(get_writer('docker')(parsed).convert())


def test_both_containers_have_one_recipe(dockerfile: list[list[str]], converted: str) -> None:
    build, final = stages(converted.splitlines())
    assert [recipe(build), recipe(final)] == [recipe(stage) for stage in dockerfile]
    assert recipe(build)[0] == '/src/container/install.sh system python3-pip'
    assert '--from=build /opt/brainchop /opt/brainchop' in final
    assert '--from=build /opt/brainchop /opt/brainchop' in dockerfile[-1]
    # Nothing else is done, but for what spython makes of %test.
    others = [step for step in final if step not in recipe(final) and 'tests.sh' not in step]
    assert [step.split()[0] for step in others] == ['container', '--from=build', 'rm']


def test_both_containers_take_the_same_files(dockerfile: list[list[str]], converted: str) -> None:
    def taken(steps: list[str]) -> set[str]:
        copies = [step.split() for step in steps if '/src' in step and 'install.sh' not in step]
        return {name for *names, _ in copies for name in names}

    files = taken(dockerfile[0])
    assert files == taken(stages(converted.splitlines())[0])
    ignored = (ROOT / '.dockerignore').read_text().splitlines()
    assert {line.removeprefix('!') for line in ignored if line.startswith('!')} == files
    assert all((ROOT / name).exists() for name in files)


def test_both_containers_say_the_same() -> None:
    parsed = get_parser('singularity')(str(DEFINITION)).recipe['final']
    docker = DOCKERFILE.read_text()
    labels = dict(label.split(' ', 1) for label in parsed.labels)
    for name, value in labels.items():
        assert f'{name}="{value}"' in docker
    assert labels['org.opencontainers.image.version'] == __version__
    given = re.search(r'^ENV ((?:.*\\\n)*.*)', docker, re.MULTILINE)
    assert given is not None
    # What a host's PYTHONPATH would bring in comes through only where --cleanenv is not given.
    assert sorted([*given[1].replace('\\\n', ' ').split(), 'PYTHONPATH=']) == sorted(
        parsed.environ
    )
    assert f'BRAINCHOP_IMAGE=brainchop-bids:{__version__}' in parsed.environ
    assert parsed.cmd == 'exec brainchop "$@"'
    assert any('brainchop-models verify tissue' in step for step in parsed.install)


# The image's system, for the markers of the lock of the light installation.
IMAGE = {'python_version': '3.11', 'python_full_version': '3.11.2', 'sys_platform': 'linux'}


def pinned(path: str) -> dict[str, tuple[str, int]]:
    """Return the packages of a lock file, each with its version and number of hashes."""
    found: dict[str, tuple[str, int]] = {}
    name = ''
    for line in (ROOT / path).read_text().splitlines():
        if match := re.match(r'([a-z0-9.-]+)==([^ ]+)(?: ; (.*?))? \\', line):
            name = match[1]
            if match[3] is not None and not Marker(match[3]).evaluate(IMAGE):
                name = ''
            else:
                found[name] = (match[2], 0)
        elif name and '--hash=sha256:' in line:
            found[name] = (found[name][0], found[name][1] + 1)
    return found


def left_out() -> set[str]:
    """Return the dependencies that the light installation does without."""
    lines = (ROOT / 'container' / 'light-overrides.txt').read_text().splitlines()
    return {line.split(' ')[0] for line in lines if not line.startswith('#')}


@pytest.mark.parametrize('variant', ['cpu', 'gpu'])
def test_lock_files_hold_all_that_is_needed_and_no_more(variant: str) -> None:
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
    locked = pinned(f'container/{variant}.lock')
    absent = left_out() if variant == 'cpu' else set()
    assert all(hashes for _, hashes in locked.values())
    assert not absent & set(locked)
    for text in [*project['dependencies'], *project['optional-dependencies']['validate']]:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate(IMAGE):
            continue
        name = canonicalize_name(wanted.name)
        if name not in absent:
            assert Version(locked[name][0]) in wanted.specifier, f'{name}: run make lock'
    assert ('tensorflow' in locked) == (variant == 'gpu')
    assert any(name.startswith('nvidia-cudnn') for name in locked) == (variant == 'gpu')
    for name in ('pytest', 'mypy', 'ruff', 'playwright', 'torch', 'onnxruntime'):
        assert name not in locked


def test_the_image_for_cpus_is_the_light_installation() -> None:
    light, image = pinned('requirements-light.txt'), pinned('container/cpu.lock')
    versions = {name: version for name, (version, _) in image.items()}
    assert {name: version for name, (version, _) in light.items()}.items() <= versions.items()
    # Its validator, and what builds packages in it.
    assert set(image) - set(light) == {'bids-validator-deno', 'deno', 'setuptools', 'wheel'}


def test_tools_that_build_are_taken_from_the_lock_file() -> None:
    script = (ROOT / 'container' / 'install.sh').read_text()
    body = re.search(r'^pins\(\) \{.*?^\}', script, re.MULTILINE | re.DOTALL)
    assert body is not None
    lock = ROOT / 'container' / 'cpu.lock'
    done = subprocess.run(
        ['sh', '-c', f'{body[0]}\npins "$@"', 'sh', lock, 'setuptools', 'wheel'],
        capture_output=True,
        text=True,
        check=True,
    )
    found = dict(re.findall(r'^([a-z-]+)==([^ ]+)', done.stdout, re.MULTILINE))
    locked = pinned('container/cpu.lock')
    assert found == {name: locked[name][0] for name in ('setuptools', 'wheel')}
    assert done.stdout.count('--hash=') == sum(locked[name][1] for name in found)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_image_is_built_and_runs_the_demo() -> None:
    missing = [tool for tool in ('buildah', 'debootstrap', 'ch-run') if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f'container: needs root and {", ".join(missing) or "nothing else"}')
    done = subprocess.run(
        # Not in pytest's folder, which others cannot enter.
        [ROOT / 'tests' / 'container' / 'check.sh'],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    size = re.search(r'^== (\d+) MB in all', done.stdout, re.MULTILINE)
    assert size is not None
    assert int(size[1]) < 1200
    assert '1 scan done, 0 already done, 0 failed' in done.stdout
    assert done.stdout.rstrip().endswith('demo.sh: all passed')
