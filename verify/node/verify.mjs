// SPDX-License-Identifier: Apache-2.0
// Checks an audit bundle or a receipt with nothing of Etalon: this file and Node's own modules
// (from version 18.14). docs/ledger.md is the format; docs/verify.md says how to use it.
import { isUtf8 } from "node:buffer";
import { createHash, createHmac, createPublicKey, verify } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";

const STAMP = /^stamps\/(\d+)\.(?:checkpoint|tsr)$/;
const ED25519 = Buffer.from("302a300506032b6570032100", "hex");  // before a key's 32 bytes, in DER

let stage = "usage";  // the step of docs/ledger.md that is being checked
class Refusal extends Error {}

function check(good, why) { if (!good) throw new Refusal(why); }
function at(step, run) { stage = step; run(); }

function sha256(...parts) {
    return parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest();
}

function number(text) {
    const value = Number(text);
    check(Number.isSafeInteger(value) && `${value}` === text && value >= 0, `${text} is no number`);
    return value;
}

/// The bytes of the one canonical spelling.
function fromBase64(text) {
    const bytes = Buffer.from(text, "base64");
    check(bytes.toString("base64") === text, `${text} is no base64`);
    return bytes;
}

/// Whether a key ("name+1f2e3d4c+base64"; kind 1: a log's, 4: a witness's) signed the text. A wrong
/// signature refuses the note.
function isSigned(key, kind, text, signatures) {
    const [, name, id, code] = /^([^+]+)\+([^+]+)\+(.*)$/.exec(key) ?? ["", "", "", ""];
    const bytes = fromBase64(code);
    const isKey = bytes.length === 33 && id === sha256(name, "\n", bytes).toString("hex", 0, 4);
    check(isKey && bytes[0] === kind, `${key} is no key of kind ${kind}`);
    let signature = signatures.get(`${name} ${id}`);
    if (signature === undefined) return { name, code, signed: false };
    let message = text;
    if (kind === 4) {  // a witness signs a time too
        check(signature.length === 72 && signature[0] < 128, `the cosignature of ${key} is none`);
        message = `cosignature/v1\ntime ${signature.readBigUInt64BE()}\n${text}`;
        signature = signature.subarray(8);
    }
    const der = Buffer.concat([ED25519, bytes.subarray(1)]);
    const publicKey = createPublicKey({ key: der, format: "der", type: "spki" });
    check(verify(null, Buffer.from(message), publicKey, signature), `${name} signed wrongly`);
    return { name, code, signed: true };
}

function parseNote(bytes, bytesMax) {
    const split = bytes.lastIndexOf("\n\n") + 1;
    check(split > 0 && bytes.length <= bytesMax && isUtf8(bytes), "it is no note");
    const text = bytes.toString("utf8", 0, split);
    const lines = bytes.toString("utf8", split + 1).split("\n");
    const isNote = /^[^\x00-\x09\x0b-\x1f\x7f]*$/.test(text) && lines.pop() === "";
    check(isNote && lines.length >= 1 && lines.length <= 100, "the note has not its form");
    const signatures = new Map();
    for (const line of lines) {
        const [, name, code] = /^\u2014 ([!-*,-~]{1,256}) (.+)$/.exec(line) ?? ["", "", ""];
        const signature = fromBase64(code);
        const key = `${name} ${signature.toString("hex", 0, 4)}`;
        check(signature.length > 4 && !signatures.has(key), "a line of the note is no signature, or the second of its key");
        signatures.set(key, signature.subarray(4));
    }
    return { text, signatures };
}

