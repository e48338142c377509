"""The layers that the endpoint writes out compute what transformers' do, and what prompts share is read once."""

from __future__ import annotations

import pytest
import torch

gguf = pytest.importorskip("gguf")
pytest.importorskip("llguidance")

from benchmarks.gguf_endpoint import Decoder, Engine, Job, Stem, next_batch, shared_stems  # noqa: E402
from transformers import Qwen2Config, Qwen2ForCausalLM  # noqa: E402

_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


@pytest.fixture(scope="module")
def model() -> Qwen2ForCausalLM:
    torch.manual_seed(3)
    config = Qwen2Config(
        vocab_size=96,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
    )
    made = Qwen2ForCausalLM(config).eval()
    with torch.no_grad():
        for name, weight in made.named_parameters():
            # Biases start at zero and norms at one, which would hide that they are left out.
            weight.normal_(1.0 if "norm" in name else 0.0, 0.3)
            weight.copy_(weight.bfloat16().float())
    return made


@pytest.fixture(scope="module")
def decoder(model: Qwen2ForCausalLM, tmp_path_factory: pytest.TempPathFactory) -> Decoder:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "qwen2")
    weights = model.state_dict()
    writer.add_tensor("token_embd.weight", weights["model.embed_tokens.weight"].numpy())
    writer.add_tensor("output_norm.weight", weights["model.norm.weight"].numpy())
    for layer in range(3):
        for theirs, ours in _NAMES.items():
            for kind in ("weight", "bias"):
                name = f"model.layers.{layer}.{theirs}.{kind}"
                if name in weights:
                    writer.add_tensor(f"blk.{layer}.{ours}.{kind}", weights[name].numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Decoder(path, model.config, "cpu")


def test_texts_of_unlike_length_are_read_and_gone_on_with_as_each_would_be_alone(
    model: Qwen2ForCausalLM, decoder: Decoder
) -> None:
    texts = [[5, 9, 2], [7, 7, 1, 30, 60, 12, 4], [90]]
    going_on = [[3, 8], [44, 10], [2, 71]]
    longest = max(map(len, texts))
    tokens = torch.tensor([text + [0] * (longest - len(text)) for text in texts])
    lengths = torch.tensor([len(text) for text in texts])
    cache = decoder.cache(len(texts), longest + 4)

    with torch.inference_mode():
        scores = [decoder(tokens, lengths, cache, longest)]
        for step in range(2):
            lengths = lengths + 1
            given = torch.tensor([[each[step]] for each in going_on])
            scores.append(decoder(given, lengths, cache, longest + step + 1))

        for row, text in enumerate(texts):
            for step, found in enumerate(scores):
                whole = torch.tensor([text + going_on[row][:step]])
                expected = model(input_ids=whole).logits[0, -1]
                assert torch.nn.functional.cosine_similarity(found[row].float(), expected, dim=0) > 0.999
                assert (found[row].float() - expected).abs().max() < 0.05 * expected.abs().max()


def test_stems_hold_every_text_once_and_leave_each_of_a_group_a_token_of_its_own() -> None:
    document, other = list(range(60)), list(range(100, 180))
    texts = [[*document, 1, 2], [*other, 3], [*document, 1], [*other, 3], [7, 7], [*document[:20], *other]]

    stems = shared_stems(texts, shortest=10)

    assert sorted(row for stem in stems for row in stem.rows) == list(range(len(texts)))
    found = {Stem(stem.length, tuple(sorted(stem.rows))) for stem in stems}
    assert found == {Stem(60, (0, 2)), Stem(80, (1, 3)), Stem(2, (4,)), Stem(100, (5,))}


def test_whoever_waits_longest_is_answered_next_with_prompts_like_its_own() -> None:
    asked = [Job([document, turn], 4, 1.0, 1.0, None) for turn in range(2) for document in (7, 3, 9, 1)]
    asked.insert(3, Job([7, 0], 4, 1.0, 1.0, "a grammar"))

    while asked:
        batch = next_batch(asked, 4)
        assert asked[0] in batch
        assert len(batch) <= 4
        assert len({job.grammar for job in batch}) == 1
        documents = [job.ids[0] for job in batch]
        assert documents == sorted(documents)
        assert len(set(documents)) <= 2
        asked = [job for job in asked if job not in batch]


def test_prompts_that_share_a_document_are_read_as_each_would_be_alone(
    model: Qwen2ForCausalLM, decoder: Decoder
) -> None:
    draw = torch.Generator().manual_seed(5)
    document, other = (torch.randint(0, 96, (60,), generator=draw).tolist() for _ in range(2))
    texts = [[*document, 5, 9], [3, 8, 1], [*document, 44], other, [*document, 5, 9], [*other[:55], 2, 71, 13]]
    engine = Engine.__new__(Engine)
    engine.model = decoder
    jobs = [Job(text, 4, 1.0, 1.0, None) for text in texts]

    with torch.inference_mode():
        scores, lengths, cache = engine._prefill(jobs, 4)
        following = torch.tensor([[7], [8], [9], [10], [11], [12]])
        then = decoder(following, lengths + 1, cache, int(lengths.max()) + 1)
        for row, text in enumerate(texts):
            # Sixty tokens of bfloat16 cost a thousandth; a place that is one off costs much more.
            for found, whole in ((scores, text), (then, [*text, int(following[row])])):
                expected = model(input_ids=torch.tensor([whole])).logits[0, -1]
                assert (
                    torch.nn.functional.cosine_similarity(found[row].float(), expected, dim=0) > 0.996
                )  # bfloat16, sixty tokens
