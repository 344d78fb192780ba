// SPDX-License-Identifier: Apache-2.0
// node verify_bundle.mjs FOLDER BUNDLE PUBLIC_KEY: does @sigstore/verify, installed in FOLDER, accept
// the signature of a bundle? Prints the SHA-256 of the statement that it covers.
import { createHash, createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [folder, bundlePath, keyPath] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const { bundleFromJSON } = require("@sigstore/bundle");
const { Verifier, toSignedEntity, toTrustMaterial } = require("@sigstore/verify");

const bundle = bundleFromJSON(JSON.parse(readFileSync(bundlePath, "utf8")));
const key = createPublicKey(readFileSync(keyPath));
// The key is the whole trust: no certificate authority, no log, no time stamp.
const trust = toTrustMaterial(
    { certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [] },
    () => ({ publicKey: key, validFor: () => true }));
const verifier = new Verifier(trust, { tlogThreshold: 0, ctlogThreshold: 0, tsaThreshold: 0 });
verifier.verify(toSignedEntity(bundle));
console.log(createHash("sha256").update(bundle.content.dsseEnvelope.payload).digest("hex"));
