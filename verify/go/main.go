// SPDX-License-Identifier: Apache-2.0
// verify checks an audit bundle or a receipt with nothing of Etalon: this file, Go's own library
// and golang.org/x/mod. docs/ledger.md is the format; docs/verify.md says how to build and use it.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/tlog"
)

var (
	noteForm     = regexp.MustCompile(`^([^\x00-\x09\x0b-\x1f\x7f]*\n)\n(\x{2014} [!-*,-~]{1,256} [0-9A-Za-z+/=]{8,}\n)+$`)
	manifestForm = regexp.MustCompile(`^etalon\.audit-bundle/v2\norigin ([^ \n]+)\nsize (\d+)\n` +
		`range (\d+) (\d+)\nmade (\d+)\n((?:file [0-9a-f]{64} \d+ [^ \n]+\n)*)$`)
	fileForm    = regexp.MustCompile(`file ([0-9a-f]{64}) (\d+) ([^ \n]+)\n`)
	pathForm    = regexp.MustCompile(`^(/(\.{0,2}[A-Za-z0-9_-]|\.{3})[A-Za-z0-9._-]*)+$`)
	auditorPath = regexp.MustCompile(`^auditors/([0-9a-f]{64})\.pem$`)
	stampPath   = regexp.MustCompile(`^stamps/(\d+)\.(checkpoint|tsr)$`)
	proofForm   = regexp.MustCompile(`(?s)^c2sp\.org/tlog-proof@v1\n(?:extra ([^\n]+)\n)?index (\d+)\n((?:[0-9A-Za-z+/=]+\n)*)\n(.*)$`)
	stage       = "usage"                             // the step of docs/ledger.md that is being checked
	plain       = regexp.MustCompile(`^[ -\[\]-~]+$`) // no "\": strings of records have no escape
)

type refusal string // ends a verification: require throws it, main catches it
func require(good bool, format string, values ...any) {
	if !good {
		panic(refusal(stage + ": " + fmt.Sprintf(format, values...)))
	}
}

func main() {
	defer func() {
		if reason := recover(); reason != nil {
			fmt.Fprintln(os.Stderr, "refused:", reason.(refusal))
			os.Exit(5)
		}
	}()
	given := map[string][]byte{"--policy": nil, "--checkpoint": nil, "--body": nil, "--text": nil}
	words, verify := os.Args[1:], verifyBundle
	if len(words) > 0 && words[0] == "receipt" {
		words, verify = words[1:], verifyReceipt
	}
	require(len(words)%2 == 1, "usage: verify BUNDLE [--policy FILE] [--checkpoint FILE], or\nverify receipt FILE --policy FILE [--body FILE] [--text FILE]")
	for i := 1; i < len(words); i += 2 {
		_, isOption := given[words[i]]
		require(isOption, "%s is no option", words[i])
		given[words[i]] = read(words[i+1])
	}
	verify(words[0], given)
	fmt.Println("accepted")
}

func read(path ...string) []byte {
	data, err := os.ReadFile(filepath.Join(path...))
	require(err == nil, "%v", err)
	return data
}

func number(text string) int64 {
	n, err := json.Number(text).Int64()
	require(err == nil && n >= 0 && n < 1<<53 && fmt.Sprint(n) == text, "%q is no number", text)
	return n
}

// fromBase64 takes the one canonical spelling.
func fromBase64(text string) []byte {
	data, err := base64.StdEncoding.DecodeString(text)
	require(err == nil && base64.StdEncoding.EncodeToString(data) == text, "%q is no base64", text)
	return data
}

func parseHash(text string) tlog.Hash {
	require(len(fromBase64(text)) == tlog.HashSize, "%q is no hash", text)
	return *(*tlog.Hash)(fromBase64(text))
}

// isSigned returns name and bytes of a key, "name+1f2e3d4c+base64", and whether it signed the text.
// Kind 1 is a log's, 4 a witness's. A wrong signature refuses the note.
func isSigned(key string, kind byte, text string, by map[string][]byte) (string, string, bool) {
	parts := append(strings.SplitN(key, "+", 3), "", "")
	bytes := fromBase64(parts[2])
	id := sha256.Sum256(append([]byte(parts[0]+"\n"), bytes...))
	require(len(bytes) == 33 && fmt.Sprintf("%x", id[:4]) == parts[1] && bytes[0] == kind, "%q is no key of kind %d", key, kind)
	signature, found := by[parts[0]+" "+parts[1]]
	if found && kind == 4 { // a witness signs a time too
		require(len(signature) == 72 && signature[0] < 128, "the cosignature of %s is none", key)
		text = fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(signature), text)
		signature = signature[8:]
	}
	require(!found || ed25519.Verify(bytes[1:], []byte(text), signature), "%s signed wrongly", key)
	return parts[0], parts[2], found
}

