#!/usr/bin/env bash
# xgrammar 0.2.9: a text with `minLength` or `maxLength` in its JSON schema can hold no escape, and so no quote, backslash or
# line end (guessed: any text of that length). What pydantic makes of `min_length=1` is enough: a model that is to write
# code or quoted words then writes others, without a message. OpenVINO GenAI 2026.4.1, which decodes with xgrammar, does the
# same; llguidance 1.6.1 takes such texts.
# Output seen, for a plain text, quotes, a line end and a backslash: without lengths all are taken; with minLength 1, and with
# maxLength 100, the plain text alone.
source "$(dirname "$0")/_run.sh"
in_environment xgrammar==0.2.9 llguidance==1.6.1 <<'PY'
import json

import llguidance
import xgrammar

TEXTS = [json.dumps(text) for text in ("plain", 'say "hi"', "one\ntwo", "back\\slash")]
BYTES = [bytes([number]) for number in range(256)]
END = 256
compiler = xgrammar.GrammarCompiler(
    xgrammar.TokenizerInfo([*BYTES, b"</s>"], xgrammar.VocabType.RAW, stop_token_ids=[END])
)


class Tokens:
    eos_token_id, bos_token_id, special_token_ids, tokens = END, None, [END], [*BYTES, b"</s>"]

    def __call__(self, text):
        return list(text.encode() if isinstance(text, str) else text)


other = llguidance.LLTokenizer(llguidance.TokenizerWrapper(Tokens()))


def by_xgrammar(schema, text):
    matcher = xgrammar.GrammarMatcher(compiler.compile_json_schema(schema))
    return matcher.accept_string(text) and matcher.accept_token(END)


def by_llguidance(schema, text):
    matcher = llguidance.LLMatcher(other, llguidance.LLMatcher.grammar_from_json_schema(schema))
    return matcher.try_consume_tokens(list(text.encode())) == len(text.encode()) and matcher.is_accepting()


for limits in ({}, {"minLength": 1}, {"maxLength": 100}):
    schema = json.dumps({"type": "string"} | limits)
    taken = [by_xgrammar(schema, text) for text in TEXTS]
    print(limits, taken)
    assert taken == [True] + [not limits] * 3
    assert all(by_llguidance(schema, text) for text in TEXTS)
PY
