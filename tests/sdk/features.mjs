// SPDX-License-Identifier: Apache-2.0
// As features.py: checks by feature, each checked or with its reason.
import { isDeepStrictEqual } from 'node:util';

export const FEATURES = ['chat', 'stream', 'usage', 'stop', 'logprobs', 'n', 'seed', 'errors',
  'embeddings', 'base64', 'responses', 'models'];

export class Features {
  constructor(client) {
    this.client = client;
    this.passed = 0;
    this.failed = 0;
    this.results = {};
    this.reasons = {};
  }

  equal(title, got, expected) {
    const same = isDeepStrictEqual(got, expected);
    this.passed += same ? 1 : 0;
    this.failed += same ? 0 : 1;
    if (!same) console.log(`${this.client}: ${title}:`, got, 'expected', expected);
    const feature = title.split(',')[0];
    this.results[feature] = (this.results[feature] ?? true) && same;
  }

  true(title, value) {
    this.equal(title, Boolean(value), true);
  }

  // The exception of a call; a call that has none is a failed check.
  async raised(title, call) {
    try {
      await call();
    } catch (error) {
      return error;
    }
    this.true(`${title}, raised`, false);
    return {};
  }

  cannot(reason, ...features) {
    for (const feature of features) this.reasons[feature] = reason;
  }

  // Each of the functions, the next one after an exception too.
  async run(checks, ...given) {
    for (const check of checks) {
      try {
        await check(...given, this);
      } catch (error) {
        this.failed += 1;
        console.log(`${this.client}, ${check.name}:`, error);
      }
    }
  }

  end() {
    for (const feature of FEATURES) {
      const known = feature in this.results || feature in this.reasons;
      if (!known) this.equal(`${feature}, checked`, false, true);
    }
    console.log('features ' + JSON.stringify([this.client, this.results, this.reasons]));
    console.log(`${this.passed} passed, ${this.failed} failed`);
    if (this.failed > 0) process.exitCode = 1;
  }
}

export const close = (a, b) => a.length === b.length &&
  a.every((value, i) => Math.abs(value - b[i]) < 1e-7);
