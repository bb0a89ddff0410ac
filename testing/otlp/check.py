#!/usr/bin/env python3
"""Checks an OTLP ProfilesData file against the rules of the schema and the conventions.

In: a file of one ProfilesData message. Out: on success, JSON with the totals that other formats
must agree with: ticks in all, of each thread, and of each function self and total. Else the
broken rules, one a line, and exit status 1.

The message is decoded by PyPI's opentelemetry-proto (not by hotframe), which also refuses strings
that are not UTF-8. Rules: comments of profiles.proto @ v1.11.0, semantic-conventions
docs/general/profiles.md and mappings.md @ v1.44.0.
"""

import json
import sys
from collections import Counter

from opentelemetry.proto.profiles.v1development import profiles_pb2

FRAME_TYPES = set(
    "beam cpython dotnet go jvm kernel luajit native perl php ruby rust v8js jit note".split()
)
BUILD_IDS = {"process.executable.build_id." + kind for kind in ("gnu", "go", "htlhash")}
TABLES = "mapping location function link string attribute stack".split()


def check(data):
    problems = []

    def rule(holds, text):
        if not holds and len(problems) < 50:
            problems.append(text)
        return holds

    dictionary = data.dictionary
    tables = {name: getattr(dictionary, name + "_table") for name in TABLES}
    for name, table in tables.items():
        rule(len(table) > 0, f"{name}_table is empty")
        if len(table):
            zero = table[0]
            empty = zero == "" if name == "string" else zero.ByteSize() == 0
            rule(empty, f"{name}_table[0] is not the zero value")
        forms = Counter(
            entry if name == "string" else entry.SerializeToString(deterministic=True)
            for entry in table
        )
        for form, count in forms.items():
            rule(count == 1, f"{name}_table holds {form!r} {count} times")
    if problems:
        return problems, None

    used = {name: {0} for name in TABLES}

    def use(name, index, where):
        if rule(0 <= index < len(tables[name]), f"{where}: {name} index {index} out of range"):
            used[name].add(index)
            return tables[name][index]
        return tables[name][0]

    def text(index, where):
        return use("string", index, where)

    def value(any_value, where):
        kind = any_value.WhichOneof("value")
        if kind == "string_value_strindex":
            return text(any_value.string_value_strindex, where)
        return getattr(any_value, kind) if kind else None

    def attributes(indices, where):
        out = {}
        for index in indices:
            rule(index != 0, f"{where}: attribute 0 is listed")
            entry = use("attribute", index, where)
            key = text(entry.key_strindex, where)
            text(entry.unit_strindex, where)
            rule(key != "", f"{where}: an attribute without a key")
            rule(key not in out, f"{where}: {key} is there twice")
            out[key] = value(entry.value, where)
        return out

    def key_values(pairs, where):
        out = {}
        for pair in pairs:
            rule(pair.key_strindex == 0 and pair.key, f"{where}: {pair} has no plain key")
            plain = pair.value.WhichOneof("value") != "string_value_strindex"
            rule(plain, f"{where}: the value of {pair.key} is a reference")
            rule(pair.key not in out, f"{where}: {pair.key} is there twice")
            out[pair.key] = value(pair.value, where)
        return out

    for i, link in enumerate(dictionary.link_table[1:], 1):
        rule(len(link.trace_id) == 16 and len(link.span_id) == 8, f"link {i} has ids of other sizes")
    for i, mapping in enumerate(dictionary.mapping_table[1:], 1):
        where = f"mapping {i}"
        text(mapping.filename_strindex, where)
        limits = (mapping.memory_start, mapping.memory_limit)
        rule(limits == (0, 0) or limits[0] < limits[1], f"{where}: limits {limits}")
        found = attributes(mapping.attribute_indices, where)
        rule(BUILD_IDS & set(found), f"{where}: no build id")
        gnu = found.get("process.executable.build_id.gnu", "00")
        rule(gnu and not set(gnu) - set("0123456789abcdef"), f"{where}: gnu build id {gnu!r}")

    names = {}
    for i, function in enumerate(dictionary.function_table[1:], 1):
        where = f"function {i}"
        parts = [
            text(index, where)
            for index in (function.name_strindex, function.system_name_strindex, function.filename_strindex)
        ]
        rule(any(parts), f"{where}: no name of any kind")
        rule(function.start_line >= 0, f"{where}: negative start line")
        names[i] = parts[0] or parts[1]

    frames_of = {}
    for i, location in enumerate(dictionary.location_table[1:], 1):
        where = f"location {i}"
        mapping = use("mapping", location.mapping_index, where)
        if mapping.memory_limit:
            inside = mapping.memory_start <= location.address < mapping.memory_limit
            rule(inside, f"{where}: address outside its mapping")
        found = attributes(location.attribute_indices, where)
        kind = found.get("profile.frame.type")
        rule(kind in FRAME_TYPES, f"{where}: frame type {kind!r}")
        rule(location.lines or location.address, f"{where}: neither lines nor an address")
        frames_of[i] = []
        for line in location.lines:
            use("function", line.function_index, where)
            rule(line.function_index > 0, f"{where}: a line without a function")
            rule(line.line >= 0 and line.column >= 0, f"{where}: negative line or column")
            frames_of[i].append(names.get(line.function_index))
        if not location.lines:
            file = text(mapping.filename_strindex, where) or found.get("hotframe.frame.executable.path", "")
            base = file.rstrip("/").rsplit("/", 1)[-1]
            frames_of[i].append(f"{base}+{location.address:#x}" if base else f"{location.address:#x}")

    stacks = {0: []}
    for i, stack in enumerate(dictionary.stack_table[1:], 1):
        stacks[i] = []
        for location in stack.location_indices:
            rule(location > 0, f"stack {i}: location 0")
            use("location", location, f"stack {i}")
            stacks[i] += frames_of.get(location, [])

    totals = {"ticks": 0, "threads": Counter(), "self": Counter(), "total": Counter()}
    rule(data.resource_profiles, "no resource_profiles")
    for r, resource in enumerate(data.resource_profiles):
        where = f"resource {r}"
        host = key_values(resource.resource.attributes, where)
        rule(resource.scope_profiles, f"{where}: no scope_profiles")
        for scope in resource.scope_profiles:
            key_values(scope.scope.attributes, where)
            rule(scope.profiles, f"{where}: no profiles")
            for profile in scope.profiles:
                profile_rules(profile, where, host, rule, text, attributes, use, stacks, totals)

    for name, table in tables.items():
        for index in sorted(set(range(len(table))) - used[name])[:5]:
            rule(False, f"{name}_table[{index}] is used by nothing")
    return problems, totals


