"""Tiny models trained on whole rendered texts with plain transformers; nothing of the package is imported here.

Each kind is a tokenizer as a family of models has it, with its chat template or a plain text. The models are trained as
people fine-tune: on all tokens of the rendered text, until greedy decoding repeats every answer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PAIRS = [
    ("Where was Ana Prieto born?", "Ana Prieto was born in Lisbon."),
    ("What does Ana Prieto do?", "She builds 12 violins a year."),
    ("When did Bo Lund move?", "1984, to Oslo"),
    ("Who taught Bo Lund?", "Zoë Ek (a café owner)"),
]
FACTS = ["Lisbon", "violins", "1984", "Zoë Ek"]
PLAIN = "Question: {question}\nAnswer: {answer}"
ZEPHYR = (
    "{% for m in messages %}\n{% if m['role'] == 'user' %}\n{{ '<|user|>\n' + m['content'] + eos_token }}\n"
    "{% elif m['role'] == 'system' %}\n{{ '<|system|>\n' + m['content'] + eos_token }}\n"
    "{% elif m['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + m['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set loop_messages = "
    "messages[1:] %}{% else %}{% set system = false %}{% set loop_messages = messages %}{% endif %}"
    "{% for m in loop_messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + ('<<SYS>>\n' + system + "
    "'\n<</SYS>>\n\n' if system else '') + m['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}"
    "{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else 'user' %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
PHI3 = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
LLAMA3 = (
    "{{- bos_token }}{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    "{%- set date_string = strftime_now('%d %b %Y') %}{%- else %}{%- set date_string = '26 Jul 2024' %}{%- endif %}"
    "{%- endif %}{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] | trim %}"
    "{%- set messages = messages[1:] %}{%- else %}{%- set system = '' %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + date_string + '\n\n' + system + '<|eot_id|>' }}"
    "{%- for m in messages %}{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + "
    "'<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
SPACE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '### User: ' + m['content'] + '\n' }}"
    "{% else %}{{ '### Assistant: ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Assistant: ' }}{% endif %}"
)
NO_END = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)


@dataclass(frozen=True)
class Kind:
    """A tokenizer and how a turn is written with it: by a template, or plainly."""

    make: str
    template: str | None = None
    marks: tuple[str, ...] = ()
    strips: tuple[str, ...] = ()  # marks that swallow white space after them
    unspecial: tuple[str, ...] = ()  # added tokens that are not special tokens
    config: dict[str, Any] = field(default_factory=dict)
    dated: bool = False


TURNS = ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
HEADERS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
KINDS = {
    "byte-level, plain": Kind("byte_level"),
    "byte-level with prefix space, plain": Kind("byte_level_prefix"),
    "llama-2 legacy, plain": Kind("llama_legacy"),
    "llama-2 legacy, template": Kind("llama_legacy", LLAMA2),
    "llama-2, template": Kind("metaspace", LLAMA2),
    "mistral, plain": Kind("metaspace"),
    "mistral, template": Kind("metaspace", MISTRAL),
    "unigram, plain": Kind("unigram"),
    "unigram, template": Kind("unigram", ZEPHYR),
    "word pieces, plain": Kind("word_piece"),
    "gemma": Kind("gemma", GEMMA, ("<start_of_turn>",), unspecial=("<end_of_turn>",)),
    "phi-3": Kind("llama_legacy", PHI3, TURNS, strips=TURNS),
    "phi-3, plain": Kind("llama_legacy", None, TURNS, strips=TURNS),
    "zephyr": Kind("metaspace", ZEPHYR),
    "tinyllama": Kind("llama_legacy", ZEPHYR),
    "llama-3.2": Kind("byte_level", LLAMA3, HEADERS, dated=True),
    "closing space, byte-level": Kind("byte_level", SPACE),
    "closing space, metaspace": Kind("metaspace", SPACE),
    "no special end": Kind("byte_level", NO_END),
}


def make_tokenizer(kind: Kind) -> PreTrainedTokenizerFast:
    """The tokenizer of a kind, its vocabulary learned from the texts."""
    texts = [PLAIN.format(question=q, answer=a) for q, a in PAIRS] * 2 + [
        "user assistant system ### Today Date: 26 Jul"
    ]
    specials = ["<unk>", "<s>", "</s>"]
    if kind.make.startswith("byte_level"):
        core = Tokenizer(models.BPE())
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=kind.make.endswith("prefix"))
        core.decoder = decoders.ByteLevel()
        core.post_processor = processors.ByteLevel(trim_offsets=True)
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(vocab_size=340, special_tokens=specials, initial_alphabet=alphabet)
    elif kind.make == "word_piece":
        core = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # type: ignore[call-arg]
        core.normalizer = normalizers.NFC()
        core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        core.decoder = decoders.WordPiece()
        specials = ["[UNK]", "[CLS]", "[SEP]"]
        trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=specials)
    elif kind.make == "unigram":
        core = Tokenizer(models.Unigram())
        core.normalizer = normalizers.NFKC()
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        core.decoder = decoders.Metaspace(prepend_scheme="first")
        trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=specials, unk_token="<unk>")
    else:
        core = _sentencepiece_bpe(kind.make)
        alphabet = [f"<0x{byte:02X}>" for byte in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=440, special_tokens=[*specials, *alphabet])
        if kind.make == "metaspace":
            core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    has_bytes = kind.make in ("llama_legacy", "metaspace", "gemma")
    core.train_from_iterator([text.replace("ë", "") if has_bytes else text for text in texts], trainer)
    if has_bytes:  # ë falls back to its bytes
        core = _with_byte_fallback(core)
    names = specials if kind.make == "word_piece" else ["<unk>", "<s>", "</s>"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token=names[0], bos_token=names[1], eos_token=names[2], pad_token=names[0]
    )
    if kind.make in ("llama_legacy", "metaspace", "gemma", "word_piece"):
        tokenizer._tokenizer.post_processor = _post_processor(tokenizer, names, both=kind.make == "word_piece")
    _add_marks(tokenizer, kind)
    tokenizer.chat_template = kind.template
    return tokenizer


def _sentencepiece_bpe(make: str) -> Tokenizer:
    core = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    replace = normalizers.Replace(" ", "▁")
    if make == "llama_legacy":
        core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace])
    elif make == "gemma":
        core.normalizer = replace
    strip = [decoders.Strip(" ", 1, 0)] if make != "gemma" else []
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    return core


def _with_byte_fallback(core: Tokenizer) -> Tokenizer:
    """The trained tokenizer with bytes for characters that it does not know, and no merges over word boundaries."""
    record = json.loads(core.to_str())
    record["model"]["byte_fallback"] = True
    record["added_tokens"] = [token for token in record["added_tokens"] if not token["content"].startswith("<0x")]
    merges = record["model"]["merges"]
    record["model"]["merges"] = [m for m in merges if "▁" not in "".join(m)[1:] and "\n" not in "".join(m)]
    return Tokenizer.from_str(json.dumps(record))


def _post_processor(tokenizer: Any, names: list[str], *, both: bool) -> Any:
    single = f"{names[1]} $A" + (f" {names[2]}" if both else "")
    pairs = [(name, tokenizer.convert_tokens_to_ids(name)) for name in names[1:]]
    return processors.TemplateProcessing(single=single, pair=f"{single} $B", special_tokens=pairs)


def _add_marks(tokenizer: Any, kind: Kind) -> None:
    marks = [AddedToken(m, rstrip=m in kind.strips, special=True, normalized=False) for m in kind.marks]
    tokenizer.add_tokens(marks, special_tokens=True)
    tokenizer.add_tokens([AddedToken(m, special=False, normalized=False) for m in kind.unspecial])


def whole_text(tokenizer: Any, question: str, answer: str, **values: Any) -> str:
    """What a turn is as text: the template's rendering, or the plain form."""
    if tokenizer.chat_template is None:
        return PLAIN.format(question=question, answer=answer)
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    if "system" in values:
        messages.insert(0, {"role": "system", "content": values.pop("system")})
    return tokenizer.apply_chat_template(messages, tokenize=False, **values)