// openNote returns a note's text and whose signatures of it hold by the policy: "log NAME" of logs,
// the names of witnesses and groups, "the quorum".
func openNote(policy, data []byte, bytesMax int) (text string, holds map[string]bool) {
	split := bytes.LastIndex(data, []byte("\n\n")) + 1
	good := split > 0 && len(data) <= bytesMax && bytes.Count(data[split:], []byte("\n")) <= 101
	require(good && noteForm.Match(data) && utf8.Valid(data), "the note has not its form, or is too long")
	text, holds = string(data[:split]), map[string]bool{"none": true}
	signatures := map[string][]byte{}
	for _, line := range strings.Split(string(data[split+1:len(data)-1]), "\n") {
		words := strings.Split(line, " ")
		signature := fromBase64(words[2])
		name := fmt.Sprintf("%s %x", words[1], signature[:4])
		require(len(signature) > 4 && signatures[name] == nil, "a signature is empty or twice")
		signatures[name] = signature[4:]
	}
	quorum, keys := "", map[string]bool{} // one key under two names would count twice
	for i, line := range strings.Split(string(policy), "\n") {
		words := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t\r", r) })
		check := func(good bool) { require(good, "policy, line %d has not its form: %s", i+1, line) }
		isKnown := func(name string) bool { _, is := holds[name]; return is }
		switch {
		case len(words) == 0 || words[0][0] == '#':
		case words[0] == "log" && len(words) >= 2:
			name, public, is := isSigned(words[1], 1, text, signatures)
			check(!keys[public])
			keys[public], holds["log "+name] = true, holds["log "+name] || is
		case words[0] == "witness" && len(words) >= 3:
			_, public, is := isSigned(words[2], 4, text, signatures)
			check(!isKnown(words[1]) && !keys[public])
			keys[public], holds[words[1]] = true, is
		case words[0] == "group" && len(words) >= 4:
			missing, seen := map[string]int{"any": 1, "all": len(words) - 3}[words[2]], " none "
			if missing == 0 {
				missing = int(number(words[2]))
			}
			check(!isKnown(words[1]) && missing >= 1 && missing <= len(words)-3)
			for _, one := range words[3:] {
				check(isKnown(one) && !strings.Contains(seen, " "+one+" "))
				seen, missing = seen+one+" ", missing-map[bool]int{true: 1}[holds[one]]
			}
			holds[words[1]] = missing <= 0
		default:
			check(words[0] == "quorum" && len(words) == 2 && quorum == "" && isKnown(words[1]))
			quorum = words[1]
		}
	}
	require(quorum != "", "the policy has no quorum")
	holds["the quorum"] = holds[quorum]
	return text, holds
}

// openCheckpoint requires the log's signature and the quorum.
func openCheckpoint(policy, data []byte) (origin string, tree tlog.Tree) {
	text, holds := openNote(policy, data, 1<<20)
	lines := strings.Split(text, "\n")
	require(len(lines) == 4, "the checkpoint has not three lines")
	origin, tree = lines[0], tlog.Tree{N: number(lines[1]), Hash: parseHash(lines[2])}
	require(tree.N > 0 || tree.Hash == root(nil), "the checkpoint of no records has another root")
	require(holds["log "+origin], "no log of the policy signed the checkpoint of %q", origin)
	require(holds["the quorum"], "the witnesses of the policy have not seen the checkpoint")
	return origin, tree
}

// root is that of RFC 6962 section 2.1.
func root(leaves []tlog.Hash) tlog.Hash {
	if len(leaves) <= 1 {
		return append(leaves[:len(leaves):len(leaves)], sha256.Sum256(nil))[0]
	}
	k := 1 << (bits.Len(uint(len(leaves)-1)) - 1) // the largest power of two below their number
	return tlog.NodeHash(root(leaves[:k]), root(leaves[k:]))
}

