// SPDX-License-Identifier: Apache-2.0
// The checks of C2SP tlog-witness, in its order.
#include "tlog/witness.h"

#include <fmt/format.h>

#include "base/error.h"
#include "tlog/internal/bytes.h"

namespace etalon::tlog {

namespace {

constexpr std::string_view kOld = "old ";

[[noreturn]] void invalid_request(const std::string& message) {
    throw Error(ExitCode::invalid, message);
}

WitnessAnswer refused(int status, const std::string& why) {
    return {status, "text/plain; charset=utf-8", why + "\n", std::nullopt};
}

}  // namespace

std::string add_checkpoint_text(const AddCheckpoint& request) {
    std::string text = fmt::format("{}{}\n", kOld, request.old_size);
    for (const Hash& hash : request.proof)
        text += hash_text(hash) + "\n";
    return text + "\n" + request.checkpoint;
}

AddCheckpoint parse_add_checkpoint(std::string_view body) {
    if (body.size() > kAddCheckpointBytesMax) invalid_request("the request is too long");
    AddCheckpoint request;
    const std::string_view first = take_line(body);
    if (first.substr(0, kOld.size()) != kOld ||
        !parse_decimal(first.substr(kOld.size()), request.old_size)) {
        invalid_request("the first line is not \"old\" and a size");
    }
    for (std::string_view line = take_line(body); !line.empty(); line = take_line(body)) {
        if (request.proof.size() == kProofHashesMax)
            invalid_request("the proof has too many hashes");
        request.proof.push_back(parse_hash(line));
    }
    request.checkpoint = body;
    return request;
}

WitnessAnswer add_checkpoint(std::string_view body, const VerifierKey& log, const Checkpoint& last,
                             const SigningKey& key, std::int64_t now) {
    AddCheckpoint request;
    Note note;
    Checkpoint next;
    try {
        request = parse_add_checkpoint(body);
        note = parse_note(request.checkpoint);
        next = parse_checkpoint(note.text);
    } catch (const Error& error) {
        return refused(400, error.message());
    }
    if (next.origin != log.name || !is_signed_by(note, log)) {
        return refused(403, "the log did not sign the checkpoint");
    }
    if (request.old_size > next.size) return refused(400, "the old size is the larger one");
    if (request.old_size != last.size) {
        return {409, "text/x.tlog.size", fmt::format("{}\n", last.size), std::nullopt};
    }
    const Hash old_root = last.size == 0 ? empty_root() : last.root;
    if (!is_consistent(last.size, old_root, next.size, next.root, request.proof)) {
        return refused(422, "the checkpoint does not continue the one that was seen");
    }
    return {200, "text/plain; charset=utf-8", signature_line(key.cosign(note.text, now)), next};
}

}  // namespace etalon::tlog
