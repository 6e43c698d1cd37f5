"""Perplexity, KL and first choices beside PyTorch's definitions."""

import numpy as np
import pytest
import torch

from webbuild.quality.divergence import Comparison
from webbuild.quality.measure import relative_error


def random_logits(seed: int, shape: tuple[int, int]) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * 6).astype(np.float32)


def test_measures_are_those_of_torch_in_any_blocks():
    reference, model = random_logits(1, (50, 300)), random_logits(2, (50, 300))
    model += reference
    targets = np.random.default_rng(3).integers(0, 300, 50)
    comparison = Comparison(targets)
    for start in range(0, 300, 77):
        comparison.add(start, reference[:, start : start + 77], model[:, start : start + 77])
    found = comparison.result()
    logs = [torch.log_softmax(torch.tensor(each).double(), dim=1) for each in (reference, model)]
    expected = torch.nn.functional.kl_div(logs[1], logs[0], reduction="none", log_target=True)
    np.testing.assert_allclose(found.divergences, expected.sum(dim=1).numpy(), rtol=1e-9)
    nll = torch.nn.functional.nll_loss
    for got, log in zip((found.reference_perplexity, found.model_perplexity), logs, strict=True):
        np.testing.assert_allclose(got, nll(log, torch.tensor(targets)).exp().item(), rtol=1e-9)
    same = (reference.argmax(axis=1) == model.argmax(axis=1)).mean()
    assert found.same_choice == same
    assert 0 < same < 1


def test_equal_models_do_not_differ():
    logits = random_logits(4, (20, 100))
    comparison = Comparison(np.zeros(20, np.int64))
    comparison.add(0, logits, logits + np.float32(100))
    found = comparison.result()
    assert found.mean_divergence < 1e-5
    assert found.same_choice == 1


def test_errors_of_layers_are_relative_to_their_outputs():
    inputs = np.array([[3, 0], [0, 1]], np.float32)
    weights, rounded = np.array([[4, 5]], np.float32), np.array([[3, 1]], np.float32)
    # Outputs are (12, 5), and 3 and 4 less.
    assert relative_error(inputs, weights, rounded) == pytest.approx(5 / 13)
    assert relative_error(inputs, weights, weights) == 0
    assert relative_error(inputs, 0 * weights, 0 * weights) == 0
