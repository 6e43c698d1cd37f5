import json

import pytest

from models.pocket.training.shape import ModelShape, TrainSettings

torch = pytest.importorskip("torch")

from models.pocket.training.model import PocketModel, fake_quantize  # noqa: E402
from models.pocket.training.train import rate_at, save_checkpoint, train  # noqa: E402

SHAPE = ModelShape(
    vocab_size=384,
    hidden_size=64,
    intermediate_size=96,
    layers=1,
    heads=2,
    kv_heads=1,
    context_tokens=256,
)
SETTINGS = TrainSettings(
    steps=6,
    batch_tokens=512,
    row_tokens=256,
    long_every=3,
    warmup_steps=2,
    save_every=3,
    tokenizer_conversations=100,
    threads=1,
)


def test_a_few_steps_save_a_checkpoint_and_repeat_exactly(tmp_path):
    losses = train(tmp_path / "a", SHAPE, SETTINGS)
    assert losses == train(tmp_path / "b", SHAPE, SETTINGS)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert json.loads((tmp_path / "a" / "config.json").read_text())["hidden_size"] == 64


def test_a_checkpoint_can_be_trained_further(tmp_path):
    train(tmp_path / "first", SHAPE, SETTINGS)
    losses = train(tmp_path / "second", SHAPE, SETTINGS, start=tmp_path / "first")
    assert losses[0] < train(tmp_path / "again", SHAPE, SETTINGS)[0]
    name = "tokenizer.json"
    assert (tmp_path / "second" / name).read_text() == (tmp_path / "first" / name).read_text()


def test_the_rate_warms_up_and_ends_near_zero():
    rates = [rate_at(step, SETTINGS) for step in range(SETTINGS.steps)]
    assert rates[0] == 0.5
    assert max(rates) == 1.0
    assert 0 < rates[-1] < 0.5


def test_four_bits_have_fifteen_levels_and_gradients_pass():
    weight = torch.randn(4, 64)
    rounded = fake_quantize(weight)
    scale = weight.reshape(4, 2, 32).abs().amax(-1, keepdim=True) / 7
    levels = rounded.reshape(4, 2, 32) / scale
    assert torch.allclose(levels, levels.round(), atol=1e-4)
    assert levels.abs().max() <= 7.001
    assert (rounded - weight).abs().max() <= scale.max() / 2 + 1e-6
    assert torch.equal(fake_quantize(torch.zeros(1, 32)), torch.zeros(1, 32))


def test_the_training_model_computes_what_transformers_computes(tmp_path):
    transformers = pytest.importorskip("transformers")
    from models.pocket.training.conversations import stream
    from models.pocket.training.tokenizer import train_tokenizer

    torch.manual_seed(0)
    model = PocketModel(SHAPE)
    tokenizer = train_tokenizer([next(stream(0))], vocab_size=384)
    save_checkpoint(model, tokenizer, tmp_path, context_tokens=SHAPE.context_tokens)
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    tokens = torch.randint(0, 384, (1, 40))
    targets = tokens.roll(-1, 1)
    targets[:, -1] = -1
    loss = model.loss(tokens, torch.arange(40)[None], torch.zeros_like(tokens), targets)
    assert loss.item() == pytest.approx(reference(tokens, labels=tokens).loss.item(), rel=0.01)
