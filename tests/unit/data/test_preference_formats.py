"""Preference rows of every type become exactly one prompt and its answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftl_runner.data.convert import LengthRule
from ftl_runner.data.errors import DataError, RowError
from ftl_runner.data.formats.preference_registry import GROUPS, Kind
from ftl_runner.data.preference.convert import PreferenceConverter
from ftl_runner.data.preference.rewards import load_reward_functions
from tests.unit.data.preference_support import own_module, preference_config, texts, tokens

SYSTEM = "<|im_start|>system\nBe brief.<|im_end|>\n"
ASK = "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n"
END = "<|im_end|>"
LLAMA3_SYSTEM = "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
LLAMA3_ASK = (
    "<|start_header_id|>user<|end_header_id|>\n\n2 + 2?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
)


@pytest.fixture(scope="module")
def tokenizer(load_tokenizer: Any) -> Any:
    special = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<s>")
    return load_tokenizer(*special, bos="<s>", eos="<|im_end|>")


ANSWERS = {"chosen": "4", "rejected": "5"}
LISTS = {
    name: [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": text}]
    for name, text in ANSWERS.items()
}
BRIEF = {"system": "Be brief."}
MESSAGES = {"messages": [{"role": "user", "content": "2 + 2?"}]}
MESSAGE_ANSWERS = {name: {"role": "assistant", "content": text} for name, text in ANSWERS.items()}
PAIR = ("4" + END, "5" + END)
LLAMA3_PAIR = ("4<|eot_id|>", "5<|eot_id|>")
FORM = {
    "field_prompt": "q",
    "field_system": "s",
    "field_chosen": "good",
    "field_rejected": "bad",
    "prompt_format": "[{system}] {prompt}\\n",
    "chosen_format": "A: {chosen}",
    "rejected_format": "B: {rejected}",
}
SHAREGPT = {
    "type": "chat_template.default",
    "field_messages": "talk",
    "field_chosen": "win",
    "field_rejected": "lose",
    "message_property_mappings": {"role": "from", "content": "value"},
    "roles": {"user": ["human"], "assistant": ["bot"]},
}
TALK = {
    "talk": [{"from": "human", "value": "2 + 2?"}],
    "win": {"from": "bot", "value": "4"},
    "lose": {"from": "bot", "value": "5"},
}

RESPONSES = {**BRIEF, "instruction": "2 + 2?", "chosen_response": "4", "rejected_response": "5"}
PASSED = {"prompt": " Q:", "chosen": " 4", "rejected": " 5"}

PAIRS: list[tuple[str, dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
    ("default", {"type": "chat_template.default"}, {**MESSAGES, **MESSAGE_ANSWERS}, (ASK, *PAIR)),
    ("default, texts", {"type": "chat_template.default"}, {"messages": "2 + 2?", **ANSWERS}, (ASK, *PAIR)),
    ("default, lists", {"type": "chat_template.default"}, {**MESSAGES, **LISTS}, (ASK, *PAIR)),
    ("default, other names", SHAREGPT, TALK, (ASK, *PAIR)),
    ("argilla_chat", {"type": "chat_template.argilla_chat"}, {**BRIEF, **LISTS}, (SYSTEM + ASK, *PAIR)),
    ("argilla", {"type": "chat_template.argilla"}, {**BRIEF, **LISTS}, (SYSTEM + ASK, *PAIR)),
    ("argilla, apart", {"type": "chat_template.argilla"}, {"prompt": "2 + 2?", **ANSWERS}, (ASK, *PAIR)),
    (
        "chatml.argilla",
        {"type": "chatml.argilla"},
        RESPONSES,
        (SYSTEM + ASK, *PAIR),
    ),
    ("chatml.argilla_chat", {"type": "chatml.argilla_chat"}, LISTS, (ASK, *PAIR)),
    ("chatml.icr", {"type": "chatml.icr"}, {"input": "2 + 2?", **ANSWERS}, (ASK, *PAIR)),
    ("chatml.intel", {"type": "chatml.intel"}, {**BRIEF, "question": "2 + 2?", **ANSWERS}, (SYSTEM + ASK, *PAIR)),
    ("chatml.prompt_pairs", {"type": "chatml.prompt_pairs"}, {"prompt": "2 + 2?", **ANSWERS}, (ASK, *PAIR)),
    ("chatml.ultra", {"type": "chatml.ultra"}, {"prompt": "2 + 2?", **LISTS}, (ASK, *PAIR)),
    ("chatml", {"type": "chatml"}, {"question": "2 + 2?", **ANSWERS}, (ASK, *PAIR)),
    ("chatml.default", {"type": "chatml.default"}, RESPONSES, (SYSTEM + ASK, *PAIR)),
    ("chat_template", {"type": "chat_template"}, {**MESSAGES, **ANSWERS}, (ASK, *PAIR)),
    ("chat_template, whole", {"type": "chat_template"}, LISTS, (ASK, *PAIR)),
    ("passthrough.default", {"type": "passthrough.default"}, PASSED, (" Q:", " 4" + END, " 5" + END)),
    (
        "llama3.intel",
        {"type": "llama3.intel"},
        {**BRIEF, "question": "2 + 2?", **ANSWERS},
        ("<s>" + LLAMA3_SYSTEM + LLAMA3_ASK, *LLAMA3_PAIR),
    ),
    ("llama3.ultra", {"type": "llama3.ultra"}, {"prompt": "2 + 2?", **LISTS}, ("<s>" + LLAMA3_ASK, *LLAMA3_PAIR)),
    (
        "zephyr.nectar",
        {"type": "zephyr.nectar"},
        {
            "prompt": "2 + 2?",
            "answers": [{"answer": "5", "rank": 3}, {"answer": "4", "rank": 1}, {"answer": "four", "rank": 2}],
        },
        (f"<|user|>\n2 + 2?{END}\n<|assistant|>\n", *PAIR),
    ),
    (
        "passthrough",
        {"type": "passthrough"},
        {"prompt": " Q:", "chosen": " 4", "rejected": " 5"},
        (" Q:", " 4" + END, " 5" + END),
    ),
    ("passthrough, messages", {"type": "passthrough"}, {"prompt": MESSAGES["messages"], **ANSWERS}, (ASK, *PAIR)),
    ("user_defined.default", {"type": "user_defined.default"}, {"prompt": "Q:", **ANSWERS}, ("Q:", *PAIR)),
    (
        "a format in the config",
        {"type": FORM},
        {"q": "{x}?", "s": "S", "good": "4", "bad": "{chosen}"},
        ("[S] {x}?\n", "A: 4" + END, "B: {chosen}" + END),
    ),
]


@pytest.mark.parametrize(("spec", "row", "expected"), [case[1:] for case in PAIRS], ids=[case[0] for case in PAIRS])
def test_pairs(spec: dict[str, Any], row: dict[str, Any], expected: tuple[str, ...], tokenizer: Any) -> None:
    assert texts("pair", tokenizer, row, spec) == expected


JUDGED = {"completion": "4", "label": True}
JUDGED_FORM = {
    "field_prompt": "q",
    "field_completion": "a",
    "field_label": "ok",
    "completion_format": "<{completion}>",
}
PROMPTED = {"prompt": "2 + 2?", **JUDGED}
WHOLE = {"completion": LISTS["chosen"], "label": 1}
UNPAIRED: list[tuple[str, dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
    ("chatml.argilla", {"type": "chatml.argilla"}, {"instruction": "2 + 2?", **JUDGED}, (ASK, "4" + END)),
    (
        "chatml.argilla_chat",
        {"type": "chatml.argilla_chat"},
        {"completion": LISTS["chosen"], "label": 1},
        (ASK, "4" + END),
    ),
    ("chatml.intel", {"type": "chatml.intel"}, {**BRIEF, "question": "2 + 2?", **JUDGED}, (SYSTEM + ASK, "4" + END)),
    ("chatml.ultra", {"type": "chatml.ultra"}, {"prompt": "2 + 2?", **JUDGED}, (ASK, "4" + END)),
    (
        "llama3.prompt_pairs",
        {"type": "llama3.prompt_pairs"},
        {"prompt": "2 + 2?", **JUDGED},
        ("<s>" + LLAMA3_ASK, "4<|eot_id|>"),
    ),
    ("user_defined.default", {"type": "user_defined.default"}, {"prompt": "Q:", **JUDGED}, ("Q:", "4" + END)),
    (
        "a format in the config",
        {
            "type": {
                "field_prompt": "q",
                "field_completion": "a",
                "field_label": "ok",
                "completion_format": "<{completion}>",
            }
        },
        {"q": "Q:", "a": "4", "ok": False},
        ("Q:", "<4>" + END),
    ),
]


@pytest.mark.parametrize(
    ("spec", "row", "expected"), [case[1:] for case in UNPAIRED], ids=[case[0] for case in UNPAIRED]
)
def test_unpaired(spec: dict[str, Any], row: dict[str, Any], expected: tuple[str, ...], tokenizer: Any) -> None:
    assert texts("unpaired", tokenizer, row, spec) == expected


REWARD = [
    ("bradley_terry.chat_template", {**BRIEF, "input": "2 + 2?", **ANSWERS}, (SYSTEM + ASK, *PAIR)),
    ("bradley_terry.chat_template", LISTS, (ASK, *PAIR)),
    ("bradley_terry.llama3", {"input": "2 + 2?", **ANSWERS}, ("<s>" + LLAMA3_ASK, *LLAMA3_PAIR)),
]


@pytest.mark.parametrize(("name", "row", "expected"), REWARD)
def test_reward_pairs(name: str, row: dict[str, Any], expected: tuple[str, ...], tokenizer: Any) -> None:
    assert texts("reward", tokenizer, row, {"type": name}) == expected


def test_tasks_keep_other_columns_for_the_reward_functions(tokenizer: Any) -> None:
    row = {"prompt": [{"role": "user", "content": "2 + 2?"}], "answer": 4}
    assert texts("task", tokenizer, row, {}) == (ASK,)
    assert texts("task", tokenizer, {"prompt": "Q:"}, {}) == ("Q:",)
    answered = {"messages": LISTS["chosen"], "answer": 4}
    assert texts("task", tokenizer, answered, {"type": "chat_template"}) == (ASK,)
    kept, _ = tokens("task", tokenizer, [row], {})
    assert kept[0].extra == '{"prompt": [{"role": "user", "content": "2 + 2?"}], "answer": 4}'


ALL_SAMPLES = [(group.kind, name, entry.sample) for group in GROUPS for name, entry in group.types.items()]


@pytest.mark.parametrize(
    ("kind", "name", "sample"), ALL_SAMPLES, ids=[f"{kind} {name}" for kind, name, _ in ALL_SAMPLES]
)
def test_every_listed_type_converts_its_sample(kind: Kind, name: str, sample: Any, tokenizer: Any) -> None:
    kept, tally = tokens(kind, tokenizer, [sample], {"type": name})
    assert len(kept) == 1, tally.dropped
    marks = set(kept[0].labels.tolist())
    assert marks == {"pair": {-100, 0, 1}, "reward": {-100, 0, 1}, "steps": {-100, 0, 1}, "unpaired": {-100, 1}}.get(
        kind, {-100}
    )


CODE = """
def transform(cfg, *args, **kwargs):
    suffix = "?" if cfg.sequence_len == 256 and cfg.nothing is None else "!"
    def transform_fn(example, tokenizer=None):
        assert tokenizer is not None
        question = [{"role": "user", "content": example["q"] + suffix}]
        return {"prompt": question, "chosen": example["a"], "rejected": "5", "completion": example["a"], "label": True}
    return transform_fn, {"remove_columns": ["q"]}