// A record is canonical: the members of its kind and the common ones, sorted; commas as JSON has them.
var forms = map[string]*regexp.Regexp{
	"boot":       form(`auditors:\[HASH(,HASH){0,15}\] program:TEXT`),
	"shutdown":   form(``),
	"model_load": form(`architecture:TEXT arithmetic:INT backend:TEXT context_tokens:INT model:HASH name:TEXT vocab_size:INT`),
	"complete": form(`answers:\[({"digest":HASH,"finish":"(stop|length|cancelled|error)","payload":HASH,` +
		`"text":HASH,"tokens":INT},?)+\] intent:INT payload:{"bytes":INT,"ciphertext":HASH,"envelope":HASH} request:ID`),
	"erase":         form(`basis:"(request|retention)" subject:ID`),
	"log_read":      form(`end:INT first:INT what:TEXT`),
	"content_read":  form(`intent:INT reason:TEXT what:"(open|replay|stored)"`),
	"erase_refused": form(`basis:"(hold|minimum)" subjects:\[(ID,?)+\]`),
	"key":           form(`action:"(created|revoked|changed)" key:INT scopes:TEXT tenant:ID`),
	"licence":       form(`by:ID licence:TEXT model:HASH text:HASH`),
	"replay":        form(`answer:INT backend:TEXT intent:INT position:INT verdict:"(match|token|checksum|both|end|failed)"`),
	"live":          form(`digest:HASH load:INT nonce:HASH verdict:"(first|same|changed)"`),
	"review":        form(`by:ID intent:INT note:HASH verdict:"(ok|objection)"`),
	"configuration": form(`certificate:"([0-9a-f]{64})?" hash:HASH listen:\[(TEXT,?)*\] ` +
		`retention:\[({"max_days":INT,"min_days":INT,"tenant":ID},?)*\] sandbox:"(strict|best-effort)" signatures:"(none|changed|always)"`),
	"intent": form(`answers:INT body:HASH load:INT max_tokens:INT model:HASH part:INT parts:INT prompt:HASH ` +
		`prompt_tokens:INT request:ID sampling:HASH subjects:\[(ID,?){1,16}\] tenant:ID`),
}

func form(members string) *regexp.Regexp {
	list := strings.Fields(members + ` boot:INT kind:"[a-z_]+" seq:INT time_us:INT v:1`)
	for i, member := range list {
		list[i] = `"` + strings.Replace(member, ":", `":`, 1)
	}
	sort.Strings(list)
	return regexp.MustCompile("^{" + strings.NewReplacer("INT", `[0-9]+`, "HASH", `"[0-9a-f]{64}"`,
		"ID", `"[0-9a-f]{32}"`, "TEXT", `"[^"]*"`).Replace(strings.Join(list, ",")) + "}$")
}

// checkValue refuses what no record holds; a value in an object is one level below it.
func checkValue(value any, depth int) {
	require(depth <= 8 && value != nil, "it is nested too deep, or has a null")
	items, _ := value.([]any)
	members, _ := value.(map[string]any)
	for _, item := range members {
		items = append(items, item)
	}
	for _, item := range items {
		checkValue(item, depth+1)
	}
	if n, isNumber := value.(json.Number); isNumber {
		number(string(n))
	}
}

type record map[string]any

func (r record) list(name string) []any { return r[name].([]any) }
func (r record) integer(name string) int64 {
	n, good := r[name].(json.Number)
	require(good, "%s is missing or no integer", name)
	return number(string(n))
}

func parseRecord(entry []byte) (r record) {
	var again bytes.Buffer
	decoder, encoder := json.NewDecoder(bytes.NewReader(entry)), json.NewEncoder(&again)
	decoder.UseNumber()
	encoder.SetEscapeHTML(false) // it sorts members
	good := len(entry) < 1<<16 && plain.Match(entry) && decoder.Decode(&r) == nil && encoder.Encode(r) == nil
	require(good && again.String() == string(entry)+"\n", "it is not in canonical form")
	checkValue(map[string]any(r), 1)
	kind, good := r["kind"].(string)
	require(good && r.integer("v") == 1, "it has no kind or another version")
	require(forms[kind] == nil || forms[kind].Match(entry), "it has not the form of %q", kind)
	n := r.integer
	good = (n("boot") == n("seq")) == (kind == "boot") && n("boot") <= n("seq") && n("time_us") >= 0
	good = good && (kind != "complete" || len(r.list("answers")) <= 128) && (kind != "log_read" || n("first") <= n("end"))
	good = good && (forms[kind] == nil || r["intent"] == nil || n("intent") < n("seq")) && (kind != "erase_refused" || len(r.list("subjects")) <= 1000)
	good = good && (kind != "intent" || n("answers") >= 1 && n("answers") <= 128 && n("part") < n("parts") && n("parts") <= 4096 && n("load") < n("seq"))
	for i := 1; kind == "boot" && i < len(r.list("auditors")); i++ {
		good = good && r.list("auditors")[i-1].(string) < r.list("auditors")[i].(string)
	}
	require(good, "a value of this %s is out of its range", kind)
	return r
}

