// SPDX-License-Identifier: Apache-2.0
// Proof files, line by line.
#include "tlog/proof_file.h"

#include <fmt/format.h>

#include "base/base64.h"
#include "base/error.h"
#include "tlog/internal/bytes.h"

namespace etalon::tlog {

namespace {

constexpr std::string_view kFirstLine = "c2sp.org/tlog-proof@v1";
constexpr std::string_view kExtra = "extra ";
constexpr std::string_view kIndex = "index ";

[[noreturn]] void invalid_proof(const std::string& message) {
    throw Error(ExitCode::invalid, "proof: " + message);
}

bool starts_with(std::string_view line, std::string_view start) {
    return line.substr(0, start.size()) == start;
}

}  // namespace

std::string proof_file_text(const ProofFile& proof) {
    std::string text = fmt::format("{}\n", kFirstLine);
    if (!proof.extra.empty()) text += fmt::format("{}{}\n", kExtra, to_base64(proof.extra));
    text += fmt::format("{}{}\n", kIndex, proof.index);
    for (const Hash& hash : proof.hashes)
        text += hash_text(hash) + "\n";
    return text + "\n" + proof.checkpoint;
}

ProofFile parse_proof_file(std::string_view text) {
    ProofFile proof;
    if (take_line(text) != kFirstLine)
        invalid_proof("the first line is not " + std::string(kFirstLine));
    std::string_view line = take_line(text);
    if (starts_with(line, kExtra)) {
        if (line.size() > 2 * kProofExtraBytesMax) invalid_proof("the extra data are too long");
        const std::optional<std::string> extra = from_base64(line.substr(kExtra.size()));
        if (!extra || extra->empty() || extra->size() > kProofExtraBytesMax) {
            invalid_proof("the extra data are no base64");
        }
        proof.extra = *extra;
        line = take_line(text);
    }
    if (!starts_with(line, kIndex) || !parse_decimal(line.substr(kIndex.size()), proof.index)) {
        invalid_proof("the index is no number");
    }
    for (line = take_line(text); !line.empty(); line = take_line(text)) {
        if (proof.hashes.size() == kProofHashesMax) invalid_proof("it has too many hashes");
        proof.hashes.push_back(parse_hash(line));
    }
    proof.checkpoint = text;
    parse_note(proof.checkpoint);  // its form
    return proof;
}

Checkpoint verify_proof_file(const ProofFile& proof, std::string_view entry, const Policy& policy) {
    Checkpoint checkpoint = open_checkpoint(parse_note(proof.checkpoint), policy);
    if (!is_included(leaf_hash(entry), proof.index, checkpoint.size, proof.hashes,
                     checkpoint.root)) {
        invalid_proof(
            fmt::format("the entry is not entry {} of the checkpoint's tree", proof.index));
    }
    return checkpoint;
}

}  // namespace etalon::tlog