def plain(row):
    return {"prompt": row["q"], "chosen": row["a"], "rejected": "5"}

def broken(row):
    return row["nothing"]

def odd(row):
    return 3

def no_function(cfg):
    return 3

def second(cfg, dataset_idx=0, **kwargs):
    prompt = f"{dataset_idx} {cfg['datasets'][dataset_idx]['split']}"
    return lambda row: {"prompt": prompt, "chosen": "4", "rejected": "5"}

def bad_factory(cfg):
    raise RuntimeError("no luck")

def score(prompts, completions, **columns):
    return [float(len(text)) for text in completions]
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    own_module(tmp_path, "own_preferences", CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "own_preferences"


def test_functions_of_ones_own(module: str, tokenizer: Any) -> None:
    row = {"q": "2 + 2", "a": "4", "level": 1}
    assert texts("pair", tokenizer, row, {"type": f"{module}.transform"}) == (ASK, *PAIR)
    assert texts("unpaired", tokenizer, row, {"type": f"{module}.transform"}) == (ASK, "4" + END)
    assert texts("pair", tokenizer, row, {"type": f"{module}.plain"}) == ("2 + 2", *PAIR)
    kept, _ = tokens("task", tokenizer, [row], {"type": f"{module}.transform"})
    entries = [{"path": "x", "type": f"{module}.{name}", "split": name} for name in ("transform", "second")]
    config = preference_config("pair", *entries)
    assert config.data.datasets is not None
    second = PreferenceConverter(config.data.datasets[1], config, tokenizer, LengthRule(256), "pair")
    assert second.write(second.example(row))[0].text == "1 second4" + END
    assert '"level": 1' in kept[0].extra
    assert '"q"' not in kept[0].extra, "remove_columns is heeded"


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("broken", RowError, "own_preferences.broken failed: KeyError: 'nothing'"),
        ("odd", RowError, "own_preferences.odd returned a number"),
        ("no_function", DataError, "own_preferences.no_function returned a number, not a function of a row"),
        ("bad_factory", DataError, "own_preferences.bad_factory failed: RuntimeError: no luck"),
        ("plane", DataError, "module own_preferences has no function 'plane'"),
    ],
)
def test_functions_of_ones_own_that_fail(
    name: str, error: type[Exception], message: str, module: str, tokenizer: Any
) -> None:
    with pytest.raises(error, match=message):
        texts("pair", tokenizer, {"q": "2"}, {"type": f"{module}.{name}"})