type bundle struct {
	folder, origin         string
	size, first, end, time int64             // of the log; of the range; of the last record
	files                  map[string]string // MANIFEST: "hash bytes" of each path
	used, erased           map[string]bool   // paths; subjects
	leaves                 []tlog.Hash
	records, completes     map[int64]record // by index; by that of their intent
	kinds                  map[string]int
}

// verifyBundle goes through the steps of docs/ledger.md section 6.
func verifyBundle(folder string, given map[string][]byte) {
	b := &bundle{folder: folder, files: map[string]string{}, records: map[int64]record{}, completes: map[int64]record{}, erased: map[string]bool{}, kinds: map[string]int{},
		used: map[string]bool{"README.md": true, "policy.txt": true, "sandbox.json": true, "log/checkpoint": true}}
	if given["--policy"] == nil {
		fmt.Fprintln(os.Stderr, "the policy is the bundle's own: it does not show whose log this is")
		given["--policy"] = read(folder, "policy.txt")
	}
	stage = "step 1"
	b.openManifest(given["--policy"])
	stage = "step 2"
	b.checkFiles()
	stage = "step 3"
	origin, tree := openCheckpoint(given["--policy"], read(folder, "log/checkpoint"))
	require(origin == b.origin && tree.N == b.size, "the checkpoint is not that of MANIFEST")
	stage = "step 4"
	for i := int64(0); i*256 < b.size; i++ {
		data, width := b.tile("0", i)
		require(int64(len(data)) == width*tlog.HashSize, "tile %d has another size", i)
		for ; len(data) > 0; data = data[tlog.HashSize:] {
			b.leaves = append(b.leaves, *(*tlog.Hash)(data))
		}
	}
	require(root(b.leaves) == tree.Hash, "the hashes have another root")
	if held := given["--checkpoint"]; held != nil {
		stage = "step 5"
		origin, tree := openCheckpoint(given["--policy"], held)
		require(origin == b.origin, "the held checkpoint is of another log")
		require(tree.N <= b.size, "the log was rolled back: it had %d records", tree.N)
		require(root(b.leaves[:tree.N]) == tree.Hash, "the held checkpoint is of another history")
	}
	b.checkEntries()
	b.checkPaths()
	fmt.Printf("%s, %d records, %d to %d: %v\n", origin, b.size, b.first, b.end, b.kinds)
}

func (b *bundle) openManifest(policy []byte) {
	text, holds := openNote(policy, read(b.folder, "MANIFEST"), 64<<20)
	parts := manifestForm.FindStringSubmatch(text)
	require(parts != nil, "MANIFEST has not its form")
	b.origin, b.size, b.first, b.end = parts[1], number(parts[2]), number(parts[3]), number(parts[4])
	require(number(parts[5]) >= 0 && b.first <= b.end && b.end <= b.size && holds["log "+b.origin], "the range is not in the log, or another log signed it")
	last := ""
	for _, words := range fileForm.FindAllStringSubmatch(parts[6], -1) {
		path := words[3]
		require(len(path) <= 200 && pathForm.MatchString("/"+path) && last < path && path != "MANIFEST", "MANIFEST lists %q there", path)
		last, b.files[path] = path, fmt.Sprintf("%s %d", words[1], number(words[2]))
	}
}

// checkFiles compares the folder with the manifest.
func (b *bundle) checkFiles() {
	found := 0
	err := filepath.WalkDir(b.folder+"/", func(name string, entry os.DirEntry, err error) error {
		require(err == nil && (entry.IsDir() || entry.Type().IsRegular()), "%q is no file", name)
		path, _ := filepath.Rel(b.folder, name)
		if !entry.IsDir() && path != "MANIFEST" {
			data := read(name)
			require(b.files[path] == fmt.Sprintf("%x %d", sha256.Sum256(data), len(data)), "%q was changed or is not in the MANIFEST", path)
			found++
		}
		return nil
	})
	require(err == nil && found == len(b.files), "a file of the MANIFEST is missing")
}

