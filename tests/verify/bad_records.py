# SPDX-License-Identifier: Apache-2.0
"""Records of the kinds that people and their programs write, broken in every member."""

# Values that no record of these kinds has, each refused by its form or by what it names.
BAD_VALUES = {
    "configuration": {"certificate": ["x", None], "hash": [""], "listen": [[1], "x", {}],
                      "retention": [["x"], [{}], [{"max_days": 1, "min_days": 0, "tenant": "x"}],
                                    [{"day": 1, "max_days": 1, "min_days": 0, "tenant": "b" * 32}]],
                      "sandbox": ["none", 1], "signatures": ["", "some"]},
    "live": {"digest": ["0"], "load": ["0"], "nonce": [""], "verdict": ["other"]},
    "key": {"action": ["shown", 1], "key": ["1", True], "scopes": [1], "tenant": ["default"]},
    "licence": {"by": ["anna"], "licence": [[]], "model": ["b" * 32], "text": ["the text"]},
    "replay": {"answer": ["0"], "backend": [[]], "intent": ["0", 1 << 52], "position": [False],
               "verdict": ["none", "token_and_checksum"]},
    "review": {"by": ["anna"], "intent": ["0", 1 << 52], "note": ["It is not so."],
               "verdict": ["maybe"]},
}


def bad_value(record, numbers):
    """Makes the record one of BAD_VALUES, or one that lacks a member or names no intent."""
    values = BAD_VALUES[record["kind"]]
    name = numbers.choice(sorted(values))
    what = numbers.randrange(4)
    if what == 0:
        del record[name]
    elif what == 1 and "intent" in values:
        record["intent"] = record["seq"] - 1
    else:
        record[name] = numbers.choice(values[name])
