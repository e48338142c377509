"""The cluster's recipes, checked as far as no GPU is needed."""

from __future__ import annotations

import ast
import importlib.util
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from multigrain.recipes import recipe


def _serving() -> dict[str, Any]:
    text = files("multigrain.recipes").joinpath("vllm-on-ray.serve.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    return values


def _fields(module: str, name: str) -> set[str]:
    """The fields that the installed Ray declares: read, not imported, for importing them takes vLLM."""
    spec = importlib.util.find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    source = (Path(spec.origin).parent / module).read_text(encoding="utf-8")
    body = next(node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef) and node.name == name)
    return {
        node.target.id for node in body.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def test_the_cluster_asks_the_model_that_ray_serves() -> None:
    config, (application,) = recipe("cluster"), _serving()["applications"]
    served = [each["model_loading_config"]["model_id"] for each in application["args"]["llm_configs"]]

    assert served == [config.llm.model]
    assert config.engine.kind == "ray"
    assert config.llm.base_url is not None
    assert config.llm.base_url.endswith(":8000/v1")  # Ray Serve's own port


def test_every_key_of_the_serving_recipe_is_one_that_ray_knows() -> None:
    (application,) = _serving()["applications"]
    (llm,) = application["args"]["llm_configs"]
    configs = "llm/_internal/serve/core/configs/llm_config.py"

    assert application["import_path"] == "ray.serve.llm:build_openai_app"
    assert set(application) <= _fields("serve/schema.py", "ServeApplicationSchema")
    assert set(llm) <= _fields(configs, "LLMConfig")
    assert set(llm["model_loading_config"]) <= _fields(configs, "ModelLoadingConfig")
    scaling = llm["deployment_config"]["autoscaling_config"]
    assert set(scaling) <= _fields("serve/config.py", "AutoscalingConfig")