/// A note's text and whose signatures of it hold by the policy: "log NAME" of logs, the names of
/// witnesses and groups, "the quorum".
function openNote(policy, bytes, bytesMax) {
    const { text, signatures } = parseNote(bytes, bytesMax);
    const holds = new Map([["none", true]]);
    const keys = new Set();
    let quorum;
    for (const [i, line] of policy.toString("latin1").split("\n").entries()) {
        const words = line.split(/[ \t\r]+/).filter((word) => word !== "");
        const want = (good) => check(good, `policy, line ${i + 1} has not its form: ${line}`);
        const name = words[1];
        if (words.length === 0 || words[0].startsWith("#")) continue;
        if (words[0] === "log" && words.length >= 2) {
            const log = isSigned(words[1], 1, text, signatures);
            want(!keys.has(log.code));
            keys.add(log.code);
            holds.set(`log ${log.name}`, log.signed || holds.get(`log ${log.name}`) === true);
        } else if (words[0] === "witness" && words.length >= 3) {
            const witness = isSigned(words[2], 4, text, signatures);
            want(!holds.has(name) && !keys.has(witness.code));  // one key would count twice
            keys.add(witness.code);
            holds.set(name, witness.signed);
        } else if (words[0] === "group" && words.length >= 4) {
            const members = words.slice(3);
            want(members.every((one) => one !== "none" && holds.has(one)));
            want(new Set(members).size === members.length && !holds.has(name));
            const threshold = { any: 1, all: members.length }[words[2]] ?? number(words[2]);
            want(threshold >= 1 && threshold <= members.length);
            holds.set(name, members.filter((one) => holds.get(one)).length >= threshold);
        } else {
            want(words[0] === "quorum" && words.length === 2 && !quorum && holds.has(name));
            quorum = name;
        }
    }
    check(quorum, "the policy has no quorum");
    holds.set("the quorum", holds.get(quorum));
    return { text, holds };
}

/// Origin, size and root, signed by the log and seen by the quorum.
function openCheckpoint(policy, bytes) {
    const { text, holds } = openNote(policy, bytes, 1 << 20);
    const lines = text.split("\n");
    check(lines.length === 4, "the checkpoint has not three lines");
    const [origin, size, root] = [lines[0], number(lines[1]), fromBase64(lines[2])];
    check(root.length === 32 && (size > 0 || root.equals(sha256())), "the checkpoint has another root");
    check(holds.get(`log ${origin}`), `no log of the policy signed the checkpoint of ${origin}`);
    check(holds.get("the quorum"), "the witnesses of the policy have not seen the checkpoint");
    return { origin, size, root };
}

// The tree of RFC 6962 section 2.1.
const leafHash = (entry) => sha256(Buffer.of(0), entry);
const nodeHash = (left, right) => sha256(Buffer.of(1), left, right);

/// The largest power of two below n.
function split(n) {
    let k = 1;
    while (2 * k < n) k *= 2;
    return k;
}

function rootOf(leaves) {
    if (leaves.length <= 1) return leaves[0] ?? sha256();
    const k = split(leaves.length);
    return nodeHash(rootOf(leaves.slice(0, k)), rootOf(leaves.slice(k)));
}

/// The root of a tree of n leaves by its leaf of this index and the siblings from the leaf up.
function rootOfProof(leaf, index, n, siblings) {
    check(index < n && (n === 1) === (siblings.length === 0), "a proof has too few or many hashes");
    if (n === 1) return leaf;
    const [k, last, rest] = [split(n), siblings.at(-1), siblings.slice(0, -1)];
    return index < k ? nodeHash(rootOfProof(leaf, index, k, rest), last)
        : nodeHash(last, rootOfProof(leaf, index - k, n - k, rest));
}

// Records, docs/ledger.md section 2.
const isInteger = (value) => typeof value === "number";
const isText = (value) => typeof value === "string";
const isHash = (value) => isText(value) && /^[0-9a-f]{64}$/.test(value);
const isId = (value) => isText(value) && /^[0-9a-f]{32}$/.test(value);
const isOneOf = (...words) => (value) => words.includes(value);
const isArray = (isItem) => (value) => Array.isArray(value) && value.every(isItem);
const isList = (isItem, most) => (value) =>
    isArray(isItem)(value) && value.length >= 1 && value.length <= most;
const isObject = (form) => (value) => typeof value === "object" && !Array.isArray(value) &&
    Object.keys(value).length === Object.keys(form).length && hasMembers(value, form);
const hasMembers = (value, form) => Object.entries(form).every(
    ([name, isValue]) => Object.hasOwn(value, name) && isValue(value[name]));

const COMMON = { boot: isInteger, kind: isText, seq: isInteger, time_us: isInteger, v: isOneOf(1) };
const ANSWER = { digest: isHash, finish: isOneOf("stop", "length", "cancelled", "error"),
    payload: isHash, text: isHash, tokens: isInteger };
