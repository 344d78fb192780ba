#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The style that a machine can check. Prints each finding as file:line: message, then the total;
a check without a finding has passed. First proves on bad samples that the checks can fail."""
import sys

import rules_page
import self_test
import structure
import style

FINDINGS_SHOWN = 40  # of one check


def main():
    passed, failed = self_test.run()
    for check in [*style.CHECKS, *structure.CHECKS, *rules_page.CHECKS]:
        findings = list(check())
        for finding in findings[:FINDINGS_SHOWN]:
            print(finding)
        if len(findings) > FINDINGS_SHOWN:
            print(f"... and {len(findings) - FINDINGS_SHOWN} more")
        print(f"{'FAILED' if findings else 'ok':7} {check.__name__}")
        passed, failed = passed + (not findings), failed + bool(findings)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