// tile reads a file of up to 256 hashes (kind 0) or entries.
func (b *bundle) tile(kind string, i int64) (data []byte, width int64) {
	width = map[bool]int64{true: 256, false: b.size - i*256}[b.size-i*256 > 256]
	path := tlog.Tile{H: 8, L: 0, N: i, W: int(width)}.Path() // C2SP leaves out the height, 8
	path = "log/tile/" + kind + strings.TrimPrefix(path, "tile/8/0")
	b.used[path] = true
	return read(b.folder, path), width
}

func (b *bundle) checkEntries() {
	stage = "step 6"
	for i := b.first / 256; b.first < b.end && i*256 < b.end; i++ {
		rest, width := b.tile("entries", i)
		for n := i * 256; n < i*256+width; n++ {
			require(len(rest) >= 2 && len(rest) >= 2+int(binary.BigEndian.Uint16(rest)), "record %d is cut", n)
			end := 2 + int(binary.BigEndian.Uint16(rest))
			require(tlog.RecordHash(rest[2:end]) == b.leaves[n], "record %d is not the tree's", n)
			b.take(n, rest[2:end])
			rest = rest[end:]
		}
		require(len(rest) == 0, "bytes stand behind the entries of tile %d", i)
	}
}

// take checks a record against those before it.
func (b *bundle) take(index int64, entry []byte) {
	stage = "step 7"
	r := parseRecord(entry)
	require(r.integer("seq") == index, "record %d says that it is another one", index)
	require(r.integer("time_us") >= b.time, "record %d: its time is before the last one's", index)
	b.time, b.records[index] = r.integer("time_us"), r
	b.kinds[r["kind"].(string)]++
	stage = "step 8"
	b.named(r, "boot", "boot")
	switch r["kind"] {
	case "intent":
		load := b.named(r, "load", "model_load")
		require(load == nil || load["model"] == r["model"], "record %d: another model", index)
		for _, id := range append(r.list("subjects"), r["tenant"]) {
			require(!b.erased[id.(string)], "record %d names an erased subject", index)
		}
		b.kinds["intent without complete"]++
	case "complete":
		require(b.completes[r.integer("intent")] == nil, "record %d: its intent is complete", index)
		b.completes[r.integer("intent")] = r
		if intent := b.named(r, "intent", "intent"); intent != nil {
			require(intent["request"] == r["request"] && int(intent.integer("answers")) == len(r.list("answers")), "record %d is not the end of its intent", index)
			b.kinds["intent without complete"]--
		}
	case "content_read", "replay", "review":
		b.named(r, "intent", "intent")
	case "erase":
		b.erased[r["subject"].(string)] = true
	}
	stage = "step 6"
}

// named finds the record that a member names; nil: it is before those of the bundle.
func (b *bundle) named(r record, member, kind string) record {
	other := b.records[r.integer(member)]
	require(r.integer(member) < b.first/256*256 || other["kind"] == kind, "record %v: its %s is no %s", r["seq"], member, kind)
	return other
}