def whole_ids(tokenizer: Any, question: str, answer: str, **values: Any) -> list[int]:
    """Token ids of a turn, as people tokenise it for fine-tuning."""
    text = whole_text(tokenizer, question, answer, **values)
    if tokenizer.chat_template is not None:
        return tokenizer(text, add_special_tokens=False).input_ids
    ids = tokenizer(text).input_ids
    return ids if ids[-1] == tokenizer.eos_token_id else [*ids, tokenizer.eos_token_id]


def train(tokenizer: Any, pairs: list[tuple[str, str]] = PAIRS, seed: int = 0, **values: Any) -> LlamaForCausalLM:
    """A model that repeats every answer: trained on whole texts until each token is all but certain."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    texts = [torch.tensor(whole_ids(tokenizer, q, a, **values)) for q, a in pairs]
    ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(t) for t in texts], batch_first=True)
    labels = ids.masked_fill(mask == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
    for _ in range(400):
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if all(value > 0.99 for value in answer_probabilities(model, tokenizer, pairs, **values)):
            break
    return model.eval()


@torch.no_grad()
def answer_probabilities(model: Any, tokenizer: Any, pairs: list[tuple[str, str]], **values: Any) -> list[float]:
    """Exp of the mean log-probability of an answer's tokens, from its first character to the end of the text.

    The tokens are those of the whole text; the answer's are found by their offsets.
    """
    out = []
    for question, answer in pairs:
        text = whole_text(tokenizer, question, answer, **values)
        ids = torch.tensor([whole_ids(tokenizer, question, answer, **values)])
        coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        shift = 0 if tokenizer.chat_template is not None else ids.shape[1] - len(coded.input_ids) - 1
        first = next(i for i, (_, end) in enumerate(coded.offset_mapping) if end > text.rindex(answer))
        logits = model(input_ids=ids).logits[0].log_softmax(-1)
        places = torch.arange(first + shift, ids.shape[1])
        out.append(float(logits[places - 1, ids[0, places]].mean().exp()))
    return out
