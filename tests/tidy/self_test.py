# SPDX-License-Identifier: Apache-2.0
"""Bad samples that the checks must find, and good ones that they must not."""
import re

import cpp_source
import rules_page
import structure
import style

LONG = "namespace a {\nint f(int x) {\n" + "    ++x;\n" * 80 + "    return x;\n}\n}\n"
STRUCT = "struct A {\n" + "    int f() { return 1; }\n" * 100 + "};\n"
TABLE = "const int kTable[] = {\n" + "    1, 2, 3,\n" * 100 + "};\n"
MACRO = "TEST(A, b) {\n" + "    EXPECT_EQ(\"{\", '{');  // {\n" * 10 + "}\n"


def banned(line):
    code = cpp_source.without_comments(line)
    return any(re.search(expression, code) for expression, _, _ in style.BANNED)


def commented(line):
    return any(expression.match(line) for expression in style.COMMENTED_CODE)


def lengths(text):
    return [count for _, count, _ in cpp_source.functions(text)]


CASES = [
    ("a long function is measured", lambda: lengths(LONG) == [83]),
    ("members are measured one by one", lambda: set(lengths(STRUCT)) == {1}),
    ("a table is no function", lambda: lengths(TABLE) == []),
    ("braces in strings do not count", lambda: lengths(MACRO) == [12]),
    ("a constructor with members is a function",
     lambda: lengths("A::A(int x) : x_(x) {\n    f();\n}\n") == [3]),
    ("sprintf is banned", lambda: banned("sprintf(out, x);")),
    ("snprintf is not", lambda: not banned("std::snprintf(out, 4, x);")),
    ("std::exp is banned", lambda: banned("return std::exp(x);")),
    ("our exp2 is not", lambda: not banned("return exact::exp2(x) + exp2(y);")),
    ("a comment may name a call", lambda: not banned("// like sprintf(x)")),
    ("rand is banned, grand is not", lambda: banned("rand()") and not banned("grand()")),
    ("namespaces are not opened", lambda: banned("using namespace std;")),
    ("literals may be", lambda: not banned("using namespace std::chrono_literals;")),
    ("a commented call is found", lambda: commented("// pool.run(n, f);")),
    ("a commented condition is found", lambda: commented("// if (a < b) {")),
    ("a sentence is no code", lambda: not commented("// Returns the sum (in order); see above.")),
    ("leftovers are found", lambda: style.LEFTOVER.search("// TO" "DO: later") is not None),
    ("a range cites each rule", lambda: [i for _, i in rules_page.cited("FLT-1 to FLT-3")]
     == ["FLT-1", "FLT-2", "FLT-3"]),
    ("a rule opens a line", lambda: rules_page.DEFINITION.match("**LIN-3** The sum").group(1)
     == "LIN-3"),
    ("a mention inside a line defines nothing",
     lambda: rules_page.DEFINITION.match("as LIN-3 says") is None),
    ("the first include is found",
     lambda: style.first_include('// a\n#include "a/b.h"\n#include <c>\n') == "a/b.h"),
    ("placeholders are no paths", lambda: structure.is_placeholder("tests/AREA/NAME.py")
     and not structure.is_placeholder("src/base/README.md")),
    ("arrows are read from CMakeLists.txt", lambda: structure.layers()["exact"]
     == {"exact", "base"}),
]


def run():
    """(passed, failed) over the samples."""
    passed = failed = 0
    for title, holds in CASES:
        if holds():
            passed += 1
        else:
            failed += 1
            print(f"FAILED  sample: {title}")
    return passed, failed