// checkPaths has nothing left over: payloads (step 9), certificates, and what was read above.
func (b *bundle) checkPaths() {
	stage = "step 9"
	for n, complete := range b.completes {
		bin, cms := fmt.Sprintf("payloads/%d.bin", n), fmt.Sprintf("payloads/%d.cms", n)
		if b.files[bin]+b.files[cms] != "" && n >= b.first && n < b.end && b.records[n] != nil {
			payload := record(complete["payload"].(map[string]any))
			same := b.files[bin] == fmt.Sprint(payload["ciphertext"], " ", payload["bytes"]) && strings.HasPrefix(b.files[cms], payload["envelope"].(string))
			require(same, "the payload of record %d is not the recorded one", n)
			b.used[bin], b.used[cms] = true, true
			b.kinds["payload"]++
		}
	}
	stage = "step 10"
	for n, r := range b.records { // models that records of the range name
		model, isNamed := r["model"].(string)
		isNamed = isNamed && n >= b.first && n < b.end && (r["kind"] == "intent" || r["kind"] == "model_load")
		if bom := "models/" + model + "/bom.cdx.json"; isNamed && !b.used[bom] {
			b.used[bom], b.used["models/"+model+"/model.sig"] = true, true
			require(bytes.Contains(read(b.folder, bom), []byte(model)), "%s is of another model", bom)
		}
	}
	for path := range b.files {
		stage = map[bool]string{true: "step 9", false: "step 10"}[strings.HasPrefix(path, "payloads/")]
		if parts := auditorPath.FindStringSubmatch(path); parts != nil {
			data := read(b.folder, path)
			block, _ := pem.Decode(data)
			good := block != nil && fmt.Sprintf("%x", sha256.Sum256(block.Bytes)) == parts[1] && bytes.Equal(data, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes}))
			require(good, "%s is not the certificate of its name", path)
		} else {
			require(b.used[path] || stampPath.MatchString(path), "%s is no file of a bundle", path)
		}
	}
	stage = "step 10"
	_, _, _ = read(b.folder, "README.md"), read(b.folder, "policy.txt"), read(b.folder, "sandbox.json")
	stage = "step 11" // the TSA's own signature is for openssl ts
	for path := range b.files {
		if parts := stampPath.FindStringSubmatch(path); parts != nil {
			size, name := number(parts[1]), filepath.Join(b.folder, "stamps", parts[1])
			require(size <= b.size, "%s is of more records", path)
			text := fmt.Sprintf("%s\n%d\n%s\n\n", b.origin, size, root(b.leaves[:size]))
			digest, good := sha256.Sum256(read(name+".checkpoint")), strings.HasPrefix(string(read(name+".checkpoint")), text)
			require(good && bytes.Contains(read(name+".tsr"), digest[:]), "%s is no stamp of this log", path)
		}
	}
}

// openProof returns the record of this kind that a proof shows in a checkpoint of the log.
func openProof(policy []byte, kind, entry, proof string) record {
	r := parseRecord([]byte(entry))
	parts := proofForm.FindStringSubmatch(proof)
	require(r["kind"] == kind && parts != nil, "the record is no %s, or its proof is none", kind)
	require(len(fromBase64(parts[1])) <= 1<<16, "the extra data of a proof are too long")
	_, tree := openCheckpoint(policy, []byte(parts[4]))
	var hashes tlog.RecordProof
	for _, line := range strings.Fields(parts[3]) {
		hashes = append(hashes, parseHash(line))
	}
	require(number(parts[2]) == r.integer("seq"), "the proof of the %s is of another record", kind)
	err := tlog.CheckRecord(hashes, tree.N, tree.Hash, r.integer("seq"), tlog.RecordHash([]byte(entry)))
	require(err == nil, "record %v is not in the tree of the checkpoint", r["seq"])
	return r
}

// verifyReceipt goes through the steps of docs/ledger.md section 5.
func verifyReceipt(path string, held map[string][]byte) {
	stage = "receipt"
	data, receipt := read(path), map[string]any{}
	good := utf8.Valid(data) && json.Unmarshal(data, &receipt) == nil
	parts, _ := receipt["parts"].([]any)
	require(good && receipt["object"] == "etalon.receipt" && len(parts) > 0 && len(parts) <= 4096, "it is no receipt")
	next := int64(0)
	for i := range parts {
		text := func(name string) string {
			part, _ := parts[i].(map[string]any)
			value, good := part[name].(string)
			require(good, "part %d: %s is missing or no string", i, name)
			return value
		}
		intent := openProof(held["--policy"], "intent", text("intent"), text("intent_proof"))
		complete := openProof(held["--policy"], "complete", text("complete"), text("complete_proof"))
		good = complete["intent"] == intent["seq"] && complete["request"] == intent["request"] &&
			intent.integer("parts") == int64(len(parts)) && intent.integer("part") == int64(i) &&
			(i == 0 || intent.integer("seq") == next) && intent.integer("answers") == int64(len(complete.list("answers")))
		var key []byte
		fmt.Sscanf(text("commit_key"), "%x", &key)
		require(good && len(key) == 32 && fmt.Sprintf("%x", key) == text("commit_key"), "part %d: its records do not belong together, or commit_key is none", i)
		next = intent.integer("seq") + 1
		check := func(label string, recorded any) {
			mac := hmac.New(sha256.New, key)
			mac.Write(append([]byte(label+"\n"), held["--"+label]...))
			require(held["--"+label] == nil || fmt.Sprintf("%x", mac.Sum(nil)) == recorded, "part %d: the %s is another one", i, label)
		}
		check("body", intent["body"])
		check("text", complete.list("answers")[0].(map[string]any)["text"])
		held["--text"] = nil // it is of the first part
	}
}
