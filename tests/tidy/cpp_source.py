# SPDX-License-Identifier: Apache-2.0
"""A C++ file as text: with comments and strings blanked, and its functions with their lengths.

Approximate on purpose: it reads braces, not the language, and that is enough for the lengths.
"""
import re

TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<tag>[^()\s]*)\(.*?\)(?P=tag)"|"(?:\\.|[^"\\\n])*"'
    r"|'(?:\\.|[^'\\\n])+'", re.DOTALL)
SCOPE = re.compile(r"\b(namespace|class|struct|union|enum|extern)\b")
DIGIT_SEPARATOR = re.compile(r"(?<=[0-9a-fA-F])'(?=[0-9a-fA-F])")


def blank(match):
    return re.sub(r"[^\n]", " ", match.group())


def without_comments(text):
    """The text with comments and the inside of strings as spaces; lines stay where they are."""
    return TOKEN.sub(blank, DIGIT_SEPARATOR.sub("_", text))


def comments(text):
    """(line number, comment) of each // comment line by line, strings left out."""
    text = DIGIT_SEPARATOR.sub("_", text)
    for match in TOKEN.finditer(text):
        if match.group().startswith("//"):
            yield text.count("\n", 0, match.start()) + 1, match.group()


def functions(text):
    """(first line, line count, head) of each function body that is not inside another."""
    code = re.sub(r"^[ \t]*#.*(?:\\\n.*)*", blank, without_comments(text), flags=re.MULTILINE)
    stack = []  # True for a function body, None for a scope, False for anything else
    head_start = 0
    found = []
    for position, char in enumerate(code):
        if char == "{":
            head = code[head_start:position]
            inside = any(kind for kind, _, _ in stack)
            is_scope = not inside and bool(SCOPE.search(head)) and not head.rstrip().endswith(")")
            is_function = not inside and not is_scope and ")" in head
            stack.append((is_function, head_start, head))
        elif char == "}" and stack:
            is_function, start, head = stack.pop()
            if is_function:
                start += len(head) - len(head.lstrip())
                first = code.count("\n", 0, start) + 1
                last = code.count("\n", 0, position) + 1
                found.append((first, last - first + 1, " ".join(head.split())))
        if char in ";{}" and not any(kind for kind, _, _ in stack):
            head_start = position + 1
    return found
