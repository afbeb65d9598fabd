import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from tokenizers.models import BPE, WordPiece
from tokenizers.pre_tokenizers import ByteLevel, Whitespace
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizerFast

from tests.models.torch_reference import assert_close, quick_jit, random_params
from tvt_jax.models.text_encoder import CLIPTextConfig, CLIPTextModel
from tvt_jax.tokenizer import Tokenizer, encode_prompts

Vocabulary = tuple[dict[str, int], list[str]]

START, END = "<|startoftext|>", "<|endoftext|>"
ENGLISH = (Path(__file__).parents[1] / "LICENSE").read_text()
PROMPTS = (
    "",
    " \t\n ",
    "a photo of a licence, high quality",
    "A Photo of THE License",
    "  spaces\tand\nlines\r\n everywhere\u00a0\u3000 ",
    "high quality, " * 60,
    "antidisestablishmentarianism" * 20,
    "😀 thumbs 👍🏽 up 🇩🇪🧑‍🤝‍🧑",
    "一张高质量的照片。日本語 한국어",
    "naïve café, Ünïcödé, Straße, İstanbul, ΑΣ, ﬁ",
    "cafe\u0301, e\u0301, n\u0303, \u1e9b\u0323",
    "हिन्दी עברית العربية ไทย",
    "1234 3.14 4x ½ ² Ⅷ ٣",
    "it's they're we'll I'd 'sun' don't CAN'T rock'n'roll",
    "“quote” – dash — … a,b.c;d:e?f-g_h/i\\j\"k (x) [y] {z} #1 @b $5 50% a&b &amp;",
    "wow! ! !! !!! hi!there",
    f"{START}a word{END} and {END}",
    "<|STARTOFTEXT|>a word<|EndOfText|> <|other|>",
    "\x00\x01\x7f \u200b \ufeff \ufffd",
)  # fmt: skip


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    """Learn a vocabulary of CLIP's layout: bytes, bytes that end a word, merges in their order, start and end."""
    trained = tokenizers.Tokenizer(BPE())
    trained.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([Whitespace(), ByteLevel(add_prefix_space=False)])
    trainer = BpeTrainer(vocab_size=1500, end_of_word_suffix="</w>", show_progress=False)
    trained.train_from_iterator([ENGLISH.lower(), *PROMPTS, *PROMPTS], trainer)
    merges = json.loads(trained.to_str())["model"]["merges"]
    alphabet = sorted(ByteLevel.alphabet())
    words = [*alphabet, *(f"{letter}</w>" for letter in alphabet), *map("".join, merges), START, END]
    return {word: i for i, word in enumerate(dict.fromkeys(words))}, [" ".join(merge) for merge in merges]


def write_json(file: Path, data: object) -> None:
    file.write_text(json.dumps(data))


def flags(content: str, **changed: bool) -> dict:
    return {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False, **changed}


@pytest.fixture
def folder(vocabulary: Vocabulary, tmp_path: Path) -> Path:
    """Write a folder as SD 2.1's is written: the padding of special_tokens_map.json is the one in force."""
    path = tmp_path / "tokenizer"
    path.mkdir()
    write_json(path / "vocab.json", vocabulary[0])
    (path / "merges.txt").write_text("\n".join(("#version: 0.2", *vocabulary[1], "")))
    special = {"bos_token": flags(START), "eos_token": flags(END), "unk_token": flags(END)}
    write_json(path / "special_tokens_map.json", {**special, "pad_token": "!"})
    objects = {name: {"__type": "AddedToken", **token} for name, token in special.items()}
    write_json(path / "tokenizer_config.json", {"model_max_length": 77, "pad_token": END, **objects})
    return path


def like_sd15(folder: Path) -> None:
    special = json.loads((folder / "special_tokens_map.json").read_text())
    write_json(folder / "special_tokens_map.json", {**special, "pad_token": END})


def with_flags_by_id(folder: Path) -> None:
    ids = json.loads((folder / "vocab.json").read_text())
    tokens = {str(ids[name]): flags(name, normalized=name == END, special=True) for name in (END, START, "!")}
    config = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": "!", "added_tokens_decoder": tokens}
    write_json(folder / "tokenizer_config.json", {"model_max_length": 77, **config})


def in_one_file(folder: Path) -> None:
    whole = CLIPTokenizerFast.from_pretrained(folder)
    for file in folder.iterdir():
        file.unlink()
    whole.save_pretrained(folder)
    (folder / "vocab.json").unlink(missing_ok=True)