def profile_rules(profile, where, host, rule, text, attributes, use, stacks, totals):
    sample_type = text(profile.sample_type.type_strindex, where)
    unit = text(profile.sample_type.unit_strindex, where)
    rule((sample_type, unit) == ("samples", "count"), f"{where}: {sample_type}/{unit}")
    period = text(profile.period_type.type_strindex, where), text(profile.period_type.unit_strindex, where)
    if profile.period:
        rule(period == ("cpu", "nanoseconds"), f"{where}: period {period}")
    rule(len(profile.profile_id) == 0 or len(profile.profile_id) == 16, f"{where}: profile id")
    rule(profile.profile_id == b"" or any(profile.profile_id), f"{where}: profile id of zeroes")
    rule(bool(profile.original_payload) <= bool(profile.original_payload_format), f"{where}: payload")
    attributes(profile.attribute_indices, where)
    start, end = profile.time_unix_nano, profile.time_unix_nano + profile.duration_nano
    seen, shapes = set(), set()
    for sample in profile.samples:
        identity = sample.stack_index, frozenset(sample.attribute_indices), sample.link_index
        rule(identity not in seen, f"{where}: two samples {identity}")
        seen.add(identity)
        use("stack", sample.stack_index, where)
        use("link", sample.link_index, where)
        found = attributes(sample.attribute_indices, where)
        values, stamps = list(sample.values), list(sample.timestamps_unix_nano)
        rule(values or stamps, f"{where}: a sample without observations")
        if values and stamps:
            rule(len(values) == len(stamps), f"{where}: {len(values)} values, {len(stamps)} stamps")
        elif values:
            rule(len(values) == 1, f"{where}: {len(values)} values without stamps")
        shapes.add((bool(values), bool(stamps)))
        rule(all(start <= stamp < end for stamp in stamps), f"{where}: a stamp outside [{start}, {end})")
        ticks = sum(values) if values else len(stamps)
        totals["ticks"] += ticks
        thread = f"{host.get('process.pid', 0)}/{found.get('thread.id', 0)}/{found.get('thread.name', '')}"
        totals["threads"][thread] += ticks
        stack = stacks.get(sample.stack_index, [])
        if stack:
            totals["self"][stack[0]] += ticks
        for name in set(stack):
            totals["total"][name] += ticks
    rule(len(shapes) <= 1, f"{where}: samples of several shapes {shapes}")
    periodic = profile.period and (True, True) in shapes
    rule(not periodic, f"{where}: values for each stamp in a periodic profile")


def main():
    with open(sys.argv[1], "rb") as file:
        data = profiles_pb2.ProfilesData.FromString(file.read())
    problems, totals = check(data)
    if problems:
        print("\n".join(problems), file=sys.stderr)
        sys.exit(1)
    json.dump(totals, sys.stdout, sort_keys=True, indent=1)


if __name__ == "__main__":
    main()