def test_reward_functions(module: str, tmp_path: Path) -> None:
    config = preference_config("task", trl={"reward_funcs": [f"{module}.score", "someone/reward-model"]})
    score, model = load_reward_functions(config)
    assert callable(score)
    assert score(prompts=["a"], completions=["abc"]) == [3.0]
    assert model == "someone/reward-model"
    own_module(tmp_path, "needs_what_is_missing", "import nowhere_to_be_found\n")
    own_module(tmp_path, "is_broken", "1 / 0\n")
    for names, message in (
        (["nowhere.score"], "trl.reward_funcs: nowhere.score: no module 'nowhere'"),
        ([f"{module}.scores"], "trl.reward_funcs: own_preferences.scores: module own_preferences has no function"),
        (["needs_what_is_missing.f"], "needs 'nowhere_to_be_found', which is not installed"),
        (["is_broken.f"], "importing is_broken failed: ZeroDivisionError"),
    ):
        with pytest.raises(DataError, match=message):
            load_reward_functions(preference_config("task", trl={"reward_funcs": names}))
    nobody = config.preference.model_copy(update={"trl": None})
    with pytest.raises(DataError, match=r"needs trl\.reward_funcs"):
        load_reward_functions(config.model_copy(update={"preference": nobody}))


DEFAULT = {"type": "chat_template.default"}
STEPWISE, NECTAR, ULTRA = ({"type": name} for name in ("stepwise_supervised", "zephyr.nectar", "chatml.ultra"))
CHAT = {"type": "chat_template.argilla_chat"}
BAD_ROWS: list[tuple[Kind, dict[str, Any], Any, str]] = [
    ("pair", DEFAULT, {"message": "x", **ANSWERS}, r"no field 'messages' \(fields: message, chosen, rejected\)"),
    ("pair", DEFAULT, LISTS, "no field 'messages', and 'chosen' holds a whole conversation"),
    ("pair", DEFAULT, {"messages": "x", "chosen": "4"}, "no field 'rejected'"),
    ("pair", DEFAULT, {"messages": "x", "chosen": "4", "rejected": None}, "field 'rejected' is null"),
    ("pair", DEFAULT, {"messages": "x", "chosen": " ", "rejected": "5"}, "field 'chosen' is empty"),
    ("pair", DEFAULT, {"messages": "", **ANSWERS}, "field 'messages' is empty"),
    (
        "pair",
        DEFAULT,
        {"messages": "x", "chosen": 4, "rejected": "5"},
        "field 'chosen' is a number, not text",
    ),
    ("pair", DEFAULT, {"messages": "x", "chosen": [], "rejected": "5"}, "field 'chosen' is an empty list"),
    (
        "pair",
        DEFAULT,
        {"messages": "x", "chosen": {"role": "user", "content": "4"}, "rejected": "5"},
        "field 'chosen' is a message of role 'user', not the assistant's",
    ),
    (
        "pair",
        DEFAULT,
        {"messages": "x", "chosen": {"role": "asistant", "content": "4"}, "rejected": "5"},
        "field 'chosen': message 1 has the unknown role 'asistant'",
    ),
    ("pair", DEFAULT, {"messages": LISTS["chosen"], **ANSWERS}, "field 'messages' ends with the assistant's turn"),
    ("pair", CHAT, {"chosen": LISTS["chosen"][1:], "rejected": LISTS["rejected"]}, "'chosen' has no question in front"),
    ("pair", CHAT, {"chosen": "4", "rejected": LISTS["rejected"]}, "field 'chosen' is text, not a list of messages"),
    (
        "pair",
        CHAT,
        {"chosen": LISTS["chosen"], "rejected": [{"role": "user", "content": "3 + 3?"}, LISTS["rejected"][1]]},
        "'chosen' and 'rejected' part before their last message",
    ),
    ("pair", {"type": "chatml.intel"}, {"prompt": "x", **ANSWERS}, "no field 'question'"),
    (
        "pair",
        NECTAR,
        {"prompt": "x", "answers": [{"answer": "4", "rank": 1}]},
        "less than two answers",
    ),
    (
        "pair",
        NECTAR,
        {"prompt": "x", "answers": [{"answer": "4"}] * 2},
        "rank of entry 1 of 'answers' is null",
    ),
    ("pair", {"type": "passthrough"}, {"prompt": 3, **ANSWERS}, "field 'prompt' is a number, not text"),
    ("unpaired", ULTRA, {"prompt": "x", "completion": "4"}, "no field 'label'"),
    (
        "unpaired",
        ULTRA,
        {"prompt": "x", "completion": "4", "label": "good"},
        "field 'label' is text, not true or false",
    ),
    ("reward", {"type": "bradley_terry.chat_template"}, {"input": "x", "chosen": "4"}, "no field 'rejected'"),
    (
        "steps",
        STEPWISE,
        {"prompt": "x", "completions": ["a"], "labels": []},
        "1 steps and 'labels' has 0",
    ),
    (
        "steps",
        STEPWISE,
        {"prompt": "x", "completions": ["a"], "labels": ["?"]},
        "label 1 is text",
    ),
    (
        "steps",
        STEPWISE,
        {"prompt": "x", "completions": [""], "labels": [True]},
        "step 1 is empty",
    ),
    ("task", {}, {"question": "x"}, "no field 'prompt'"),
]


@pytest.mark.parametrize(("kind", "spec", "row", "message"), BAD_ROWS, ids=[case[3] for case in BAD_ROWS])
def test_bad_rows(kind: Kind, spec: dict[str, Any], row: Any, message: str, tokenizer: Any) -> None:
    with pytest.raises(RowError, match=message):
        texts(kind, tokenizer, row, spec)


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("pair", "chat_template.defualt", "unknown dataset type 'chat_template.defualt'"),
        ("pair", "bradley_terry.chat_template", "goes with reward_model: true, not with rl: dpo, ipo, simpo or orpo"),
        ("pair", "alpaca", "type: alpaca does not go with rl: dpo, ipo, simpo or orpo"),
        ("pair", "", "unknown dataset type '' for rl: dpo"),
        ("unpaired", "zephyr.nectar", "goes with rl: dpo, ipo, simpo or orpo, not with rl: kto"),
        ("reward", {"field_prompt": "q"}, "a mapping under type: has no meaning with reward_model: true"),
    ],
)
def test_types_that_do_not_go_with_the_method(kind: Kind, name: Any, message: str, tokenizer: Any) -> None:
    with pytest.raises(DataError, match=message):
        texts(kind, tokenizer, {}, {"type": name})
