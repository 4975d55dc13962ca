"""Files made to hurt: a clear refusal or a result, soon, and nothing else."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gocdnext.importers import Imported, ImportRefusedError, import_github, import_gitlab
from gocdnext.pipeline import parse

Importer = Callable[[str | bytes, str], Imported]
BOTH = pytest.mark.parametrize("importer", [import_gitlab, import_github], ids=["gitlab", "github"])
PATIENCE = 60
"""Seconds until a test gives up waiting; none of these takes one, and what grows without bound does not end before."""


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    def give_up(signum: int, frame: object) -> None:
        raise TimeoutError("the importer does not come to an end")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def survives(importer: Importer, text: str | bytes) -> None:
    """The importer either gives a file that our parser takes, or says why not."""
    try:
        imported = importer(text, "x.yml")
    except ImportRefusedError:
        return
    parse(imported.yaml, "x.yaml")


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(12)
)


@BOTH
@pytest.mark.parametrize(
    "text",
    [
        b"\xff\xfe", "\0", "{", "[" * 5000, "a: *b", "&a [*a]", BOMB, "x" * 2_000_000, "!!python/object/apply:os.system [x]",
        "on: push\njobs: {a: {steps: {run: x}}}", "jobs: [a]", "jobs: {a: 1, b: ~, c: [x]}", "a: {script: {x: y}}",
        "on: {push: 1, pull_request: [x]}\njobs: {a: {steps: [x, [y], {run: {z: 1}}, {uses: [1]}]}}",
        "jobs: {a: {steps: [{run: x}], needs: b}, b: {steps: [{run: y}], needs: a}}",
        "a: {script: [x], needs: [b]}\nb: {script: [x], needs: [a]}",
        "a: {script: [x], stage: [1], image: [2], services: {a: b}, cache: 3, artifacts: [4], rules: 5, parallel: [6]}",
        "variables: [1]\ndefault: 2\nworkflow: 3\nstages: {a: b}\ninclude: {c: {d: e}}\na: {script: x, variables: y}",
        "jobs: {a: {runs-on: {x: y}, container: [1], services: [2], env: 3, strategy: 4, steps: [{run: x, env: 5}]}}",
        "jobs: {a: {strategy: {matrix: {include: x, exclude: [1], b: {c: d}}}, outputs: [1], steps: [{run: x}]}}",
    ],
    ids=str,
)  # fmt: skip
def test_odd_files(importer: Importer, text: str | bytes) -> None:
    survives(importer, text)


def chain(count: int, line: str) -> str:
    return "".join(line.format(n=n, m=n + 1) for n in range(count))


@pytest.mark.parametrize(
    "text",
    [
        chain(500, ".j{n}: {{extends: .j{m}}}\n") + "j: {extends: .j0, script: [x]}\n",
        chain(10, ".j{n}: {{extends: [.j{m}, .j{m}], variables: {{V{n}: x}}}}\n")
        + ".j10: {script: [x]}\n" + "".join(f"k{n}: {{extends: .j0}}\n" for n in range(200)),
        ".a: {script: [" + "x," * 15_000 + "]}\n" + "".join(f"k{n}: {{extends: .a}}\n" for n in range(500)),
        "before_script: [" + "x," * 15_000 + "]\n" + "".join(f"k{n}: {{script: [y]}}\n" for n in range(500)),
        "variables: {A: $B$B, B: $C$C" + "".join(f", V{n}: $A$A$A$A" for n in range(3000)) + ", C: "
        + "$D" * 1000 + ", D: " + "d" * 5000 + "}\nj: {script: [$A]}\n",
        "variables: {" + ",".join(f"V{n}: $CI_X{n}" for n in range(5000)) + "}\n"
        + "".join(f"k{n}: {{script: [y]}}\n" for n in range(900)),
        "j: {script: [x], parallel: {matrix: [{" + ",".join(f"D{n}: [1,2,3,4]" for n in range(30)) + "}]}}\n",
        "j: {script: [x], rules: [" + "{if: $A}," * 5000 + "]}\n",
        "j: {script: [x], rules: [{if: '" + "(" * 3000 + "'}]}\n",
        "j: {script: [x], rules: [{if: '" + "$A && " * 3000 + "$B'}]}\n",
        "j: {script: [x], rules: [{if: '$CI_COMMIT_TAG =~ /" + "(a+)+" * 500 + "$/'}]}\n",
        ".a: {script: [!reference [.a, script]]}\nj: {script: [!reference [.a, script]]}\n",
        ".a: {script: [" + "[.b, script]," * 9000 + "]}\n.b: {script: [" + "[.c, script]," * 9 + "]}\n.c: {script: [x]}\n"
        + "".join(f"k{n}: {{script: [[.a, script]]}}\n" for n in range(200)),
        "".join(f"k{n}: {{script: [x], artifacts: {{paths: [a]}}, stage: s{n}}}\n" for n in range(900)),
        "".join(f"k{n}: {{script: [x], retry: {{max: 1, when: x}}, a{n}: b}}\n" for n in range(900)),
        "j: {script: ['" + "$(" * 50_000 + "']}\n",
        "j: {script: ['" + "a=(" * 50_000 + "']}\n",
    ],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_large_gitlab_files(text: str) -> None:
    survives(import_gitlab, text)


STEPS = "steps: [{run: x}]"


@pytest.mark.parametrize(
    "text",
    [
        "jobs:\n" + "".join(f"  j{n}: {{needs: [j{n + 1}], {STEPS}}}\n" for n in range(3000)),
        "jobs:\n"
        + "".join(f"  j{n}: {{needs: [{','.join(f'j{m}' for m in range(n))}], if: '$', {STEPS}}}\n" for n in range(150)),
        "jobs: {j: {strategy: {matrix: {" + ",".join(f"d{n}: [1,2,3,4]" for n in range(30)) + f"}}}}, {STEPS}}}}}\n",
        "jobs: {j: {strategy: {matrix: {include: [" + "{a: 1}," * 3000 + f"]}}}}, {STEPS}}}}}\n",
        "jobs: {j: {strategy: {matrix: {a: [" + ",".join(map(str, range(200))) + "], include: ["
        + "{b: 1}," * 3000 + "]}}, steps: [" + "{run: '${{ matrix.a }}'}," * 900 + "]}}\n",
        "jobs: {j: {steps: [{run: '" + "${{ x }}" * 20_000 + "'}]}}\n",
        "jobs: {j: {steps: [{run: '" + "${{ github.sha }}" * 20_000 + "'}]}}\n",
        "jobs: {j: {steps: [{run: '" + "${{" * 100_000 + "'}]}}\n",
        "jobs: {j: {steps: [{run: \"" + "' ${{ github.sha }}" * 5_000 + "\"}]}}\n",
        "jobs: {j: {steps: [" + "{run: x, id: a, env: {A: b}}," * 20_000 + "]}}\n",
        "jobs: {j: {if: '" + "!" * 3000 + f"a', {STEPS}}}}}\n",
        "env: {" + ",".join(f"V{n}: '${{{{ secrets.A{n} }}}}'" for n in range(3000)) + "}\njobs:\n"
        + "".join(f"  j{n}: {{{STEPS}}}\n" for n in range(900)),
        "on: {push: {tags: ['" + "v[0-9]+" * 500 + f"']}}}}\njobs: {{j: {{{STEPS}}}}}\n",
        "jobs: {j: {steps: [{run: x}, " + "{uses: actions/upload-artifact@v4, with: {path: a}}," * 3000
        + "{uses: actions/download-artifact@v4}]}}\n",
    ],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_large_workflows(text: str) -> None:
    survives(import_github, text)


WORDS = st.sampled_from(
    ["x", "", "main", "$A", "$CI_COMMIT_TAG", "${{ matrix.a }}", "${{ secrets.S }}", "${{ github.ref == 'a' }}", "a b", "~/x",
     "always()", "1", "true", "it's", "a\nb", "never", "manual", ".t", "j", "actions/cache@v4", "actions/upload-artifact@v4",
     "$CI_COMMIT_BRANCH =~ /x.*/", "cargo-{{", "ubuntu-latest", "10m", "build", "/a", "..", "é", "postgres:16"]
)  # fmt: skip
KEY_TEXT = (
    "script image needs stage services cache artifacts paths key reports junit rules if when only except parallel matrix "
    "variables environment name extends before_script after_script retry timeout tags allow_failure dependencies default "
    "workflow include stages id_tokens aud jobs steps run uses with env on push branches tags pull_request strategy "
    "include exclude a b runs-on container outputs defaults shell working-directory continue-on-error path files prefix "
    "concurrency timeout-minutes .t j k schedule cron workflow_dispatch inputs id"
)
KEYS = st.sampled_from(KEY_TEXT.split())
TREES = st.recursive(
    WORDS | st.none() | st.booleans() | st.integers(-1, 5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)


@BOTH
@settings(max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(tree=st.dictionaries(KEYS, TREES, max_size=6), job=st.dictionaries(KEYS, TREES, max_size=8))
def test_any_shape(importer: Importer, tree: dict[str, object], job: dict[str, object]) -> None:
    """The files have at least one job with something to do, so most of the code is reached."""
    if importer is import_gitlab:
        tree["j"] = {"script": ["x"], **job}
    else:
        tree["jobs"] = {"j": {"steps": [{"run": "x"}], **job}, "k": {"steps": [{"run": "y"}], "needs": ["j"]}}
    survives(importer, yaml.safe_dump(tree))