const RULE = { max_days: isInteger, min_days: isInteger, tenant: isId };
const FORMS = new Map(Object.entries({
    shutdown: {}, boot: { auditors: isList(isHash, 16), program: isText },
    model_load: { architecture: isText, arithmetic: isInteger, backend: isText,
        context_tokens: isInteger, model: isHash, name: isText, vocab_size: isInteger },
    intent: { answers: isInteger, body: isHash, load: isInteger, max_tokens: isInteger,
        model: isHash, part: isInteger, parts: isInteger, prompt: isHash, prompt_tokens: isInteger,
        request: isId, sampling: isHash, subjects: isList(isId, 16), tenant: isId },
    complete: { answers: isList(isObject(ANSWER), 128), intent: isInteger, request: isId,
        payload: isObject({ bytes: isInteger, ciphertext: isHash, envelope: isHash }) },
    erase: { basis: isOneOf("request", "retention"), subject: isId },
    log_read: { end: isInteger, first: isInteger, what: isText },
    content_read: { intent: isInteger, reason: isText, what: isOneOf("open", "replay", "stored") },
    erase_refused: { basis: isOneOf("hold", "minimum"), subjects: isList(isId, 1000) },
    configuration: { certificate: (value) => value === "" || isHash(value), hash: isHash,
        listen: isArray(isText), sandbox: isOneOf("strict", "best-effort"),
        retention: isArray(isObject(RULE)), signatures: isOneOf("none", "changed", "always") },
    key: { action: isOneOf("created", "revoked", "changed"), key: isInteger, scopes: isText, tenant: isId },
    licence: { by: isId, licence: isText, model: isHash, text: isHash },
    replay: { answer: isInteger, backend: isText, intent: isInteger, position: isInteger,
        verdict: isOneOf("match", "token", "checksum", "both", "end", "failed") },
    live: { digest: isHash, load: isInteger, nonce: isHash, verdict: isOneOf("first", "same", "changed") },
    review: { by: isId, intent: isInteger, note: isHash, verdict: isOneOf("ok", "objection") },
}));

