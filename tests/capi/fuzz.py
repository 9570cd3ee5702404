"""Writes the fuzz driver: for each function of the headers a call with arguments made up by its types, so
that one that is added is fuzzed, too."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["driver"]

# They would start servers in made-up folders, free what is not ours, or have nothing to check.
_LEFT_OUT = {"rss_open_embedded", "rss_free", "rss_last_error"}
# Slow ones: one call in so many.
_SELDOM = {
    "rss_open": 400,
    "rss_close": 20,
    "rss_user_create": 40,
    "rss_user_set_password": 40,
    "rss_user_authenticate": 40,
    "rss_migrate": 200,
    "rss_migration_status_json": 200,
    "rss_subscribe": 40,
    "rss_get_health": 20,
    "rss_get_health_json": 20,
    "database_manager_init": 100,
    "database_manager_run_migrations": 100,
    "redis_client_init": 40,
}
_NUMBERS = {
    "database_manager_execute": "INT32_MAX",
    "database_manager_run_migrations": "INT32_MAX",
    "rss_rows_count": "INT64_MAX",
}
_PAIRS = {
    "const void *": "any_bytes",
    "char *": "any_buffer",
    "const rss_new_event *": "any_events",
    "const rss_usage_entry *": "any_entries",
}
_KINDS = {
    "rss_rows *": (0, "rss_rows_free"),
    "rss_subscription *": (1, "rss_subscription_close"),
    "DatabaseManager *": (2, "database_manager_cleanup"),
    "RedisClient *": (3, "redis_client_cleanup"),
}
_VALUES = {
    "rss_store *": "any_store()",
    "const char *": "any_text()",
    "int64_t": "any_int()",
    "int": "any_flag()",
    "double": "any_double()",
    "size_t": "(size_t)below(20)",
    "uint16_t": "(uint16_t)below(3)",
    "uint32_t": "(uint32_t)any_int()",
    "const rss_options *": "any_options()",
    "const rss_init_options *": "any_init_options()",
    "const rss_session *": "any_session()",
    "const rss_ranked_stream *": "any_ranked_stream()",
    "const unsigned char *": "any_hash()",
}
_PLAIN_OUTPUTS = {"int64_t *": "int64_t", "int *": "int", "size_t *": "size_t"}


def driver(headers: list[Path]) -> str:
    """The C of the driver."""
    text = "\n".join(path.read_text() for path in headers)
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    text = re.sub(r"^#.*$", "", text, flags=re.MULTILINE)
    calls, table = [], []
    for result, name, parameters in re.findall(
        r"^((?:const )?\w+ \*?)\s*(\w+)\(([^)]*)\);", text, re.MULTILINE
    ):
        if name in _LEFT_OUT:
            continue
        calls.append(_call(result.strip(), name, [" ".join(one.split()) for one in parameters.split(",")]))
        table.append(f'        {{"{name}", call_{name}, {_SELDOM.get(name, 1)}}},')
    assert len(calls) > 100, "the headers cannot be read"
    ends = [
        f"static void end_{kind}(void *handle)\n{{\n    (void){function}(({type_})handle);\n}}\n"
        for type_, (kind, function) in _KINDS.items()
    ]
    ends.append(
        "static void end_handles(void)\n{\n    int i;\n\n    for (i = 0; i < KEPT; i++) {\n"
        + "".join(
            f"        keep_handle({kind}, NULL, end_{kind});\n"
            f"        if (handles[{kind}][i] != NULL)\n            end_{kind}(handles[{kind}][i]);\n"
            for kind, _ in _KINDS.values()
        )
        + "    }\n}\n"
    )
    return "\n".join(
        [
            "/* Written by tests/capi/fuzz.py. */",
            '#include "fuzz_values.h"',
            "",
            *ends,
            '#include "fuzz_main.h"',
            "",
            *calls,
            "static void set_functions(void)",
            "{",
            "    static const fuzzed all[] = {",
            *table,
            "    };",
            "",
            "    functions = all;",
            "    function_count = sizeof all / sizeof *all;",
            "}",
            "",
        ]
    )


def _call(result: str, name: str, parameters: list[str]) -> str:
    before: list[str] = []
    arguments: list[str] = []
    after: list[str] = []
    if parameters == ["void"]:
        parameters = []
    skip = False
    for number, parameter in enumerate(parameters):
        if skip:
            skip = False
            continue
        match = re.fullmatch(r"(.*?)(\w+)", parameter)
        assert match is not None, parameter
        type_, label = match[1].strip().removeprefix("struct "), match[2]
        following = parameters[number + 1] if number + 1 < len(parameters) else ""
        if type_ in _PAIRS and following.startswith("size_t "):
            before += [f"size_t size_{number};", f"{type_}value_{number} = {_PAIRS[type_]}(&size_{number});"]
            arguments += [f"value_{number}", f"size_{number}"]
            skip = True
        elif type_ == "int64_t" and label == "timeout_ms":
            arguments.append("short_time()")
        elif name == "rss_close":
            arguments.append("closed_store()")
        elif type_ == "const char *" and (name in ("rss_open", "database_manager_init") or label == "host"):
            arguments.append("any_url()")
        elif type_ == "const char *" and not name.startswith("rss_"):
            arguments.append("any_address()")
        elif type_ in _VALUES:
            arguments.append(_VALUES[type_])
        elif (kind := type_.removeprefix("const ")) in _KINDS:
            arguments.append(f"({kind})any_handle({_KINDS[kind][0]})")
        elif type_.endswith("**"):
            _output(type_[:-1].strip(), number, before, arguments, after)
        elif type_ == "const rss_new_event *":
            before += [f"size_t size_{number};"]
            arguments.append(f"any_events(&size_{number})")
        elif type_ in _PLAIN_OUTPUTS:
            before.append(f"{_PLAIN_OUTPUTS[type_]} out_{number};")
            arguments.append(f"below(8) ? &out_{number} : NULL")
        else:
            kept = type_.removesuffix(" *")
            assert re.fullmatch(r"rss_\w+ \*", type_), f"{name}: no value for {parameter}"
            arguments.append(f"({type_})any_struct(sizeof({kept}))")
    call = f"{name}({', '.join(arguments)})"
    if result == "void":
        made = [f"{call};", "(void)name;", "made++;"]
    elif "*" in result:
        made = [f"if ({call}[0] == '\\0')", '    complain(name, 0, "no text");', "made++;"]
    elif name == "rss_version_number":
        made = [f"if ({call} <= 0)", '    complain(name, 0, "no version");', "made++;"]
    elif name == "rss_rows_count":
        made = [f"(void){call};", "(void)name;", "made++;"]
    else:
        made = [f"check_code(name, {call}, {_NUMBERS.get(name, '1')});"]
    lines = "".join(
        f"    {line}\n" if line else "\n" for line in [*before, *([""] if before else []), *made, *after]
    )
    return f"static void call_{name}(const char *name)\n{{\n{lines}}}\n"


def _output(type_: str, number: int, before: list[str], arguments: list[str], after: list[str]) -> None:
    """An output of something that must be ended."""
    before.append(f"{type_}out_{number} = NULL;")
    if type_ in _KINDS:
        arguments.append(f"below(16) ? &out_{number} : NULL")
        kind = _KINDS[type_][0]
        after += [f"if (out_{number} != NULL)", f"    keep_handle({kind}, (void *)out_{number}, end_{kind});"]
    elif type_ == "rss_store *":
        arguments.append(f"below(16) ? &out_{number} : NULL")
        after += [f"if (out_{number} != NULL)", f"    rss_close(out_{number}, 5000);"]
    else:
        assert type_ == "char *", type_
        arguments.append(f"below(8) ? &out_{number} : NULL")
        after += [f"rss_free(out_{number});"]
