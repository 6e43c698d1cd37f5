"""Finds an architecture's modules by the `model_type` of a checkpoint."""

import importlib
from pathlib import Path
from typing import Any

from mlc_edge.errors import CheckpointError
from webbuild.models.spec import ParameterSpec

_MODELS = Path(__file__).parent / "models"
# Same weights and configuration under another name.
ALIASES = {"mistral": "llama"}


def supported() -> list[str]:
    """The model types that can be built."""
    return sorted([*(p.name.removesuffix("_spec.py") for p in _MODELS.glob("*_spec.py")), *ALIASES])


def spec_module(config: dict[str, Any]) -> Any:
    """The TVM-free module of config.json's model_type; raises CheckpointError for an unknown one."""
    model_type = config.get("model_type")
    if model_type not in supported():
        raise CheckpointError(
            f"config.json: model_type is {model_type!r}, and only these are supported: "
            f"{', '.join(supported())}."
        )
    return importlib.import_module(f"webbuild.models.{ALIASES.get(model_type, model_type)}_spec")


def model_class(model_type: str) -> Any:
    """The TVM module class of a supported model type."""
    name = ALIASES.get(model_type, model_type)
    return importlib.import_module(f"webbuild.models.{name}").Model


def parameter_table(config: Any) -> list[ParameterSpec]:
    """All parameters of a model, by its parsed configuration."""
    name = ALIASES.get(config.model_type, config.model_type)
    table: list[ParameterSpec] = importlib.import_module(
        f"webbuild.models.{name}_spec"
    ).parameter_table(config)
    return table


def float_model(model_type: str) -> Any:
    """The NumPy class of a supported model type; it takes the configuration and FloatWeights."""
    name = ALIASES.get(model_type, model_type)
    return importlib.import_module(f"webbuild.models.{name}_float").FloatModel