/// The text of a value as records have it; refuses what no record holds.
function canonical(value, depth) {
    check(depth <= 8, "it is nested too deep");
    const isNumber = typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
    if (isNumber || typeof value === "boolean") return `${value}`;
    if (isText(value) && /^[ !#-[\]-~]*$/.test(value)) return `"${value}"`;
    check(typeof value === "object" && value !== null, `no record holds ${value}`);
    if (Array.isArray(value)) return `[${value.map((item) => canonical(item, depth + 1)).join()}]`;
    const members = Object.keys(value).sort().map(
        (name) => `${canonical(name, 1)}:${canonical(value[name], depth + 1)}`);
    return `{${members.join()}}`;
}

function parseRecord(entry) {
    const text = entry.toString("latin1");
    const record = JSON.parse(text);
    check(text.startsWith("{") && entry.length <= 65535, "it is no record");
    check(canonical(record, 1) === text, "it is not in canonical form");
    check(hasMembers(record, COMMON), "it lacks a member, or has another version");
    const { kind, seq, boot, auditors, answers, part, parts, load, intent, first, end } = record;
    check(!FORMS.has(kind) || isObject({ ...COMMON, ...FORMS.get(kind) })(record),
        `it has not the form of ${kind}`);
    const good = (boot === seq) === (kind === "boot") && boot <= seq &&
        (kind !== "boot" || auditors.every((hash, i) => i === 0 || auditors[i - 1] < hash)) &&
        (kind !== "intent" || answers >= 1 && answers <= 128 && part < parts && parts <= 4096) &&
        (kind !== "intent" || load < seq) &&
        (!FORMS.has(kind) || intent === undefined || intent < seq) &&
        (kind !== "log_read" || first <= end);
    check(good, `a value of this ${kind} is out of its range`);
    return record;
}

class Bundle {
    used = new Set();       // files that a bundle has
    leaves = [];
    records = new Map();    // by index
    completes = new Map();  // by the index of their intent
    erased = new Set();
    files = new Map();      // MANIFEST: "hash bytes" of each path

    constructor(folder, policy) { Object.assign(this, { folder, policy, counts: {}, time: 0 }); }
    count(what, n = 1) { this.counts[what] = (this.counts[what] ?? 0) + n; }

    read(path) {
        this.used.add(path);
        return readFileSync(join(this.folder, path));
    }

    openManifest() {
        const bytes = readFileSync(join(this.folder, "MANIFEST"));
        const { text, holds } = openNote(this.policy, bytes, 64 << 20);
        const parts = new RegExp("^etalon\\.audit-bundle/v2\norigin ([^ \n]+)\nsize (\\d+)\n" +
            "range (\\d+) (\\d+)\nmade (\\d+)\n((?:file .*\n)*)$").exec(text);
        check(parts, "MANIFEST has not its form");
        [this.size, this.first, this.end] = parts.slice(2, 6).map(number);
        this.origin = parts[1];
        check(this.first <= this.end && this.end <= this.size, "the range is not in the log");
        check(holds.get(`log ${parts[1]}`), "MANIFEST is not signed by the log of its origin");
        let last = "";
        for (const line of parts[6].split("\n").slice(0, -1)) {
            const [, hash, size, path] = /^file ([0-9a-f]{64}) (\d+) (\S+)$/.exec(line) ?? [];
            const isPath = hash && path.length <= 200 && !/(^|\/)\.\.?(\/|$)/.test(path) &&
                /^[A-Za-z0-9._-]+(\/[A-Za-z0-9._-]+)*$/.test(path);
            check(isPath && path > last && path !== "MANIFEST", `MANIFEST has ${line}`);
            this.files.set(path, `${hash} ${number(size)}`);
            last = path;
        }
    }

    /// Compares the folder with the manifest; returns how many files it found.
    checkFiles(inside = "") {
        let found = 0;
        for (const entry of readdirSync(join(this.folder, inside), { withFileTypes: true })) {
            const path = inside + entry.name;
            if (entry.isDirectory()) {
                found += this.checkFiles(`${path}/`);
                continue;
            }
            check(entry.isFile(), `${path} is no file`);
            if (path === "MANIFEST") continue;
            const bytes = readFileSync(join(this.folder, path));
            check(this.files.get(path) === `${sha256(bytes).toString("hex")} ${bytes.length}`, `${path} was changed or is not in the MANIFEST`);
            ++found;
        }
        check(inside !== "" || found === this.files.size, "a file of the MANIFEST is missing");
        return found;
    }

    /// A file of up to 256 hashes ("0") or entries: tile 1234067 is x001/x234/067.
    tile(kind, i) {
        const width = Math.min(256, this.size - i * 256);
        const digits = `${i}`.padStart(3 * Math.ceil(`${i}`.length / 3), "0");
        const path = digits.replace(/(\d{3})(?=\d)/g, "x$1/") + (width < 256 ? `.p/${width}` : "");
        return { bytes: this.read(`log/tile/${kind}/${path}`), width };
    }

    readTiles() {
        for (let i = 0; i * 256 < this.size; ++i) {
            const { bytes, width } = this.tile("0", i);
            check(bytes.length === width * 32, `tile ${i} has another size`);
            for (let k = 0; k < width; ++k) this.leaves.push(bytes.subarray(32 * k, 32 * k + 32));
        }
    }

    checkEntries() {
        stage = "step 6";
        const base = this.first - this.first % 256;
        for (let index = base; this.first < this.end && index < this.end;) {
            let { bytes, width } = this.tile("entries", index / 256);
            for (; width > 0; --width, ++index) {
                const size = bytes.length >= 2 ? bytes.readUInt16BE() : bytes.length;
                check(bytes.length >= 2 + size, `record ${index} is cut`);
                const entry = bytes.subarray(2, 2 + size);
                check(leafHash(entry).equals(this.leaves[index]), `record ${index} was changed`);
                this.take(index, entry, base);
                bytes = bytes.subarray(2 + size);
            }
            check(bytes.length === 0, "bytes stand behind the entries of a tile");
        }
    }

    /// Checks a record against those before it, of which `base` is the first.
    take(index, entry, base) {
        stage = "step 7";
        const record = parseRecord(entry);
        check(record.seq === index, `record ${index} says that it is another one`);
        check(record.time_us >= this.time, `record ${index}: its time is before the last one's`);
        this.time = record.time_us;
        this.records.set(index, record);
        this.count(record.kind);
        stage = "step 8";
        const named = (member, kind) => {  // undefined: it is before those of the bundle
            const other = this.records.get(record[member]);
            check(record[member] < base || other?.kind === kind, `record ${index} has no ${kind}`);
            return other;
        };
        named("boot", "boot");
        if (["content_read", "replay", "review"].includes(record.kind)) named("intent", "intent");
        if (record.kind === "intent") {
            const load = named("load", "model_load");
            check(!load || load.model === record.model, `record ${index}: it has another model`);
            check(![...record.subjects, record.tenant].some((id) => this.erased.has(id)), `record ${index} names an erased subject`);
            this.count("intent without complete");
        } else if (record.kind === "complete") {
            check(!this.completes.has(record.intent), `record ${index}: its intent is complete`);
            this.completes.set(record.intent, record);
            const intent = named("intent", "intent");
            const is = !intent || intent.request === record.request && intent.answers === record.answers.length;
            check(is, `record ${index} is not the end of its intent`);
            if (intent) this.count("intent without complete", -1);
        } else if (record.kind === "erase") {
            this.erased.add(record.subject);
        }
        stage = "step 6";
    }

    checkPayloads() {
        for (const [path, hashAndSize] of this.files) {
            if (!path.startsWith("payloads/")) continue;
            const [, index, half] = /^payloads\/(0|[1-9][0-9]{0,15})\.(bin|cms)$/.exec(path) ?? [];
            const [n, other] = [Number(index), half === "bin" ? "cms" : "bin"];
            const { payload } = this.completes.get(n) ?? {};
            const inRange = n >= this.first && n < this.end && this.records.has(n);
            check(payload && inRange, `${path} is of no answer in the range`);
            check(this.files.has(`payloads/${index}.${other}`), `${path} has no other half`);
            const is = half === "bin" ? hashAndSize === `${payload.ciphertext} ${payload.bytes}`
                : hashAndSize.startsWith(payload.envelope);
            check(is, `${path} is not the recorded payload`);
            this.used.add(path);
            if (half === "bin") this.count("payload");
        }
    }

    /// Nothing else is in the folder than what was read, bills of materials and signatures of the
    /// models that records of the range name, auditors' certificates and stamps.
    checkPaths() {
        for (const path of ["README.md", "policy.txt", "sandbox.json"]) this.read(path);
        for (const [index, { kind, model }] of this.records) {
            const bom = `models/${model}/bom.cdx.json`;
            const isNamed = index >= this.first && ["intent", "model_load"].includes(kind);
            if (!isNamed || index >= this.end || this.used.has(bom)) continue;
            check(this.read(bom).includes(model), `${bom} is of another model`);
            this.used.add(`models/${model}/model.sig`);
        }
        for (const path of this.files.keys()) {
            const [, hash] = /^auditors\/([0-9a-f]{64})\.pem$/.exec(path) ?? [];
            if (hash) {
                const lines = this.read(path).toString("latin1").split("\n");
                const der = Buffer.from(lines.slice(1, -2).join(""), "base64");
                const code = der.toString("base64").match(/.{1,64}/g) ?? [];
                const [begin, end] = ["BEGIN", "END"].map((one) => `-----${one} CERTIFICATE-----`);
                const is = lines.join("\n") === [begin, ...code, end, ""].join("\n") &&
                    sha256(der).toString("hex") === hash;
                check(is, `${path} is not the certificate of its name`);
            }
            check(this.used.has(path) || STAMP.test(path), `${path} is no file of a bundle`);
        }
    }

    /// What was stamped is of this tree; the TSA's own signature is for openssl ts.
    checkStamps() {
        for (const path of [...this.files.keys()].filter((one) => STAMP.test(one))) {
            const size = number(STAMP.exec(path)[1]);
            check(size <= this.size, `${path} is of more records`);
            const stamped = this.read(`stamps/${size}.checkpoint`);
            const root = rootOf(this.leaves.slice(0, size)).toString("base64");
            const is = stamped.indexOf(`${this.origin}\n${size}\n${root}\n\n`) === 0 &&
                this.read(`stamps/${size}.tsr`).includes(sha256(stamped));
            check(is, `${path} is no stamp of this log`);
        }
    }
}

function verifyBundle(folder, given) {
    const isOwn = !given["--policy"];
    if (isOwn) console.error("the policy is the bundle's own: it does not show whose log this is");
    const policy = isOwn ? readFileSync(join(folder, "policy.txt")) : given["--policy"];
    const bundle = new Bundle(folder, policy);
    at("step 1", () => bundle.openManifest());
    at("step 2", () => bundle.checkFiles());
    stage = "step 3";
    const { origin, size, root } = openCheckpoint(policy, bundle.read("log/checkpoint"));
    check(origin === bundle.origin && size === bundle.size, "the checkpoint is not MANIFEST's");
    at("step 4", () => bundle.readTiles());
    check(rootOf(bundle.leaves).equals(root), "the hashes have another root");
    if (given["--checkpoint"]) {
        stage = "step 5";
        const held = openCheckpoint(policy, given["--checkpoint"]);
        check(held.origin === origin, "the held checkpoint is of another log");
        check(held.size <= size, `the log was rolled back: it had ${held.size} records`);
        check(rootOf(bundle.leaves.slice(0, held.size)).equals(held.root), "the held one is of another history");
    }
    bundle.checkEntries();
    at("step 9", () => bundle.checkPayloads());
    at("step 10", () => bundle.checkPaths());
    at("step 11", () => bundle.checkStamps());
    console.log(`${origin}, ${size} records, ${bundle.first} to ${bundle.end}:`, bundle.counts);
}

/// The record of this kind that a proof shows in a checkpoint of the log.
function openProof(policy, kind, entry, proof) {
    const record = parseRecord(Buffer.from(entry));
    const parts = new RegExp("^c2sp\\.org/tlog-proof@v1\n(?:extra ([^\n]+)\n)?" +
        "index (\\d+)\n((?:[^\n]+\n)*)\n(.*)$", "s").exec(proof);
    check(record.kind === kind && parts, `the record is no ${kind}, or its proof is none`);
    check(fromBase64(parts[1] ?? "").length <= 65536, "the extra data of a proof are too long");
    const { size, root } = openCheckpoint(policy, Buffer.from(parts[4]));
    const hashes = parts[3].split("\n").slice(0, -1).map(fromBase64);
    check(hashes.every((hash) => hash.length === 32), "a hash of the proof has not 32 bytes");
    const index = number(parts[2]);
    check(index === record.seq, `the proof of the ${kind} is of another record`);
    check(rootOfProof(leafHash(entry), index, size, hashes).equals(root), `record ${index} is not in the tree of the checkpoint`);
    return record;
}

function verifyReceipt(path, given) {
    stage = "receipt";
    const bytes = readFileSync(path);
    const { object, parts } = JSON.parse(bytes) ?? {};
    check(isUtf8(bytes) && object === "etalon.receipt" && Array.isArray(parts) && parts.length >= 1 &&
        parts.length <= 4096, "it is no receipt, or has no parts, or too many");
    const policy = given["--policy"] ?? Buffer.of();
    let first;
    parts.forEach((part, i) => {
        for (const name of ["intent", "intent_proof", "complete", "complete_proof", "commit_key"]) {
            check(isText(part?.[name]), `part ${i}: ${name} is missing or no string`);
        }
        const intent = openProof(policy, "intent", part.intent, part.intent_proof);
        const complete = openProof(policy, "complete", part.complete, part.complete_proof);
        first ??= intent.seq;
        const good = complete.intent === intent.seq && complete.request === intent.request &&
            intent.parts === parts.length && intent.part === i && intent.seq === first + i &&
            intent.answers === complete.answers.length;
        check(good && isHash(part.commit_key), `part ${i}: its records do not belong together, or commit_key is none`);
        const compare = (label, recorded) => {
            const content = given[`--${label}`];
            const mac = createHmac("sha256", Buffer.from(part.commit_key, "hex")).update(`${label}\n`);
            check(!content || mac.update(content).digest("hex") === recorded, `part ${i}: the ${label} is another one`);
        };
        compare("body", intent.body);
        if (i === 0) compare("text", complete.answers[0].text);
    });
}

function main(words) {
    const verifyIt = words[0] === "receipt" ? verifyReceipt : verifyBundle;
    const [path, ...options] = verifyIt === verifyReceipt ? words.slice(1) : words;
    check(path && options.length % 2 === 0, "verify.mjs BUNDLE [--policy FILE] [--checkpoint " +
        "FILE], or verify.mjs receipt FILE --policy FILE [--body FILE] [--text FILE]");
    const given = {};
    for (let i = 0; i < options.length; i += 2) {
        check(["--policy", "--checkpoint", "--body", "--text"].includes(options[i]), `${options[i]} is no option`);
        given[options[i]] = readFileSync(options[i + 1]);
    }
    verifyIt(path, given);
    console.log("accepted");
}

try {
    main(process.argv.slice(2));
} catch (error) {
    // JSON that is none and files that cannot be read refuse too; anything else is our mistake.
    if (!(error instanceof Refusal || error instanceof SyntaxError || error.syscall)) throw error;
    console.error(`refused: ${stage}: ${error.message}`);
    process.exitCode = 5;
}
