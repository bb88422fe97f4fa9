"""Cutting a base model of transformers in two, sharing the weights.

A part is the model's own class with fewer layers; the upper one is fed `inputs_embeds`. Whether a
class allows that is not assumed: `Policy.from_model` compares the parts with the whole.
"""

from __future__ import annotations

import copy

from torch import nn

from .errors import UnsuitableModel

FINAL_NORMS = ("norm", "final_layer_norm", "final_layernorm", "ln_f")


def find_layers(body: nn.Module) -> tuple[str, nn.ModuleList]:
    """The decoder layers of a base model, and their name in it."""
    n = getattr(body.config, "num_hidden_layers", None)
    for name, module in body.named_children():
        if isinstance(module, nn.ModuleList) and len(module) == n:
            return name, module
    raise UnsuitableModel(
        f"{type(body).__name__} has no plain list of {n} layers; the lab can't split or train it."
    )


def cut(body: nn.Module, start: int, stop: int, final_norm: bool) -> nn.Module | None:
    """A base model of the same class that has layers[start:stop] alone, sharing their weights.
    None where the final norm is not known by name and would have to be left out."""
    name, layers = find_layers(body)
    part = copy.copy(body)  # its own config and layer list, the same parameters
    part._modules = dict(body._modules)
    part.config = slice_config(body.config, start, stop)
    part._modules[name] = nn.ModuleList(layers[start:stop])
    if start:
        part.set_input_embeddings(None)
        for layer in part._modules[name]:  # the key-value cache of a top counts from 0
            for module in layer.modules():
                if hasattr(module, "layer_idx"):
                    module.layer_idx -= start
    if not final_norm:
        norm = next((n for n in FINAL_NORMS if n in part._modules), None)
        if norm is None:
            return None
        part._modules[norm] = nn.Identity()
    return part


def slice_config(config, start: int, stop: int):
    """The configuration with every per-layer setting cut to layers[start:stop]."""
    n, config = config.num_hidden_layers, copy.deepcopy(config)
    for key, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == n:
            setattr(config, key, value[start:stop])
    config.num_hidden_layers = stop - start
    return config


def restore_layer_indices(body: nn.Module) -> None:
    for index, layer in enumerate(find_layers(body)[1]):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = index