def bare(folder: Path) -> None:
    (folder / "special_tokens_map.json").unlink()
    (folder / "tokenizer_config.json").unlink()


@pytest.mark.parametrize("layout", [None, like_sd15, with_flags_by_id, in_one_file, bare])
def test_tokens_are_those_of_transformers(folder: Path, layout):
    if layout:
        layout(folder)
    theirs = CLIPTokenizerFast.from_pretrained(folder)
    expected = theirs(list(PROMPTS), padding="max_length", max_length=77, truncation=True)["input_ids"]
    actual = Tokenizer(folder)(*PROMPTS)
    assert actual.dtype == np.int32
    for prompt, tokens, reference in zip(PROMPTS, actual, expected, strict=True):
        assert tokens.tolist() == reference, prompt


def test_the_folder_names_the_padding(folder: Path, vocabulary: Vocabulary):
    start, end = vocabulary[0][START], vocabulary[0][END]
    assert Tokenizer(folder)("")[0].tolist() == [start, end, *[0] * 75]
    like_sd15(folder)
    assert Tokenizer(folder)("")[0].tolist() == [start, end, *[end] * 75]


def test_a_long_prompt_is_cut_and_ended(folder: Path, vocabulary: Vocabulary):
    (tokens,) = Tokenizer(folder)("a" + " the" * 100)
    words = [vocabulary[0][word] for word in (START, "a</w>", "the</w>", END)]
    assert tokens.tolist() == [*words[:2], *[words[2]] * 74, words[3]]


def test_no_prompts_give_no_rows(folder: Path):
    assert Tokenizer(folder)().shape == (0, 77)


def test_a_prompt_is_embedded_as_the_text_encoder_embeds_its_tokens(folder: Path, vocabulary: Vocabulary):
    config = CLIPTextConfig(
        vocab_size=len(vocabulary[0]),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    tokenizer, model = Tokenizer(folder), CLIPTextModel(config)
    tokens = jnp.asarray(tokenizer("", "a photo"))
    params = random_params(model, tokens)
    (embedding,) = encode_prompts(["a photo"], tokenizer, config, params)
    assert (embedding.shape, embedding.dtype) == ((77, 16), np.float32)
    assert_close(embedding, np.asarray(quick_jit(model.apply)({"params": params}, tokens)[1]), 1e-5)


def test_refuses_a_text_encoder_of_another_vocabulary(folder: Path, vocabulary: Vocabulary):
    end = vocabulary[0][END]
    with pytest.raises(ValueError, match=f"token {end}, but the text encoder has only {end}"):
        encode_prompts([""], Tokenizer(folder), CLIPTextConfig(vocab_size=end), {})


@pytest.mark.parametrize("missing", ["vocab.json", "merges.txt"])
def test_says_what_is_missing(folder: Path, missing: str):
    (folder / missing).unlink()
    with pytest.raises(FileNotFoundError, match=r"neither tokenizer\.json nor vocab\.json and merges\.txt"):
        Tokenizer(folder)
    with pytest.raises(FileNotFoundError, match="not a tokenizer folder"):
        Tokenizer(folder / "nowhere")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("vocab.json", "{", "cannot be read"),
        ("merges.txt", "#version: 0.2\nq z\n", "cannot be read: .*out of vocabulary"),
        ("tokenizer.json", "{}", "cannot be read"),
        ("vocab.json", "version https://git-lfs.github.com/spec/v1\n", "vocab.json is a Git LFS pointer, not the file"),
        ("tokenizer.json", tokenizers.Tokenizer(WordPiece({"a": 0}, unk_token="a")).to_str(), "words end in </w>"),
        ("tokenizer.json", tokenizers.Tokenizer(BPE({"a": 0}, [])).to_str(), "words end in </w>"),
        ("tokenizer_config.json", "{", "tokenizer_config.json is not a JSON object"),
        ("special_tokens_map.json", "[1]", "special_tokens_map.json is not a JSON object"),
        ("special_tokens_map.json", '{"pad_token": "[PAD]"}', r"vocabulary lacks \['\[PAD\]'\]"),
    ],
)
def test_refuses_a_folder_that_is_not_clips(folder: Path, file: str, content: str, message: str):
    (folder / file).write_text(content)
    with pytest.raises(ValueError, match=message):
        Tokenizer(folder)


def test_refuses_a_vocabulary_without_start_and_end(folder: Path):
    write_json(folder / "vocab.json", {"a": 0, "b": 1, "!": 2})
    (folder / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(ValueError, match=r"endoftext.*startoftext"):
        Tokenizer(folder)
