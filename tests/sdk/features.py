# SPDX-License-Identifier: Apache-2.0
"""Checks of one client, by feature: the first words of a title, up to a comma, name the feature.
Each feature is checked or has its reason; a feature without either is a failed check."""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "serve"))
from served import Checks  # noqa: E402

FEATURES = ("chat", "stream", "usage", "stop", "logprobs", "n", "seed", "errors", "embeddings",
            "base64", "responses", "models")


class Features(Checks):
    def __init__(self, client):
        super().__init__()
        self.client = client
        self.results = {}
        self.reasons = {}

    def equal(self, title, got, expected):
        failed = self.failed
        super().equal(f"{self.client}: {title}", got, expected)
        feature = title.split(",")[0]
        self.results[feature] = self.results.get(feature, True) and self.failed == failed

    def raised(self, title, call, kind):
        """The exception of that kind, or None, which is a failed check."""
        try:
            call()
        except kind as error:
            return error
        self.true(f"{title}, raised", False)
        return None

    def cannot(self, reason, *features):
        for feature in features:
            self.reasons[feature] = reason

    def run(self, checks, *arguments):
        """Each of the functions, the next one after an exception too."""
        for check in checks:
            try:
                check(*arguments, self)
            except Exception as error:
                self.failed += 1
                print(f"{self.client}, {check.__name__}: {error!r}")

    def end(self):
        """Prints what the matrix is made of and, as the last line, the total."""
        for feature in FEATURES:
            if feature not in self.results and feature not in self.reasons:
                self.equal(f"{feature}, checked", False, True)
        print("features " + json.dumps([self.client, self.results, self.reasons]))
        return super().end()
